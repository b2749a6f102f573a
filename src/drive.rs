//! The loop around the engine: performs its effects, feeds back what was learned.
