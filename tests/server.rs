//! The server over real sockets on loopback.

mod clients;
mod gh;
mod harness;
mod listeners;
mod octokit;
mod rest;
mod schema;
mod site;
mod values;
