//! Workflow and action files: text → typed model, with routes to spans for diagnostics.
//!
//! Pure: no I/O, no clock, no async.

pub mod model;
pub mod token;
