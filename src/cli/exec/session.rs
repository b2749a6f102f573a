//! One run from start to end in this process: the engine decides, the executor runs, the screen shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Map, Value as Json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Jumps};
use crate::engine::record::{JobRecord, RunRecord};
use crate::engine::{Answer, Change, Effect, Engine, Input, Settings};
use crate::id::{HostName, JobId};
use crate::queue::HostFacts;
use crate::run::order::Order;
use crate::run::report::{JobResult, Report};
use crate::run::{Cancel, Conclusion, JobPhase, RunState, Told};
use crate::runner::{Executor, Journalled, Local, RepositorySource, Runner, ServicesAddress, Sources, Surroundings};
use crate::server::Server;
use crate::services::{self, Services};
use crate::transport::{Destination, Hosts, SshOptions, SshTarget, Target, TransportError, Way};
use crate::workflow::token::Token;

use super::super::given::{pair, pairs};
use super::super::screen::{Screen, duration};
use super::super::{ENVIRONMENT, FAILED, SUCCESS};
use super::arguments::{Arguments, Checkout};
use super::source::Prepared;
use super::{Refusal, result};

/// Runs what was prepared and says the exit code.
pub(super) async fn run(arguments: &Arguments, clock: &Clock, prepared: Prepared) -> Result<u8, Refusal> {
    if let Some(reason) = &prepared.not_selected {
        let screen = Screen::new();
        screen.say(&format!("nothing to do: {reason}"));
        screen.finish();
        print_json(arguments, &result::nothing(reason));
        return Ok(SUCCESS);
    }
    let secrets = secrets(arguments)?;
    let hosts = Hosts::new();
    let targets = targets(arguments, &prepared)?;
    let mut facts = Vec::new();
    for target in &targets {
        let probed = hosts.probe(target).await.map_err(|error| Refusal::Environment(error.to_string()))?;
        facts.push(HostFacts {
            name: target.name.clone(),
            slots: arguments.slots.unwrap_or(probed.cores.max(1)),
            os: probed.os,
            arch: probed.arch,
            labels: Vec::new(),
            label_limits: BTreeMap::new(),
            repositories: Vec::new(),
        });
    }
    let repository = RepositorySource {
        git_dir: prepared.snapshot.repository.git_dir().to_owned(),
        overlay: prepared
            .snapshot
            .head
            .as_ref()
            .filter(|head| **head != prepared.snapshot.commit)
            .map(|_| prepared.snapshot.commit.clone()),
    };
    let sources = Sources {
        repositories: BTreeMap::from([(prepared.spec.event.repository.clone(), repository)]),
        find: None,
        actions: actions(arguments, &prepared)?,
        runtimes: Some(crate::actions::Runtimes::at(crate::config::Paths::from_environment().runtimes())),
    };
    let (services, served) = serve_actions(clock, &prepared).await?;
    let runner = Runner {
        // Its hosts' directories are its own.
        identity: "exec".to_owned(),
        hosts,
        clock: clock.clone(),
        sources: Arc::new(sources),
        fresh_workspaces: true,
        stock_checkout: arguments.checkout == Checkout::Node,
        keeps_images: keeps_images(),
    };
    let env: Vec<(String, String)> = arguments
        .env
        .iter()
        .filter_map(|text| text.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let lengths = Lengths::default();
    let surroundings =
        Here { lengths: lengths.clone(), secrets, logs: prepared.scratch.path.join("logs"), env: env.clone() };
    let tracker = TaskTracker::new();
    let (report_sender, reports) = mpsc::channel(256);
    let executor = Executor::new(runner, Arc::new(surroundings), report_sender, tracker.clone(), services);
    for target in targets {
        executor.set_host(target);
    }
    let github: Map<String, Json> = pairs(&arguments.github, "--github")?;
    let mut session = Session {
        jumps: Jumps::new(clock.clone()),
        clock: clock.clone(),
        engine: Engine::new(Settings::github()),
        executor,
        hosts: facts,
        github,
        env: env.clone(),
        logs: prepared.scratch.path.join("logs"),
        screen: Arc::new(Mutex::new(Screen::new())),
        followed: TaskTracker::new(),
        run: None,
        state: None,
        jobs: BTreeMap::new(),
        timer: None,
        told: BTreeMap::new(),
        lengths,
    };
    session.say(&format!(
        "{} · {} on {}",
        prepared.workflow_name,
        prepared.spec.event.name,
        short_ref(&prepared.spec.event.git_ref)
    ));
    let end = session.work(prepared.spec.clone(), reports).await;
    tracker.close();
    tracker.wait().await;
    session.followed.close();
    session.followed.wait().await;
    session.lock().finish();
    drop(served);
    end?;
    let now = clock.now();
    let Some(run) = &session.run else {
        return Err(Refusal::Environment("the run could not be started".to_owned()));
    };
    session.lock().table(session.jobs.values());
    for message in &run.messages {
        session.say(message);
    }
    let word = run.conclusion.map_or("unknown", Conclusion::as_str);
    session.say(&format!("\n{word} in {}", duration(run.created_at, run.completed_at.unwrap_or(now))));
    print_json(arguments, &result::json(run, session.state.as_ref(), &session.jobs, now));
    // A job that was skipped has its reason too, but did not fail.
    let machine_at_fault = session.jobs.values().map(|job| &job.state).any(|job| {
        job.reason.is_some()
            && job.conclusion.is_some_and(|conclusion| conclusion.as_result() == "failure")
            && job.steps.iter().all(|step| step.started_at.is_none())
    });
    Ok(match run.conclusion {
        Some(Conclusion::Success | Conclusion::Skipped | Conclusion::Neutral) => SUCCESS,
        Some(Conclusion::StartupFailure) => super::super::INVALID,
        _ if machine_at_fault => ENVIRONMENT,
        _ => FAILED,
    })
}

/// Serves artifacts, caches and identity tokens on a port of loopback while the run lasts.
async fn serve_actions(clock: &Clock, prepared: &Prepared) -> Result<(ServicesAddress, DropGuard), Refusal> {
    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
    let failed = |error: String| Refusal::Environment(format!("cannot serve artifacts and caches: {error}"));
    let authority = prepared.scratch.path.join("tls");
    let (here, bound) = Server::bind_for_jobs(clock.now(), 0, authority).map_err(|error| failed(error.to_string()))?;
    let settings = services::Settings {
        directory: prepared.scratch.path.join("services"),
        issuer: format!("http://{here}"),
        artifact_retention: DAY * 90,
        bytes: u64::MAX,
        cache_bytes: u64::MAX,
        cache_idle: DAY * 7,
    };
    let services = Services::open(settings, clock.clone()).await.map_err(|error| failed(error.to_string()))?;
    let (name, git_dir) = (prepared.spec.event.repository.0.clone(), prepared.snapshot.repository.git_dir().to_owned());
    let repositories = services::Repositories {
        find: Arc::new(move |wanted| {
            wanted.eq_ignore_ascii_case(&name).then(|| services::Served { git_dir: git_dir.clone(), writable: true })
        }),
        // Only the jobs of this run are let in.
        authorize: Arc::new(|parts, _, _| match services::shown(&parts.headers) {
            Some(_) => services::Access::Refused,
            None => services::Access::Unknown,
        }),
        base: Arc::new(|parts| {
            let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
            format!("http://{}", host.unwrap_or("localhost"))
        }),
        who: Arc::new(|_| None),
    };
    let router =
        services.router().merge(services.descriptions(repositories.clone())).merge(services.repositories(repositories));
    let stop = CancellationToken::new();
    tokio::spawn(bound.serve(router, stop.clone()));
    let local = if prepared.at_forge { Local::WithoutToken } else { Local::All };
    Ok((ServicesAddress { services, here, elsewhere: None, local }, stop.drop_guard()))
}

fn short_ref(git_ref: &str) -> &str {
    git_ref.strip_prefix("refs/heads/").or_else(|| git_ref.strip_prefix("refs/tags/")).unwrap_or(git_ref)
}

#[expect(clippy::print_stdout, reason = "this is the machine-readable result")]
fn print_json(arguments: &Arguments, json: &Json) {
    if arguments.json {
        println!("{json}");
    }
}

struct Session {
    clock: Clock,
    jumps: Jumps,
    engine: Engine,
    executor: Executor,
    hosts: Vec<HostFacts>,
    github: Map<String, Json>,
    /// `--env`: below the workflow's own.
    env: Vec<(String, String)>,
    logs: PathBuf,
    screen: Arc<Mutex<Screen>>,
    followed: TaskTracker,
    run: Option<RunRecord>,
    state: Option<RunState>,
    jobs: BTreeMap<JobId, JobRecord>,
    timer: Option<jiff::Timestamp>,
    told: BTreeMap<JobId, watch::Sender<Told>>,
    lengths: Lengths,
}

/// Lengths of logs that were opened and are not followed yet.
type Lengths = Arc<Mutex<BTreeMap<JobId, watch::Receiver<u64>>>>;

impl Session {
    async fn work(
        &mut self,
        spec: crate::run::RunSpec,
        mut reports: mpsc::Receiver<(JobId, HostName, Report)>,
    ) -> Result<(), Refusal> {
        for host in self.hosts.clone() {
            self.step(Input::HostUp(host));
        }
        let mut id = None;
        for effect in self.step(Input::StartRun { key: None, held: false, spec: Box::new(spec) }) {
            match effect {
                Answer::Run { run, .. } => id = Some(run),
                Answer::Refused(reason) | Answer::Unknown(reason) => return Err(Refusal::Invalid(vec![reason])),
                Answer::Done => {}
            }
        }
        let Some(run) = id else { return Err(Refusal::Environment("the run could not be started".to_owned())) };
        let mut interrupts = 0;
        let mut interrupt = interrupts_of_this_process();
        while self.run.as_ref().is_none_or(|run| run.completed_at.is_none()) {
            self.fit_labels();
            self.show_progress();
            if let Some(by) = self.jumps.look() {
                self.step(Input::ClockSet { by });
            }
            let wait = self.timer.map(|at| at.duration_since(self.clock.now()));
            let wait = wait.and_then(|wait| std::time::Duration::try_from(wait).ok()).unwrap_or_default();
            let timer = self.timer.is_some();
            tokio::select! {
                report = reports.recv() => match report {
                    Some((job, host, Report::Unreached { reason })) => {
                        // There is nobody who would wait for it: the run fails, and says why.
                        let result = JobResult {
                            conclusion: Conclusion::Failure,
                            outputs: serde_json::Map::new(),
                            environment_url: None,
                            reason: Some(reason),
                            host_lost: false,
                        };
                        let report = Report::Finished { at: self.clock.now(), result };
                        self.step(Input::Report { job, host, report });
                    }
                    Some((job, host, report)) => drop(self.step(Input::Report { job, host, report })),
                    None => return Err(Refusal::Environment("the executor is gone".to_owned())),
                },
                Some(()) = interrupt.recv() => {
                    let held = self.held();
                    if !held.is_empty() && interrupts == 0 {
                        self.say("releasing what is held (again to cancel)");
                        for job in held {
                            self.step(Input::ReleaseJob { job });
                        }
                        continue;
                    }
                    interrupts += 1;
                    let force = interrupts > 1;
                    self.say(if force { "stopping at once" } else { "cancelling (again to stop at once)" });
                    self.step(Input::Cancel { run, force, actor: "you".to_owned() });
                }
                () = tokio::time::sleep(wait), if timer => {
                    self.timer = None;
                    self.step(Input::Tick);
                }
            }
        }
        Ok(())
    }

    /// Gives the engine an input and does what it wants.
    fn step(&mut self, input: Input) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.engine.step(self.clock.now(), input) {
                match effect {
                    Effect::Persist(changes) => changes.into_iter().for_each(|change| self.remember(change)),
                    Effect::Dispatch { job, host, order } | Effect::Attach { job, host, order } => {
                        let order = Arc::new(self.completed(*order));
                        let (sender, told) = watch::channel(Told::default());
                        self.told.insert(job, sender);
                        match self.executor.start(&host, order, told) {
                            Ok(()) => self.follow_log(job),
                            Err(reason) => inputs.push_back(Input::DispatchFailed { job, host, reason }),
                        }
                    }
                    Effect::CancelJob { job, force, .. } => {
                        let wanted = if force { Cancel::Forced } else { Cancel::Requested };
                        self.tell(job, |told| told.cancel = wanted.max(told.cancel));
                    }
                    Effect::ReleaseJob { job } => self.tell(job, |told| told.release = true),
                    Effect::SetTimer(at) => self.timer = Some(at),
                    Effect::Answer(answer) => answers.push(answer),
                    Effect::Update(_) => {}
                }
            }
        }
        answers
    }

    fn tell(&self, job: JobId, change: impl FnOnce(&mut Told)) {
        if let Some(told) = self.told.get(&job) {
            told.send_modify(change);
        }
    }

    /// Jobs that failed and are kept for somebody to look at them.
    fn held(&self) -> Vec<JobId> {
        let held = |job: &&JobRecord| job.state.held.as_ref().is_some_and(|held| !held.released);
        self.jobs.values().filter(held).map(|job| job.state.id).collect()
    }

    fn remember(&mut self, change: Change) {
        match change {
            Change::Run(record) => self.run = Some(*record),
            Change::Job(record) => {
                self.lock().name(record.state.id, &record.state.name);
                let known = self.jobs.get(&record.state.id).is_some_and(|known| known.state.held.is_some());
                if let (Some(held), false) = (&record.state.held, known) {
                    let (host, path) = (record.state.host.as_ref(), record.state.workspace.as_deref());
                    self.say(&format!(
                        "{} failed and is held until {}: look at {} on {}; Ctrl-C releases it",
                        record.state.name,
                        held.until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                        path.unwrap_or_default(),
                        host.map_or("its host", HostName::as_str),
                    ));
                }
                self.jobs.insert(record.state.id, *record);
            }
            Change::Graph { state, .. } => self.state = Some(*state),
            _ => {}
        }
    }

    /// The order with what only the command line knows.
    fn completed(&self, mut order: Order) -> Order {
        if !self.env.is_empty() {
            let pairs =
                self.env.iter().map(|(name, value)| (Token::String(name.clone()), Token::String(value.clone())));
            order.env.insert(0, Token::Mapping(pairs.collect()));
        }
        for (key, value) in &self.github {
            order.github.insert(key.clone(), value.clone());
        }
        order
    }

    /// Labels that no host has do not keep a job waiting: the given hosts take all jobs.
    fn fit_labels(&mut self) {
        let waiting = self.engine.waiting_jobs();
        let mut wanted = BTreeSet::new();
        for job in waiting {
            if let Some(record) = self.jobs.get(&job).filter(|record| record.state.phase == JobPhase::Queued) {
                wanted.extend(record.state.labels.iter().map(|label| label.to_lowercase()));
            }
        }
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            let before = host.labels.len();
            let missing: Vec<_> = wanted.iter().filter(|label| !host.labels.contains(label)).cloned().collect();
            host.labels.extend(missing);
            if host.labels.len() > before {
                let host = host.clone();
                self.step(Input::HostUp(host));
            }
        }
    }

    /// Prints a job's log as it grows. Readers read the file; they never slow the job.
    fn follow_log(&self, job: JobId) {
        let Some(mut length) = self.lengths.lock().unwrap_or_else(PoisonError::into_inner).remove(&job) else { return };
        let path = self.logs.join(format!("{job}.log"));
        let screen = self.screen.clone();
        self.followed.spawn(async move {
            use std::io::{Read as _, Seek as _};
            let Ok(mut file) = std::fs::File::open(&path) else { return };
            let mut position = 0_u64;
            loop {
                let until = *length.borrow_and_update();
                while position < until {
                    let mut bytes = Vec::new();
                    let part = (until - position).min(1 << 20);
                    if file.seek(std::io::SeekFrom::Start(position)).is_err()
                        || file.by_ref().take(part).read_to_end(&mut bytes).is_err()
                        || bytes.is_empty()
                    {
                        break;
                    }
                    // Only whole lines; the rest comes with the next look.
                    let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else { break };
                    screen.lock().unwrap_or_else(PoisonError::into_inner).log(job, &bytes[..=end]);
                    position += end as u64 + 1;
                }
                if length.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn show_progress(&self) {
        let count = |phase: JobPhase| self.jobs.values().filter(|job| job.state.phase == phase).count();
        let running: Vec<_> = self
            .jobs
            .values()
            .filter(|job| job.state.phase == JobPhase::InProgress)
            .map(|job| {
                let step = job.state.steps.iter().rfind(|step| step.started_at.is_some());
                step.map_or(job.state.name.clone(), |step| format!("{}: {}", job.state.name, step.name))
            })
            .collect();
        let text = format!(
            "{} done, {} running, {} waiting  {}",
            count(JobPhase::Completed),
            running.len(),
            count(JobPhase::Queued),
            running.join(" | ")
        );
        self.lock().progress(text.chars().take(160).collect());
    }

    fn say(&self, text: &str) {
        self.lock().say(text);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ctrl-C and SIGTERM, as they come.
fn interrupts_of_this_process() -> mpsc::Receiver<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = mpsc::channel(4);
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        if let Ok(mut stream) = signal(kind) {
            let sender = sender.clone();
            // Ends with the process: there is nothing to clean up.
            tokio::task::spawn(async move {
                while stream.recv().await.is_some() {
                    if sender.send(()).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    receiver
}

/// What the command line gives to the jobs.
struct Here {
    lengths: Lengths,
    secrets: BTreeMap<String, SecretString>,
    logs: PathBuf,
    env: Vec<(String, String)>,
}

impl Surroundings for Here {
    fn secrets(&self, _: &Order) -> BTreeMap<String, SecretString> {
        self.secrets.clone()
    }

    fn journal(&self, _: JobId) -> Result<Journalled, String> {
        Ok((Vec::new(), None))
    }

    fn log(&self, order: &Order) -> (PathBuf, watch::Sender<u64>) {
        let (sender, receiver) = watch::channel(0);
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner).insert(order.job, receiver);
        (self.logs.join(format!("{}.log", order.job)), sender)
    }

    fn ended(&self, _: &Order) {}

    fn renewed<'a>(&'a self, _: &'a Order, _: &'a str) -> BoxFuture<'a, Option<SecretString>> {
        Box::pin(std::future::ready(None))
    }

    fn machine_env(&self, _: &Order) -> Vec<(String, String)> {
        self.env.clone()
    }
}

fn secrets(arguments: &Arguments) -> Result<BTreeMap<String, SecretString>, Refusal> {
    let mut secrets = BTreeMap::new();
    for text in &arguments.secrets {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let value = std::env::var(text).map_err(|_| {
                    Refusal::Invalid(vec![format!("--secret {text}: there is no variable {text} in the environment")])
                })?;
                (text.clone(), value)
            }
        };
        secrets.insert(name, SecretString::from(value));
    }
    for text in &arguments.env {
        pair(text, "--env")?;
    }
    Ok(secrets)
}

/// Whether the configuration of this machine has images taken as hosts have them.
fn keeps_images() -> bool {
    let files = crate::config::read(&crate::config::Paths::from_environment().config).unwrap_or_default();
    crate::config::parse(&files).0.is_some_and(|config| config.actions.pull == crate::config::Pull::Missing)
}

/// Actions of other repositories come from the directory that is given, else from where the configuration says. What
/// `towline.lock` of the repository pins stays pinned.
fn actions(arguments: &Arguments, prepared: &Prepared) -> Result<Option<crate::actions::Sources>, Refusal> {
    let paths = crate::config::Paths::from_environment();
    let cache = prepared.scratch.path.join("actions");
    let mut settings = match &arguments.actions {
        Some(mirror) => crate::actions::Settings {
            mirror: Some(mirror.clone()),
            url: None,
            credentials: crate::git::Credentials::None,
            cache,
            allow: Vec::new(),
            lock_file: None,
        },
        None => {
            let files = crate::config::read(&paths.config).unwrap_or_default();
            let actions = crate::config::parse(&files).0.unwrap_or_default().actions;
            if actions.mirror.is_none() && actions.url.is_none() {
                return Ok(None);
            }
            // What was fetched before serves here too.
            let cache = if std::fs::create_dir_all(paths.state.join("actions")).is_ok() {
                paths.state.join("actions")
            } else {
                cache
            };
            crate::actions::Settings::new(&actions, cache, crate::git::Credentials::None)
        }
    };
    let own = prepared.snapshot.top.join("towline.lock");
    if own.is_file() {
        settings.lock_file = Some(own);
    }
    let sources = crate::actions::Sources::new(settings).map_err(|error| Refusal::Environment(error.to_string()))?;
    Ok(Some(sources))
}

fn targets(arguments: &Arguments, prepared: &Prepared) -> Result<Vec<Target>, Refusal> {
    // A root of its own per run: nothing of it stays, and two runs at once never meet.
    let name = prepared.scratch.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    if arguments.hosts.is_empty() {
        let root = prepared.scratch.path.join("host").to_string_lossy().into_owned();
        return Ok(vec![Target { name: HostName("local".to_owned()), way: Way::Local, root }]);
    }
    let mut targets = Vec::new();
    for destination in &arguments.hosts {
        let ssh = resolve(destination, arguments)
            .map_err(|error| Refusal::Invalid(vec![format!("--host {destination}: {error}")]))?;
        let host = ssh.address.clone();
        let taken = targets.iter().any(|target: &Target| target.name.0 == host);
        let host = if taken { destination.clone() } else { host };
        let root = format!("{}/exec/{name}", arguments.root.trim_end_matches('/'));
        targets.push(Target { name: HostName(host), way: Way::Ssh(Box::new(ssh)), root });
    }
    Ok(targets)
}

fn resolve(destination: &str, arguments: &Arguments) -> Result<SshTarget, TransportError> {
    let pins = super::super::host::pins();
    let mut options = SshOptions::with_pins(&pins);
    options.identities.extend(arguments.identity.clone());
    options.known_hosts.extend(arguments.known_hosts.clone());
    options.agent = arguments.identity.is_none();
    SshTarget::resolve(&Destination::parse(destination)?, &options)
}
