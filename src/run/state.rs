//! What is stored of a run. Workflows are not in it: they are parsed again from the texts of the [`RunSpec`].

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::PendingJob;
use super::conclusion::Conclusion;
use super::report::{Annotation, StepState};
use crate::event::Event;
use crate::id::{HostName, JobId, RunId};
use crate::plan::calls::CalledWorkflow;
use crate::plan::fields::Concurrency;
use crate::workflow::model::Workflow;

/// All a run is made of; never changes after the run was made. A re-run makes a new spec with the next attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    pub run: RunId,
    /// Counts the runs of one workflow from 1.
    pub run_number: u64,
    /// 1 for the first attempt (U1).
    pub attempt: u32,
    pub event: Event,
    /// Path in the repository, for example `.github/workflows/ci.yml`.
    pub workflow_path: String,
    pub workflow_text: String,
    /// The commit the workflow file was read from.
    pub workflow_sha: String,
    /// Texts of called workflows by [`crate::plan::calls::CallTarget::key`].
    pub called: BTreeMap<String, CalledWorkflow>,
    /// `inputs` of a dispatch, typed; empty otherwise.
    pub inputs: Map<String, Json>,
    pub vars: Map<String, Json>,
    /// Who asked for this attempt; the event's actor at first.
    pub triggering_actor: String,
    /// Step and job debug logging for the whole run.
    pub debug: bool,
    /// A failed job stays on its host for so long, for somebody to look at it; 0: it does not.
    #[serde(default)]
    pub hold_minutes: u32,
    /// Only this job of the workflow and those it needs; all when absent.
    #[serde(default)]
    pub only: Option<String>,
}

/// The changing part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    pub status: RunStatus,
    pub conclusion: Option<Conclusion>,
    /// The run's title: `run-name` evaluated, else the commit or pull request title (S1).
    pub title: String,
    /// Why no job ran: the files were refused, or a newer run took its place in the concurrency group.
    pub startup_failure: Option<String>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub cancel: Cancel,
    /// The workflow that was triggered, then the called ones as they start.
    pub scopes: Vec<ScopeState>,
    /// Every job that a page shows, in order of appearance.
    pub jobs: IndexMap<JobId, JobState>,
}

/// Whether a run, a called workflow or a job was asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancel {
    #[default]
    No,
    /// Conditions are evaluated again; `always()` goes on (Z1).
    Requested,
    /// Everything ends, whatever its condition.
    Forced,
}

/// GitHub's words for where a run is (Q5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for its concurrency group.
    Pending,
    Queued,
    InProgress,
    Completed,
}

/// GitHub's words for where a job is (Q5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// Expanded, but `max-parallel` or the concurrency group of a call holds it back.
    Pending,
    /// Waits for a protection rule of its environment.
    Waiting,
    /// Wants a host.
    Queued,
    InProgress,
    Completed,
}

/// A workflow file in execution: the triggered one (index 0), or one leg of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScopeState {
    /// The leg of the call that made it.
    pub caller: Option<Caller>,
    /// Key into [`RunSpec::called`]; `None` for the triggered workflow.
    pub workflow: Option<String>,
    /// `inputs` inside it.
    pub inputs: Map<String, Json>,
    pub cancel: Cancel,
    /// Job id as the file spells it → what became of it. In file order.
    pub nodes: IndexMap<String, NodeState>,
}

/// Where a called workflow hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub scope: usize,
    pub node: String,
    pub leg: usize,
}

/// A job of a workflow file in execution: nothing yet, its legs, its result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// The condition was evaluated and the legs made; also when it was false.
    pub expanded: bool,
    pub legs: Vec<LegState>,
    pub fail_fast: bool,
    /// 0: no limit.
    pub max_parallel: usize,
    /// `needs.X.result` once every leg has ended (N4).
    pub result: Option<Conclusion>,
    /// `needs.X.outputs`: merged, the last leg to finish wins per key (N7).
    pub outputs: Map<String, Json>,
}

/// One leg: a job for a host, or a called workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegState {
    /// Of the job; a call that runs has an id too, under which it asks for its concurrency group.
    pub job: JobId,
    /// `null` when there is no matrix.
    pub matrix: Json,
    /// Name without the callers' names.
    pub name: String,
    /// The scope that a call leg made once it started.
    pub scope: Option<usize>,
    /// The group of a call: it starts once it was admitted.
    pub concurrency: Option<Concurrency>,
    /// It was allowed to go on: counted by `max-parallel` until it ends.
    pub released: bool,
    /// How it ended, after job-level continue-on-error (S9).
    pub result: Option<Conclusion>,
    pub continue_on_error: bool,
}

/// A job as shown, queued and reported. Calls that run have none; a call that was skipped has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    pub id: JobId,
    /// `caller/callee`: ids from the outermost call inwards.
    pub path: String,
    /// `caller / callee (a, b)`; what a page shows.
    pub name: String,
    pub scope: usize,
    pub node: String,
    pub leg: usize,
    pub phase: JobPhase,
    pub conclusion: Option<Conclusion>,
    pub cancel: Cancel,
    /// What `runs-on` asks for, evaluated.
    pub labels: Vec<String>,
    pub group: Option<String>,
    pub concurrency: Option<Concurrency>,
    pub environment: Option<String>,
    /// Whether forges are told of a deployment to it (G1).
    #[serde(default)]
    pub deploys: bool,
    pub timeout_minutes: f64,
    pub cancel_timeout_minutes: f64,
    pub continue_on_error: bool,
    pub host: Option<HostName>,
    /// Since when the host cannot be reached, and why.
    pub detached: Option<Detached>,
    /// Where it works on its host, once it is there.
    #[serde(default)]
    pub workspace: Option<String>,
    /// It failed, and is kept for somebody to look at it.
    #[serde(default)]
    pub held: Option<Held>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub steps: Vec<StepState>,
    pub annotations: Vec<Annotation>,
    pub outputs: Map<String, Json>,
    pub environment_url: Option<String>,
    /// A sentence about a cause outside the job.
    pub reason: Option<String>,
}

/// A host that cannot be reached while its job goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    pub since: Timestamp,
    pub reason: String,
}

/// What the runner of a job is told while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub cancel: Cancel,
    /// A held job may end.
    pub release: bool,
}

/// A failed job that keeps its slot and its workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// When it ends by itself.
    pub until: Timestamp,
    /// Somebody has seen enough.
    pub released: bool,
}

impl RunState {
    /// A run in which nothing has happened yet.
    pub(super) fn new(now: Timestamp, title: String) -> Self {
        Self {
            status: RunStatus::Queued,
            conclusion: None,
            title,
            startup_failure: None,
            created_at: now,
            started_at: None,
            completed_at: None,
            cancel: Cancel::No,
            scopes: Vec::new(),
            jobs: IndexMap::new(),
        }
    }
}

impl ScopeState {
    pub(super) fn new(
        workflow: &Workflow,
        key: Option<String>,
        caller: Option<Caller>,
        inputs: Map<String, Json>,
    ) -> Self {
        let nodes = workflow.jobs.keys().map(|id| (id.clone(), NodeState::default())).collect();
        Self { caller, workflow: key, inputs, cancel: Cancel::No, nodes }
    }

    /// Every job of it has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.nodes.values().all(|node| node.result.is_some())
    }

    /// The result of the call, or of the run: what its jobs amount to (N4, R8).
    #[must_use]
    pub fn result(&self) -> Conclusion {
        aggregate(self.nodes.values().filter_map(|node| node.result))
    }
}

impl NodeState {
    /// A job of a called workflow whose call was started over: it is done with and shows nothing.
    pub(super) fn abandoned() -> Self {
        Self { expanded: true, result: Some(Conclusion::Skipped), ..Self::default() }
    }
}

/// Failure if anything failed, else cancelled if anything was, else success; skipped when all was skipped (N4).
pub(super) fn aggregate(results: impl Iterator<Item = Conclusion>) -> Conclusion {
    let (mut cancelled, mut ran, mut any) = (false, false, false);
    for result in results {
        any = true;
        match result.as_result() {
            "failure" => return Conclusion::Failure,
            "cancelled" => cancelled = true,
            "skipped" => {}
            _ => ran = true,
        }
    }
    match (cancelled, ran) {
        (true, _) => Conclusion::Cancelled,
        (false, false) if any => Conclusion::Skipped,
        _ => Conclusion::Success,
    }
}

impl JobState {
    /// The job as the queue wants it.
    #[must_use]
    pub fn pending(&self) -> PendingJob {
        PendingJob {
            job: self.id,
            name: self.name.clone(),
            labels: self.labels.clone(),
            group: self.group.clone(),
            concurrency: self.concurrency.clone(),
            environment: self.environment.clone(),
            timeout_minutes: self.timeout_minutes,
        }
    }
}
