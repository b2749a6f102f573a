//! Hosts as the daemon knows them: looked at when it starts and from time to time, announced to the engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Host, Reach};
use crate::drive::Handle;
use crate::engine::Input;
use crate::id::HostName;
use crate::queue::HostFacts;
use crate::runner::Executor;
use crate::server::HostDetail;
use crate::transport::{Facts, Hosts, Target, Way};

/// How often a host that answers is looked at.
const LOOK: Duration = Duration::from_secs(60);
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

/// One host's watcher: probes, announces, and says so when the host goes away or comes back.
pub(super) struct Watcher {
    pub(super) host: Host,
    pub(super) target: Target,
    pub(super) hosts: Hosts,
    pub(super) executor: Executor,
    pub(super) engine: Handle,
    pub(super) details: Details,
    pub(super) show: Arc<dyn Fn() + Send + Sync>,
    pub(super) clock: Clock,
}

impl Watcher {
    pub(super) async fn run(self, stop: CancellationToken) {
        let name = self.host.name.clone();
        self.executor.set_host(self.target.clone());
        let mut up: Option<Facts> = None;
        let mut pause = Duration::from_secs(1);
        loop {
            let began = self.clock.now();
            let probed = tokio::select! {
                () = stop.cancelled() => return,
                probed = self.hosts.probe(&self.target) => probed,
            };
            let wait = match probed {
                Ok(facts) => {
                    self.detail(&facts, began, None);
                    if up.as_ref().is_none_or(|known| known.os != facts.os || known.arch != facts.arch) {
                        log::info!(host:% = name; "host {name} is up: {} {}", facts.os, facts.arch);
                        self.tell(Input::HostUp(self.facts(&facts))).await;
                    }
                    up = Some(facts);
                    pause = Duration::from_secs(1);
                    LOOK
                }
                Err(error) => {
                    self.detail(&Facts::default(), began, Some(error.to_string()));
                    if up.take().is_some() {
                        log::warn!(host:% = name; "host {name} is gone: {error}");
                        self.tell(Input::HostDown { host: name.clone() }).await;
                    } else if pause == Duration::from_secs(1) {
                        log::warn!(host:% = name; "host {name} cannot be used: {error}");
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn facts(&self, facts: &Facts) -> HostFacts {
        HostFacts {
            name: self.host.name.clone(),
            slots: self.host.slots,
            os: facts.os.clone(),
            arch: facts.arch.clone(),
            labels: self.host.labels.clone(),
            label_limits: BTreeMap::new(),
        }
    }

    async fn tell(&self, input: Input) {
        if let Err(error) = self.engine.send(input).await {
            log::debug!("{error}");
        }
    }

    fn detail(&self, facts: &Facts, began: Timestamp, reason: Option<String>) {
        let now = self.clock.now();
        let address = match &self.target.way {
            Way::Local => "this machine".to_owned(),
            Way::Ssh(ssh) => format!("{}@{}:{}", ssh.user, ssh.address, ssh.port),
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
        let mut details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        let before = details.get(&self.host.name).and_then(|detail| detail.last_seen);
        let answered = reason.is_none();
        details.insert(
            self.host.name.clone(),
            HostDetail {
                name: self.host.name.clone(),
                address,
                labels: self.host.labels.clone(),
                facts: listed,
                last_seen: if answered { Some(now) } else { before },
                latency: answered.then(|| now.duration_since(began)),
                reason,
            },
        );
        drop(details);
        (self.show)();
    }
}
