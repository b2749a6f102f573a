//! Hosts: what they are, what is in their slots, and what ended there lately.

use std::collections::HashMap;
use std::sync::PoisonError;

use jiff::{SignedDuration, Timestamp};

use crate::id::HostName;
use crate::queue;
use crate::server::needs;
use crate::server::view::{HostState, HostView, SlotView, Stretch};
use crate::store::{RunFilter, StoreError};

use super::Source;
use super::runs::job_view;

/// What is known of a host besides its load: configured and probed by the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct HostDetail {
    pub name: HostName,
    pub address: String,
    /// What OpenSSH is told to reach it; empty for this machine.
    pub ssh: Vec<String>,
    pub labels: Vec<String>,
    /// `system`, `processors`, …
    pub facts: Vec<(String, String)>,
    pub last_seen: Option<Timestamp>,
    pub latency: Option<SignedDuration>,
    /// Of the last minute, and the processors it is for.
    pub load: Option<(f64, u32)>,
    /// Why it is not reached.
    pub reason: Option<String>,
}

impl Source {
    /// What OpenSSH is told to reach a host, if it is configured; nothing for this machine.
    pub(in crate::server) fn way_to(&self, host: &HostName) -> Option<Vec<String>> {
        let details = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        details.iter().find(|detail| detail.name == *host).map(|detail| detail.ssh.clone())
    }

    /// Replaces what is known of hosts.
    pub(in crate::server) fn set_hosts(&self, hosts: Vec<HostDetail>) {
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Hosts with what is in their slots.
    pub(in crate::server) async fn hosts(&self, now: Timestamp) -> Result<Vec<HostView>, StoreError> {
        let capacities = self.engine.summary().borrow().hosts.clone();
        let details = self.hosts.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut recent = self.recent_stretches(now).await?;
        let mut hosts = Vec::new();
        for capacity in &capacities {
            let detail = details.iter().find(|detail| detail.name == capacity.name);
            let mut jobs = Vec::new();
            for id in &capacity.jobs {
                let id = *id;
                let found = self
                    .read(move |store| {
                        let Some(job) = store.job(id)? else { return Ok(None) };
                        Ok(store.run(job.run)?.map(|run| (job, run)))
                    })
                    .await?;
                jobs.extend(found.map(|(job, run)| SlotView {
                    hidden: false,
                    repository: run.repository,
                    run: job.run,
                    job: id,
                    name: job.state.name,
                    started_at: job.state.started_at,
                }));
            }
            let state = match capacity.state {
                queue::HostState::Up if capacity.jobs.is_empty() => HostState::Online,
                queue::HostState::Up => HostState::Busy,
                queue::HostState::Down => HostState::Offline,
                queue::HostState::Draining | queue::HostState::Paused | queue::HostState::Quiet(_) => {
                    HostState::Draining
                }
            };
            let reason = match capacity.state {
                queue::HostState::Paused => Some("Paused: takes no new jobs until it is resumed.".to_owned()),
                queue::HostState::Draining => Some("Draining: ends what runs, takes nothing new.".to_owned()),
                queue::HostState::Quiet(until) => Some(format!("Left alone until {until} after a failed dispatch.")),
                _ => None,
            };
            hosts.push(HostView {
                name: capacity.name.clone(),
                address: detail.map(|detail| detail.address.clone()).unwrap_or_default(),
                state,
                reason: detail.and_then(|detail| detail.reason.clone()).or(reason),
                labels: detail.map(|detail| detail.labels.clone()).unwrap_or_default(),
                slots: capacity.slots,
                jobs,
                facts: detail.map(|detail| detail.facts.clone()).unwrap_or_default(),
                last_seen: detail.and_then(|detail| detail.last_seen),
                latency: detail.and_then(|detail| detail.latency),
                load: detail.and_then(|detail| detail.load),
                recent: recent.remove(&capacity.name).unwrap_or_default(),
            });
        }
        for detail in details {
            if hosts.iter().all(|host| host.name != detail.name) {
                hosts.push(HostView {
                    name: detail.name,
                    address: detail.address,
                    state: HostState::Unknown,
                    reason: detail.reason,
                    labels: detail.labels,
                    slots: 0,
                    jobs: Vec::new(),
                    facts: detail.facts,
                    last_seen: detail.last_seen,
                    latency: detail.latency,
                    load: detail.load,
                    recent: Vec::new(),
                });
            }
        }
        Ok(hosts)
    }

    /// What ended on which host in the last 24 hours.
    async fn recent_stretches(&self, now: Timestamp) -> Result<HashMap<HostName, Vec<Stretch>>, StoreError> {
        let since = now - SignedDuration::from_hours(24);
        let records = self
            .read(move |store| {
                let today = RunFilter { created_from: Some(since), ..RunFilter::default() };
                let newest = store.newest(&today, 200)?;
                newest.iter().map(|run| store.jobs(run.id, run.attempt)).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        let mut stretches: HashMap<HostName, Vec<Stretch>> = HashMap::new();
        for record in records.iter().flatten() {
            let job = &record.state;
            if let (Some(host), Some(from)) = (&job.host, job.started_at) {
                let state = job_view(record, &needs::Needs::default()).state();
                let stretch = Stretch { from, to: job.completed_at.unwrap_or(now), state };
                stretches.entry(host.clone()).or_default().push(stretch);
            }
        }
        Ok(stretches)
    }
}
