//! The one integration binary: a directory or file per area.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "all of it is tests: what goes wrong must fail them, and what is skipped must be said"
)]

mod support;

mod actions;
mod containers;
mod daemon;
mod engine;
mod exec;
mod expressions;
mod hosts;
mod operations;
mod plans;
mod samples;
mod server;
mod services;
mod store;
mod systemd;
mod toolkit;
mod triggers;
mod workflows;
