//! Hosts as the daemon knows them: looked at when it starts and from time to time, announced to the engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::hours::quiet_until;
use crate::config::{Config, Host, Reach};
use crate::drive::Handle;
use crate::engine::Input;
use crate::id::HostName;
use crate::queue::HostFacts;
use crate::runner::Executor;
use crate::server::HostDetail;
use crate::transport::{Facts, Hosts, Target, TransportError, Way};

/// How often a host that answers is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How often a host that was woken is looked at.
const WAKING: Duration = Duration::from_secs(2);
/// How often jobs that nobody came back to are looked for.
const COLLECT: Duration = Duration::from_secs(3600);
/// The longest pause between two looks at a host that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the pages show of hosts, kept up to date by those who look at them.
pub(super) type Details = Arc<Mutex<BTreeMap<HostName, HostDetail>>>;

/// The hosts of a configuration. Without any, jobs run on this machine.
pub(super) fn configured(config: &Config, state: &Path, pins: &Path) -> Vec<(Host, Result<Target, String>)> {
    if config.hosts.is_empty() {
        let root = state.join("host").to_string_lossy().into_owned();
        let name = HostName("local".to_owned());
        let host = Host {
            name: name.clone(),
            reach: Reach::Local,
            labels: Vec::new(),
            quiet: Vec::new(),
            label_limits: BTreeMap::new(),
            slots: std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
            root: Some(root.clone()),
            wake: None,
            wake_timeout: Duration::from_secs(60),
            repositories: Vec::new(),
            quota: None,
        };
        return vec![(host, Ok(Target { name, way: Way::Local, root }))];
    }
    let target = |host: &Host| Target::from_config(host, pins).map_err(|error| error.to_string());
    config.hosts.iter().map(|host| (host.clone(), target(host))).collect()
}

/// What every watcher needs.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) hosts: Hosts,
    pub(super) executor: Executor,
    pub(super) engine: Handle,
    pub(super) details: Details,
    pub(super) show: Arc<dyn Fn() + Send + Sync>,
    pub(super) clock: Clock,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
    /// The state directory, for the host that this machine is when none is configured.
    pub(super) state: PathBuf,
    /// Where accepted host keys are.
    pub(super) pins: PathBuf,
}

/// The hosts that are looked at now. A new configuration changes only what differs.
pub(super) struct Fleet {
    shared: Shared,
    watched: BTreeMap<HostName, (Host, CancellationToken)>,
}

impl Fleet {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, watched: BTreeMap::new() }
    }

    /// Looks at the hosts of this configuration from now on. Jobs on a host that is gone from it go on and are followed.
    pub(super) async fn set(&mut self, config: &Config) {
        let wanted = configured(config, &self.shared.state, &self.shared.pins);
        let gone: Vec<HostName> =
            self.watched.keys().filter(|name| wanted.iter().all(|(host, _)| host.name != **name)).cloned().collect();
        for name in gone {
            if let Some((_, stop)) = self.watched.remove(&name) {
                stop.cancel();
            }
            log::info!(host:% = name; "host {name} is no longer configured");
            self.shared.details.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            (self.shared.show)();
            self.tell(Input::HostRemoved { host: name }).await;
        }
        for (host, target) in wanted {
            let name = host.name.clone();
            if self.watched.get(&name).is_some_and(|(known, _)| *known == host) {
                continue;
            }
            let target = match target {
                Ok(target) => target,
                Err(reason) => {
                    // One that was usable before stays as it was.
                    log::error!(host:% = name; "host {name} cannot be used: {reason}");
                    continue;
                }
            };
            if let Some((_, stop)) = self.watched.remove(&name) {
                stop.cancel();
                log::info!(host:% = name; "host {name} is configured anew");
            }
            let stop = self.shared.stop.child_token();
            let watcher = Watcher { host: host.clone(), target, shared: self.shared.clone() };
            self.shared.tracker.spawn(watcher.run(stop.clone()));
            self.watched.insert(name, (host, stop));
        }
    }

    async fn tell(&self, input: Input) {
        if let Err(error) = self.shared.engine.send(input).await {
            log::debug!("{error}");
        }
    }
}

/// One host's watcher: probes, announces, and says so when the host goes away or comes back.
struct Watcher {
    host: Host,
    target: Target,
    shared: Shared,
}

impl Watcher {
    async fn run(self, stop: CancellationToken) {
        let name = self.host.name.clone();
        self.shared.executor.set_host(self.target.clone());
        self.shared.executor.set_quota(&name, self.host.quota);
        // By what has passed, since the clock may be set.
        let mut collected: Option<Duration> = None;
        let mut up: Option<Facts> = None;
        // What was said of a host that is configured anew is not known here.
        let mut quiet: Option<Option<Timestamp>> = None;
        let mut pause = Duration::from_secs(1);
        // A host that can be woken is woken once to be known, and later when a job waits.
        let mut waking = self.wake(None);
        loop {
            let began = self.shared.clock.now();
            let passed = self.shared.clock.passed();
            let until = quiet_until(&self.host.quiet, began);
            if quiet != Some(until) {
                quiet = Some(until);
                self.tell(Input::QuietHours { host: name.clone(), until }).await;
            }
            let probed = tokio::select! {
                () = stop.cancelled() => return,
                probed = self.shared.hosts.probe(&self.target) => probed,
            };
            let wait = match probed {
                Ok(facts) => {
                    self.detail(&facts, began, None);
                    if up.as_ref().is_none_or(|known| {
                        (&known.os, &known.arch, &known.container_engine)
                            != (&facts.os, &facts.arch, &facts.container_engine)
                    }) {
                        log::info!(host:% = name; "host {name} is up: {} {}", facts.os, facts.arch);
                        self.tell(Input::HostUp(self.facts(&facts))).await;
                        // A host is known only now.
                        if until.is_some() {
                            self.tell(Input::QuietHours { host: name.clone(), until }).await;
                        }
                    }
                    up = Some(facts);
                    pause = Duration::from_secs(1);
                    waking = None;
                    if collected.is_none_or(|last| passed.saturating_sub(last) >= COLLECT) {
                        collected = Some(passed);
                        self.collect().await;
                    }
                    LOOK
                }
                // It may be starting: not a word is said before its time is over.
                Err(TransportError::Unreachable { .. }) if waking.is_some_and(|until| passed < until) => WAKING,
                Err(error) => {
                    self.detail(&Facts::default(), began, Some(error.to_string()));
                    if up.take().is_some() {
                        log::warn!(host:% = name; "host {name} is gone: {error}");
                        self.tell(Input::HostDown { host: name.clone() }).await;
                    } else if pause == Duration::from_secs(1) {
                        log::warn!(host:% = name; "host {name} cannot be used: {error}");
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if matches!(error, TransportError::Unreachable { .. })
                        && self.shared.engine.summary().borrow().waiting > 0
                    {
                        waking = self.wake(waking);
                    }
                    if waking.is_some() { WAKING.max(pause / 4) } else { pause }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Removes from the host what no daemon owns any more.
    async fn collect(&self) {
        let name = &self.host.name;
        match self.shared.hosts.collect(&self.target).await {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => log::info!(host:% = name; "collected on {name}: {}", gone.join(", ")),
            Err(error) => log::debug!(host:% = name; "cannot collect on {name}: {error}"),
        }
    }

    /// Sends the packet that wakes the host, if it has an address for that; until when it may take to answer. Not again before
    /// the last one has had its time.
    fn wake(&self, before: Option<Duration>) -> Option<Duration> {
        let address = self.host.wake?;
        let now = self.shared.clock.passed();
        if before.is_some_and(|until| now < until) {
            return before;
        }
        let name = &self.host.name;
        match crate::transport::wake(address) {
            Ok(()) => {
                log::info!(host:% = name; "woke {name}; it may take {} s to answer", self.host.wake_timeout.as_secs());
            }
            Err(error) => log::warn!(host:% = name; "cannot wake {name}: {error}"),
        }
        Some(now + self.host.wake_timeout)
    }

    fn facts(&self, facts: &Facts) -> HostFacts {
        // What a job in a container asks for: `docker` or `podman`.
        let mut labels = self.host.labels.clone();
        let engine = &facts.container_engine;
        if !engine.is_empty() && !labels.iter().any(|label| label.eq_ignore_ascii_case(engine)) {
            labels.push(engine.clone());
        }
        HostFacts {
            name: self.host.name.clone(),
            slots: self.host.slots,
            os: facts.os.clone(),
            arch: facts.arch.clone(),
            labels,
            label_limits: self.host.label_limits.clone(),
            repositories: self.host.repositories.iter().map(|name| name.0.clone()).collect(),
        }
    }

    async fn tell(&self, input: Input) {
        if let Err(error) = self.shared.engine.send(input).await {
            log::debug!("{error}");
        }
    }

    fn detail(&self, facts: &Facts, began: Timestamp, reason: Option<String>) {
        let now = self.shared.clock.now();
        let (address, ssh) = match &self.target.way {
            Way::Local => ("this machine".to_owned(), Vec::new()),
            Way::Ssh(ssh) => (format!("{}@{}:{}", ssh.user, ssh.address, ssh.port), ssh.arguments()),
        };
        let mut listed = Vec::new();
        for (what, value) in [
            ("system", facts.system.clone()),
            ("processors", facts.cores.to_string()),
            ("memory", crate::server::size(facts.memory_bytes)),
            ("disk free", crate::server::size(facts.disk_free_bytes)),
            ("git", facts.git.clone()),
            ("node", facts.node.clone()),
            ("containers", facts.container_engine.clone()),
        ] {
            if !value.is_empty() && value != "0" {
                listed.push((what.to_owned(), value));
            }
        }
        let mut details = self.shared.details.lock().unwrap_or_else(PoisonError::into_inner);
        let before = details.get(&self.host.name).and_then(|detail| detail.last_seen);
        let answered = reason.is_none();
        details.insert(
            self.host.name.clone(),
            HostDetail {
                name: self.host.name.clone(),
                address,
                ssh,
                labels: self.host.labels.clone(),
                facts: listed,
                last_seen: if answered { Some(now) } else { before },
                latency: answered.then(|| now.duration_since(began)),
                load: answered.then_some((facts.load, facts.cores)),
                reason,
            },
        );
        drop(details);
        (self.shared.show)();
    }
}
