//! The engine: simulated schedules, the loop around it, and the scheduler's rules.

mod crowd;
mod disk;
mod loops;
mod simulation;
mod world;

pub use loops::spec;

/// A workflow whose job waits as long as there is no host.
pub const WAITS: &str = "on: push\njobs:\n  a:\n    runs-on: linux\n    steps: [{run: x}]\n";
