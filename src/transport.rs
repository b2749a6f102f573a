//! Hosts: the durable job over SSH or on this machine.
