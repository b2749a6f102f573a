//! The composition root: what `serve` starts, in which order, and how it stops.
