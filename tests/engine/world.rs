//! The world around the engine: senders that repeat until they are answered, an executor, hosts that die, a disk.

mod executor;
mod invariants;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};
use towline::engine::record::EnvironmentRules;
use towline::engine::{Answer, Change, Effect, Engine, Input, Settings};
use towline::event::{ChangedFiles, Event};
use towline::id::{HostName, JobId, RepositoryName, RunId};
use towline::plan::Files;
use towline::queue::HostFacts;
use towline::run::{Conclusion, Rerun, RunSpec, RunStatus, Which};

use super::disk::Disk;
use super::simulation::Totals;

/// The workflows of the world. Jobs whose name says `fail` do; the others succeed.
const WORKFLOWS: [(&str, &str); 9] = [
    ("one", "on: push\njobs:\n  a:\n    runs-on: linux\n    steps: [{run: x}]\n"),
    (
        "chain",
        "on: push\njobs:\n  a:\n    runs-on: linux\n    steps: [{run: x}]\n  fail:\n    needs: a\n    runs-on: ubuntu-latest\n    steps: [{run: x}]\n  skipped:\n    needs: fail\n    runs-on: linux\n    steps: [{run: x}]\n  always:\n    needs: [fail, skipped]\n    if: always()\n    runs-on: [self-hosted, big]\n    steps: [{run: x}]\n",
    ),
    (
        "matrix",
        "on: push\njobs:\n  m:\n    strategy:\n      fail-fast: false\n      max-parallel: 2\n      matrix: {n: [1, 2, 3, 4]}\n    runs-on: linux\n    steps: [{run: x}]\n  after:\n    needs: m\n    runs-on: linux\n    steps: [{run: x}]\n",
    ),
    (
        "fast",
        "on: push\njobs:\n  m:\n    name: ${{ matrix.n == 2 && 'fail' || 'ok' }} ${{ matrix.n }}\n    strategy:\n      matrix: {n: [1, 2, 3]}\n    runs-on: linux\n    steps: [{run: x}]\n",
    ),
    (
        "single",
        "on: push\nconcurrency: single\njobs:\n  a:\n    runs-on: linux\n    steps: [{run: x}]\n  b:\n    needs: a\n    runs-on: linux\n    steps: [{run: x}]\n",
    ),
    (
        "cancels",
        "on: push\nconcurrency: {group: Single-C, cancel-in-progress: true}\njobs:\n  a:\n    runs-on: linux\n    steps: [{run: x}]\n  always:\n    if: always()\n    runs-on: linux\n    steps: [{run: x}]\n",
    ),
    (
        "jobs",
        "on: push\njobs:\n  a:\n    concurrency: {group: max, queue: max}\n    runs-on: linux\n    steps: [{run: x}]\n  b:\n    concurrency: single\n    runs-on: linux\n    steps: [{run: x}]\n  c:\n    concurrency: host:alpha/board\n    runs-on: linux\n    steps: [{run: x}]\n",
    ),
    ("deploy", "on: push\njobs:\n  a:\n    environment: production\n    runs-on: linux\n    steps: [{run: x}]\n"),
    (
        "heavy",
        "on: push\njobs:\n  a:\n    runs-on: [linux, heavy]\n    steps: [{run: x}]\n  b:\n    runs-on: linux\n    steps: [{run: x}]\n",
    ),
];

const HOSTS: [(&str, u32, &[&str]); 3] =
    [("alpha", 2, &["heavy"]), ("beta", 1, &["big"]), ("gamma", 2, &["big", "heavy"])];

/// A small fast generator; the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What happens at a time.
#[derive(Clone, Debug)]
enum Happening {
    /// A sender sends, and sends again until it is answered.
    Send(usize),
    /// An input of the current daemon: lost when that one dies.
    Deliver {
        daemon: u64,
        input: Box<Input>,
    },
    Tick {
        daemon: u64,
    },
    /// The executor brings a job to its host.
    Begin {
        daemon: u64,
        job: JobId,
    },
    /// A process on a host ends by itself.
    End {
        job: JobId,
        start: u64,
    },
    /// The executor has stopped a process.
    Stop {
        daemon: u64,
        job: JobId,
    },
    Disturb,
    /// No more faults from here on.
    Calm,
    HostBack(usize),
    Restart,
}

/// A process of a job on a host. It outlives the daemon, not the host.
#[derive(Debug)]
struct Process {
    host: usize,
    start: u64,
    ended: Option<Conclusion>,
    /// No runner of the current daemon will ever stop it: it was given up.
    orphan: bool,
    name: String,
    weight: u32,
    /// How long it stays when it fails, and until when it does.
    hold: u64,
    held: Option<Timestamp>,
}

/// What the current daemon's executor knows of a job.
#[derive(Debug)]
struct Followed {
    host: usize,
    name: String,
    weight: u32,
    hold: u64,
    cancel: bool,
    /// Never reacts to a cancel.
    deaf: bool,
}

struct Sender {
    key: String,
    workflow: usize,
    repository: usize,
    /// Minutes that its failed jobs are held.
    hold: u32,
    run: Option<RunId>,
}

pub struct World {
    random: Random,
    trace: bool,
    now: Timestamp,
    order: u64,
    agenda: BTreeMap<(Timestamp, u64), Happening>,
    daemon: u64,
    engine: Option<Engine>,
    disk: Disk,
    senders: Vec<Sender>,
    /// Whether each host is alive; a dead one has no processes.
    alive: [bool; HOSTS.len()],
    processes: HashMap<JobId, Process>,
    followed: HashMap<JobId, Followed>,
    /// Host deaths under a job: how often it may have been begun again.
    losses: HashMap<JobId, u32>,
    lost_hosts: HashMap<JobId, BTreeSet<usize>>,
    begun: HashMap<JobId, u32>,
    starts: u64,
    /// Runs that somebody ended by force.
    forced: BTreeSet<RunId>,
    /// Runs that somebody or a group cancelled, or that lost a host: their conclusions are not predictable.
    disturbed: BTreeSet<RunId>,
    calm: bool,
    totals: Totals,
}

fn host_index(name: &HostName) -> usize {
    HOSTS.iter().position(|(host, ..)| *host == name.as_str()).expect("the world has these hosts only")
}

fn facts(index: usize) -> HostFacts {
    let (name, slots, labels) = HOSTS[index];
    HostFacts {
        name: name.into(),
        slots,
        os: "Linux".to_owned(),
        arch: "X64".to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        label_limits: BTreeMap::new(),
        repositories: Vec::new(),
    }
}

fn settings() -> Settings {
    let mut settings = Settings::github();
    settings.weights.insert("heavy".to_owned(), 2);
    settings.retries_of_started = 1;
    settings
}

fn spec(sender: &Sender) -> RunSpec {
    let (name, text) = WORKFLOWS[sender.workflow];
    let repository = RepositoryName(format!("o/r{}", sender.repository));
    RunSpec {
        run: RunId(0),
        run_number: 0,
        attempt: 0,
        event: Event {
            name: "push".to_owned(),
            action: None,
            payload: json!({}),
            repository,
            git_ref: "refs/heads/main".to_owned(),
            sha: "0123456789012345678901234567890123456789".to_owned(),
            head_ref: None,
            base_ref: None,
            actor: "ada".to_owned(),
            default_branch: "main".to_owned(),
            changed_files: ChangedFiles::Unknown,
            head_message: None,
            received_at: Timestamp::UNIX_EPOCH,
            delivery: None,
            workflow: None,
            server_url: "https://github.com".to_owned(),
        },
        workflow_path: format!(".github/workflows/{name}.yml"),
        workflow_text: text.to_owned(),
        workflow_sha: "0123456789012345678901234567890123456789".to_owned(),
        called: BTreeMap::new(),
        inputs: Map::new(),
        vars: Map::new(),
        triggering_actor: "ada".to_owned(),
        only: None,
        debug: false,
        hold_minutes: sender.hold,
    }
}

fn planned_conclusion(name: &str) -> Conclusion {
    if name.contains("fail") { Conclusion::Failure } else { Conclusion::Success }
}

/// What a run of a workflow comes to when nobody disturbs it.
fn undisturbed(workflow: &str) -> Option<Conclusion> {
    match workflow {
        "chain" | "fast" => Some(Conclusion::Failure),
        "one" | "matrix" | "heavy" => Some(Conclusion::Success),
        // Their groups, or approvals, may end them.
        _ => None,
    }
}

impl World {
    pub fn new(seed: u64, files: &Files, trace: bool) -> Self {
        let mut world = Self {
            random: Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d)),
            trace,
            now: Timestamp::from_second(1_700_000_000).expect("a valid time"),
            order: 0,
            agenda: BTreeMap::new(),
            daemon: 0,
            engine: None,
            disk: Disk::reading(files.clone()),
            senders: Vec::new(),
            alive: [true; HOSTS.len()],
            processes: HashMap::new(),
            followed: HashMap::new(),
            losses: HashMap::new(),
            lost_hosts: HashMap::new(),
            begun: HashMap::new(),
            starts: 0,
            forced: BTreeSet::new(),
            disturbed: BTreeSet::new(),
            calm: false,
            totals: Totals::default(),
        };
        let count = 1 + world.random.below(5) as usize;
        // Few kinds at a time, so that groups meet.
        let kinds = [world.random.below(9) as usize, world.random.below(9) as usize];
        for index in 0..count {
            let workflow = kinds[world.random.below(2) as usize];
            let repository = world.random.below(2) as usize;
            let hold = if world.random.percent(20) { 2 } else { 0 };
            world.senders.push(Sender { key: format!("delivery-{index}"), workflow, repository, hold, run: None });
            let at = world.random.below(60);
            world.after(at, Happening::Send(index));
        }
        for _ in 0..2 + world.random.below(6) {
            let at = world.random.below(400);
            world.after(at, Happening::Disturb);
        }
        world.after(400, Happening::Calm);
        world
    }

    fn after(&mut self, seconds: u64, happening: Happening) {
        let at = self.now + SignedDuration::from_secs(seconds as i64);
        self.order += 1;
        self.agenda.insert((at, self.order), happening);
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{} {}", self.now, text());
        }
    }

    /// Lives until nothing is left to happen, and checks that everything has ended.
    pub fn run(mut self) -> Totals {
        self.restart();
        let mut happened = 0;
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            happened += 1;
            assert!(happened < 20_000, "the world never comes to rest");
            self.now = self.now.max(at);
            self.happen(happening);
            if self.done() {
                break;
            }
        }
        self.check_end();
        self.totals.runs = self.disk.runs.len() as u64;
        self.totals.jobs = self.disk.jobs.len() as u64;
        self.totals
    }

    /// No more faults from here on: everything must come to an end.
    fn settle_down(&mut self) {
        self.calm = true;
        self.say(|| "-- calm --".to_owned());
        for index in 0..HOSTS.len() {
            self.alive[index] = true;
        }
        self.after(0, Happening::Restart);
    }

    fn done(&self) -> bool {
        self.calm
            && self.engine.is_some()
            && self.senders.iter().all(|sender| sender.run.is_some())
            && self.disk.runs.values().all(|run| run.status == RunStatus::Completed)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Send(index) => {
                if self.senders[index].run.is_none() {
                    // Not answered in time: sent again, whatever became of the first.
                    self.after(30, Happening::Send(index));
                }
                let sender = &self.senders[index];
                let (key, spec) = (sender.key.clone(), Box::new(spec(sender)));
                self.input_from(Some(index), Input::StartRun { key: Some(key), held: false, spec });
            }
            Happening::Deliver { daemon, input } if daemon == self.daemon => self.input(*input),
            Happening::Tick { daemon } if daemon == self.daemon => self.input(Input::Tick),
            Happening::Begin { daemon, job } if daemon == self.daemon => self.begin(job),
            Happening::Stop { daemon, job } if daemon == self.daemon => self.stop(job),
            Happening::End { job, start } => self.end(job, start),
            Happening::Disturb if self.calm => {}
            Happening::Disturb => self.disturb(),
            Happening::Calm => self.settle_down(),
            Happening::HostBack(index) => {
                self.alive[index] = true;
                self.input(Input::HostUp(facts(index)));
            }
            Happening::Restart => {
                if self.calm {
                    self.daemon += 1;
                    self.restart();
                } else if self.engine.is_none() {
                    self.restart();
                }
            }
            // Words to a daemon that is gone.
            Happening::Deliver { .. } | Happening::Tick { .. } | Happening::Begin { .. } | Happening::Stop { .. } => {}
        }
    }

    fn input(&mut self, input: Input) {
        self.input_from(None, input);
    }

    fn input_from(&mut self, sender: Option<usize>, input: Input) {
        let Some(engine) = self.engine.as_mut() else { return };
        if self.trace {
            let text = format!("{input:?}");
            println!("{} <- {}", self.now, &text[..text.len().min(200)]);
        }
        let effects = engine.step(self.now, input);
        self.totals.steps += 1;
        self.perform(sender, effects);
        self.check();
    }

    /// Performs effects in order; the daemon may die before any of them.
    fn perform(&mut self, sender: Option<usize>, effects: Vec<Effect>) {
        let crash_before = if !self.calm && self.random.percent(3) {
            Some(self.random.below(effects.len() as u64 + 1) as usize)
        } else {
            None
        };
        for (index, effect) in effects.into_iter().enumerate() {
            if crash_before == Some(index) {
                self.crash();
                return;
            }
            match effect {
                Effect::Persist(changes) => {
                    assert_eq!(index, 0, "something was to be done before it was durable");
                    self.note_groups(&changes);
                    self.disk.commit(changes);
                }
                Effect::Dispatch { job, host, order } | Effect::Attach { job, host, order } => {
                    self.follow(job, host_index(&host), *order);
                }
                Effect::CancelJob { job, host, force } => self.cancel(job, host_index(&host), force),
                Effect::ReleaseJob { job } => {
                    let stored = self.disk.jobs.values().find(|record| record.state.id == job);
                    let released =
                        stored.is_some_and(|record| record.state.held.as_ref().is_some_and(|held| held.released));
                    assert!(released, "job {job} was released before that was durable");
                    self.release(job);
                }
                Effect::SetTimer(at) => {
                    self.order += 1;
                    let daemon = self.daemon;
                    self.agenda.insert((at.max(self.now), self.order), Happening::Tick { daemon });
                }
                Effect::Update(_) => {}
                Effect::Answer(answer) => self.answered(sender, answer),
            }
        }
        if crash_before.is_some() {
            self.crash();
        }
    }

    fn answered(&mut self, sender: Option<usize>, answer: Answer) {
        let (Some(index), Answer::Run { run, .. }) = (sender, answer) else { return };
        assert!(self.disk.runs.contains_key(&run), "an event was accepted before it was durable");
        let sender = &mut self.senders[index];
        assert!(sender.run.is_none_or(|before| before == run), "a repeated delivery was answered differently");
        sender.run = Some(run);
    }

    /// Runs that a group ended are not predictable.
    fn note_groups(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Run(record) = change
                && record.messages.iter().any(|message| message.starts_with("Canceling"))
            {
                self.disturbed.insert(record.id);
            }
        }
    }

    fn crash(&mut self) {
        self.say(|| "** crash **".to_owned());
        self.totals.crashes += 1;
        self.engine = None;
        self.daemon += 1;
        self.followed.clear();
        let away = 1 + self.random.below(40);
        self.after(away, Happening::Restart);
    }

    fn restart(&mut self) {
        self.say(|| "** start **".to_owned());
        self.followed.clear();
        let (engine, effects) = Engine::restore(self.now, settings(), self.disk.records());
        self.engine = Some(engine);
        self.perform(None, effects);
        // Only processes that were given up before have nobody who follows or stops them.
        if self.engine.is_some() {
            for (job, process) in &self.processes {
                let left = process.ended.is_none() && !process.orphan && !self.followed.contains_key(job);
                assert!(!left, "job {job} runs on {} and nobody knows of it", HOSTS[process.host].0);
            }
        }
        if self.totals.steps == 0 {
            let rules = EnvironmentRules {
                reviewers: vec!["grace".to_owned()],
                wait_minutes: 1,
                ..EnvironmentRules::default()
            };
            let name = "production".to_owned();
            self.input(Input::SetEnvironment { repository: "o/r0".into(), name, rules: Some(rules) });
        }
        for index in 0..HOSTS.len() {
            if self.alive[index] {
                self.input(Input::HostUp(facts(index)));
            }
        }
        if self.calm {
            self.input(Input::PauseQueue { paused: false });
            for (name, ..) in HOSTS {
                self.input(Input::Drain { host: name.into(), draining: false });
                self.input(Input::PauseHost { host: name.into(), paused: false });
            }
            let runs: Vec<RunId> = self.disk.runs.keys().copied().collect();
            for run in runs {
                self.input(Input::PauseRun { run, paused: false });
                self.input(approval(run));
            }
        }
    }

    // What goes wrong.

    fn disturb(&mut self) {
        let host = self.random.below(HOSTS.len() as u64) as usize;
        let name = HostName::from(HOSTS[host].0);
        let run = RunId(1 + self.random.below(self.senders.len() as u64));
        match self.random.below(15) {
            0 | 1 => {
                if self.engine.is_some() {
                    self.crash();
                }
            }
            2..=4 => self.host_dies(host),
            5 => {
                self.input(Input::HostDown { host: name });
                let away = self.random.below(60);
                self.after(away, Happening::HostBack(host));
            }
            6 | 7 => {
                self.disturbed.insert(run);
                let force = self.random.percent(30);
                if force {
                    self.forced.insert(run);
                }
                self.input(Input::Cancel { run, force, actor: "eve".to_owned() });
            }
            8 => {
                let draining = self.random.percent(50);
                self.input(Input::Drain { host: name, draining });
            }
            9 => {
                let paused = self.random.percent(50);
                self.input(Input::PauseRun { run, paused });
            }
            10 => {
                let paused = self.random.percent(50);
                self.input(Input::PauseQueue { paused });
            }
            11 => self.input(approval(run)),
            12 => {
                if let Some(stored) = self.disk.stored(run)
                    && stored.record.status == RunStatus::Completed
                    && self.engine.is_some()
                {
                    self.disturbed.insert(run);
                    let which = if self.random.percent(50) { Which::All } else { Which::Failed };
                    let wish = Rerun { which, actor: "eve".to_owned(), debug: false, hold_minutes: 0, called: None };
                    self.input(Input::Rerun { run: Box::new(stored), wish });
                }
            }
            13 => {
                // Somebody has seen enough of whatever is held, and asks for a job that is not.
                let held: Vec<JobId> = self.processes.keys().copied().collect();
                let job = held.into_iter().max().unwrap_or(JobId(1));
                self.input(Input::ReleaseJob { job });
            }
            _ => {
                // The clock jumps, forwards and back.
                let back = self.random.percent(50);
                let jump = SignedDuration::from_secs(self.random.below(4000) as i64);
                let jump = if back { -jump } else { jump };
                self.now += jump;
                // Whether anybody notices or not.
                if self.random.percent(50) {
                    self.input(Input::ClockSet { by: jump });
                }
            }
        }
    }

    fn host_dies(&mut self, host: usize) {
        self.say(|| format!("** {} dies **", HOSTS[host].0));
        self.alive[host] = false;
        let gone: Vec<JobId> = self
            .processes
            .iter()
            .filter(|(_, process)| process.host == host && process.ended.is_none())
            .map(|(job, _)| *job)
            .collect();
        let mut gone = gone;
        gone.sort_unstable();
        for job in gone {
            self.totals.lost += 1;
            self.processes.remove(&job);
            *self.losses.entry(job).or_default() += 1;
            self.lost_hosts.entry(job).or_default().insert(host);
            if let Some(run) = self.disk.jobs.keys().find(|(_, _, id)| *id == job).map(|(run, ..)| *run) {
                self.disturbed.insert(run);
            }
            if self.followed.get(&job).is_some_and(|followed| followed.host == host) {
                self.finished(job, host, Conclusion::Failure, true);
            }
        }
        self.input(Input::HostDown { host: HOSTS[host].0.into() });
        let away = 10 + self.random.below(100);
        self.after(away, Happening::HostBack(host));
    }
}

fn approval(run: RunId) -> Input {
    Input::Review {
        run,
        environment: "production".to_owned(),
        approved: true,
        reviewer: "grace".to_owned(),
        bypass: false,
        comment: String::new(),
    }
}
