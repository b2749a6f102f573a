//! The server over real sockets on loopback.

mod harness;
mod listeners;
mod rest;
mod schema;
mod site;
