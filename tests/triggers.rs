//! Tests of the area `triggers` against the built binary, known answers and real parts.

mod asked;
mod chains;
mod checks;
mod daemon;
mod deliveries;
mod forges;
mod github;
mod killed;
mod notices;
mod outbox;
mod polls;
mod push;
mod readme;
mod remote;
mod repeat;
mod webhooks;
mod whole;
