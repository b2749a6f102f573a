//! Any text is a known_hosts file; a key that was recorded is known afterwards, whatever stands before it, unless the
//! text revokes it.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The room keeps its reader to itself, so the target takes the file as its own module.
#[expect(dead_code, reason = "only a part of the module is tried")]
#[path = "../../src/transport/known_hosts.rs"]
mod known_hosts;

use known_hosts::{Judgement, KnownHosts, line, recorded_name};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fuzz_target!(|data: (&str, &str, u16, &[u8])| {
    let (text, address, port, key) = data;
    let name = recorded_name(address, port);
    let mut hosts = KnownHosts::default();
    hosts.read("known_hosts", text);
    let before = hosts.judge(&name, key);
    assert_eq!(hosts.judge(&name, key), before);
    hosts.judge_authority(&name, key);
    hosts.has_authority(&name);
    hosts.algorithms(&name);

    let mut recorded = KnownHosts::default();
    recorded.read("known_hosts", &line("host.lan", port, KEY));
    let name = recorded_name("host.lan", port);
    assert_eq!(recorded.algorithms(&name).len(), 1);
    assert!(matches!(recorded.judge(&name, b"another"), Judgement::Changed(_)));
});
