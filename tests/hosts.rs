//! Hosts: the durable job on this machine and through real SSH servers.

mod access;
mod basics;
mod faults;
mod faulty;
mod identity;
mod lan;
mod lost;
mod shells;
mod support;
mod words;
