//! Bad days of a network: hosts in network and process namespaces of their own, links that delay, lose, throttle and break,
//! machines that lose power, move or come back with another key. Needs root and `ip`, `nft`, `tc`; skipped without.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use towline::transport::{Exit, Hosts, JobSpec, StepEnded};

use super::faults::{LINES, Ledger, Random, number, pause_for, seed, start_follower, undisturbed};
use super::support::{block_on, open, sh, until_end};
use crate::support::sshd::{Sshd, descendants, kill, user};

/// Where the host is, and where it moves to.
const ADDRESS: &str = "10.77.0.2";
const ELSEWHERE: &str = "10.77.0.3";

/// A controller and a host, each in a network namespace of its own, with a cable between them.
struct Lan {
    directory: TempDir,
    name: String,
    machine: Child,
}

impl Lan {
    /// Makes both and turns the host on; `None` where that is not possible.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tools = ["ip", "nft", "tc", "nsenter", "unshare", "ssh-keygen"];
        let there = |name: &&str| {
            Command::new("sh").args(["-c", &format!("command -v {name}")]).output().is_ok_and(|o| o.status.success())
        };
        if user() != "root" || !tools.iter().all(there) || !Path::new("/usr/sbin/sshd").exists() {
            eprintln!("skipped: namespaces need root, sshd and {tools:?}");
            return None;
        }
        let name = format!("tl{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let directory = tempfile::Builder::new().prefix("lan").tempdir().expect("a directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("modes");
        fs::create_dir(path.join("home")).expect("a home");
        fs::create_dir_all("/run/sshd").expect("for sshd");
        for key in ["host", "id", "other"] {
            run(&format!("ssh-keygen -q -t ed25519 -N '' -f {}", path.join(key).display()));
        }
        fs::copy(path.join("id.pub"), path.join("authorized")).expect("keys");
        fs::copy(path.join("host"), path.join("key")).expect("a key");
        let public = fs::read_to_string(path.join("host.pub")).expect("a key");
        fs::write(path.join("known_hosts"), format!("{ADDRESS} {public}")).expect("known");
        let configuration = format!(
            "ListenAddress 0.0.0.0\nHostKey {0}/key\nPidFile none\nAuthorizedKeysFile {0}/authorized\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nUseDNS no\nPrintMotd no\n\
             PrintLastLog no\nSetEnv HOME={0}/home\n",
            path.display()
        );
        fs::write(path.join("sshd_config"), configuration).expect("a configuration");
        if !try_run(&format!(
            "ip netns add {name}c && ip netns add {name}h && ip link add c{name} netns {name}c type veth peer name h{name} netns {name}h"
        )) {
            eprintln!("skipped: no network namespaces can be made here");
            return None;
        }
        run(&format!(
            "ip -n {name}c addr add 10.77.0.1/24 dev c{name}; ip -n {name}c link set c{name} up; ip -n {name}c link set lo up; \
             ip -n {name}h addr add {ADDRESS}/24 dev h{name}; ip -n {name}h link set h{name} up; ip -n {name}h link set lo up"
        ));
        let machine = power_on(path, &name);
        let lan = Self { directory, name, machine };
        lan.answers();
        Some(lan)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until sshd listens.
    fn answers(&self) {
        let patience = Instant::now() + Duration::from_secs(120);
        while !try_run(&format!(
            "nsenter --net=/run/netns/{}h sh -c 'ss -ltn 2>/dev/null | grep -q :22 || grep -q :0016 /proc/net/tcp'",
            self.name
        )) {
            assert!(Instant::now() < patience, "sshd does not listen");
            pause_for(Duration::from_millis(20));
        }
    }

    /// The power is cut: the link first, so that nobody is told, then every process of the host.
    fn power_cut(&mut self) {
        self.link("down");
        self.machine.kill().expect("killed");
        self.machine.wait().expect("ended");
    }

    fn power_on(&mut self) {
        self.machine = power_on(self.path(), &self.name);
        self.link("up");
        self.answers();
    }

    fn link(&self, state: &str) {
        run(&format!("ip -n {0}c link set c{0} {state}", self.name));
    }

    /// Inside the host's network.
    fn on_host(&self, command: &str) {
        run(&command.replace("HOST", &format!("{}h", self.name)).replace("DEV", &format!("h{}", self.name)));
    }

    /// Ends the processes that serve connections, or the listener with them.
    fn kill_sshd(&self, listener: bool) {
        for pid in descendants(self.machine.id()) {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let listens = command.contains("[listener]") || command.contains("-D");
            if command.contains("sshd") && !command.starts_with("unshare") && (listener || !listens) {
                kill("-KILL", pid);
            }
        }
    }

    /// Processes of the host that are neither sshd nor what started it.
    fn left(&self) -> Vec<String> {
        let commands = descendants(self.machine.id()).into_iter().filter_map(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
            (!text.contains("sshd") && !text.trim().is_empty()).then_some(text)
        });
        commands.collect()
    }

    /// The orders of a follower, and the follower.
    fn follow(&self, nonce: &str) -> Child {
        let orders = format!("{nonce}\n~/.towline\n22\n{}\n{ADDRESS}", self.path().display());
        fs::write(self.path().join("orders"), orders).expect("orders");
        start_follower(self.path(), Some(&format!("{}c", self.name)))
    }

    fn told(&self) -> String {
        fs::read_to_string(self.path().join("told")).unwrap_or_default()
    }

    /// Waits until the follower was told something like this.
    fn until_told(&self, what: &str) {
        let patience = Instant::now() + Duration::from_secs(50);
        while !self.told().contains(what) {
            assert!(Instant::now() < patience, "never told of {what:?}, but: {}", self.told());
            pause_for(Duration::from_millis(50));
        }
    }

    /// Waits until the first output was taken.
    fn until_output(&self) {
        let ledger = Ledger { directory: self.path().to_owned() };
        let patience = Instant::now() + Duration::from_secs(40);
        while ledger.state().0 == 0 {
            assert!(Instant::now() < patience, "no output");
            pause_for(Duration::from_millis(10));
        }
    }

    /// Waits for the follower, and looks whether everything is as it should be.
    fn check(&self, follower: &mut Child, story: &str, expected: &[u8]) {
        self.wait_for(follower, story);
        let ledger = Ledger { directory: self.path().to_owned() };
        let log = fs::read(ledger.log()).expect("a log");
        if log != expected {
            let at = log.iter().zip(expected).position(|(one, other)| one != other);
            panic!("{story}: {} bytes instead of {}, differing at {at:?}", log.len(), expected.len());
        }
        assert_eq!(ledger.state().2, Some(7), "{story}");
        assert_eq!(fs::read(self.path().join("side")).expect("a side effect"), b"once\n", "{story}");
        assert!(!self.path().join("home/.towline/jobs/9-1-1").exists(), "{story}: the job's directory is left");
        let patience = Instant::now() + Duration::from_secs(10);
        while !self.left().is_empty() {
            assert!(Instant::now() < patience, "{story}: left running: {:?}", self.left());
            pause_for(Duration::from_millis(50));
        }
    }

    fn wait_for(&self, follower: &mut Child, story: &str) {
        let patience = Instant::now() + Duration::from_secs(300);
        loop {
            if let Some(status) = follower.try_wait().expect("a child") {
                let errors = fs::read_to_string(self.path().join("errors")).unwrap_or_default();
                assert!(status.success(), "{story}: {errors}");
                return;
            }
            if Instant::now() >= patience {
                let _ = follower.kill();
                panic!("{story}: not done in time; told: {}; left: {:?}", self.told(), self.left());
            }
            pause_for(Duration::from_millis(10));
        }
    }

    /// As new, for the next run.
    fn clean(&self) {
        for name in ["log", "state", "side", "told", "opened", "errors"] {
            let _ = fs::remove_file(self.path().join(name));
        }
        self.on_host("nft flush ruleset 2>/dev/null; tc -n HOST qdisc del dev DEV root 2>/dev/null; true");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
        try_run(&format!("ip netns del {0}c; ip netns del {0}h", self.name));
    }
}

/// The host's processes, which all end with the one that is returned.
fn power_on(path: &Path, name: &str) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(path.join("sshd.log")).expect("a log");
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/{name}h"))
        .args(["unshare", "--uts", "--pid", "--mount", "--ipc", "--fork", "--mount-proc", "--kill-child"])
        .args(["/usr/sbin/sshd", "-D", "-e", "-f"])
        .arg(path.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("nsenter runs")
}

fn try_run(script: &str) -> bool {
    Command::new("sh")
        .args(["-c", script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn run(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One job over a link with a fault that stays, and disturbances at random moments.
fn disturb(random: &mut Random, lan: &Lan, expected: &[u8]) {
    lan.clean();
    let mut story = match random.below(4) {
        0 => {
            // Kernels without netem have the limited rate instead.
            lan.on_host(
                "tc -n HOST qdisc add dev DEV root netem delay 100ms 50ms 2>/dev/null || \
                 tc -n HOST qdisc add dev DEV root tbf rate 8mbit burst 16kbit latency 300ms",
            );
            "delayed".to_owned()
        }
        1 => {
            lan.on_host(
                "nsenter --net=/run/netns/HOST sh -c 'nft add table inet f && nft \"add chain inet f i { type filter hook input priority 0; }\" && \
                 nft add rule inet f i numgen random mod 100 \\< 5 drop'",
            );
            "5 % lost".to_owned()
        }
        2 => {
            lan.on_host("tc -n HOST qdisc add dev DEV root tbf rate 4mbit burst 32kbit latency 200ms");
            "4 Mbit/s".to_owned()
        }
        _ => "a good link".to_owned(),
    };
    let mut follower = lan.follow(&JobSpec::new_nonce());
    for _ in 0..1 + random.below(3) {
        pause_for(Duration::from_millis(random.below(900)));
        if follower.try_wait().expect("a child").is_some() {
            break;
        }
        let pause = Duration::from_millis(100 + random.below(1500));
        match random.below(5) {
            0 => {
                lan.link("down");
                pause_for(pause);
                lan.link("up");
                story.push_str(&format!(", cut for {pause:?}"));
            }
            1 => {
                lan.kill_sshd(false);
                story.push_str(", sessions killed");
            }
            2 => {
                kill("-STOP", follower.id());
                pause_for(pause);
                kill("-CONT", follower.id());
                story.push_str(&format!(", follower stopped for {pause:?}"));
            }
            3 => {
                lan.on_host(&format!("ip -n HOST addr del {ADDRESS}/24 dev DEV"));
                pause_for(pause);
                lan.on_host(&format!("ip -n HOST addr add {ADDRESS}/24 dev DEV"));
                story.push_str(&format!(", without an address for {pause:?}"));
            }
            _ => {
                let _ = follower.kill();
                let _ = follower.wait();
                follower = start_follower(lan.path(), Some(&format!("{}c", lan.name)));
                story.push_str(", follower killed");
            }
        }
    }
    lan.check(&mut follower, &story, expected);
}

#[test]
fn disturbed_links_lose_nothing() {
    let expected = undisturbed();
    let seed = seed();
    let runs = number("TOWLINE_LAN_RUNS", 8);
    let workers = 4;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let expected = &expected;
            scope.spawn(move || {
                let Some(lan) = Lan::new() else { return };
                let mut random = Random(seed.wrapping_add(worker));
                for _ in 0..runs.div_ceil(workers) {
                    disturb(&mut random, &lan, expected);
                }
            });
        }
    });
    eprintln!("{runs} runs of {LINES} lines over disturbed links, each with its log whole");
}

#[test]
fn a_host_that_lost_power_is_known_to_have_restarted() {
    let Some(mut lan) = Lan::new() else { return };
    fs::write(lan.path().join("mortal"), "").expect("noted");
    let mut follower = lan.follow(&JobSpec::new_nonce());
    lan.until_output();
    lan.power_cut();
    // Nobody said good-bye: the follower that comes after this one finds out.
    follower.kill().expect("killed");
    follower.wait().expect("ended");
    lan.power_on();
    let mut follower = start_follower(lan.path(), Some(&format!("{}c", lan.name)));
    lan.wait_for(&mut follower, "power cut");
    assert!(lan.told().contains("restarted"), "{}", lan.told());
    assert_eq!(fs::read(lan.path().join("side")).expect("a side effect"), b"once\n");
    let log = fs::read(lan.path().join("log")).expect("a log");
    assert!(undisturbed().starts_with(&log), "the log has what was never printed");
    assert_eq!(lan.left(), Vec::<String>::new());
}

#[test]
fn another_key_and_another_address_are_told_apart() {
    let Some(lan) = Lan::new() else { return };
    let (own, other, key) = (lan.path().join("host"), lan.path().join("other"), lan.path().join("key"));
    let mut follower = lan.follow(&JobSpec::new_nonce());
    lan.until_output();
    change_key(&lan, &other, &key);
    lan.until_told("has changed");
    change_key(&lan, &own, &key);
    lan.until_told("attached");
    lan.on_host(&format!("ip -n HOST addr del {ADDRESS}/24 dev DEV; ip -n HOST addr add {ELSEWHERE}/24 dev DEV"));
    lan.kill_sshd(false);
    // The connection cannot end by itself: whoever comes next finds nobody at the address.
    follower.kill().expect("killed");
    follower.wait().expect("ended");
    follower = start_follower(lan.path(), Some(&format!("{}c", lan.name)));
    pause_for(Duration::from_millis(300));
    lan.on_host(&format!("ip -n HOST addr add {ADDRESS}/24 dev DEV"));
    lan.check(&mut follower, "key and address", &undisturbed());
}

/// The host comes back with a key; its jobs go on meanwhile.
fn change_key(lan: &Lan, from: &Path, to: &Path) {
    fs::copy(from, to).expect("a key");
    for pid in descendants(lan.machine.id()) {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command.contains("[listener]") {
            // Read again with the configuration; the process, and with it the namespace, stays.
            kill("-HUP", pid);
        }
    }
    pause_for(Duration::from_millis(200));
    lan.answers();
    lan.kill_sshd(false);
}

#[test]
fn an_address_that_nobody_has_says_so() {
    let Some(lan) = Lan::new() else { return };
    lan.on_host(&format!("ip -n HOST addr del {ADDRESS}/24 dev DEV"));
    let output = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}c", lan.name))
        .args([env!("CARGO_BIN_EXE_towline"), "host", "check", &format!("root@{ADDRESS}")])
        .env("HOME", lan.path())
        .env("XDG_CONFIG_HOME", lan.path())
        .output()
        .expect("towline runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("no way to") || said.contains("did not answer"), "{said}");
    assert!(!output.status.success());
}

#[test]
fn a_clock_that_is_off_is_told() {
    let prelude = "d=$(mktemp -d); printf '#!/bin/sh\\necho 1000000000\\n' >$d/date; chmod 755 $d/date; mount --bind $d/date \"$(command -v date)\"";
    let Some(sshd) = Sshd::start_inside("", prelude) else { return };
    let facts = block_on(async { Hosts::new().probe(&sshd.target("skewed")).await.expect("probed") });
    assert!(facts.obstacles.iter().any(|one| one.contains("its clock is")), "{:?}", facts.obstacles);
}

#[test]
fn a_full_process_table_loses_no_end() {
    if !Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists() {
        eprintln!("skipped: there is no pids controller here");
        return;
    }
    let group = format!("/sys/fs/cgroup/pids/towline-{}", std::process::id());
    let prelude = format!("mkdir -p {group}; echo 60 >{group}/pids.max; echo $$ >{group}/cgroup.procs");
    let Some(mut sshd) = Sshd::start_inside("", &prelude) else { return };
    block_on(async {
        let hosts = Hosts::new();
        let (job, mut events) = open(&hosts, &sshd.target("crowded"), "8-1-9").await;
        job.start_step(sh(1, "echo before; i=0; while [ $i -lt 200 ]; do sleep 2 & i=$((i + 1)); done; echo after"))
            .await
            .expect("taken");
        let (output, StepEnded { exit, .. }) = until_end(&mut events, 1).await;
        assert!(output.starts_with(b"before\n"), "{}", String::from_utf8_lossy(&output));
        assert!(matches!(exit, Exit::Code(code) if code != 0), "{exit:?}: {}", String::from_utf8_lossy(&output));
        // As soon as there is room again, it goes on.
        job.start_step(sh(2, "echo room")).await.expect("taken");
        let (output, ended) = until_end(&mut events, 2).await;
        assert_eq!((&output[..], ended.exit), (&b"room\n"[..], Exit::Code(0)));
        job.finish().await.expect("finished");
    });
    sshd.stop();
    let _ = fs::remove_dir(group);
}
