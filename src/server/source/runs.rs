//! Runs, their jobs, and why one waits.

use jiff::SignedDuration;

use crate::engine::{JobRecord, RunRecord};
use crate::id::{JobId, RepositoryName, RunId};
use crate::run::{Conclusion, JobPhase, RunSpec, RunState, RunStatus};
use crate::server::needs;
use crate::server::view::{JobView, PendingView, Progress, RunView, State, Status, WaitingView, WorkflowName};
use crate::store::{RunFilter, StatusFilter, StoreError};

use super::Source;

impl Source {
    /// A run in its latest attempt.
    pub(in crate::server) async fn run(&self, run: RunId) -> Result<Option<RunView>, StoreError> {
        // One small record: handing it to another thread would take several times as long as reading it.
        Ok(self.store.run(run)?.map(|record| run_view(&record)))
    }

    /// A run as one of its attempts was.
    pub(in crate::server) async fn attempt(&self, run: RunId, attempt: u32) -> Result<Option<RunView>, StoreError> {
        let found = self
            .read(move |store| {
                let Some(record) = store.run(run)? else { return Ok(None) };
                if attempt == 0 || attempt > record.attempt {
                    return Ok(None);
                }
                Ok(Some((record, store.spec(run, attempt)?, store.graph(run, attempt)?)))
            })
            .await?;
        Ok(found.map(|(record, spec, graph)| {
            let mut view = run_view(&record);
            if let (true, Some(graph)) = (attempt < record.attempt, graph) {
                earlier(&mut view, attempt, spec.as_ref(), &graph);
            }
            view
        }))
    }

    /// The jobs of the attempt that the view shows.
    pub(in crate::server) async fn jobs(&self, run: &RunView) -> Result<Vec<JobView>, StoreError> {
        Ok(self.jobs_and_pending(run).await?.0)
    }

    /// As [`Source::jobs`], with the jobs of which nothing is made yet.
    pub(in crate::server) async fn jobs_and_pending(
        &self,
        run: &RunView,
    ) -> Result<(Vec<JobView>, Vec<PendingView>), StoreError> {
        let (id, attempt) = (run.id, run.attempt);
        let (records, spec, graph) = self
            .read(move |store| Ok((store.jobs(id, attempt)?, store.spec(id, attempt)?, store.graph(id, attempt)?)))
            .await?;
        let needs = match (&spec, &graph) {
            (Some(spec), Some(graph)) => needs::of(spec, graph),
            _ => needs::Needs::default(),
        };
        let mut jobs: Vec<JobView> = records.iter().map(|record| job_view(record, &needs)).collect();
        for job in jobs.iter_mut().filter(|job| job.started_at.is_none() && job.conclusion.is_none()).take(100) {
            job.reason = job.reason.take().or(self.why(job.id).await);
        }
        Ok((jobs, needs.pending))
    }

    /// How far a run is, without what its jobs need and wait for.
    pub(in crate::server) async fn progress(&self, run: &RunView) -> Result<Progress, StoreError> {
        let (id, attempt, over) = (run.id, run.attempt, run.state().is_final());
        let filter = RunFilter {
            repository: Some(run.repository.clone()),
            workflow_path: Some(run.workflow.path.clone()),
            status: Some(StatusFilter::Conclusion(Conclusion::Success)),
            ..RunFilter::default()
        };
        self.read(move |store| {
            let records = store.jobs(id, attempt)?;
            let jobs = records.iter().map(|record| job_view(record, &needs::Needs::default())).collect();
            if over {
                return Ok(Progress { jobs, ..Progress::default() });
            }
            let graph = store.graph(id, attempt)?;
            let nodes = graph.iter().flat_map(|graph| &graph.scopes).flat_map(|scope| scope.nodes.values());
            let pending = nodes.filter(|node| !node.expanded && node.result.is_none()).count();
            let good = store.newest(&filter, 9)?;
            let mut took: Vec<SignedDuration> =
                good.iter().map(|record| run_view(record).elapsed(record.updated_at)).collect();
            took.sort_unstable();
            Ok(Progress { jobs, pending, usual: took.get(took.len() / 2).copied() })
        })
        .await
    }

    /// A job with its run as it was in that attempt.
    pub(in crate::server) async fn job(&self, job: JobId) -> Result<Option<(RunView, JobView)>, StoreError> {
        let Some(record) = self.read(move |store| store.job(job)).await? else { return Ok(None) };
        let Some(run) = self.attempt(record.run, record.attempt).await? else { return Ok(None) };
        let mut view = job_view(&record, &needs::Needs::default());
        if view.started_at.is_none() && view.conclusion.is_none() {
            view.reason = view.reason.take().or(self.why(job).await);
        }
        Ok(Some((run, view)))
    }

    /// Runs, newest first, and how many there are.
    pub(in crate::server) async fn runs(
        &self,
        filter: RunFilter,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<RunView>, usize), StoreError> {
        let page = self.read(move |store| store.runs(&filter, skip, limit)).await?;
        Ok((page.runs.iter().map(run_view).collect(), page.total))
    }

    /// Runs whose title, branch, commit, actor, workflow or repository hold a text, among the newest few thousand.
    pub(in crate::server) async fn search(
        &self,
        filter: RunFilter,
        text: &str,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<RunView>, usize), StoreError> {
        let text = text.to_lowercase();
        let page = self.read(move |store| store.runs(&filter, 0, 5000)).await?;
        let hits: Vec<_> = page.runs.iter().filter(|run| mentions(run, &text)).collect();
        let total = hits.len();
        Ok((hits.into_iter().skip(skip).take(limit).map(run_view).collect(), total))
    }

    /// Runs of these repositories (none: of all) that are not over, newest first.
    pub(in crate::server) async fn active(&self, among: &[RepositoryName]) -> Result<Vec<RunView>, StoreError> {
        let mut active = Vec::new();
        for status in [RunStatus::InProgress, RunStatus::Queued, RunStatus::Pending] {
            let status = Some(StatusFilter::Status(status));
            let filter = RunFilter { status, among: among.to_vec(), ..RunFilter::default() };
            active.extend(self.runs(filter, 0, 100).await?.0);
        }
        active.sort_by_key(|run| std::cmp::Reverse(run.id));
        Ok(active)
    }

    /// Jobs of these runs that wait, oldest first, each with its reason.
    pub(in crate::server) async fn waiting(&self, runs: &[RunView]) -> Result<Vec<WaitingView>, StoreError> {
        let mut waiting = Vec::new();
        for run in runs {
            let (id, attempt) = (run.id, run.attempt);
            for record in self.read(move |store| store.jobs(id, attempt)).await? {
                let job = &record.state;
                if job.conclusion.is_some() || matches!(job.phase, JobPhase::InProgress | JobPhase::Completed) {
                    continue;
                }
                let view = job_view(&record, &needs::Needs::default());
                waiting.push(WaitingView {
                    repository: run.repository.clone(),
                    run: run.id,
                    job: job.id,
                    name: job.name.clone(),
                    title: run.title.clone(),
                    labels: job.labels.clone(),
                    since: record.queued_at.unwrap_or(job.created_at),
                    reason: self.why(job.id).await.unwrap_or_else(|| "It is about to start.".to_owned()),
                    state: view.state(),
                });
                if waiting.len() >= 500 {
                    return Ok(waiting);
                }
            }
            if run.status == Status::Waiting && waiting.iter().all(|one| one.run != run.id) {
                waiting.push(WaitingView {
                    repository: run.repository.clone(),
                    run: run.id,
                    job: JobId(0),
                    name: run.workflow.name.clone(),
                    title: run.title.clone(),
                    labels: Vec::new(),
                    since: run.created_at,
                    reason: "Waits for someone to approve the run: it comes from a fork.".to_owned(),
                    state: State::Waiting,
                });
            }
        }
        waiting.sort_by_key(|one| one.since);
        Ok(waiting)
    }

    /// Why a job waits, as sentences; `None` when it does not.
    pub(in crate::server) async fn why(&self, job: JobId) -> Option<String> {
        let reasons = self.engine.why(job).await.ok()?;
        let sentences: Vec<String> = reasons
            .iter()
            .map(|reason| format!("{}. {}.", first_upper(&reason.to_string()), first_upper(&reason.remedy())))
            .collect();
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }
}

pub(super) fn run_view(record: &RunRecord) -> RunView {
    let named = !record.workflow_name.is_empty();
    let name = if named { &record.workflow_name } else { &record.workflow_path };
    RunView {
        id: record.id,
        number: record.run_number,
        attempt: record.attempt,
        repository: record.repository.clone(),
        workflow: WorkflowName::new(&record.repository, &record.workflow_path, name),
        title: record.title.clone(),
        event: record.event.clone(),
        git_ref: record.git_ref.clone(),
        sha: record.sha.clone(),
        actor: record.actor.clone(),
        triggering_actor: record.triggering_actor.clone(),
        status: if record.held { Status::Waiting } else { run_status(record.status) },
        conclusion: record.conclusion,
        created_at: record.created_at,
        started_at: record.started_at.unwrap_or(record.attempted_at),
        updated_at: record.updated_at,
        completed_at: record.completed_at,
        messages: record.messages.clone(),
        paused: record.paused,
        reviews: record.reviews.clone(),
    }
}

/// What an earlier attempt was.
fn earlier(view: &mut RunView, attempt: u32, spec: Option<&RunSpec>, graph: &RunState) {
    view.attempt = attempt;
    view.status = run_status(graph.status);
    view.conclusion = graph.conclusion;
    view.title.clone_from(&graph.title);
    view.started_at = graph.started_at.unwrap_or(graph.created_at);
    view.completed_at = graph.completed_at;
    view.updated_at = graph.completed_at.unwrap_or(view.started_at);
    view.messages = graph.startup_failure.iter().cloned().collect();
    view.paused = false;
    if let Some(spec) = spec {
        view.triggering_actor.clone_from(&spec.triggering_actor);
    }
}

fn run_status(status: RunStatus) -> Status {
    match status {
        RunStatus::Pending => Status::Pending,
        RunStatus::Queued => Status::Queued,
        RunStatus::InProgress => Status::InProgress,
        RunStatus::Completed => Status::Completed,
    }
}

pub(super) fn job_view(record: &JobRecord, needs: &needs::Needs) -> JobView {
    let job = &record.state;
    let key = needs::key(job.scope, &job.node);
    JobView {
        id: job.id,
        run: record.run,
        attempt: record.attempt,
        name: job.name.clone(),
        needs: needs.of(&key),
        key,
        status: match job.phase {
            JobPhase::Pending => Status::Pending,
            JobPhase::Waiting => Status::Waiting,
            JobPhase::Queued => Status::Queued,
            JobPhase::InProgress => Status::InProgress,
            JobPhase::Completed => Status::Completed,
        },
        conclusion: job.conclusion,
        continue_on_error: job.continue_on_error,
        labels: job.labels.clone(),
        host: job.host.clone(),
        created_at: job.created_at,
        started_at: job.started_at,
        completed_at: job.completed_at,
        steps: job.steps.clone(),
        annotations: job.annotations.clone(),
        environment: job.environment.clone(),
        environment_url: job.environment_url.clone(),
        reason: job.reason.clone(),
        detached: job.detached.as_ref().map(|detached| detached.reason.clone()),
        workspace: job.workspace.clone(),
        held_until: job.held.as_ref().filter(|held| !held.released).map(|held| held.until),
        lost: job.host.as_ref().is_some_and(|host| record.lost_on.last() == Some(host)),
    }
}

fn mentions(run: &RunRecord, text: &str) -> bool {
    let fields = [&run.title, &run.git_ref, &run.sha, &run.actor, &run.workflow_path, &run.repository.0, &run.event];
    fields.iter().any(|field| field.to_lowercase().contains(text)) || run.id.0.to_string() == *text
}

fn first_upper(text: &str) -> String {
    let mut characters = text.trim_end_matches('.').chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
