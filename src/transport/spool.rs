//! The spool: output with marks between steps.
