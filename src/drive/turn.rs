//! The loop itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::handle::{DriveError, Request};
use super::{Assignment, StartKind};
use crate::clock::{Clock, Jumps};
use crate::engine::{Answer, Change, Effect, Engine, Input, Summary, Update};
use crate::id::{HostName, JobId, RunId};
use crate::run::order::Order;
use crate::run::{Cancel, JobPhase, Told};
use crate::store::Store;

/// Inputs taken in one turn at most.
const BATCH: usize = 256;
/// How long to wait before writing again after the disk was full.
const RETRY: Duration = Duration::from_secs(1);
/// The longest sleep before the clock is looked at again: it may have jumped.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

pub(super) struct Drive {
    engine: Engine,
    store: Store,
    jumps: Jumps,
    clock: Clock,
    requests: mpsc::Receiver<Request>,
    assignments: mpsc::Sender<Assignment>,
    /// Assignments the executor has not taken yet: the loop never waits for it.
    outbox: std::collections::VecDeque<Assignment>,
    updates: broadcast::Sender<Update>,
    summary: watch::Sender<Summary>,
    trouble: watch::Sender<Option<String>>,
    stop: CancellationToken,
    told: HashMap<JobId, watch::Sender<Told>>,
    timer: Option<Timestamp>,
}

/// What one turn has to do once its changes are durable.
#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    effects: Vec<Effect>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

impl Drive {
    #[expect(clippy::too_many_arguments, reason = "the ends of every channel, made in one place")]
    pub(super) fn new(
        engine: Engine,
        store: Store,
        clock: Clock,
        requests: mpsc::Receiver<Request>,
        assignments: mpsc::Sender<Assignment>,
        updates: broadcast::Sender<Update>,
        summary: watch::Sender<Summary>,
        trouble: watch::Sender<Option<String>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            engine,
            store,
            jumps: Jumps::new(clock.clone()),
            clock,
            requests,
            assignments,
            outbox: std::collections::VecDeque::new(),
            updates,
            summary,
            trouble,
            stop,
            told: HashMap::new(),
            timer: None,
        }
    }

    pub(super) async fn run(mut self, restored: Vec<Effect>) -> Result<(), DriveError> {
        let mut plan = Plan::default();
        plan.add(restored, None);
        self.act(plan).await?;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let sleep = self.until_timer();
            let assignments = self.assignments.clone();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                permit = assignments.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(assignment) = self.outbox.pop_front() {
                        permit.send(assignment);
                    }
                    continue;
                }
                count = self.requests.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(sleep), if self.timer.is_some() => {}
            }
            let mut plan = Plan::default();
            if let Some(by) = self.jumps.look() {
                plan.add(self.engine.step(self.clock.now(), Input::ClockSet { by }), None);
            }
            for request in batch.drain(..) {
                self.take(&mut plan, request)?;
            }
            let now = self.clock.now();
            if self.timer.is_some_and(|at| at <= now) {
                self.timer = None;
                let effects = self.engine.step(now, Input::Tick);
                plan.add(effects, None);
            }
            self.act(plan).await?;
        }
    }

    fn until_timer(&self) -> Duration {
        let now = self.clock.now();
        let left =
            self.timer.map_or(LONGEST_SLEEP, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        left.min(LONGEST_SLEEP)
    }

    fn take(&mut self, plan: &mut Plan, request: Request) -> Result<(), DriveError> {
        let now = self.clock.now();
        match request {
            Request::Input { input, answer } => plan.add(self.engine.step(now, *input), answer),
            Request::Read(look) => look(&self.engine),
            Request::Rerun { run, wish, answer } => {
                // A run that ended in this very turn is not written yet: it is active until then.
                let refusal = if plan.touches(run) || self.engine.record(run).is_some() {
                    Some(Answer::Refused(format!("run {run} is not over")))
                } else {
                    None
                };
                let stored = if refusal.is_none() { self.store.stored_run(run)? } else { None };
                match (refusal, stored) {
                    (Some(refusal), _) => plan.answers.push((answer, refusal)),
                    (None, None) => plan.answers.push((answer, Answer::Unknown(format!("there is no run {run}")))),
                    (None, Some(stored)) => {
                        let input = Input::Rerun { run: Box::new(stored), wish };
                        plan.add(self.engine.step(now, input), Some(answer));
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the changes durable, then acts, then answers.
    async fn act(&mut self, plan: Plan) -> Result<(), DriveError> {
        let Plan { changes, effects, answers } = plan;
        let deleted: Vec<RunId> = changes
            .iter()
            .filter_map(|change| if let Change::DeleteRun { run } = change { Some(*run) } else { None })
            .collect();
        let ended: Vec<JobId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Job(record) if record.state.phase == JobPhase::Completed => Some(record.state.id),
                Change::Stopped { job } => Some(*job),
                _ => None,
            })
            .collect();
        if !changes.is_empty() {
            self.persist(&changes).await?;
        }
        for effect in effects {
            self.perform(effect);
        }
        for job in ended {
            self.told.remove(&job);
        }
        for run in deleted {
            if let Err(error) = self.store.logs().remove_run(run) {
                log::warn!("{error}");
            }
        }
        for (sender, answer) in answers {
            // Who asked may have gone.
            let _ = sender.send(answer);
        }
        let summary = self.engine.summary();
        self.summary.send_if_modified(|shown| {
            let changed = *shown != summary;
            if changed {
                *shown = summary;
            }
            changed
        });
        Ok(())
    }

    /// Writes until it is written: the engine has decided, and nothing may happen before that is durable. Steps that
    /// run go on meanwhile; nothing new is accepted.
    async fn persist(&self, changes: &[Change]) -> Result<(), DriveError> {
        loop {
            match self.store.commit(changes).await {
                Ok(()) => {
                    self.trouble.send_if_modified(|trouble| trouble.take().is_some());
                    return Ok(());
                }
                Err(error) if error.is_transient() => {
                    let text = error.to_string();
                    self.trouble.send_if_modified(|trouble| {
                        let changed = trouble.as_deref() != Some(text.as_str());
                        if changed {
                            *trouble = Some(text);
                        }
                        changed
                    });
                    tokio::select! {
                        () = self.stop.cancelled() => return Err(error.into()),
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(_) | Effect::Answer(_) => {}
            Effect::Dispatch { job, host, order } => self.assign(job, host, order, StartKind::Start),
            Effect::Attach { job, host, order } => self.assign(job, host, order, StartKind::Attach),
            Effect::CancelJob { job, force, .. } => {
                let wanted = if force { Cancel::Forced } else { Cancel::Requested };
                self.tell(job, |told| told.cancel = told.cancel.max(wanted));
            }
            Effect::ReleaseJob { job } => self.tell(job, |told| told.release = true),
            Effect::SetTimer(at) => self.timer = Some(at),
            // Nobody may be listening.
            Effect::Update(update) => drop(self.updates.send(update)),
        }
    }

    fn assign(&mut self, job: JobId, host: HostName, order: Box<Order>, start: StartKind) {
        let (sender, told) = watch::channel(Told::default());
        self.told.insert(job, sender);
        self.outbox.push_back(Assignment { job, host, order: Arc::from(order), start, told });
    }

    fn tell(&self, job: JobId, change: impl FnOnce(&mut Told)) {
        let Some(sender) = self.told.get(&job) else { return };
        sender.send_if_modified(|told| {
            let before = *told;
            change(told);
            before != *told
        });
    }
}

impl Plan {
    fn add(&mut self, effects: Vec<Effect>, sender: Option<oneshot::Sender<Answer>>) {
        let mut answer = Answer::Done;
        for effect in effects {
            match effect {
                Effect::Persist(mut changes) => self.changes.append(&mut changes),
                Effect::Answer(given) => answer = given,
                other => self.effects.push(other),
            }
        }
        self.answers.extend(sender.map(|sender| (sender, answer)));
    }

    fn touches(&self, run: RunId) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Run(record) if record.id == run))
    }
}
