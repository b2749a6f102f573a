//! The one integration binary: a directory or file per area.

mod support;

mod daemon;
mod engine;
mod exec;
mod expressions;
mod hosts;
mod plans;
mod server;
mod store;
mod toolkit;
mod triggers;
mod workflows;
