//! Concurrency groups (Q1–Q4): who holds one, who waits for it.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{HostName, JobId, RepositoryName, RunId};

/// How many may wait in a group with `queue: max` (Q4).
pub const PENDING_LIMIT: usize = 100;

/// A group: its name without case, in its repository (Q1). `host:NAME/…` is a device of that host and belongs to all
/// repositories together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupKey {
    /// `None` for a device.
    pub repository: Option<RepositoryName>,
    /// In lower case.
    pub name: String,
}

impl GroupKey {
    /// The group that `name` means in `repository`.
    #[must_use]
    pub fn new(repository: &RepositoryName, name: &str) -> Self {
        let name = name.to_lowercase();
        let repository = if device_host(&name).is_some() { None } else { Some(repository.clone()) };
        Self { repository, name }
    }

    /// Whether this is a device of a host.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.repository.is_none()
    }
}

/// The host that a group name of the form `host:NAME/…` binds its jobs to.
pub(crate) fn device_host(name: &str) -> Option<HostName> {
    let (host, device) = name.strip_prefix("host:").or_else(|| name.strip_prefix("HOST:"))?.split_once('/')?;
    (!host.is_empty() && !device.is_empty()).then(|| HostName(host.to_owned()))
}

/// Who holds or wants a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    Run(RunId),
    Job(JobId),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => write!(f, "run {run}"),
            Self::Job(job) => write!(f, "job {job}"),
        }
    }
}

/// What a newcomer does to those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPolicy {
    /// Q3.
    pub cancel_in_progress: bool,
    /// `queue: max` (Q4) instead of `single` (Q2).
    pub queue_max: bool,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// The claimant holds the group, or held it before.
    Granted,
    /// It waits. Those in `replaced` wait no more and are to be cancelled; so is the holder in `cancel`.
    Pending { replaced: Vec<Holder>, cancel: Option<Holder> },
    /// The queue of the group is full: the claimant is to be cancelled.
    Full,
}

/// All groups that are held.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: HashMap<GroupKey, Group>,
}

#[derive(Clone, Debug)]
struct Group {
    holder: Holder,
    pending: VecDeque<Holder>,
}

impl Groups {
    /// Asks for a group on behalf of `claimant`.
    pub fn claim(&mut self, key: &GroupKey, claimant: Holder, policy: GroupPolicy) -> Claim {
        let Some(group) = self.groups.get_mut(key) else {
            self.groups.insert(key.clone(), Group { holder: claimant, pending: VecDeque::new() });
            return Claim::Granted;
        };
        if group.holder == claimant {
            return Claim::Granted;
        }
        if group.pending.contains(&claimant) {
            return Claim::Pending { replaced: Vec::new(), cancel: None };
        }
        // A device is shared by repositories that know nothing of each other: nobody is turned away.
        if key.is_device() {
            group.pending.push_back(claimant);
            return Claim::Pending { replaced: Vec::new(), cancel: None };
        }
        if policy.queue_max {
            if group.pending.len() >= PENDING_LIMIT {
                return Claim::Full;
            }
            group.pending.push_back(claimant);
            return Claim::Pending { replaced: Vec::new(), cancel: None };
        }
        let replaced = group.pending.drain(..).collect();
        group.pending.push_back(claimant);
        Claim::Pending { replaced, cancel: policy.cancel_in_progress.then_some(group.holder) }
    }

    /// Puts back a holder or one who waits, after a restart. Holders must come before those who wait, in order.
    pub fn restore(&mut self, key: &GroupKey, holder: Holder) {
        match self.groups.get_mut(key) {
            None => {
                self.groups.insert(key.clone(), Group { holder, pending: VecDeque::new() });
            }
            Some(group) if group.holder != holder && !group.pending.contains(&holder) => {
                group.pending.push_back(holder);
            }
            Some(_) => {}
        }
    }

    /// Gives up the group, or the wish for it. Returns who holds it now, if that changed.
    #[must_use]
    pub fn release(&mut self, key: &GroupKey, holder: Holder) -> Option<Holder> {
        let group = self.groups.get_mut(key)?;
        if group.holder != holder {
            group.pending.retain(|pending| *pending != holder);
            return None;
        }
        if let Some(next) = group.pending.pop_front() {
            group.holder = next;
            return Some(next);
        }
        self.groups.remove(key);
        None
    }

    /// Who holds the group.
    #[must_use]
    pub fn holder(&self, key: &GroupKey) -> Option<Holder> {
        self.groups.get(key).map(|group| group.holder)
    }

    /// Who waits for the group, in order.
    pub fn pending(&self, key: &GroupKey) -> impl Iterator<Item = Holder> + '_ {
        self.groups.get(key).into_iter().flat_map(|group| group.pending.iter().copied())
    }

    /// Every group that is held: key, holder, number waiting.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupKey, Holder, usize)> {
        self.groups.iter().map(|(key, group)| (key, group.holder, group.pending.len()))
    }
}
