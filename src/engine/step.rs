//! One step: an input, what it does to the state, and the effects in their order.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::input::{Answer, Effect, Input, Settings, Update};
use super::record::{Change, HostRecord, JobRecord, RunRecord};
use super::state::{ActiveJob, ActiveRun, Engine, HostMemory, Timer, environment_key};
use crate::id::{HostName, JobId, RunId};
use crate::queue::{HostFacts, LabelMap};
use crate::run::report::Report;
use crate::run::{Run, RunEffect, RunInput, RunSpec, RunStatus};

/// How long the start of a run is remembered by its key: longer than any forge repeats a delivery.
pub(super) const DELIVERY_MEMORY: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Beyond this many the oldest deliveries are forgotten early, so that memory stays bounded.
pub(super) const DELIVERIES_REMEMBERED: usize = 200_000;

/// What one step has gathered so far.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Timestamp,
    pub(super) changes: Vec<Change>,
    pub(super) effects: Vec<Effect>,
    pub(super) answer: Answer,
    /// What runs still have to be told in this step.
    pub(super) todo: VecDeque<(RunId, RunInput)>,
    /// Runs whose record is to be written, and whether their graph is too.
    pub(super) dirty_runs: BTreeSet<RunId>,
    pub(super) dirty_graphs: BTreeSet<RunId>,
    pub(super) dirty_jobs: BTreeSet<(RunId, JobId)>,
    pub(super) dirty_hosts: BTreeSet<HostName>,
    pub(super) finished: Vec<RunId>,
    /// Jobs that ended in this step; their last record is still to be written.
    pub(super) ended: HashMap<JobId, Attempts>,
    /// Jobs whose runner is known to have stopped.
    pub(super) confirmed: HashSet<JobId>,
}

/// What the last record of a job that ended says of its way there.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) queued_at: Timestamp,
    pub(super) tries: u32,
    pub(super) lost_on: Vec<HostName>,
}

/// What is compared at the end of a step with how it was at the beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Before {
    last_run: u64,
    last_job: u64,
    waiting: usize,
    running: usize,
    paused: bool,
}

impl Turn {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            changes: Vec::new(),
            effects: Vec::new(),
            answer: Answer::Done,
            todo: VecDeque::new(),
            dirty_runs: BTreeSet::new(),
            dirty_graphs: BTreeSet::new(),
            dirty_jobs: BTreeSet::new(),
            dirty_hosts: BTreeSet::new(),
            finished: Vec::new(),
            ended: HashMap::new(),
            confirmed: HashSet::new(),
        }
    }

    pub(super) fn tell(&mut self, run: RunId, input: RunInput) {
        self.todo.push_back((run, input));
    }
}

impl Engine {
    /// Takes one input and says what must be done. `now` never has to be exact; it may also jump.
    #[must_use]
    pub fn step(&mut self, now: Timestamp, input: Input) -> Vec<Effect> {
        let mut turn = Turn::new(now);
        let before = self.before();
        self.take(&mut turn, input);
        self.settle(&mut turn);
        self.finish_turn(turn, &before)
    }

    pub(super) fn before(&self) -> Before {
        Before {
            last_run: self.last_run,
            last_job: self.last_job,
            waiting: self.queue.waiting_count(),
            running: self.queue.running_count(),
            paused: self.queue.is_paused(),
        }
    }

    fn take(&mut self, turn: &mut Turn, input: Input) {
        match input {
            Input::StartRun { key, held, spec } => self.start_run(turn, key, held, spec),
            Input::ReleaseRun { run, actor } => self.release_run(turn, run, &actor),
            Input::Report { job, host, report } => self.report(turn, job, &host, report),
            Input::DispatchFailed { job, host, reason } => self.dispatch_failed(turn, job, &host, &reason),
            Input::HostUp(facts) => self.host_up(turn, facts),
            Input::HostDown { host } => {
                self.queue.host_down(&host);
                turn.dirty_hosts.insert(host);
            }
            Input::HostRemoved { host } => self.host_removed(turn, &host),
            Input::Drain { host, draining } => self.change_host(turn, &host, |record| record.draining = draining),
            Input::PauseHost { host, paused } => self.change_host(turn, &host, |record| record.paused = paused),
            Input::QuietHours { host, until } => {
                self.queue.set_hours(&host, until);
                self.timers.extend(until.map(|until| (until, Timer::Wake)));
                turn.dirty_hosts.insert(host);
            }
            Input::PauseRun { run, paused } => self.pause_run(turn, run, paused),
            Input::PauseQueue { paused } => {
                self.queue.set_paused(paused);
                turn.changes.push(Change::QueuePaused(paused));
            }
            Input::Cancel { run, force, actor } => self.cancel_run(turn, run, force, &actor),
            Input::CancelJob { job, force, actor } => match self.jobs.get(&job) {
                Some(active) => {
                    let reason = format!("cancelled by {actor}");
                    turn.tell(active.run, RunInput::CancelJob { job, force, reason });
                }
                None => turn.answer = Answer::Unknown(format!("job {job} is not running or waiting")),
            },
            Input::ReleaseJob { job } => self.release_job(turn, job),
            Input::Rerun { run, wish } => self.rerun(turn, *run, &wish),
            Input::Review { run, environment, approved, reviewer, bypass, comment } => {
                self.review(turn, run, &environment, approved, reviewer, bypass, comment);
            }
            Input::SetEnvironment { repository, name, rules } => {
                let key = environment_key(&repository, &name);
                match &rules {
                    Some(rules) => self.environments.insert(key, rules.clone()),
                    None => self.environments.remove(&key),
                };
                turn.changes.push(Change::Environment { repository, name, rules });
                self.review_protected(turn);
            }
            Input::Configure(settings) => self.configure(settings),
            Input::Delete { run } => {
                if self.runs.contains_key(&run) {
                    turn.answer = Answer::Refused(format!("run {run} is not over; cancel it first"));
                } else {
                    turn.changes.push(Change::DeleteRun { run });
                    turn.effects.push(Effect::Update(Update::RunDeleted { run }));
                }
            }
            Input::ClockSet { by } => self.clock_set(turn, by),
            Input::Tick => self.tick(turn),
        }
    }

    /// Tells runs what they have to be told and gives jobs to hosts, until nothing is left to do.
    pub(super) fn settle(&mut self, turn: &mut Turn) {
        loop {
            while let Some((run, input)) = turn.todo.pop_front() {
                self.apply(turn, run, input);
            }
            let assignments = self.queue.assign();
            if assignments.is_empty() {
                return;
            }
            for assignment in assignments {
                self.assigned(turn, assignment.job, assignment.host);
            }
        }
    }

    pub(super) fn apply(&mut self, turn: &mut Turn, id: RunId, input: RunInput) {
        let Some(active) = self.runs.get_mut(&id) else { return };
        let Some(run) = active.run.as_mut() else { return };
        // What only touches one job leaves the graph as it is.
        let small = matches!(&input, RunInput::Report { report, .. } if !matches!(report, Report::Finished { .. }))
            || matches!(&input, RunInput::Waiting { .. });
        let last_job = &mut self.last_job;
        let effects = run.apply(turn.now, input, &mut || {
            *last_job += 1;
            JobId(*last_job)
        });
        if !small && !effects.is_empty() || effects.contains(&RunEffect::RunChanged) {
            turn.dirty_graphs.insert(id);
        }
        self.perform(turn, id, effects);
    }

    /// Writes what changed, once each, and puts the effects in order.
    pub(super) fn finish_turn(&mut self, mut turn: Turn, before: &Before) -> Vec<Effect> {
        let mut updates = Vec::new();
        for (run, job) in std::mem::take(&mut turn.dirty_jobs) {
            self.write_job(&mut turn, run, job, &mut updates);
        }
        turn.dirty_runs.extend(turn.dirty_graphs.iter().copied());
        for id in std::mem::take(&mut turn.dirty_runs) {
            let graph = turn.dirty_graphs.contains(&id);
            self.write_run(&mut turn, id, graph, &mut updates);
        }
        for id in std::mem::take(&mut turn.finished) {
            self.forget_run(id);
        }
        for name in std::mem::take(&mut turn.dirty_hosts) {
            if let Some(host) = self.queue.host(&name) {
                updates.push(Update::Host { host });
            }
        }
        let after = self.before();
        if (after.waiting, after.running, after.paused) != (before.waiting, before.running, before.paused) {
            updates.push(Update::Queue { waiting: after.waiting, running: after.running, paused: after.paused });
        }
        if (after.last_run, after.last_job) != (before.last_run, before.last_job) {
            turn.changes.push(Change::Counters { run: after.last_run, job: after.last_job });
        }
        let mut effects = Vec::with_capacity(turn.effects.len() + updates.len() + 3);
        if !turn.changes.is_empty() {
            effects.push(Effect::Persist(turn.changes));
        }
        effects.append(&mut turn.effects);
        let due = self.timers.first().map(|(at, _)| *at);
        if due != self.timer {
            self.timer = due;
            effects.extend(due.map(Effect::SetTimer));
        }
        effects.extend(updates.into_iter().map(Effect::Update));
        effects.push(Effect::Answer(turn.answer));
        effects
    }

    fn write_job(&self, turn: &mut Turn, id: RunId, job: JobId, updates: &mut Vec<Update>) {
        let Some(active) = self.runs.get(&id) else { return };
        let Some(state) = active.run.as_ref().and_then(|run| run.job(job)) else { return };
        let attempts = match (turn.ended.remove(&job), self.jobs.get(&job)) {
            (Some(ended), _) => Some(ended),
            (None, Some(ActiveJob { queued_at, tries, lost_on, .. })) => {
                Some(Attempts { queued_at: *queued_at, tries: *tries, lost_on: lost_on.clone() })
            }
            (None, None) => None,
        };
        let record = JobRecord {
            run: id,
            attempt: active.record.attempt,
            state: state.clone(),
            queued_at: attempts.as_ref().map(|attempts| attempts.queued_at),
            tries: attempts.as_ref().map_or(0, |attempts| attempts.tries),
            lost_on: attempts.map(|attempts| attempts.lost_on).unwrap_or_default(),
        };
        let step = state.steps.iter().filter(|step| step.started_at.is_some()).map(|step| step.number).max();
        updates.push(Update::Job {
            run: id,
            attempt: record.attempt,
            job,
            name: state.name.clone(),
            phase: state.phase,
            conclusion: state.conclusion,
            host: state.host.clone(),
            step,
        });
        turn.changes.push(Change::Job(Box::new(record)));
    }

    fn write_run(&mut self, turn: &mut Turn, id: RunId, graph: bool, updates: &mut Vec<Update>) {
        let Some(active) = self.runs.get_mut(&id) else { return };
        let before = (active.record.status, active.record.conclusion);
        if let Some(run) = &active.run {
            let state = run.state();
            let record = &mut active.record;
            record.status = state.status;
            record.conclusion = state.conclusion;
            record.started_at = state.started_at;
            record.completed_at = state.completed_at;
            if record.title != state.title {
                record.title.clone_from(&state.title);
            }
            if let Some(plan) = run.plan()
                && record.workflow_name != plan.workflow.display_name()
            {
                plan.workflow.display_name().clone_into(&mut record.workflow_name);
            }
            if let Some(reason) = &state.startup_failure
                && !record.messages.contains(reason)
            {
                record.messages.push(reason.clone());
            }
            if graph {
                let state = Box::new(crate::run::RunState {
                    status: state.status,
                    conclusion: state.conclusion,
                    title: state.title.clone(),
                    startup_failure: state.startup_failure.clone(),
                    created_at: state.created_at,
                    started_at: state.started_at,
                    completed_at: state.completed_at,
                    cancel: state.cancel,
                    scopes: state.scopes.clone(),
                    jobs: indexmap::IndexMap::new(),
                });
                turn.changes.push(Change::Graph { run: id, attempt: record.attempt, state });
            }
        }
        active.record.updated_at = turn.now;
        let record = &active.record;
        if before != (record.status, record.conclusion) || record.updated_at == record.created_at {
            updates.push(Update::Run {
                run: id,
                attempt: record.attempt,
                repository: record.repository.clone(),
                workflow_path: record.workflow_path.clone(),
                status: record.status,
                conclusion: record.conclusion,
            });
        }
        turn.changes.push(Change::Run(Box::new(record.clone())));
    }

    fn start_run(&mut self, turn: &mut Turn, key: Option<String>, held: bool, mut spec: Box<RunSpec>) {
        if let Some(key) = &key
            && let Some((run, _)) = self.deliveries.get(key)
        {
            let record = self.runs.get(run).map(|active| &active.record);
            turn.answer = Answer::Run {
                run: *run,
                run_number: record.map_or(0, |record| record.run_number),
                attempt: record.map_or(1, |record| record.attempt),
                repeated: true,
            };
            return;
        }
        self.last_run += 1;
        let id = RunId(self.last_run);
        let number = self.run_numbers.entry((spec.event.repository.clone(), spec.workflow_path.clone())).or_default();
        *number += 1;
        spec.run = id;
        spec.run_number = *number;
        spec.attempt = 1;
        turn.changes.push(Change::RunNumber {
            repository: spec.event.repository.clone(),
            workflow_path: spec.workflow_path.clone(),
            number: *number,
        });
        turn.answer = Answer::Run { run: id, run_number: *number, attempt: 1, repeated: false };
        if let Some(key) = &key {
            self.deliveries.insert(key.clone(), (id, turn.now));
            self.delivery_ages.insert((turn.now, key.clone()));
            turn.changes.push(Change::Delivery { key: key.clone(), run: id, at: turn.now });
            self.timers.insert((turn.now.saturating_add(DELIVERY_MEMORY).unwrap_or(turn.now), Timer::ForgetDeliveries));
            self.forget_deliveries(turn);
        }
        let mut record = first_record(turn.now, &spec, key);
        record.held = held;
        if held {
            turn.changes.push(Change::Spec(Arc::new((*spec).clone())));
            turn.dirty_runs.insert(id);
            let active = ActiveRun { run: None, held: Some(spec), record, jobs: BTreeSet::new() };
            self.runs.insert(id, active);
        } else {
            self.begin(turn, *spec, record);
        }
    }

    fn begin(&mut self, turn: &mut Turn, spec: RunSpec, record: RunRecord) {
        let id = spec.run;
        let last_job = &mut self.last_job;
        let (run, effects) = Run::start(turn.now, spec, &self.files, &mut || {
            *last_job += 1;
            JobId(*last_job)
        });
        self.adopt(turn, id, run, record, effects);
    }

    /// Takes in a run that was just made: a first or a later attempt.
    fn adopt(&mut self, turn: &mut Turn, id: RunId, run: Run, record: RunRecord, effects: Vec<RunEffect>) {
        turn.changes.push(Change::Spec(Arc::clone(run.spec())));
        turn.dirty_jobs.extend(run.state().jobs.keys().map(|job| (id, *job)));
        turn.dirty_graphs.insert(id);
        self.at(turn.now, i64::from(self.settings.run_minutes) * 60, Timer::RunLimit(id));
        self.runs.insert(id, ActiveRun { run: Some(run), held: None, record, jobs: BTreeSet::new() });
        self.perform(turn, id, effects);
    }

    fn release_run(&mut self, turn: &mut Turn, run: RunId, actor: &str) {
        let Some(active) = self.runs.get_mut(&run) else {
            turn.answer = Answer::Unknown(format!("run {run} is not waiting for approval"));
            return;
        };
        let Some(spec) = active.held.take() else {
            turn.answer = Answer::Refused(format!("run {run} is not held"));
            return;
        };
        let mut record = active.record.clone();
        record.held = false;
        record.messages.push(format!("approved by {actor}"));
        self.begin(turn, *spec, record);
    }

    fn rerun(&mut self, turn: &mut Turn, stored: super::record::StoredRun, wish: &crate::run::Rerun) {
        let id = stored.record.id;
        if self.runs.contains_key(&id) {
            turn.answer = Answer::Refused(format!("run {id} is not over"));
            return;
        }
        let Some(state) = stored.whole_state() else {
            turn.answer = Answer::Refused(format!("run {id} never began"));
            return;
        };
        let before = match Run::restore(stored.spec, state, &self.files) {
            Ok(run) => run,
            Err(reason) => {
                turn.answer = Answer::Refused(format!("the workflow of run {id} cannot be read any more: {reason}"));
                return;
            }
        };
        let last_job = &mut self.last_job;
        let made = before.rerun(turn.now, wish, &self.files, &mut || {
            *last_job += 1;
            JobId(*last_job)
        });
        match made {
            Ok((run, effects)) => {
                let mut record = stored.record;
                record.attempt = run.spec().attempt;
                record.triggering_actor.clone_from(&wish.actor);
                record.attempted_at = turn.now;
                record.conclusion = None;
                record.completed_at = None;
                record.messages.clear();
                record.claims.clear();
                record.paused = false;
                turn.answer =
                    Answer::Run { run: id, run_number: record.run_number, attempt: record.attempt, repeated: false };
                self.adopt(turn, id, run, record, effects);
            }
            Err(reason) => turn.answer = Answer::Refused(reason),
        }
    }

    fn cancel_run(&mut self, turn: &mut Turn, run: RunId, force: bool, actor: &str) {
        let Some(active) = self.runs.get_mut(&run) else {
            turn.answer = Answer::Unknown(format!("run {run} is not running or waiting"));
            return;
        };
        let message = format!("cancelled by {actor}");
        if !active.record.messages.contains(&message) {
            active.record.messages.push(message);
        }
        turn.dirty_runs.insert(run);
        if active.run.is_some() {
            turn.tell(run, RunInput::Cancel { force });
        } else {
            active.held = None;
            active.record.held = false;
            active.record.status = RunStatus::Completed;
            active.record.conclusion = Some(crate::run::Conclusion::Cancelled);
            active.record.completed_at = Some(turn.now);
            turn.finished.push(run);
        }
    }

    fn release_job(&mut self, turn: &mut Turn, job: JobId) {
        let Some(active) = self.jobs.get(&job) else {
            turn.answer = Answer::Unknown(format!("job {job} is not running or waiting"));
            return;
        };
        let state = self.runs.get(&active.run).and_then(|run| run.run.as_ref()).and_then(|run| run.job(job));
        if state.is_some_and(|state| state.held.is_some()) {
            turn.tell(active.run, RunInput::Release { job });
        } else {
            turn.answer = Answer::Refused(format!("job {job} is not held"));
        }
    }

    fn configure(&mut self, settings: Settings) {
        let labels = settings.labels.iter().map(|(label, wanted)| (label.clone(), wanted.clone()));
        self.queue.set_label_map(LabelMap::new(labels));
        self.queue.set_limit(settings.jobs);
        self.settings = settings;
    }

    fn host_up(&mut self, turn: &mut Turn, facts: HostFacts) {
        let name = facts.name.clone();
        let memory = self.hosts.entry(name.clone()).or_insert_with(|| HostMemory::new(&name));
        memory.facts = Some(facts.clone());
        memory.failures = 0;
        let (draining, paused) = (memory.record.draining, memory.record.paused);
        self.queue.host_up(facts);
        self.queue.set_draining(&name, draining);
        self.queue.set_host_paused(&name, paused);
        turn.dirty_hosts.insert(name);
    }

    fn host_removed(&mut self, turn: &mut Turn, host: &HostName) {
        self.queue.host_removed(host);
        if self.hosts.remove(host).is_some() {
            turn.changes.push(Change::ForgetHost { name: host.clone() });
            turn.effects.push(Effect::Update(Update::HostRemoved { host: host.clone() }));
        }
    }

    fn change_host(&mut self, turn: &mut Turn, host: &HostName, change: impl FnOnce(&mut HostRecord)) {
        let Some(memory) = self.hosts.get_mut(host) else {
            turn.answer = Answer::Unknown(format!("there is no host {host}"));
            return;
        };
        change(&mut memory.record);
        self.queue.set_draining(host, memory.record.draining);
        self.queue.set_host_paused(host, memory.record.paused);
        turn.changes.push(Change::Host(memory.record.clone()));
        turn.dirty_hosts.insert(host.clone());
    }

    fn forget_run(&mut self, id: RunId) {
        if let Some(active) = self.runs.remove(&id) {
            for job in active.jobs {
                self.jobs.remove(&job);
            }
        }
    }
}

impl HostMemory {
    pub(super) fn new(name: &HostName) -> Self {
        Self { record: HostRecord { name: name.clone(), draining: false, paused: false }, facts: None, failures: 0 }
    }
}

fn first_record(now: Timestamp, spec: &RunSpec, key: Option<String>) -> RunRecord {
    RunRecord {
        id: spec.run,
        run_number: spec.run_number,
        attempt: spec.attempt,
        repository: spec.event.repository.clone(),
        workflow_name: spec.workflow_path.clone(),
        workflow_path: spec.workflow_path.clone(),
        title: String::new(),
        event: spec.event.name.clone(),
        git_ref: spec.event.git_ref.clone(),
        sha: spec.event.sha.clone(),
        actor: spec.event.actor.clone(),
        triggering_actor: spec.triggering_actor.clone(),
        status: RunStatus::Queued,
        held: false,
        conclusion: None,
        created_at: now,
        attempted_at: now,
        started_at: None,
        updated_at: now,
        completed_at: None,
        delivery: key,
        messages: Vec::new(),
        paused: false,
        claims: Vec::new(),
        reviews: Vec::new(),
    }
}
