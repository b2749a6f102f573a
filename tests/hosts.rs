//! Hosts: the durable job on this machine and through real SSH servers.

mod basics;
mod faults;
mod shells;
mod support;
