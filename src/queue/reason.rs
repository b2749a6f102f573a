//! Why a job waits, as data and as a sentence.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::groups::Holder;
use crate::id::{HostName, JobId};

/// One thing that keeps a job from starting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub obstacle: Obstacle,
    /// Since when the job waits.
    pub since: Timestamp,
}

impl Reason {
    pub(crate) fn new(obstacle: Obstacle, since: Timestamp) -> Self {
        Self { obstacle, since }
    }

    /// What would start the job, as a sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match &self.obstacle {
            Obstacle::QueuePaused => "it starts when the queue is resumed: `towline queue resume`".to_owned(),
            Obstacle::JobLimit { .. } => "it starts when another job ends; `jobs` of [limits] says how many".to_owned(),
            Obstacle::RunPaused => "it starts when the run is resumed: `towline run resume`".to_owned(),
            Obstacle::NoHost { nearest: Some((host, missing)), .. } => {
                format!("add the label {} to {host}, or a host that has all of them", quoted(missing))
            }
            Obstacle::NoHost { nearest: None, .. } => "add a host: `towline host add`".to_owned(),
            Obstacle::DeviceHost { host, known: true } => format!("give {host} the labels that the job asks for"),
            Obstacle::DeviceHost { host, known: false } => format!("add the host {host}: `towline host add {host}`"),
            Obstacle::HostsLost { .. } => "add another host with the same labels, or cancel and re-run".to_owned(),
            Obstacle::OtherRepositories { .. } => {
                "add the repository to `repositories` of one of them, or another host with the same labels".to_owned()
            }
            Obstacle::HostsBusy { ahead: 0, .. } => "it is next: it starts when one of these ends a job".to_owned(),
            Obstacle::HostsBusy { ahead, .. } => {
                let (jobs, have) = if *ahead == 1 { ("job", "has") } else { ("jobs", "have") };
                format!("it starts after the {ahead} {jobs} before it {have} started")
            }
            Obstacle::TooHeavy { weight, .. } => format!("give a matching host at least {weight} slots"),
            Obstacle::LabelLimit { label, .. } => {
                format!("it starts when another job with the label {label} ends there")
            }
            Obstacle::HostReserved { .. } => "it starts once the larger job has started".to_owned(),
            Obstacle::HostDown { host } => format!("it starts when {host} answers again: `towline host check {host}`"),
            Obstacle::HostDraining { host } | Obstacle::HostPaused { host } => {
                format!("it starts when {host} is resumed: `towline host resume {host}`")
            }
            Obstacle::HostQuiet { until, .. } => format!("it is tried again at {until}"),
            Obstacle::Group { .. } => "it starts when those before it have ended".to_owned(),
            Obstacle::Approval { .. } => "it starts when a reviewer approves: `towline run approve`".to_owned(),
            Obstacle::WaitTimer { until, .. } => format!("it goes on at {until}"),
            Obstacle::Needs { .. } => "it is decided when these have ended".to_owned(),
            Obstacle::MaxParallel => "it starts when another job of its matrix ends".to_owned(),
            Obstacle::RunHeld => "it starts when someone approves the run: `towline run approve`".to_owned(),
        }
    }
}

/// What keeps a job from starting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    QueuePaused,
    RunPaused,
    /// As many jobs run on all hosts together as may.
    JobLimit {
        jobs: u32,
    },
    /// No host has the labels; the nearest one and what it lacks.
    NoHost {
        labels: Vec<String>,
        nearest: Option<(HostName, Vec<String>)>,
    },
    /// The job is bound to one host by its device group, and that host does not suit or exist.
    DeviceHost {
        host: HostName,
        known: bool,
    },
    /// Every host that would suit died under the job before.
    HostsLost {
        hosts: Vec<HostName>,
    },
    /// Every host that has the labels runs jobs of other repositories only.
    OtherRepositories {
        hosts: Vec<HostName>,
    },
    HostsBusy {
        hosts: Vec<HostName>,
        ahead: usize,
    },
    TooHeavy {
        weight: u32,
        largest: u32,
    },
    LabelLimit {
        host: HostName,
        label: String,
    },
    HostReserved {
        host: HostName,
        job: JobId,
    },
    HostDown {
        host: HostName,
    },
    HostDraining {
        host: HostName,
    },
    HostPaused {
        host: HostName,
    },
    HostQuiet {
        host: HostName,
        until: Timestamp,
    },
    /// The concurrency group is held; `ahead` others wait before this one.
    Group {
        group: String,
        holder: Option<Holder>,
        ahead: usize,
    },
    Approval {
        environment: String,
        reviewers: Vec<String>,
    },
    WaitTimer {
        environment: String,
        until: Timestamp,
    },
    /// Jobs of the same run that have not ended.
    Needs {
        jobs: Vec<String>,
    },
    /// As many jobs of its matrix run as `max-parallel` allows, or the call it is in waits for its group.
    MaxParallel,
    /// The run came from a fork and nobody has approved it.
    RunHeld,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.obstacle {
            Obstacle::QueuePaused => write!(f, "the queue is paused"),
            Obstacle::RunPaused => write!(f, "the run is paused"),
            Obstacle::JobLimit { jobs } => write!(f, "{jobs} jobs run, and no more may at once"),
            Obstacle::NoHost { labels, nearest: Some((host, missing)) } => {
                write!(
                    f,
                    "no host has the labels {}; {host} comes closest but lacks {}",
                    quoted(labels),
                    quoted(missing)
                )
            }
            Obstacle::NoHost { labels, nearest: None } => {
                write!(f, "there is no host, and the job asks for {}", quoted(labels))
            }
            Obstacle::DeviceHost { host, known: true } => {
                write!(f, "its group binds it to {host}, which lacks a label that the job asks for")
            }
            Obstacle::DeviceHost { host, known: false } => {
                write!(f, "its group binds it to {host}, which is not a known host")
            }
            Obstacle::HostsLost { hosts } => write!(f, "all matching hosts died under it: {}", names(hosts)),
            Obstacle::OtherRepositories { hosts } => {
                write!(
                    f,
                    "only {} {} the labels, and not for this repository",
                    names(hosts),
                    if hosts.len() == 1 { "has" } else { "have" }
                )
            }
            Obstacle::HostsBusy { hosts, .. } => write!(f, "all slots are taken on {}", names(hosts)),
            Obstacle::TooHeavy { weight, largest } => {
                write!(f, "it takes {weight} slots and the largest matching host has {largest}")
            }
            Obstacle::LabelLimit { host, label } => {
                write!(f, "{host} runs as many jobs with the label {label} as it may")
            }
            Obstacle::HostReserved { host, job } => write!(f, "{host} is kept free for the larger job {job}"),
            Obstacle::HostDown { host } => write!(f, "{host} cannot be reached"),
            Obstacle::HostDraining { host } => write!(f, "{host} is draining"),
            Obstacle::HostPaused { host } => write!(f, "{host} is paused"),
            Obstacle::HostQuiet { host, until } => write!(f, "{host} takes no jobs until {until}"),
            Obstacle::Group { group, holder, ahead } => {
                write!(f, "the concurrency group {group} is held")?;
                if let Some(holder) = holder {
                    write!(f, " by {holder}")?;
                }
                if *ahead > 0 { write!(f, ", and {ahead} wait before it") } else { Ok(()) }
            }
            Obstacle::Approval { environment, reviewers } => {
                write!(f, "the environment {environment} needs the approval of one of {}", reviewers.join(", "))
            }
            Obstacle::WaitTimer { environment, until } => {
                write!(f, "the wait timer of the environment {environment} ends at {until}")
            }
            Obstacle::Needs { jobs } => write!(f, "it needs {}", jobs.join(", ")),
            Obstacle::MaxParallel => write!(f, "as many jobs of its matrix run as `max-parallel` allows"),
            Obstacle::RunHeld => write!(f, "the run came from a fork and waits for approval"),
        }
    }
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn names(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}
