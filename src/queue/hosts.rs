//! A host as the scheduler sees it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::labels::Labels;
use crate::id::{HostName, JobId, RepositoryName};

/// What is configured and probed of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    pub name: HostName,
    /// Jobs at once; a job of weight 2 takes two.
    pub slots: u32,
    /// `Linux`, `macOS`, `Windows`; empty before the first probe.
    pub os: String,
    /// `X64`, `ARM64`, …; empty before the first probe.
    pub arch: String,
    /// Configured labels, besides the name, `self-hosted`, OS and arch that every host has.
    pub labels: Vec<String>,
    /// Label → how many jobs that ask for it may run here at once.
    pub label_limits: BTreeMap<String, u32>,
    /// `OWNER/NAME` or `OWNER/*`: it runs jobs of these only; empty: of all.
    pub repositories: Vec<String>,
}

impl HostFacts {
    pub(super) fn offered(&self) -> Labels {
        let own = [self.name.as_str(), "self-hosted", self.os.as_str(), self.arch.as_str()];
        Labels::new(own.into_iter().filter(|label| !label.is_empty()).chain(self.labels.iter().map(String::as_str)))
    }

    pub(super) fn serves(&self, repository: &RepositoryName) -> bool {
        let served = |pattern: &String| match pattern.strip_suffix("/*") {
            Some(owner) => owner.eq_ignore_ascii_case(repository.owner()),
            None => pattern.eq_ignore_ascii_case(repository.as_str()),
        };
        self.repositories.is_empty() || self.repositories.iter().any(served)
    }
}

/// Whether a host takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    Up,
    /// Cannot be reached; its jobs are thought to go on.
    Down,
    /// Ends what runs, takes nothing new.
    Draining,
    Paused,
    /// Outside its hours, or backing off after a failed dispatch, until then.
    Quiet(Timestamp),
}

/// What a host does right now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub name: HostName,
    pub state: HostState,
    pub slots: u32,
    pub used: u32,
    pub jobs: Vec<JobId>,
}

/// A host with its load.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) facts: HostFacts,
    pub(super) offered: Labels,
    pub(super) up: bool,
    pub(super) draining: bool,
    pub(super) paused: bool,
    pub(super) quiet_until: Option<Timestamp>,
    /// The end of the quiet hours it is in.
    pub(super) hours_until: Option<Timestamp>,
    /// Job → weight and the limited labels it asked for.
    pub(super) running: BTreeMap<JobId, Load>,
    pub(super) used: u32,
    /// Limited label in lower case → jobs that asked for it.
    pub(super) label_load: BTreeMap<String, u32>,
    /// Workspaces that are warm here: what ran last.
    pub(super) warm: BTreeSet<String>,
    /// A heavy job that this host is kept free for.
    pub(super) reserved: Option<JobId>,
    /// Shapes whose labels this host satisfies.
    pub(super) shapes: BTreeSet<usize>,
}

/// What one job takes of a host.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) weight: u32,
    pub(super) labels: Vec<String>,
}

impl Host {
    pub(super) fn new(facts: HostFacts) -> Self {
        Self {
            offered: facts.offered(),
            facts,
            up: true,
            draining: false,
            paused: false,
            quiet_until: None,
            hours_until: None,
            running: BTreeMap::new(),
            used: 0,
            label_load: BTreeMap::new(),
            warm: BTreeSet::new(),
            reserved: None,
            shapes: BTreeSet::new(),
        }
    }

    pub(super) fn state(&self) -> HostState {
        if !self.up {
            HostState::Down
        } else if self.paused {
            HostState::Paused
        } else if self.draining {
            HostState::Draining
        } else if let Some(until) = self.quiet_until.max(self.hours_until) {
            HostState::Quiet(until)
        } else {
            HostState::Up
        }
    }

    pub(super) fn takes_jobs(&self) -> bool {
        self.state() == HostState::Up
    }

    pub(super) fn free(&self) -> u32 {
        self.facts.slots.saturating_sub(self.used)
    }

    /// The first of `labels` whose limit on this host is reached.
    pub(super) fn label_at_limit<'a>(&self, labels: &'a Labels) -> Option<&'a str> {
        self.facts.label_limits.iter().find_map(|(limited, limit)| {
            let limited = limited.to_lowercase();
            let load = self.label_load.get(&limited).copied().unwrap_or(0);
            if load < *limit { None } else { labels.0.get(&limited).map(String::as_str) }
        })
    }

    pub(super) fn occupy(&mut self, job: JobId, weight: u32, labels: &Labels) {
        let limited: Vec<String> = self
            .facts
            .label_limits
            .keys()
            .map(|label| label.to_lowercase())
            .filter(|label| labels.0.contains(label))
            .collect();
        for label in &limited {
            *self.label_load.entry(label.clone()).or_default() += 1;
        }
        if let Some(before) = self.running.insert(job, Load { weight, labels: limited }) {
            self.unload(&before);
        }
        self.used += weight;
    }

    pub(super) fn vacate(&mut self, job: JobId) -> bool {
        let Some(load) = self.running.remove(&job) else { return false };
        self.unload(&load);
        true
    }

    fn unload(&mut self, load: &Load) {
        self.used = self.used.saturating_sub(load.weight);
        for label in &load.labels {
            if let Some(count) = self.label_load.get_mut(label) {
                *count = count.saturating_sub(1);
            }
        }
    }
}
