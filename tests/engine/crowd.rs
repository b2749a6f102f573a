//! Ten thousand jobs wait for two hundred hosts, one of which comes and goes all the time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde_json::Map;
use towline::engine::{Effect, Engine, Input, Settings};
use towline::id::{HostName, JobId};
use towline::queue::{HostFacts, HostState};
use towline::run::Conclusion;
use towline::run::report::{JobResult, Report};

use super::loops::spec;

const RUNS: usize = 200;
const LEGS: usize = 50;
const HOSTS: usize = 200;
const SLOTS: u32 = 2;

fn host(number: usize) -> HostFacts {
    HostFacts {
        name: format!("host{number}").as_str().into(),
        slots: SLOTS,
        os: "Linux".to_owned(),
        arch: "X64".to_owned(),
        labels: Vec::new(),
        label_limits: BTreeMap::new(),
        repositories: Vec::new(),
    }
}

#[test]
fn ten_thousand_jobs_on_two_hundred_hosts_one_of_them_flapping() {
    let legs: Vec<String> = (1..=LEGS).map(|leg| leg.to_string()).collect();
    let workflow = format!(
        "on: push\njobs:\n  m:\n    strategy:\n      matrix: {{n: [{}]}}\n    runs-on: ubuntu-latest\n    steps: [{{run: x}}]\n",
        legs.join(", ")
    );
    let mut engine = Engine::new(Settings::github());
    let mut now = Timestamp::from_second(1_700_000_000).unwrap();
    let mut running: VecDeque<(JobId, HostName)> = VecDeque::new();
    let mut began: HashMap<JobId, HostName> = HashMap::new();
    let mut used: HashMap<HostName, u32> = HashMap::new();
    let mut step = |engine: &mut Engine, running: &mut VecDeque<_>, used: &mut HashMap<HostName, u32>, now, input| {
        for effect in engine.step(now, input) {
            if let Effect::Dispatch { job, host, .. } = effect {
                assert!(began.insert(job, host.clone()).is_none(), "job {job} was begun twice");
                let used = used.entry(host.clone()).or_default();
                *used += 1;
                assert!(*used <= SLOTS, "{host} has {used} jobs");
                running.push_back((job, host));
            }
        }
        began.len()
    };
    for _ in 0..RUNS {
        let input = Input::StartRun { key: None, held: false, spec: Box::new(spec(&workflow)) };
        step(&mut engine, &mut running, &mut used, now, input);
    }
    assert_eq!(engine.summary().waiting, RUNS * LEGS);
    for number in 0..HOSTS {
        step(&mut engine, &mut running, &mut used, now, Input::HostUp(host(number)));
    }
    let flapping = HostName::from("host0");
    let (mut ended, mut flaps) = (0, 0);
    while let Some((job, host_name)) = running.pop_front() {
        now += SignedDuration::from_millis(20);
        let result = JobResult {
            conclusion: Conclusion::Success,
            outputs: Map::new(),
            environment_url: None,
            reason: None,
            host_lost: false,
        };
        *used.get_mut(&host_name).unwrap() -= 1;
        let report = Report::Finished { at: now, result };
        step(&mut engine, &mut running, &mut used, now, Input::Report { job, host: host_name, report });
        ended += 1;
        // Every second of this world's time.
        if ended % 50 == 0 {
            flaps += 1;
            let input =
                if flaps % 2 == 1 { Input::HostDown { host: flapping.clone() } } else { Input::HostUp(host(0)) };
            step(&mut engine, &mut running, &mut used, now, input);
            let down = engine.summary().hosts.iter().any(|host| host.name == flapping && host.state == HostState::Down);
            assert_eq!(down, flaps % 2 == 1);
        }
    }
    assert_eq!(ended, RUNS * LEGS);
    let summary = engine.summary();
    assert_eq!((summary.runs, summary.waiting, summary.running), (0, 0, 0));
    println!("{ended} jobs on {HOSTS} hosts, {flaps} flaps of one of them");
}
