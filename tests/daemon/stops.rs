//! A daemon that is asked to stop while it prepares something: the next one goes on with it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Lab, pause, ssh_host};
use crate::support::sshd::Sshd;

/// Puts a git before the machine's that does not pack while there is a file `wait`, and says so in `packing`.
fn slow_git(lab: &Lab) {
    let bin = lab.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let usual = std::env::var("PATH").unwrap();
    let git = usual.split(':').map(|place| Path::new(place).join("git")).find(|git| git.is_file()).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' pack-objects '*)\n: >{packing}\nwhile [ -e {wait} ]; do sleep 0.05; done ;; esac\nexec {git} \"$@\"\n",
        packing = lab.path("packing").display(),
        wait = lab.path("wait").display(),
        git = git.display(),
    );
    std::fs::write(bin.join("git"), script).unwrap();
    std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_stop_while_a_checkout_is_packed_costs_nothing() {
    let Some(server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    slow_git(&lab);
    std::fs::write(lab.path("wait"), "").unwrap();
    lab.push(
        "local/large",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: test -f .github/workflows/ci.yml && echo \"it is here\"\n",
    );
    for _ in 0..2 {
        while !lab.path("packing").exists() {
            pause();
        }
        lab.terminate();
        std::fs::remove_file(lab.path("packing")).unwrap();
        lab.start();
    }
    std::fs::remove_file(lab.path("wait")).unwrap();
    assert_eq!(lab.conclusion("local/large", 1), "success", "{}", lab.log("local/large", 1));
    let log = lab.log("local/large", 1);
    assert!(!log.contains("timed out"), "{log}");
    for once in ["Syncing repository: local/large", "Z it is here"] {
        assert_eq!(log.matches(once).count(), 1, "{once}: {log}");
    }
}
