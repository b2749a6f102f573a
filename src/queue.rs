//! Which job goes to which host now: labels, slots, concurrency groups, environments, fairness, cache affinity.
//!
//! Pure: no I/O, no clock, no async.
