//! The server over real sockets on loopback.

mod browser;
mod clients;
mod gh;
mod harness;
mod listeners;
mod octokit;
mod rest;
mod scene;
mod schema;
mod site;
mod values;
