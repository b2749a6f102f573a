//! The installed package under systemd as PID 1: a life from installation to purge, with jobs running through all of it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value as Json;

use super::machine::{Machine, packages};

/// A job that prints numbered lines for some seconds, and has one side effect.
fn counting(name: &str) -> String {
    format!(
        "name: {name}\non: push\njobs:\n  count:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          echo effect >> \"$HOME/effect-{name}\"\n          \
         for i in $(seq 1 300); do echo \"line $i\"; [ $((i % 30)) -ne 0 ] || sleep 0.5; done\n      - run: echo \"done\"\n"
    )
}

/// Adds a repository and pushes one workflow to it; what the pusher saw.
fn push(machine: &Machine, name: &str, workflow: &str) -> String {
    machine.run(&format!(
        "towline repo add {name} >/dev/null\nmkdir -p /root/{name}/.github/workflows\ncd /root/{name}\ngit init -q -b main\n\
         cat > .github/workflows/ci.yml <<'YAML'\n{workflow}YAML\n\
         git add -A\ngit -c user.name=T -c user.email=t@example.org commit -q -m First\n\
         git push /var/lib/towline/repositories/local/{name}.git main 2>&1"
    ))
}

/// The daemon's answer over its socket.
fn get(machine: &Machine, path: &str) -> Json {
    let text = machine.eventually(&format!("curl -fsS --unix-socket /run/towline/towline.sock http://towline{path}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}

fn log(machine: &Machine, name: &str, run: u64) -> String {
    let jobs = get(machine, &format!("/api/v3/repos/local/{name}/actions/runs/{run}/jobs"));
    let job = jobs["jobs"][0]["id"].as_u64().unwrap();
    machine.run(&format!(
        "curl -fsSL --unix-socket /run/towline/towline.sock 'http://towline/api/v3/repos/local/{name}/actions/jobs/{job}/logs?follow=1'"
    ))
}

/// Waits for the run's end and looks at every line of its log.
fn counted(machine: &Machine, name: &str, run: u64) {
    let path = format!("/api/v3/repos/local/{name}/actions/runs/{run}");
    machine.eventually(&format!(
        "curl -fsS --unix-socket /run/towline/towline.sock http://towline{path} | grep -q '\"status\":\"completed\"'"
    ));
    assert_eq!(get(machine, &path)["conclusion"], "success", "{}", log(machine, name, run));
    let log = log(machine, name, run);
    assert_eq!(numbered(&log), (1..=300).collect::<Vec<_>>(), "{log}");
    let effects = machine.run(&format!("cat /var/lib/towline/effect-{name}"));
    assert_eq!(effects, "effect\n", "the step began twice");
}

fn numbered(log: &str) -> Vec<u32> {
    log.lines().filter_map(|line| line.get(29..)?.strip_prefix("line ")?.parse().ok()).collect()
}

fn property(machine: &Machine, name: &str) -> String {
    machine.run(&format!("systemctl show --value -p {name} towline.service")).trim().to_owned()
}

/// Waits until a job of the run prints.
fn printing(machine: &Machine, name: &str) {
    machine.eventually(&format!("test -s /var/lib/towline/effect-{name}"));
}

#[test]
fn a_package_lives_under_systemd_and_jobs_live_through_all_of_it() {
    let Some(directory) = packages() else { return };
    let Some(mut machine) = Machine::boot(directory) else { return };

    // Install: everything is up, with nothing configured.
    machine.run("rm -f /var/lib/man-db/auto-update; dpkg --force-unsafe-io -i /packages/towline_*-1_*.deb");
    assert_eq!(property(&machine, "ActiveState"), "active");
    assert_eq!(property(&machine, "StatusText"), "0 jobs running, 0 waiting");
    assert_eq!(machine.run("stat -c %U:%a /run/towline/towline.sock").trim(), "towline:660");
    machine.run("curl -fsS --cacert /var/lib/towline/tls/ca.pem https://127.0.0.1:7443/readyz");
    machine.run("test \"$(stat -c %a /var/lib/towline/master.key)\" = 600");
    writes_hosts_alone(&machine);

    reloads(&machine);
    restarts(&machine);
    finds_its_way_back(&machine);
    credentials(&machine);
    power_cut(&mut machine, directory);
    upgrade_and_purge(&machine);
}

/// Faults of a new configuration are seen where people look, and the old one stays.
fn reloads(machine: &Machine) {
    machine.run("printf '[server]\\nlisen = []\\n' > /etc/towline/conf.d/broken.toml; systemctl reload towline");
    machine.eventually("systemctl show --value -p StatusText towline | grep -q 'broken.toml:2'");
    assert_eq!(property(machine, "ActiveState"), "active");
    machine.eventually("journalctl -u towline -p err -o cat | grep -q 'did you mean `listen`'");
    machine.run("rm /etc/towline/conf.d/broken.toml; systemctl reload towline");
    machine.eventually("systemctl show --value -p StatusText towline | grep -qx '0 jobs running, 0 waiting'");
}

/// A restart under load: no connection is refused, the job does not notice, the log is whole.
fn restarts(machine: &Machine) {
    let said = push(machine, "restart", &counting("restart"));
    assert!(said.contains("/local/restart/actions/runs/1"), "{said}");
    printing(machine, "restart");
    machine.eventually("systemctl status towline | grep -q 'Status: \"1 jobs running, 0 waiting\"'");
    let before = property(machine, "MainPID");
    // Clients ask all the time, on both sockets, while it restarts.
    let client = "fails=0; for i in $(seq 1 60); do\n\
                  curl -fsS -o /dev/null --max-time 30 --unix-socket /run/towline/towline.sock http://t/healthz || fails=$((fails + 1))\n\
                  curl -fsSk -o /dev/null --max-time 30 https://127.0.0.1:7443/healthz || fails=$((fails + 1))\n\
                  done; echo fails $fails";
    let mut client = machine.command(client).stdout(Stdio::piped()).spawn().unwrap();
    machine.run("systemctl restart towline");
    let mut said = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut said).unwrap();
    client.wait().unwrap();
    assert_eq!(said.trim(), "fails 0");
    assert_ne!(property(machine, "MainPID"), before);
    counted(machine, "restart", 1);
    // Everything about a run is found by its number.
    let found = machine.run("journalctl RUN_ID=1 -o json --no-pager");
    let records: Vec<Json> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let has = |name: &str, value: &str| records.iter().any(|record| record[name] == value);
    assert!(has("REPO", "local/restart") && has("HOST", "local") && has("JOB", "1"), "{found}");
    assert!(records.iter().any(|record| record["MESSAGE"].as_str().unwrap().contains("ended with success")), "{found}");
}

/// Stop, kill, hang and want of memory.
fn finds_its_way_back(machine: &Machine) {
    // Stop detaches; the next connection starts the daemon, which picks the job up.
    push(machine, "stop", &counting("stop"));
    printing(machine, "stop");
    machine.run("systemctl stop towline.service");
    assert_eq!(property(machine, "ActiveState"), "inactive");
    machine.run("pgrep -u towline sleep >/dev/null || pgrep -u towline sh >/dev/null");
    machine.run("curl -fsS --max-time 30 --unix-socket /run/towline/towline.sock http://t/healthz");
    assert_eq!(property(machine, "ActiveState"), "active");

    // Killed: systemd starts it again.
    machine.run("systemctl kill --kill-whom=main --signal=KILL towline.service");
    machine
        .eventually("test \"$(systemctl show --value -p NRestarts towline)\" -ge 1 && systemctl is-active -q towline");
    counted(machine, "stop", 2);

    // A daemon that hangs does not feed the watchdog.
    push(machine, "hang", &counting("hang"));
    printing(machine, "hang");
    machine.run(
        "mkdir -p /run/systemd/system/towline.service.d\n\
         printf '[Service]\\nWatchdogSec=3\\nTimeoutAbortSec=1\\nMemoryMax=300M\\n' > /run/systemd/system/towline.service.d/test.conf\n\
         systemctl daemon-reload; systemctl restart towline",
    );
    let hung = property(machine, "MainPID");
    machine.run(&format!("kill -STOP {hung}"));
    machine
        .eventually(&format!("pid=$(systemctl show --value -p MainPID towline); test $pid -ne 0 -a $pid -ne {hung}"));
    machine.eventually("journalctl -u towline -o cat | grep -q 'Watchdog timeout'");
    counted(machine, "hang", 3);

    // A job that wants more memory than there is ends; the daemon does not.
    if machine.run("systemctl show --value -p MemoryCurrent towline").contains("not set") {
        println!("skipped: memory limits are not kept here");
    } else {
        let daemon = property(machine, "MainPID");
        push(
            machine,
            "greedy",
            "on: push\njobs:\n  eat:\n    runs-on: ubuntu-latest\n    steps:\n      - run: head -c 1000M /dev/zero | tail | wc -c\n        shell: bash\n",
        );
        machine.eventually("towline run view 4 --json | grep -q '\"conclusion\":\\s*\"failure\"'");
        assert_eq!(property(machine, "MainPID"), daemon, "the daemon was killed for the job");
    }
    machine.run("rm -r /run/systemd/system/towline.service.d; systemctl daemon-reload");
}

/// Keys come from systemd, in the clear or encrypted; none is made beside them.
fn credentials(machine: &Machine) {
    machine.run(
        "mkdir -p -m 700 /etc/credstore; mv /var/lib/towline/master.key /etc/credstore/towline-master-key\n\
         systemctl restart towline; test ! -e /var/lib/towline/master.key",
    );
    machine.run(
        "mkdir -p -m 700 /etc/credstore.encrypted /etc/systemd/system/towline.service.d\n\
         ssh-keygen -q -t ed25519 -N '' -f /root/identity; openssl genrsa 2048 > /root/app 2>/dev/null\n\
         seal() { systemd-creds encrypt --name=$1 $2 /etc/credstore.encrypted/$1; }\n\
         seal towline-master-key /etc/credstore/towline-master-key; seal towline-ssh-identity /root/identity\n\
         seal towline-github-app-key /root/app; rm -r /etc/credstore\n\
         cp /usr/share/doc/towline/examples/systemd/credentials-encrypted.conf /etc/systemd/system/towline.service.d/\n\
         systemctl daemon-reload; systemctl restart towline; test ! -e /var/lib/towline/master.key\n\
         pid=$(systemctl show --value -p MainPID towline)\n\
         cmp /root/identity /proc/$pid/root/run/credentials/towline.service/towline-ssh-identity",
    );
    // The identity opens a host: a machine of its own, as far as the daemon can tell.
    machine.run(
        "mkdir -p /run/sshd; useradd -m -s /bin/bash ci; usermod -p '*' ci; install -d -o ci -m 700 /home/ci/.ssh\n\
         install -o ci -m 600 /root/identity.pub /home/ci/.ssh/authorized_keys\n\
         ssh-keygen -q -t ed25519 -N '' -f /root/host; printf 'HostKey /root/host\\nPort 2222\\nUsePAM no\\nPasswordAuthentication no\\nStrictModes no\\n' > /root/sshd_config\n\
         /usr/sbin/sshd -f /root/sshd_config\n\
         # It comes back before it listens.\n\
         for i in $(seq 600); do ssh-keyscan -p 2222 127.0.0.1 2>/dev/null | grep -q . && break; sleep 0.1; done\n\
         print=$(ssh-keygen -lf /root/host.pub | cut -d' ' -f2)\n\
         towline host add ci@127.0.0.1:2222 --name selene --identity /root/identity --accept $print\n\
         sed -i /identity/d /etc/towline/conf.d/hosts.toml; systemctl restart towline",
    );
    push(
        machine,
        "remote",
        "on: push\njobs:\n  a:\n    runs-on: selene\n    steps:\n      - uses: actions/checkout@v4\n      - run: 'echo \"I am $(id -un)\"; test -d .git'\n",
    );
    let runs = get(machine, "/api/v3/repos/local/remote/actions/runs");
    let run = runs["workflow_runs"][0]["id"].as_u64().unwrap();
    machine.eventually(&format!("towline run view {run} --json | grep -q '\"conclusion\":\\s*\"success\"'"));
    assert!(log(machine, "remote", run).contains("I am ci"));
    machine.run("rm /etc/towline/conf.d/hosts.toml; systemctl restart towline");
}

/// The power fails under a job of this machine: it is told as lost, with the log so far, and is not begun again.
fn power_cut(machine: &mut Machine, packages: &Path) {
    // With it the daemon sees that this machine, which shares its kernel with the one around it, has booted anew.
    machine.run(
        "cp /usr/share/doc/towline/examples/systemd/local-jobs.conf /etc/systemd/system/towline.service.d/\n\
         systemctl daemon-reload; systemctl restart towline",
    );
    push(machine, "power", &counting("power"));
    printing(machine, "power");
    machine.power_cut(packages);
    machine.eventually("systemctl is-active -q towline");
    let runs = get(machine, "/api/v3/repos/local/power/actions/runs");
    let run = runs["workflow_runs"][0]["id"].as_u64().unwrap();
    machine.eventually(&format!("towline run view {run} --json | grep -q '\"conclusion\":\\s*\"failure\"'"));
    let log = log(machine, "power", run);
    let lines = numbered(&log);
    assert_eq!(lines, (1..=u32::try_from(lines.len()).unwrap()).collect::<Vec<_>>(), "{log}");
    assert!(lines.len() < 300, "the job cannot have ended:\n{log}");
    assert_eq!(machine.run("cat /var/lib/towline/effect-power"), "effect\n", "the step began twice");
}

/// An upgrade while a job runs, and the end of it all.
fn upgrade_and_purge(machine: &Machine) {
    push(machine, "upgrade", &counting("upgrade"));
    printing(machine, "upgrade");
    let before = property(machine, "MainPID");
    machine.run("dpkg --force-unsafe-io -i /packages/towline_*-2_*.deb");
    assert_ne!(property(machine, "MainPID"), before, "the new program took over");
    let runs = get(machine, "/api/v3/repos/local/upgrade/actions/runs");
    counted(machine, "upgrade", runs["workflow_runs"][0]["id"].as_u64().unwrap());

    machine.run("dpkg -r towline");
    machine.run("! systemctl is-active -q towline.service towline.socket; test -e /var/lib/towline/db; test ! -e /usr/bin/towline");
    let said = machine.run("dpkg -P towline");
    assert!(said.contains("kept: /var/lib/towline/repositories"), "{said}");
    machine.run("test ! -e /etc/towline; test \"$(ls /var/lib/towline)\" = repositories; test -d /var/lib/towline/repositories/local/upgrade.git");
}

/// Of the configuration the daemon itself writes the hosts that are added on their page, and their keys.
fn writes_hosts_alone(machine: &Machine) {
    machine.run(
        "nsenter -t \"$(systemctl show --value -p MainPID towline.service)\" -m -- runuser -u towline -- sh -c '\
         touch /etc/towline/conf.d/probe && rm /etc/towline/conf.d/probe && test -w /etc/towline/known_hosts && \
         ! test -w /etc/towline/towline.toml && ! touch /etc/towline/probe 2>/dev/null'",
    );
}

#[test]
fn the_rpms_scripts_install_upgrade_and_remove() {
    let Some(directory) = packages() else { return };
    if !super::machine::have(&["rpm"]) {
        return;
    }
    let Some(machine) = Machine::boot(directory) else { return };
    // Debian's rpm wants to be told that it is meant; what the package requires has other names here.
    let rpm = "rpm --force-debian --nodeps";
    machine.run(&format!("{rpm} -i /packages/towline-*-1.*.rpm"));
    machine
        .run("getent passwd towline; test -d /etc/towline/conf.d; systemctl is-enabled towline.socket towline.service");
    machine.run("systemctl start towline.socket towline.service");
    assert_eq!(property(&machine, "ActiveState"), "active");
    assert_eq!(machine.run("stat -c %U:%a /run/towline/towline.sock").trim(), "towline:660");
    writes_hosts_alone(&machine);
    push(&machine, "rpm", &counting("rpm"));
    printing(&machine, "rpm");
    let before = property(&machine, "MainPID");
    machine.run("echo '# mine' >> /etc/towline/towline.toml");
    machine.run(&format!("{rpm} -U /packages/towline-*-2.*.rpm"));
    machine.eventually("systemctl is-active towline.service");
    assert_ne!(property(&machine, "MainPID"), before, "the upgrade restarts it");
    counted(&machine, "rpm", 1);
    machine.run("grep -q '# mine' /etc/towline/towline.toml");
    machine.run(&format!("{rpm} -e towline"));
    machine.run("! systemctl is-active towline.service towline.socket; ! test -e /usr/bin/towline");
    machine.run("test -d /var/lib/towline/repositories && grep -q '# mine' /etc/towline/towline.toml.rpmsave");
}
