//! README's installation, word for word, on a machine of its own.

use std::path::Path;

use super::machine::{Machine, packages};

/// The shell blocks of a section, in order.
fn blocks(text: &str, heading: &str) -> Vec<String> {
    let section =
        text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("README has no section {heading}")).1;
    let section = section.split("\n## ").next().unwrap_or(section);
    section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

#[test]
fn the_install_section_works_word_for_word() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let Some(directory) = packages() else { return };
    let install = blocks(&readme, "## Install");
    let first = blocks(&readme, "## From an empty directory to `git push`");
    assert!(install.len() == 1 && first.len() == 3, "{install:?}{first:?}");
    let Some(machine) = Machine::boot(directory) else { return };
    machine.run("rm -f /var/lib/man-db/auto-update; git config --global user.name Ada; git config --global user.email ada@example.org");
    // Where the packages are.
    let said = machine.run(&format!("cd /packages; export DEBIAN_FRONTEND=noninteractive\n{}", install[0]));
    assert!(said.contains("ssh-ed25519") && said.contains("0 errors"), "{said}");
    // Its first block installs without a package; the rest is the same for both.
    let said = machine.run(&format!("cd /root\nexec 2>&1\n{}\n{}", first[1], first[2]));
    for line in ["hook installed", "hello from Linux", ".github/workflows/ci.yml: success", "main -> main"] {
        assert!(said.contains(line), "'{line}' is not in\n{said}");
    }
    let said = machine.run("towline run list; towline run view 1; journalctl RUN_ID=1 -o cat");
    assert!(said.contains("Say hello") && said.contains("✓ Run sh hello.sh"), "{said}");
    assert!(said.contains("run 1 (.github/workflows/ci.yml of local/hello) ended with success"), "{said}");
    // What `init` opened is open: a program that makes code as it runs works in a job of this machine.
    machine.run("systemctl show -p MemoryDenyWriteExecute towline | grep -qx MemoryDenyWriteExecute=no");
    machine.run("grep -q '^NoNewPrivs:.*0' /proc/$(systemctl show --value -p MainPID towline)/status");
    machine.run("towline drain --timeout 60 && towline drain --undo && towline doctor --quick && systemctl start towline-backup && ls /var/lib/towline/backups | grep -q ndjson");
    machine.run("cd /tmp && towline support-bundle >/dev/null && tar -xzOf towline-support-*.tar.gz | grep -q 'ended with success'");
    // Members of the group may push; others may not.
    let outsider = "useradd -m eve; useradd -m ada; usermod -aG towline ada; cd /home/ada\n\
                    cat > /home/ada/push.sh <<'SH'\n\
                    git clone -q /var/lib/towline/repositories/local/hello.git work && cd work && date > stamp && git add -A\n\
                    git -c user.name=A -c user.email=a@example.org commit -q -m More && git push -q origin HEAD:main 2>&1\n\
                    SH\n\
                    ! runuser -u eve -- ls /var/lib/towline 2>/dev/null; runuser -u ada -- sh /home/ada/push.sh";
    let said = machine.run(outsider);
    assert!(said.contains("/local/hello/actions/runs/2"), "{said}");
    machine.run("runuser -u ada -- towline run list");
}
