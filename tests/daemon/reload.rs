//! A configuration that changes while the daemon runs: hosts, labels, limits; and one with faults.

use super::{Lab, PATIENCE, pause};
use std::time::Instant;

const WORKFLOW: &str =
    "on: push\njobs:\n  a:\n    runs-on: kitchen\n    steps:\n      - run: echo \"on $RUNNER_NAME\"\n";

impl Lab {
    pub(super) fn configure(&self, rest: &str) {
        let config = format!("[server]\nlisten = [\"{}\"]\ntls = false\n\n{rest}", self.address);
        let unfinished = self.path("towline.toml.new");
        std::fs::write(&unfinished, config).unwrap();
        std::fs::rename(unfinished, self.path("towline.toml")).unwrap();
    }

    pub(super) fn why(&self, name: &str, run: u64) -> String {
        let jobs = self.get(&format!("/api/v3/repos/{name}/actions/runs/{run}/jobs")).unwrap();
        let job = &jobs["jobs"][0]["id"];
        self.get(&format!("/api/v3/towline/jobs/{job}/why")).unwrap().to_string()
    }

    pub(super) fn eventually(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !is(self) {
            assert!(start.elapsed() < PATIENCE, "{what} does not come");
            pause();
        }
    }

    /// The first line of `/readyz`, whatever its status.
    fn readiness(&self) -> String {
        self.ask("GET", "/readyz").map(|(_, said)| said).unwrap_or_default()
    }
}

#[test]
fn hosts_and_labels_change_without_a_restart_and_faults_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let host = |name: &str, labels: &str| {
        let root = root.path().join(name);
        format!("[[host]]\nname = \"{name}\"\nkind = \"local\"\nroot = \"{}\"\n{labels}\n", root.display())
    };
    let lab = Lab::new(&host("one", ""));
    lab.push("local/kitchen", WORKFLOW);
    lab.eventually("a reason", |lab| lab.why("local/kitchen", 1).contains("one comes closest"));

    // A fault: the old configuration stays, and `/readyz` says so.
    lab.configure("[[host]]\nname = \"two\"\nslot = 1\n");
    lab.eventually("the fault", |lab| lab.readiness().contains("has faults"));
    assert!(lab.why("local/kitchen", 1).contains("one comes closest"));

    // A meaning for the label lets the waiting job go.
    lab.configure(&format!("{}[labels]\nkitchen = [\"one\"]\n", host("one", "")));
    assert_eq!(lab.conclusion("local/kitchen", 1), "success");
    assert!(lab.readiness().contains("ready"));

    // Another host in place of the first one; no more than one job at once; quiet hours all day.
    let limits = "[limits]\njobs = 1\n";
    lab.configure(&format!("{}{limits}", host("two", "labels = [\"kitchen\"]\nquiet = [\"00:00-24:00\"]")));
    lab.eventually("the exchange", |lab| {
        let hosts = lab.get("/api/v3/towline/hosts").unwrap();
        hosts["total_count"] == 1 && hosts["hosts"][0]["name"] == "two"
    });
    lab.say(&["run", "rerun", "1"], "");
    lab.eventually("the quiet", |lab| lab.why("local/kitchen", 1).contains("two takes no jobs until"));
    lab.configure(&format!("{}{limits}", host("two", "labels = [\"kitchen\"]")));
    assert_eq!(lab.conclusion("local/kitchen", 1), "success");
    assert!(lab.log("local/kitchen", 1).contains("on two"));
}

#[test]
fn a_log_stops_growing_where_the_configuration_says() {
    let lab = Lab::new("[limits]\njob_log = \"20k\"\n");
    let workflow =
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: seq -f 'line %g' 100000\n";
    lab.push("local/long", workflow);
    assert_eq!(lab.conclusion("local/long", 1), "success");
    let log = lab.log("local/long", 1);
    assert!((20_000..25_000).contains(&log.len()), "{}", log.len());
    assert_eq!(log.matches("##[warning]The log is longer than").count(), 1, "{log}");
    assert!(log.trim_end().ends_with("the rest is not kept."), "{log}");
}
