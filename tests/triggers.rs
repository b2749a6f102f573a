//! Tests of the area `triggers` against the built binary, known answers and real parts.

mod asked;
mod daemon;
mod forges;
mod push;
mod webhooks;
