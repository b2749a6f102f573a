//! The loop itself.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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
use crate::store::{Pending, Store, StoreError};

/// Inputs taken in one turn at most.
const BATCH: usize = 256;
/// Turns whose changes are being written at most; what comes meanwhile gathers for the next.
const FLYING: usize = 32;
/// Every how many of them say how the engine was.
const SUMMED: usize = 16;
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
    outbox: VecDeque<Assignment>,
    updates: broadcast::Sender<Update>,
    summary: watch::Sender<Summary>,
    trouble: watch::Sender<Option<String>>,
    stop: CancellationToken,
    told: HashMap<JobId, watch::Sender<Told>>,
    timer: Option<Timestamp>,
    /// Turns that were decided and are being written, in their order.
    flying: VecDeque<Flying>,
    /// How many were begun since the last summary.
    unsummed: usize,
}

/// What one turn has to do once its changes are durable.
#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    effects: Vec<Effect>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

/// A turn that was decided.
struct Flying {
    plan: Plan,
    /// Ends when its changes are durable; `None` when there are none.
    written: Option<Pending>,
    /// How the engine was after it. Not of every turn, since it takes a while where there are many hosts.
    summary: Option<Summary>,
}

impl Future for Flying {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.written {
            Some(written) => Pin::new(written).poll(context),
            None => Poll::Ready(Ok(())),
        }
    }
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
            outbox: VecDeque::new(),
            updates,
            summary,
            trouble,
            stop,
            told: HashMap::new(),
            timer: None,
            flying: VecDeque::new(),
            unsummed: 0,
        }
    }

    pub(super) async fn run(mut self, restored: Vec<Effect>) -> Result<(), DriveError> {
        let mut plan = Plan::default();
        self.add(&mut plan, restored, None);
        self.launch(plan).await?;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let sleep = self.until_timer();
            let assignments = self.assignments.clone();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.land_all().await,
                outcome = landing(&mut self.flying) => {
                    self.land(outcome).await?;
                    continue;
                }
                permit = assignments.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { return self.land_all().await };
                    if let Some(assignment) = self.outbox.pop_front() {
                        permit.send(assignment);
                    }
                    continue;
                }
                count = self.requests.recv_many(&mut batch, BATCH), if self.flying.len() < FLYING => {
                    if count == 0 {
                        return self.land_all().await;
                    }
                }
                () = tokio::time::sleep(sleep), if self.timer.is_some() && self.flying.len() < FLYING => {}
            }
            let mut plan = Plan::default();
            if let Some(by) = self.jumps.look() {
                let effects = self.engine.step(self.clock.now(), Input::ClockSet { by });
                self.add(&mut plan, effects, None);
            }
            for request in batch.drain(..) {
                self.take(&mut plan, request)?;
            }
            let now = self.clock.now();
            if self.timer.is_some_and(|at| at <= now) {
                self.timer = None;
                let effects = self.engine.step(now, Input::Tick);
                self.add(&mut plan, effects, None);
            }
            self.launch(plan).await?;
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
            Request::Input { input, answer } => {
                let effects = self.engine.step(now, *input);
                self.add(plan, effects, answer);
            }
            Request::Read(look) => look(&self.engine),
            Request::Rerun { run, wish, answer } => {
                // A run that ended just now is not written yet: it is active until then. One that is being deleted is gone.
                let under_way = || self.flying.iter().map(|flying| &flying.plan).chain([&*plan]);
                let refusal = if under_way().any(|plan| plan.deletes(run)) {
                    Some(Answer::Unknown(format!("there is no run {run}")))
                } else if under_way().any(|plan| plan.touches(run)) || self.engine.record(run).is_some() {
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
                        let effects = self.engine.step(now, input);
                        self.add(plan, effects, Some(answer));
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, plan: &mut Plan, effects: Vec<Effect>, sender: Option<oneshot::Sender<Answer>>) {
        let mut answer = Answer::Done;
        for effect in effects {
            match effect {
                Effect::Persist(mut changes) => plan.changes.append(&mut changes),
                Effect::Answer(given) => answer = given,
                Effect::SetTimer(at) => self.timer = Some(at),
                other => plan.effects.push(other),
            }
        }
        plan.answers.extend(sender.map(|sender| (sender, answer)));
    }

    /// Begins to make the changes of a turn durable. The next turn is decided meanwhile; acting and answering waits.
    async fn launch(&mut self, plan: Plan) -> Result<(), DriveError> {
        if Store::must_wait(&plan.changes, self.flying.iter().flat_map(|flying| &flying.plan.changes)) {
            self.land_all().await?;
        }
        let written = if plan.changes.is_empty() { None } else { Some(self.store.begin_commit(&plan.changes)?) };
        self.unsummed += 1;
        let summary = (self.unsummed >= SUMMED).then(|| self.engine.summary());
        if summary.is_some() {
            self.unsummed = 0;
        }
        self.flying.push_back(Flying { plan, written, summary });
        Ok(())
    }

    /// Waits until all that was decided is durable and done.
    async fn land_all(&mut self) -> Result<(), DriveError> {
        while let Some(first) = self.flying.front_mut() {
            let outcome = first.await;
            self.land(outcome).await?;
        }
        Ok(())
    }

    /// Takes the outcome of the first turn: acts and answers.
    async fn land(&mut self, outcome: Result<(), StoreError>) -> Result<(), DriveError> {
        match outcome {
            Ok(()) => {
                if let Some(first) = self.flying.pop_front() {
                    self.store.committed(&first.plan.changes);
                    self.act(first);
                }
                Ok(())
            }
            Err(error) if error.is_transient() => self.persist(error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Acts, then answers: the changes of the turn are durable.
    fn act(&mut self, Flying { plan, summary, .. }: Flying) {
        let Plan { changes, effects, answers } = plan;
        let deleted: Vec<RunId> = changes
            .iter()
            .filter_map(|change| if let Change::DeleteRun { run } = change { Some(*run) } else { None })
            .collect();
        for effect in effects {
            self.perform(effect);
        }
        for change in &changes {
            match change {
                Change::Job(record) if record.state.phase == JobPhase::Completed => {
                    self.told.remove(&record.state.id);
                }
                Change::Stopped { job } => {
                    self.told.remove(job);
                }
                _ => {}
            }
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
        // With nothing under way, what the engine is now is durable.
        let last = self.flying.is_empty();
        if last {
            self.unsummed = 0;
        }
        let summary = if last { Some(self.engine.summary()) } else { summary };
        self.summary.send_if_modified(|shown| {
            let summary = summary.filter(|summary| shown != summary);
            let changed = summary.is_some();
            if let Some(summary) = summary {
                *shown = summary;
            }
            changed
        });
    }

    /// Writes until it is written: the engine has decided, and nothing may happen before that is durable. Steps that
    /// run go on meanwhile; nothing new is accepted.
    async fn persist(&mut self, mut error: StoreError) -> Result<(), DriveError> {
        // Those after the one that failed were not written either; all become one commit.
        for flying in self.flying.iter_mut().skip(1) {
            drop(flying.await);
        }
        let flown: Vec<Flying> = self.flying.drain(..).collect();
        let changes: Vec<Change> = flown.iter().flat_map(|flying| flying.plan.changes.iter().cloned()).collect();
        loop {
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
            match self.store.commit(&changes).await {
                Ok(()) => break,
                Err(next) if next.is_transient() => error = next,
                Err(next) => return Err(next.into()),
            }
        }
        self.store.begin_anew();
        self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        for flying in flown {
            self.act(flying);
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            // They were taken out when it was decided.
            Effect::Persist(_) | Effect::Answer(_) | Effect::SetTimer(_) => {}
            Effect::Dispatch { job, host, order } => self.assign(job, host, order, StartKind::Start),
            Effect::Attach { job, host, order } => self.assign(job, host, order, StartKind::Attach),
            Effect::CancelJob { job, force, .. } => {
                let wanted = if force { Cancel::Forced } else { Cancel::Requested };
                self.tell(job, |told| told.cancel = told.cancel.max(wanted));
            }
            Effect::ReleaseJob { job } => self.tell(job, |told| told.release = true),
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

/// The outcome of the first turn, when it is there; never when there is none.
async fn landing(flying: &mut VecDeque<Flying>) -> Result<(), StoreError> {
    match flying.front_mut() {
        Some(first) => first.await,
        None => std::future::pending().await,
    }
}

impl Plan {
    fn deletes(&self, run: RunId) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::DeleteRun { run: deleted } if *deleted == run))
    }

    fn touches(&self, run: RunId) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Run(record) if record.id == run))
    }
}
