//! Which workflows an event starts and what jobs they hold: selection, graph, matrix, reusable workflows, permissions, names.
//!
//! Pure: no I/O, no clock, no async.

pub mod calls;
pub mod matrix;
