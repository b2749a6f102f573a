//! Reads of the store and the engine as views. Every read that may block a worker runs beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use crate::drive::Handle;
use crate::engine::record::EnvironmentRules;
use crate::engine::{JobRecord, RunRecord};
use crate::id::{HostName, JobId, RepositoryName, RunId};
use crate::plan::calls::Called;
use crate::queue;
use crate::run::{Conclusion, JobPhase, RunSpec, RunState, RunStatus, Which};
use crate::store::{
    AuditRecord, DeliveryFilter, DeliveryRecord, DeliveryState, Logs, RunFilter, StatusFilter, Store, StoreError,
};
use crate::transport::{Enrolled, Facts, NewHost};
use crate::workflow;

use super::needs;
use super::view::{
    DeliveryView, FlakyStep, HostState, HostView, InputKind, InputView, JobView, LetterView, PendingView, Progress,
    RunPoint, RunView, ScheduleView, SlotView, State, Status, Stretch, WaitingView, WorkflowName, WorkflowStatistics,
    WorkflowView,
};

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

/// A workflow file on the default branch of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowFile {
    pub path: String,
    pub text: String,
    pub default_branch: String,
}

/// A wish to start a workflow by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct DispatchRequest {
    pub repository: RepositoryName,
    pub workflow_path: String,
    pub git_ref: String,
    pub inputs: serde_json::Map<String, serde_json::Value>,
    pub actor: String,
}

/// Reads the workflow files of a repository's default branch.
pub type ListFiles = Arc<dyn Fn(RepositoryName) -> BoxFuture<'static, Result<Vec<WorkflowFile>, String>> + Send + Sync>;
/// Starts a workflow by hand: the run, or why not, as a sentence.
pub type Dispatch = Arc<dyn Fn(DispatchRequest) -> BoxFuture<'static, Result<RunId, String>> + Send + Sync>;

/// The repositories that are configured at this moment, whether or not they had runs.
pub type ListRepositories = Arc<dyn Fn() -> Vec<RepositoryName> + Send + Sync>;
/// Handles a stored delivery once more: the number of the new one and the runs it started, or why not, as a sentence.
pub type Replay = Arc<dyn Fn(u64) -> BoxFuture<'static, Result<(u64, Vec<RunId>), String>> + Send + Sync>;
/// The files that a run calls, found anew for an attempt of these jobs; nothing where those it had are good. Why they cannot be
/// had, as a sentence.
pub type CalledAgain = Arc<dyn Fn(RunId, Which) -> BoxFuture<'static, Result<Option<Called>, String>> + Send + Sync>;
/// All schedules with so many of their next times.
pub type ListSchedules = Arc<dyn Fn(usize) -> Vec<ScheduleView> + Send + Sync>;

/// What forges and people are still to be told.
pub type ListLetters = Arc<dyn Fn() -> Result<Vec<LetterView>, StoreError> + Send + Sync>;
/// Sends a letter again, or throws it away: whether there was one.
pub type ChangeLetter = Arc<dyn Fn(String, LetterDeed) -> BoxFuture<'static, Result<bool, StoreError>> + Send + Sync>;

/// What is done with a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterDeed {
    Retry,
    Forget,
}

/// Sends a `repository_dispatch`: why it was not taken, as a sentence.
pub type SendEvent = Arc<dyn Fn(SentEvent) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// An event that a client makes up.
#[derive(Clone, Debug, PartialEq)]
pub struct SentEvent {
    pub repository: RepositoryName,
    pub event_type: String,
    pub client_payload: serde_json::Value,
    pub actor: String,
}

/// Connects to a new host and, once its key is accepted, writes it down; why not, as a sentence.
pub type AddHost = Arc<dyn Fn(NewHost) -> BoxFuture<'static, Result<Enrolled, String>> + Send + Sync>;
/// Looks at a host now: what it is, or why it cannot be used.
pub type CheckHost = Arc<dyn Fn(HostName) -> BoxFuture<'static, Result<Facts, String>> + Send + Sync>;
/// The public key that the daemon logs in with, as hosts want it.
pub type PublicKey = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the composition root lends the server: things that other rooms of the shell do.
#[derive(Clone)]
pub struct Outside {
    pub repositories: ListRepositories,
    pub files: ListFiles,
    pub dispatch: Dispatch,
    pub send_event: SendEvent,
    pub replay: Replay,
    pub called_again: CalledAgain,
    pub schedules: ListSchedules,
    pub letters: ListLetters,
    pub change_letter: ChangeLetter,
    pub add_host: AddHost,
    pub check_host: CheckHost,
    pub public_key: PublicKey,
}

impl Outside {
    /// Nothing is configured: workflows are those that had runs, and none can be dispatched.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            repositories: Arc::new(Vec::new),
            files: Arc::new(|_| Box::pin(async { Ok(Vec::new()) })),
            dispatch: Arc::new(|_| Box::pin(async { Err("no repository is configured here".to_owned()) })),
            send_event: Arc::new(|_| Box::pin(async { Err("no repository is configured here".to_owned()) })),
            replay: Arc::new(|_| Box::pin(async { Err("deliveries cannot be replayed here".to_owned()) })),
            called_again: Arc::new(|_, _| Box::pin(async { Ok(None) })),
            schedules: Arc::new(|_| Vec::new()),
            letters: Arc::new(|| Ok(Vec::new())),
            change_letter: Arc::new(|_, _| Box::pin(async { Ok(false) })),
            add_host: Arc::new(|_| Box::pin(async { Err("hosts cannot be added here".to_owned()) })),
            check_host: Arc::new(|_| Box::pin(async { Err("hosts cannot be looked at here".to_owned()) })),
            public_key: Arc::new(|| None),
        }
    }
}

/// Where views come from.
pub struct Source {
    pub(super) store: Store,
    pub(super) logs: Logs,
    pub(super) engine: Handle,
    pub(super) outside: Outside,
    hosts: RwLock<Vec<HostDetail>>,
}

/// Runs that the statistics of a workflow are made of.
const STATISTICS: usize = 60;

/// Runs on one page of the list.
pub(super) const PAGE_OF_RUNS: usize = 30;

impl Source {
    pub(super) fn new(store: Store, engine: Handle, outside: Outside) -> Self {
        let logs = store.logs().clone();
        Self { store, logs, engine, outside, hosts: RwLock::default() }
    }

    /// What OpenSSH is told to reach a host, if it is configured; nothing for this machine.
    pub(super) fn way_to(&self, host: &HostName) -> Option<Vec<String>> {
        let details = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        details.iter().find(|detail| detail.name == *host).map(|detail| detail.ssh.clone())
    }

    /// Replaces what is known of hosts.
    pub(super) fn set_hosts(&self, hosts: Vec<HostDetail>) {
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Reads beside the workers.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// A run in its latest attempt.
    pub(super) async fn run(&self, run: RunId) -> Result<Option<RunView>, StoreError> {
        // One small record: handing it to another thread would take several times as long as reading it.
        Ok(self.store.run(run)?.map(|record| run_view(&record)))
    }

    /// A run as one of its attempts was.
    pub(super) async fn attempt(&self, run: RunId, attempt: u32) -> Result<Option<RunView>, StoreError> {
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
    pub(super) async fn jobs(&self, run: &RunView) -> Result<Vec<JobView>, StoreError> {
        Ok(self.jobs_and_pending(run).await?.0)
    }

    /// As [`Source::jobs`], with the jobs of which nothing is made yet.
    pub(super) async fn jobs_and_pending(&self, run: &RunView) -> Result<(Vec<JobView>, Vec<PendingView>), StoreError> {
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
    pub(super) async fn progress(&self, run: &RunView) -> Result<Progress, StoreError> {
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
    pub(super) async fn job(&self, job: JobId) -> Result<Option<(RunView, JobView)>, StoreError> {
        let Some(record) = self.read(move |store| store.job(job)).await? else { return Ok(None) };
        let Some(run) = self.attempt(record.run, record.attempt).await? else { return Ok(None) };
        let mut view = job_view(&record, &needs::Needs::default());
        if view.started_at.is_none() && view.conclusion.is_none() {
            view.reason = view.reason.take().or(self.why(job).await);
        }
        Ok(Some((run, view)))
    }

    /// Runs, newest first, and how many there are.
    pub(super) async fn runs(
        &self,
        filter: RunFilter,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<RunView>, usize), StoreError> {
        let page = self.read(move |store| store.runs(&filter, skip, limit)).await?;
        Ok((page.runs.iter().map(run_view).collect(), page.total))
    }

    /// Runs whose title, branch, commit, actor, workflow or repository hold a text, among the newest few thousand.
    pub(super) async fn search(
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
    pub(super) async fn active(&self, among: &[RepositoryName]) -> Result<Vec<RunView>, StoreError> {
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
    pub(super) async fn waiting(&self, runs: &[RunView]) -> Result<Vec<WaitingView>, StoreError> {
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
    pub(super) async fn why(&self, job: JobId) -> Option<String> {
        let reasons = self.engine.why(job).await.ok()?;
        let sentences: Vec<String> = reasons
            .iter()
            .map(|reason| format!("{}. {}.", first_upper(&reason.to_string()), first_upper(&reason.remedy())))
            .collect();
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }

    /// Hosts with what is in their slots.
    pub(super) async fn hosts(&self, now: Timestamp) -> Result<Vec<HostView>, StoreError> {
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

    /// The repositories that are configured or had runs.
    pub(super) async fn repositories(&self) -> Result<Vec<RepositoryName>, StoreError> {
        let mut all = self.read(Store::repositories).await?;
        all.extend((self.outside.repositories)());
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// The workflows of a repository: its files, and what had runs before.
    pub(super) async fn workflows(
        &self,
        repository: &RepositoryName,
        recent: usize,
    ) -> Result<Vec<WorkflowView>, StoreError> {
        let files = match (self.outside.files)(repository.clone()).await {
            Ok(files) => files,
            Err(error) => {
                log::warn!(repository:% = repository, error:% = error; "cannot read workflow files");
                Vec::new()
            }
        };
        let filter = RunFilter { repository: Some(repository.clone()), ..RunFilter::default() };
        let (runs, _) = self.runs(filter, 0, 300).await?;
        let mut paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        paths.extend(runs.iter().map(|run| run.workflow.path.clone()));
        paths.sort();
        paths.dedup();
        let mut workflows = Vec::new();
        for path in paths {
            let of_it: Vec<RunView> = runs.iter().filter(|run| run.workflow.path == path).cloned().collect();
            let file = files.iter().find(|file| file.path == path);
            let parsed = file.and_then(|file| workflow::parse(&file.path, &file.text).0);
            let name = parsed.as_ref().map(|model| model.display_name().to_owned());
            let name =
                name.or_else(|| of_it.first().map(|run| run.workflow.name.clone())).unwrap_or_else(|| path.clone());
            let inputs = parsed
                .as_ref()
                .and_then(|model| model.on.dispatch.as_ref())
                .map(|dispatch| dispatch.inputs.iter().map(|(name, input)| input_view(name, input)).collect());
            let (of, asked) = (repository.clone(), path.clone());
            let disabled = self.read(move |store| store.is_workflow_disabled(&of, &asked)).await?;
            workflows.push(WorkflowView {
                repository: repository.clone(),
                workflow: WorkflowName::new(repository, &path, &name),
                enabled: !disabled,
                inputs,
                default_branch: file.map_or_else(|| "main".to_owned(), |file| file.default_branch.clone()),
                created_at: of_it.last().map_or(Timestamp::UNIX_EPOCH, |run| run.created_at),
                updated_at: of_it.first().map_or(Timestamp::UNIX_EPOCH, |run| run.created_at),
                recent: of_it.into_iter().take(recent).collect(),
            });
        }
        Ok(workflows)
    }

    /// Deliveries, newest first.
    pub(super) async fn deliveries(&self, skip: usize, limit: usize) -> Result<Vec<DeliveryView>, StoreError> {
        self.read(move |store| {
            let found = store.deliveries(&DeliveryFilter::default(), skip, limit)?;
            found.into_iter().map(|delivery| delivery_view(store, delivery)).collect()
        })
        .await
    }

    /// A delivery.
    pub(super) async fn delivery(&self, number: u64) -> Result<Option<DeliveryView>, StoreError> {
        let look = move |store: &Store| match store.delivery(number)? {
            Some(delivery) => delivery_view(store, delivery).map(Some),
            None => Ok(None),
        };
        self.read(look).await
    }

    /// What the last runs of a workflow say about it.
    pub(super) async fn statistics(
        &self,
        repository: &RepositoryName,
        path: &str,
    ) -> Result<WorkflowStatistics, StoreError> {
        let filter = RunFilter {
            repository: Some(repository.clone()),
            workflow_path: Some(path.to_owned()),
            status: Some(StatusFilter::Status(RunStatus::Completed)),
            ..RunFilter::default()
        };
        self.read(move |store| {
            let newest = store.newest(&filter, STATISTICS)?;
            let mut points = Vec::new();
            // Job and step → commits on which it failed, and on which it passed.
            let mut outcomes: BTreeMap<(String, String), [BTreeSet<String>; 2]> = BTreeMap::new();
            for record in newest.iter().rev() {
                let mut waited = SignedDuration::ZERO;
                for attempt in record.attempt.saturating_sub(2).max(1)..=record.attempt {
                    for job in store.jobs(record.id, attempt)? {
                        let state = &job.state;
                        if let (Some(queued), Some(started)) = (job.queued_at, state.started_at) {
                            waited = waited.max(started.duration_since(queued));
                        }
                        for step in &state.steps {
                            let at = match step.outcome {
                                Some(Conclusion::Failure | Conclusion::TimedOut) => 0,
                                Some(Conclusion::Success) => 1,
                                _ => continue,
                            };
                            let key = (state.name.clone(), step.name.clone());
                            outcomes.entry(key).or_default()[at].insert(record.sha.clone());
                        }
                    }
                }
                let view = run_view(record);
                if matches!(view.state(), State::Success | State::Failure | State::TimedOut) {
                    let took = view.elapsed(record.updated_at);
                    points.push(RunPoint { number: view.number, state: view.state(), took, waited });
                }
            }
            let flaky = outcomes.into_iter().filter_map(|((job, step), [failed, passed])| {
                let commits = failed.intersection(&passed).count();
                (commits > 0).then_some(FlakyStep { job, step, commits, failed: failed.len() })
            });
            let mut flaky: Vec<FlakyStep> = flaky.collect();
            flaky.sort_by_key(|step| std::cmp::Reverse(step.commits));
            flaky.truncate(10);
            Ok(WorkflowStatistics { points, flaky })
        })
        .await
    }

    /// The environments of a repository that have rules, by name.
    pub(super) async fn environments(
        &self,
        repository: &RepositoryName,
    ) -> Result<Vec<(String, EnvironmentRules)>, StoreError> {
        let repository = repository.clone();
        self.read(move |store| store.environments(&repository)).await
    }

    /// Who did what, newest first.
    pub(super) async fn audit_log(&self, skip: usize, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(move |store| store.audit_log(skip, limit)).await
    }
}

fn delivery_view(store: &Store, delivery: DeliveryRecord) -> Result<DeliveryView, StoreError> {
    let (state, outcome, started) = match delivery.state {
        DeliveryState::Accepted => {
            let outcome = delivery.trouble.map(|trouble| format!("is tried again: {trouble}"));
            (State::Running, outcome.unwrap_or_else(|| "accepted".to_owned()), Vec::new())
        }
        DeliveryState::Handled { runs, note } => (State::Success, note, runs),
        DeliveryState::Failed { reason } => (State::Failure, reason, Vec::new()),
    };
    let mut runs = Vec::new();
    for run in started {
        runs.extend(store.run(run)?.map(|record| (record.repository, run)));
    }
    let repository = delivery.source.split_once('/').map_or("", |(_, repository)| repository).to_owned();
    Ok(DeliveryView {
        number: delivery.number,
        id: delivery.id,
        source: delivery.source,
        event: delivery.event,
        repository,
        at: delivery.received_at,
        state,
        outcome,
        runs,
        headers: delivery.headers.into_iter().collect(),
        body: delivery.body,
        replay_of: delivery.replay_of,
    })
}

fn run_view(record: &RunRecord) -> RunView {
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

fn job_view(record: &JobRecord, needs: &needs::Needs) -> JobView {
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

fn input_view(name: &str, input: &workflow::model::Input) -> InputView {
    InputView {
        name: name.to_owned(),
        description: input.description.clone().unwrap_or_default(),
        kind: match input.kind {
            workflow::model::InputKind::String | workflow::model::InputKind::Environment => InputKind::Text,
            workflow::model::InputKind::Number => InputKind::Number,
            workflow::model::InputKind::Boolean => InputKind::Boolean,
            workflow::model::InputKind::Choice => InputKind::Choice(input.options.clone()),
        },
        required: input.required,
        default: input.default.as_ref().and_then(plain_text).unwrap_or_default(),
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

/// A value without expressions as the text of a form field.
pub(super) fn plain_text(token: &workflow::token::Token) -> Option<String> {
    match token {
        workflow::token::Token::String(text) => Some(text.clone()),
        workflow::token::Token::Bool(value) => Some(value.to_string()),
        workflow::token::Token::Number(value) => Some(value.to_string()),
        _ => None,
    }
}
