//! What `towline demo` brings along: SSH hosts inside this process and a sample project.
//!
//! The hosts are a real SSH server as far as a client can tell, over real sockets on loopback; only the machine behind
//! them is this one. Knows nothing of how a host is used.

pub mod project;
pub mod ssh;
