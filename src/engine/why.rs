//! Reading the engine: why a job waits, and what there is.

use super::input::Settings;
use super::record::RunRecord;
use super::state::{Engine, Stage, environment_key};
use crate::id::{HostName, JobId, RepositoryName, RunId};
use crate::queue::{Capacity, GroupKey, Holder, HostFacts, Obstacle, Reason};
use crate::run::Run;

/// What pages show of the engine at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub runs: usize,
    pub waiting: usize,
    pub running: usize,
    pub paused: bool,
    pub hosts: Vec<Capacity>,
}

impl Engine {
    /// Why a job that is not over has not started; empty when it has, or is unknown.
    #[must_use]
    pub fn why(&self, job: JobId) -> Vec<Reason> {
        let Some(active) = self.jobs.get(&job) else { return self.why_not_yet(job) };
        let obstacles = match &active.stage {
            Stage::Queued => return self.queue.why(job),
            Stage::Assigned { .. } => Vec::new(),
            Stage::Held => vec![Obstacle::RunPaused],
            Stage::Grouped | Stage::Call => {
                self.group_obstacle(active.group.as_ref(), Holder::Job(job)).into_iter().collect()
            }
            Stage::Protected { until, approval } => {
                let environment =
                    active.pending.as_ref().and_then(|pending| pending.environment.clone()).unwrap_or_default();
                let reviewers = self
                    .runs
                    .get(&active.run)
                    .and_then(|run| self.environments.get(&environment_key(&run.record.repository, &environment)))
                    .map(|rules| rules.reviewers.clone())
                    .unwrap_or_default();
                let approval = approval.then(|| Obstacle::Approval { environment: environment.clone(), reviewers });
                let timer = until.map(|until| Obstacle::WaitTimer { environment, until });
                approval.into_iter().chain(timer).collect()
            }
        };
        obstacles.into_iter().map(|obstacle| Reason::new(obstacle, active.stage_since)).collect()
    }

    /// A job that its run holds back itself.
    fn why_not_yet(&self, job: JobId) -> Vec<Reason> {
        let Some(run) = self.runs.values().find(|run| run.run.as_ref().is_some_and(|run| run.job(job).is_some()))
        else {
            return Vec::new();
        };
        let waits = run.run.as_ref().and_then(|run| run.job(job)).is_some_and(|job| job.conclusion.is_none());
        if !waits {
            return Vec::new();
        }
        vec![Reason::new(Obstacle::MaxParallel, run.record.attempted_at)]
    }

    /// Why a whole run has not started: its concurrency group, or an approval.
    #[must_use]
    pub fn why_run(&self, run: RunId) -> Vec<Reason> {
        let Some(active) = self.runs.get(&run) else { return Vec::new() };
        let mut obstacles = Vec::new();
        if active.run.is_none() {
            obstacles.push(Obstacle::RunHeld);
        }
        if active.record.paused {
            obstacles.push(Obstacle::RunPaused);
        }
        let claim = active.record.claims.iter().find(|claim| claim.holder == Holder::Run(run) && !claim.granted);
        obstacles.extend(claim.and_then(|claim| self.group_obstacle(Some(&claim.key), claim.holder)));
        obstacles.into_iter().map(|obstacle| Reason::new(obstacle, active.record.attempted_at)).collect()
    }

    fn group_obstacle(&self, key: Option<&GroupKey>, waiting: Holder) -> Option<Obstacle> {
        let key = key?;
        let ahead = self.groups.pending(key).position(|pending| pending == waiting)?;
        Some(Obstacle::Group { group: key.name.clone(), holder: self.groups.holder(key), ahead })
    }

    /// A run that is not over.
    #[must_use]
    pub fn run(&self, run: RunId) -> Option<&Run> {
        self.runs.get(&run)?.run.as_ref()
    }

    /// The record of a run that is not over.
    #[must_use]
    pub fn record(&self, run: RunId) -> Option<&RunRecord> {
        self.runs.get(&run).map(|active| &active.record)
    }

    /// Runs that are not over, oldest first.
    #[must_use]
    pub fn active_runs(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> = self.runs.keys().copied().collect();
        runs.sort_unstable();
        runs
    }

    /// The run a job belongs to, while the job is on its way or on a host.
    #[must_use]
    pub fn run_of(&self, job: JobId) -> Option<RunId> {
        self.jobs.get(&job).map(|active| active.run)
    }

    /// The host a job was given to.
    #[must_use]
    pub fn host_of(&self, job: JobId) -> Option<&HostName> {
        match &self.jobs.get(&job)?.stage {
            Stage::Assigned { host } => Some(host),
            _ => None,
        }
    }

    /// Jobs that wait for a host, in the order of the queue.
    #[must_use]
    pub fn waiting_jobs(&self) -> Vec<JobId> {
        self.queue.waiting_jobs()
    }

    /// Facts of a configured host.
    #[must_use]
    pub fn host_facts(&self, host: &HostName) -> Option<&HostFacts> {
        self.hosts.get(host)?.facts.as_ref()
    }

    /// The protection rules of an environment.
    #[must_use]
    pub fn environment(&self, repository: &RepositoryName, name: &str) -> Option<&super::record::EnvironmentRules> {
        self.environments.get(&environment_key(repository, name))
    }

    /// Every concurrency group that is held: key, holder, number waiting.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupKey, Holder, usize)> {
        self.groups.iter()
    }

    /// What is configured.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Counts and hosts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            runs: self.runs.len(),
            waiting: self.queue.waiting_count(),
            running: self.queue.running_count(),
            paused: self.queue.is_paused(),
            hosts: self.queue.hosts(),
        }
    }
}
