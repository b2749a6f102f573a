//! The state of everything that runs or waits, and the one function that changes it.
//!
//! Pure: no I/O, no clock, no async.
