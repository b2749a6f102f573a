//! The packages under a real systemd, and what can be said of them without one.

mod machine;
mod packages;
mod readme;
mod service;
