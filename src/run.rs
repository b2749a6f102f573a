//! The state of a run: jobs, steps, conclusions, outputs, cancel.
//!
//! Pure: no I/O, no clock, no async.

pub mod conclusion;
pub mod order;
pub mod report;

pub use conclusion::Conclusion;
