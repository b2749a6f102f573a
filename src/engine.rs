//! The state of everything that runs or waits, and the one function that changes it.
//!
//! [`Engine::step`] takes one [`Input`] and gives the [`Effect`]s it has, always [`Effect::Persist`] first: what follows
//! is done only once that is durable. After a crash [`Engine::restore`] rebuilds the engine from the records and repeats
//! whatever may not have been done. Log bytes never come here; neither do the values of secrets.
//!
//! Pure: no I/O, no clock, no async.

pub mod input;
mod jobs;
mod protection;
pub mod record;
mod restore;
mod state;
mod step;
mod time;
mod why;

pub use input::{Answer, Effect, Input, Settings, Update};
pub use record::{Change, JobRecord, Records, RunRecord, StoredRun};
pub use state::Engine;
pub use why::Summary;
