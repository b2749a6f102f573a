//! What is wrong, where, and how to mend it; rendered as text with a snippet, JSON, or GitHub annotation.
//!
//! Pure: no I/O, no clock, no async.
