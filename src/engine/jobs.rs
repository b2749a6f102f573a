//! The way of a job: protection rules, its concurrency group, the queue, a host, its end.

use jiff::{SignedDuration, Timestamp};

use super::input::{Answer, Effect};
use super::protection::{self, Verdict};
use super::record::{Change, GroupClaim, Review, StoppingRecord};
use super::state::{ActiveJob, Engine, Stage, Timer, environment_key};
use super::step::{Attempts, Turn};
use crate::id::{HostName, JobId, RunId};
use crate::queue::{Claim, GroupKey, GroupPolicy, Holder, Request, device_host};
use crate::run::report::{JobResult, Report, StepKind};
use crate::run::{Cancel, Conclusion, Concurrency, ConcurrencyQueue, PendingJob, RunEffect, RunInput};

/// What a runner gets beyond the time a job may take before the engine ends it itself.
const JOB_SLACK_SECONDS: i64 = 30 * 60;
/// The same after a cancel, and after a forced one.
const CANCEL_SLACK_SECONDS: i64 = 2 * 60;

impl Engine {
    /// Does what a run asks for.
    pub(super) fn perform(&mut self, turn: &mut Turn, id: RunId, effects: Vec<RunEffect>) {
        for effect in effects {
            match effect {
                RunEffect::Admit { job, concurrency } => self.admit(turn, id, job, &concurrency),
                RunEffect::Release { job } => self.give_up_group(turn, id, job.map_or(Holder::Run(id), Holder::Job)),
                RunEffect::Enqueue(pending) => self.enqueue(turn, id, pending, turn.now),
                RunEffect::CancelJob { job, force } => self.stop_job(turn, job, force),
                RunEffect::ReleaseJob(job) => turn.effects.push(Effect::ReleaseJob { job }),
                RunEffect::JobChanged(job) => {
                    turn.dirty_jobs.insert((id, job));
                    let ended = |active: &super::state::ActiveRun| {
                        active.run.as_ref().and_then(|run| run.job(job)).is_some_and(|job| job.conclusion.is_some())
                    };
                    if self.runs.get(&id).is_some_and(ended) {
                        self.end_job(turn, job);
                    }
                }
                RunEffect::RunChanged => {
                    turn.dirty_runs.insert(id);
                }
                RunEffect::Finished(_) => self.end_run(turn, id),
            }
        }
    }

    fn end_run(&mut self, turn: &mut Turn, id: RunId) {
        let Some(active) = self.runs.get(&id) else { return };
        let jobs: Vec<JobId> = active.jobs.iter().copied().collect();
        for job in jobs {
            self.end_job(turn, job);
        }
        self.give_up_group(turn, id, Holder::Run(id));
        turn.dirty_graphs.insert(id);
        turn.finished.push(id);
    }

    /// Frees what a job that has ended held.
    fn end_job(&mut self, turn: &mut Turn, job: JobId) {
        let Some(active) = self.jobs.get(&job) else { return };
        let run = active.run;
        self.give_up_group(turn, run, Holder::Job(job));
        let Some(active) = self.jobs.remove(&job) else { return };
        self.queue.withdraw(job);
        if let Stage::Assigned { host } = &active.stage {
            if active.cancel == Cancel::Forced && !turn.confirmed.contains(&job) {
                self.stopping.insert(job, host.clone());
                let order = self.runs.get(&run).and_then(|active| active.run.as_ref()).and_then(|run| run.order(job));
                let weight = self.weight(active.pending.as_ref());
                let record = order.map(|order| StoppingRecord { host: host.clone(), order, weight });
                turn.changes.extend(record.map(|record| Change::Stopping(Box::new(record))));
            } else {
                self.queue.release(job);
                turn.dirty_hosts.insert(host.clone());
            }
        }
        if let Some(run) = self.runs.get_mut(&run) {
            run.jobs.remove(&job);
        }
        let ActiveJob { queued_at, tries, lost_on, .. } = active;
        turn.ended.insert(job, Attempts { queued_at, tries, lost_on });
    }

    // Concurrency groups.

    fn admit(&mut self, turn: &mut Turn, id: RunId, call: Option<JobId>, concurrency: &Concurrency) {
        let Some(active) = self.runs.get_mut(&id) else { return };
        let key = GroupKey::new(&active.record.repository, &concurrency.group);
        let holder = if let Some(job) = call {
            active.jobs.insert(job);
            self.jobs.entry(job).or_insert_with(|| ActiveJob {
                run: id,
                pending: None,
                stage: Stage::Call,
                queued_at: turn.now,
                stage_since: turn.now,
                tries: 0,
                lost_on: Vec::new(),
                cancel: Cancel::No,
                group: Some(key.clone()),
            });
            Holder::Job(job)
        } else {
            Holder::Run(id)
        };
        if self.claim(turn, id, holder, &key, concurrency) {
            turn.tell(id, RunInput::Admitted { job: call });
        }
    }

    /// Asks for a group. True when it is held now.
    fn claim(&mut self, turn: &mut Turn, id: RunId, holder: Holder, key: &GroupKey, concurrency: &Concurrency) -> bool {
        if self.holds_above(id, holder, key) {
            let reason = format!(
                "Canceling since a deadlock for concurrency group '{}' was detected between the run and one of its jobs",
                concurrency.group
            );
            self.displace(turn, holder, &reason);
            return false;
        }
        let policy = GroupPolicy {
            cancel_in_progress: concurrency.cancel_in_progress,
            queue_max: concurrency.queue == ConcurrencyQueue::Max,
        };
        let reason = format!("Canceling since a higher priority waiting request for '{}' exists", concurrency.group);
        match self.groups.claim(key, holder, policy) {
            Claim::Granted => {
                self.note_claim(turn, id, holder, key, true);
                true
            }
            Claim::Pending { replaced, cancel } => {
                self.note_claim(turn, id, holder, key, false);
                for other in replaced {
                    self.displace(turn, other, &reason);
                }
                if let Some(other) = cancel {
                    self.cancel_holder(turn, other, &reason);
                }
                false
            }
            Claim::Full => {
                let reason =
                    format!("Canceling since the queue of the concurrency group '{}' is full", concurrency.group);
                self.displace(turn, holder, &reason);
                false
            }
        }
    }

    /// Whether the run of `holder`, or a call it is inside of, has the group: waiting for it would never end.
    fn holds_above(&self, id: RunId, holder: Holder, key: &GroupKey) -> bool {
        let Some(current) = self.groups.holder(key) else { return false };
        if current == holder {
            return false;
        }
        if current == Holder::Run(id) {
            return true;
        }
        let (Holder::Job(above), Holder::Job(job)) = (current, holder) else { return false };
        let Some(run) = self.runs.get(&id).and_then(|active| active.run.as_ref()) else { return false };
        let state = run.state();
        let mut scope = run.job(job).map(|job| job.scope).or_else(|| {
            state
                .scopes
                .iter()
                .position(|scope| scope.nodes.values().any(|node| node.legs.iter().any(|leg| leg.job == job)))
        });
        while let Some(caller) = scope.and_then(|scope| state.scopes.get(scope)).and_then(|scope| scope.caller.as_ref())
        {
            let leg = state.scopes.get(caller.scope).and_then(|scope| scope.nodes.get(&caller.node));
            if leg.and_then(|node| node.legs.get(caller.leg)).is_some_and(|leg| leg.job == above) {
                return true;
            }
            scope = Some(caller.scope);
        }
        false
    }

    fn note_claim(&mut self, turn: &mut Turn, id: RunId, holder: Holder, key: &GroupKey, granted: bool) {
        let Some(active) = self.runs.get_mut(&id) else { return };
        turn.dirty_runs.insert(id);
        if let Some(claim) = active.record.claims.iter_mut().find(|claim| claim.holder == holder && claim.key == *key) {
            claim.granted |= granted;
        } else {
            self.last_ticket += 1;
            let ticket = self.last_ticket;
            active.record.claims.push(GroupClaim { holder, key: key.clone(), granted, ticket });
        }
        if let Holder::Job(job) = holder
            && let Some(active) = self.jobs.get_mut(&job)
        {
            active.group = Some(key.clone());
        }
    }

    /// Gives up the group that a run, call or job holds or waits for, and lets the next one in.
    fn give_up_group(&mut self, turn: &mut Turn, id: RunId, holder: Holder) {
        let Some(active) = self.runs.get_mut(&id) else { return };
        let mut keys = Vec::new();
        active.record.claims.retain(|claim| {
            let keep = claim.holder != holder;
            if !keep {
                keys.push(claim.key.clone());
            }
            keep
        });
        if keys.is_empty() {
            return;
        }
        turn.dirty_runs.insert(id);
        for key in keys {
            if let Some(next) = self.groups.release(&key, holder) {
                self.grant(turn, next, &key);
            }
        }
    }

    fn grant(&mut self, turn: &mut Turn, holder: Holder, key: &GroupKey) {
        match holder {
            Holder::Run(run) => {
                self.note_claim(turn, run, holder, key, true);
                turn.tell(run, RunInput::Admitted { job: None });
            }
            Holder::Job(job) => {
                let Some(active) = self.jobs.get(&job) else { return };
                let (run, call) = (active.run, active.pending.is_none());
                self.note_claim(turn, run, holder, key, true);
                if call {
                    turn.tell(run, RunInput::Admitted { job: Some(job) });
                } else {
                    self.enter_queue(turn, job);
                }
            }
        }
    }

    /// Turns away one who waits for a group.
    fn displace(&mut self, turn: &mut Turn, holder: Holder, reason: &str) {
        let reason = reason.to_owned();
        match holder {
            Holder::Run(run) => {
                if let Some(active) = self.runs.get_mut(&run) {
                    active.record.messages.push(reason.clone());
                    active.record.claims.retain(|claim| claim.holder != holder);
                    turn.dirty_runs.insert(run);
                }
                turn.tell(run, RunInput::Refused { job: None, reason });
            }
            Holder::Job(job) => {
                let Some(active) = self.jobs.get_mut(&job) else { return };
                let run = active.run;
                active.group = None;
                let input = if active.pending.is_none() {
                    RunInput::Refused { job: Some(job), reason }
                } else {
                    RunInput::CancelJob { job, force: true, reason }
                };
                if let Some(active) = self.runs.get_mut(&run) {
                    active.record.claims.retain(|claim| claim.holder != holder);
                    turn.dirty_runs.insert(run);
                }
                turn.tell(run, input);
            }
        }
    }

    /// Cancels the one who holds a group (Q3).
    fn cancel_holder(&mut self, turn: &mut Turn, holder: Holder, reason: &str) {
        match holder {
            Holder::Run(run) => {
                if let Some(active) = self.runs.get_mut(&run)
                    && !active.record.messages.iter().any(|message| message == reason)
                {
                    active.record.messages.push(reason.to_owned());
                    turn.dirty_runs.insert(run);
                }
                turn.tell(run, RunInput::Cancel { force: false });
            }
            Holder::Job(job) => {
                let Some(active) = self.jobs.get(&job) else { return };
                turn.tell(active.run, RunInput::CancelJob { job, force: false, reason: reason.to_owned() });
            }
        }
    }

    // The way to a host.

    pub(super) fn enqueue(&mut self, turn: &mut Turn, id: RunId, pending: PendingJob, queued_at: Timestamp) {
        let job = pending.job;
        let Some(active) = self.runs.get_mut(&id) else { return };
        active.jobs.insert(job);
        turn.dirty_jobs.insert((id, job));
        let known = self.jobs.entry(job).or_insert_with(|| ActiveJob {
            run: id,
            pending: None,
            stage: Stage::Held,
            queued_at,
            stage_since: turn.now,
            tries: 0,
            lost_on: Vec::new(),
            cancel: Cancel::No,
            group: None,
        });
        if matches!(known.stage, Stage::Assigned { .. } | Stage::Queued) {
            return;
        }
        known.pending = Some(pending);
        self.enter_protection(turn, job);
    }

    fn set_stage(&mut self, turn: &Turn, job: JobId, stage: Stage) {
        if let Some(active) = self.jobs.get_mut(&job)
            && active.stage != stage
        {
            active.stage = stage;
            active.stage_since = turn.now;
        }
    }

    /// The first gate: the rules of the environment (G2).
    pub(super) fn enter_protection(&mut self, turn: &mut Turn, job: JobId) {
        let Some(active) = self.jobs.get(&job) else { return };
        let Some(run) = self.runs.get(&active.run) else { return };
        let environment = active.pending.as_ref().and_then(|pending| pending.environment.as_ref());
        let was_protected = matches!(active.stage, Stage::Protected { .. });
        let id = active.run;
        let rules = environment.and_then(|name| {
            self.environments.get(&environment_key(&run.record.repository, name)).map(|rules| (name, rules))
        });
        let verdict = rules.map_or(Verdict::Free, |(name, rules)| {
            protection::judge(turn.now, name, rules, &run.record, active.queued_at)
        });
        match verdict {
            Verdict::Free => {
                if was_protected {
                    self.set_stage(turn, job, Stage::Held);
                    turn.tell(id, RunInput::Waiting { job, waiting: false });
                }
                self.enter_group(turn, job);
            }
            Verdict::Forbidden(reason) => turn.tell(id, RunInput::Failed { job, reason }),
            Verdict::Wait { until, approval } => {
                let queued_at = active.queued_at;
                self.set_stage(turn, job, Stage::Protected { until, approval });
                if !was_protected {
                    turn.tell(id, RunInput::Waiting { job, waiting: true });
                    let limit = SignedDuration::from_mins(i64::from(self.settings.approval_minutes));
                    if approval && let Ok(limit) = queued_at.saturating_add(limit) {
                        self.timers.insert((limit, Timer::Protection(job)));
                    }
                    if let Some(until) = until {
                        self.timers.insert((until, Timer::Protection(job)));
                    }
                }
            }
        }
    }

    /// The second gate: the job's own concurrency group.
    fn enter_group(&mut self, turn: &mut Turn, job: JobId) {
        let Some(active) = self.jobs.get(&job) else { return };
        let id = active.run;
        let concurrency = active.pending.as_ref().and_then(|pending| pending.concurrency.clone());
        if let Some(concurrency) = concurrency {
            let Some(run) = self.runs.get(&id) else { return };
            let key = GroupKey::new(&run.record.repository, &concurrency.group);
            self.set_stage(turn, job, Stage::Grouped);
            if !self.claim(turn, id, Holder::Job(job), &key, &concurrency) {
                return;
            }
        }
        self.enter_queue(turn, job);
    }

    /// The third: the pause of its run. Then the queue.
    fn enter_queue(&mut self, turn: &mut Turn, job: JobId) {
        let Some(active) = self.jobs.get(&job) else { return };
        let Some(run) = self.runs.get(&active.run) else { return };
        if run.record.paused {
            self.set_stage(turn, job, Stage::Held);
            return;
        }
        if let Some(request) = self.request(job) {
            self.queue.enqueue(request);
        }
        self.set_stage(turn, job, Stage::Queued);
        self.at(turn.now, i64::from(self.settings.queue_minutes) * 60, Timer::QueueLimit(job));
    }

    /// What a job asks of the scheduler.
    pub(super) fn request(&self, job: JobId) -> Option<Request> {
        let active = self.jobs.get(&job)?;
        let pending = active.pending.as_ref()?;
        let repository = self.runs.get(&active.run)?.record.repository.clone();
        let group = pending.concurrency.as_ref().map(|concurrency| concurrency.group.to_lowercase());
        Some(Request {
            job,
            labels: pending.labels.clone(),
            weight: self.weight(Some(pending)),
            priority: self.settings.priorities.get(&repository).copied().unwrap_or(0),
            repository,
            avoid: active.lost_on.clone(),
            only: group.as_deref().and_then(device_host),
            since: active.queued_at,
        })
    }

    /// The slots that a job takes.
    fn weight(&self, pending: Option<&PendingJob>) -> u32 {
        let labels = pending.map(|pending| pending.labels.as_slice()).unwrap_or_default();
        labels.iter().filter_map(|label| self.settings.weights.get(&label.to_lowercase())).max().copied().unwrap_or(1)
    }

    /// A job that was being stopped when the daemon went: its runner is told to go on with that.
    pub(super) fn restore_stopping(&mut self, turn: &mut Turn, record: StoppingRecord) {
        let StoppingRecord { host, order, weight } = record;
        let job = order.job;
        let request = Request {
            job,
            repository: order.repository.clone(),
            labels: order.runs_on.clone(),
            weight,
            priority: 0,
            avoid: Vec::new(),
            only: None,
            since: turn.now,
        };
        self.queue.occupy(&host, &request);
        self.stopping.insert(job, host.clone());
        self.at(turn.now, CANCEL_SLACK_SECONDS, Timer::ForceLimit(job));
        turn.effects.push(Effect::Attach { job, host: host.clone(), order: Box::new(order) });
        turn.effects.push(Effect::CancelJob { job, host, force: true });
    }

    /// The queue chose a host: the run is told, and the host gets the order.
    pub(super) fn assigned(&mut self, turn: &mut Turn, job: JobId, host: HostName) {
        let Some(active) = self.jobs.get_mut(&job) else {
            self.queue.release(job);
            return;
        };
        active.tries += 1;
        active.stage = Stage::Assigned { host: host.clone() };
        active.stage_since = turn.now;
        let id = active.run;
        let minutes = active.pending.as_ref().map_or(0.0, |pending| pending.timeout_minutes);
        let held = self.hold_minutes(id);
        turn.dirty_hosts.insert(host.clone());
        self.apply(turn, id, RunInput::Started { job, host: host.clone() });
        // The run may have answered by ending the job.
        if !self.jobs.contains_key(&job) {
            return;
        }
        match self.runs.get(&id).and_then(|active| active.run.as_ref()).and_then(|run| run.order(job)) {
            Some(order) => {
                self.job_limit(turn.now, job, minutes, held);
                turn.effects.push(Effect::Dispatch { job, host, order: Box::new(order) });
            }
            None => {
                let reason = "no order could be made for it".to_owned();
                turn.tell(id, RunInput::Failed { job, reason });
            }
        }
    }

    /// How long failed jobs of a run are kept.
    pub(super) fn hold_minutes(&self, id: RunId) -> u32 {
        self.runs.get(&id).and_then(|active| active.run.as_ref()).map_or(0, |run| run.spec().hold_minutes)
    }

    pub(super) fn job_limit(&mut self, from: Timestamp, job: JobId, minutes: f64, held: u32) {
        // The longest that GitHub lets any job run: five days (S7).
        #[expect(clippy::cast_possible_truncation, reason = "clamped to five days")]
        let seconds = (minutes.clamp(0.0, 5.0 * 24.0 * 60.0) * 60.0) as i64;
        self.at(from, seconds + i64::from(held) * 60 + JOB_SLACK_SECONDS, Timer::JobLimit(job));
    }

    pub(super) fn pause_run(&mut self, turn: &mut Turn, id: RunId, paused: bool) {
        let Some(active) = self.runs.get_mut(&id) else {
            turn.answer = Answer::Unknown(format!("run {id} is not running or waiting"));
            return;
        };
        active.record.paused = paused;
        turn.dirty_runs.insert(id);
        let jobs: Vec<JobId> = active.jobs.iter().copied().collect();
        for job in jobs {
            match self.jobs.get(&job).map(|active| &active.stage) {
                Some(Stage::Queued) if paused && self.queue.withdraw(job) => self.set_stage(turn, job, Stage::Held),
                Some(Stage::Held) if !paused => self.enter_queue(turn, job),
                _ => {}
            }
        }
    }

    // On the host.

    pub(super) fn report(&mut self, turn: &mut Turn, job: JobId, host: &HostName, report: Report) {
        if let Report::Unreached { reason } = &report {
            return self.dispatch_failed(turn, job, host, reason);
        }
        if matches!(report, Report::Finished { .. }) {
            self.stopped(turn, job, Some(host));
        }
        let Some(active) = self.jobs.get_mut(&job) else { return };
        match &active.stage {
            Stage::Assigned { host: assigned } if assigned == host => {}
            _ => return,
        }
        let id = active.run;
        match &report {
            Report::Started { .. } => {
                if let Some(memory) = self.hosts.get_mut(host) {
                    memory.failures = 0;
                }
            }
            Report::Finished { result, .. } if result.host_lost && active.cancel == Cancel::No => {
                let begun =
                    self.runs.get(&id).and_then(|active| active.run.as_ref()).and_then(|run| run.job(job)).is_some_and(
                        |job| job.steps.iter().any(|step| step.kind != StepKind::SetUp && step.started_at.is_some()),
                    );
                let retries = if begun { self.settings.retries_of_started } else { self.settings.retries };
                if active.tries <= retries {
                    active.lost_on.push(host.clone());
                    let reason = result.reason.clone().unwrap_or_else(|| format!("{host} died"));
                    self.unassign(turn, job, host);
                    turn.tell(id, RunInput::Requeued { job, reason });
                    return;
                }
            }
            _ => {}
        }
        if matches!(report, Report::Finished { .. }) {
            turn.confirmed.insert(job);
        }
        turn.tell(id, RunInput::Report { job, report });
    }

    /// The runner of a job that was ended by force has stopped it, or is given up.
    pub(super) fn stopped(&mut self, turn: &mut Turn, job: JobId, host: Option<&HostName>) {
        if self.stopping.get(&job).is_some_and(|at| host.is_none_or(|host| host == at))
            && let Some(at) = self.stopping.remove(&job)
        {
            self.queue.release(job);
            turn.changes.push(Change::Stopped { job });
            turn.dirty_hosts.insert(at);
        }
    }

    /// Takes a job from its host; it goes back to the queue.
    fn unassign(&mut self, turn: &mut Turn, job: JobId, host: &HostName) {
        self.queue.release(job);
        turn.changes.push(Change::Requeued { job });
        self.set_stage(turn, job, Stage::Held);
        turn.dirty_hosts.insert(host.clone());
    }

    pub(super) fn dispatch_failed(&mut self, turn: &mut Turn, job: JobId, host: &HostName, reason: &str) {
        self.stopped(turn, job, Some(host));
        let Some(active) = self.jobs.get_mut(&job) else { return };
        match &active.stage {
            Stage::Assigned { host: assigned } if assigned == host => {}
            _ => return,
        }
        let id = active.run;
        active.tries = active.tries.saturating_sub(1);
        let cancelled = active.cancel != Cancel::No;
        if let Some(memory) = self.hosts.get_mut(host) {
            memory.failures += 1;
            let seconds = i64::from(self.settings.backoff_seconds) << memory.failures.saturating_sub(1).min(4);
            if let Ok(until) = turn.now.saturating_add(SignedDuration::from_secs(seconds)) {
                self.queue.set_quiet(host, Some(until));
                self.timers.insert((until, Timer::Wake));
            }
        }
        if cancelled {
            self.conclude(turn, job, Conclusion::Cancelled, None);
            return;
        }
        self.unassign(turn, job, host);
        turn.tell(id, RunInput::Requeued { job, reason: reason.to_owned() });
    }

    /// Ends a job that its runner will not end.
    pub(super) fn conclude(&mut self, turn: &mut Turn, job: JobId, conclusion: Conclusion, reason: Option<String>) {
        let Some(active) = self.jobs.get(&job) else { return };
        let result =
            JobResult { conclusion, outputs: serde_json::Map::new(), environment_url: None, reason, host_lost: false };
        turn.confirmed.insert(job);
        turn.tell(active.run, RunInput::Report { job, report: Report::Finished { at: turn.now, result } });
    }

    /// Takes a job from the queue, or tells its runner to stop.
    pub(super) fn stop_job(&mut self, turn: &mut Turn, job: JobId, force: bool) {
        let Some(active) = self.jobs.get_mut(&job) else { return };
        let Stage::Assigned { host } = &active.stage else {
            self.end_job(turn, job);
            return;
        };
        let host = host.clone();
        active.cancel = active.cancel.max(if force { Cancel::Forced } else { Cancel::Requested });
        let id = active.run;
        turn.effects.push(Effect::CancelJob { job, host, force });
        if force {
            self.at(turn.now, CANCEL_SLACK_SECONDS, Timer::ForceLimit(job));
        } else {
            let run = self.runs.get(&id).and_then(|active| active.run.as_ref());
            let minutes = run.and_then(|run| run.job(job)).map_or(5.0, |job| job.cancel_timeout_minutes);
            #[expect(clippy::cast_possible_truncation, reason = "clamped to a day")]
            let seconds = (minutes.clamp(0.0, 24.0 * 60.0) * 60.0) as i64;
            self.at(turn.now, seconds + CANCEL_SLACK_SECONDS, Timer::CancelLimit(job));
        }
    }

    // Reviews.

    #[expect(clippy::too_many_arguments, reason = "the fields of one input")]
    pub(super) fn review(
        &mut self,
        turn: &mut Turn,
        id: RunId,
        environment: &str,
        approved: bool,
        reviewer: String,
        bypass: bool,
        comment: String,
    ) {
        let Some(active) = self.runs.get_mut(&id) else {
            turn.answer = Answer::Unknown(format!("run {id} is not running or waiting"));
            return;
        };
        let rules = self.environments.get(&environment_key(&active.record.repository, environment));
        if let Some(rules) = rules
            && !bypass
            && let Err(reason) = protection::may_review(rules, &reviewer, &active.record.triggering_actor)
        {
            turn.answer = Answer::Refused(reason);
            return;
        }
        let waits = |active: &&ActiveJob| {
            matches!(active.stage, Stage::Protected { .. })
                && active
                    .pending
                    .as_ref()
                    .and_then(|pending| pending.environment.as_ref())
                    .is_some_and(|name| name.eq_ignore_ascii_case(environment))
        };
        let jobs: Vec<JobId> =
            active.jobs.iter().filter(|job| self.jobs.get(job).as_ref().is_some_and(waits)).copied().collect();
        if jobs.is_empty() {
            turn.answer = Answer::Refused(format!("no job of run {id} waits for the environment {environment}"));
            return;
        }
        let refusal = format!("{reviewer} rejected the deployment to {environment}");
        active.record.reviews.push(Review {
            attempt: active.record.attempt,
            environment: environment.to_owned(),
            approved,
            reviewer,
            comment,
            at: turn.now,
        });
        turn.dirty_runs.insert(id);
        for job in jobs {
            if approved {
                self.enter_protection(turn, job);
            } else {
                turn.tell(id, RunInput::Failed { job, reason: refusal.clone() });
            }
        }
    }

    /// Judges all protected jobs again: rules have changed.
    pub(super) fn review_protected(&mut self, turn: &mut Turn) {
        let mut jobs: Vec<(Timestamp, JobId)> = self
            .jobs
            .iter()
            .filter(|(_, active)| matches!(active.stage, Stage::Protected { .. }))
            .map(|(job, active)| (active.queued_at, *job))
            .collect();
        jobs.sort_unstable();
        for (_, job) in jobs {
            self.enter_protection(turn, job);
        }
    }
}
