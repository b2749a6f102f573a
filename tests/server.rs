//! The server over real sockets on loopback.

mod browser;
mod cli;
mod clients;
mod gh;
mod harness;
mod hostile;
mod listeners;
mod octokit;
mod openapi;
mod rest;
mod roles;
mod scene;
mod schema;
mod site;
mod values;
