//! Which job goes to which host now: labels, slots, concurrency groups, environments, fairness, cache affinity.
//!
//! [`Queue`] holds the jobs that want a host and the hosts; [`Groups`] decides who holds a concurrency group. Both know
//! nothing of runs: the engine tells them who waits and asks who is next. The cost of a decision does not grow with
//! the number of waiting jobs: jobs that ask for the same things share one ordered set, a shape.
//!
//! Pure: no I/O, no clock, no async.

mod groups;
mod hosts;
mod labels;
mod reason;
mod scheduler;
#[cfg(test)]
mod tests;

pub(crate) use groups::device_host;
pub use groups::{Claim, GroupKey, GroupPolicy, Groups, Holder, PENDING_LIMIT};
pub use hosts::{Capacity, HostFacts, HostState};
pub use labels::LabelMap;
pub use reason::{Obstacle, Reason};
pub use scheduler::{Assignment, Queue, Request};
