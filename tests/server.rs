//! The server over real sockets on loopback.

mod admission;
mod browser;
mod cli;
mod gh;
mod harness;
mod hostile;
mod listeners;
mod octocrab;
mod octokit;
mod openapi;
mod rest;
mod roles;
mod scene;
mod schema;
mod site;
mod traces;
mod values;
