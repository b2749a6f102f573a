//! Tests of the area `triggers` against the built binary, known answers and real parts.

mod asked;
mod chains;
mod daemon;
mod deliveries;
mod forges;
mod github;
mod killed;
mod notices;
mod push;
mod repeat;
mod webhooks;
mod whole;
