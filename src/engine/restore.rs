//! Rebuilding the engine after a stop or a crash, and repeating what may not have been done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::input::{Effect, Settings};
use super::record::{Change, GroupClaim, JobRecord, Records, StoredRun};
use super::state::{ActiveJob, ActiveRun, Engine, HostMemory, Stage, Timer, environment_key};
use super::step::Turn;
use crate::id::JobId;
use crate::plan::Files;
use crate::queue::{Groups, LabelMap, Queue};
use crate::run::{Conclusion, JobPhase, JobState, PendingJob, Run, RunEffect, RunStatus};

impl Engine {
    /// An engine that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let labels = settings.labels.iter().map(|(label, wanted)| (label.clone(), wanted.clone()));
        let mut queue = Queue::new(LabelMap::new(labels));
        queue.set_limit(settings.jobs);
        Self {
            queue,
            settings,
            files: Files::default(),
            last_run: 0,
            last_job: 0,
            run_numbers: HashMap::new(),
            runs: HashMap::new(),
            jobs: HashMap::new(),
            stopping: HashMap::new(),
            groups: Groups::default(),
            last_ticket: 0,
            hosts: BTreeMap::new(),
            deliveries: HashMap::new(),
            delivery_ages: BTreeSet::new(),
            environments: HashMap::new(),
            timers: BTreeSet::new(),
            timer: None,
        }
    }

    /// The engine as it was when `records` were written. Jobs that had a host are attached to again; what was waiting
    /// waits again, in the same order; what was told to stop is told again. Hosts have to be announced again.
    #[must_use]
    pub fn restore(now: Timestamp, settings: Settings, records: Records) -> (Self, Vec<Effect>) {
        let mut engine = Self::new(settings);
        engine.last_run = records.last_run;
        engine.last_job = records.last_job;
        engine.run_numbers = records.run_numbers.into_iter().collect();
        engine.queue.set_paused(records.queue_paused);
        engine.files = records.files;
        for record in records.hosts {
            let memory = HostMemory { facts: None, failures: 0, record };
            engine.hosts.insert(memory.record.name.clone(), memory);
        }
        for (key, run, at) in records.deliveries {
            engine.delivery_ages.insert((at, key.clone()));
            engine.deliveries.insert(key, (run, at));
        }
        for (repository, name, rules) in records.environments {
            engine.environments.insert(environment_key(&repository, &name), rules);
        }
        let before = engine.before();
        let mut turn = Turn::new(now);
        engine.forget_deliveries(&mut turn);
        for record in records.stopping {
            engine.restore_stopping(&mut turn, record);
        }
        let mut runs = records.runs;
        runs.sort_by_key(|run| run.record.id);
        engine.restore_claims(&runs);
        let mut outstanding = Vec::new();
        for stored in runs {
            engine.restore_run(&mut turn, stored, &mut outstanding);
        }
        // What waited first goes first again.
        outstanding.sort_by_key(|(rank, at, job, ..)| (*rank, *at, *job));
        for (_, at, _, run, effect) in outstanding {
            match effect {
                RunEffect::Enqueue(pending) => engine.enqueue(&mut turn, run, pending, at),
                other => engine.perform(&mut turn, run, vec![other]),
            }
        }
        engine.settle(&mut turn);
        let mut effects = engine.finish_turn(turn, &before);
        effects.retain(|effect| !matches!(effect, Effect::Answer(_)));
        (engine, effects)
    }

    fn restore_claims(&mut self, runs: &[StoredRun]) {
        let mut claims: Vec<&GroupClaim> = runs.iter().flat_map(|run| &run.record.claims).collect();
        claims.sort_by_key(|claim| (!claim.granted, claim.ticket));
        for claim in claims {
            self.groups.restore(&claim.key, claim.holder);
            self.last_ticket = self.last_ticket.max(claim.ticket);
        }
    }

    fn restore_run(
        &mut self,
        turn: &mut Turn,
        stored: StoredRun,
        outstanding: &mut Vec<(u8, Timestamp, JobId, crate::id::RunId, RunEffect)>,
    ) {
        let id = stored.record.id;
        let Some(state) = stored.whole_state() else {
            let active = ActiveRun {
                run: None,
                held: Some(Box::new(stored.spec)),
                record: stored.record,
                jobs: BTreeSet::new(),
            };
            self.runs.insert(id, active);
            return;
        };
        let StoredRun { record, spec, jobs, .. } = stored;
        let run = match Run::restore(spec, state, &self.files) {
            Ok(run) => run,
            Err(reason) => {
                abandon(turn, record, jobs, &reason);
                return;
            }
        };
        let minutes = i64::from(self.settings.run_minutes);
        self.at(record.attempted_at, minutes * 60, Timer::RunLimit(id));
        let effects = run.outstanding();
        self.runs.insert(id, ActiveRun { run: Some(run), held: None, record, jobs: BTreeSet::new() });
        let mut queued_at: HashMap<JobId, Timestamp> = HashMap::new();
        for record in jobs {
            let job = record.state.id;
            queued_at.insert(job, record.queued_at.unwrap_or(record.state.created_at));
            if record.state.phase == JobPhase::Completed {
                continue;
            }
            self.restore_job(turn, record);
        }
        for effect in effects {
            let job = match &effect {
                RunEffect::Enqueue(pending) => Some(pending.job),
                RunEffect::Admit { job, .. } | RunEffect::Release { job } => *job,
                RunEffect::CancelJob { job, .. } | RunEffect::ReleaseJob(job) | RunEffect::JobChanged(job) => {
                    Some(*job)
                }
                RunEffect::RunChanged | RunEffect::Finished(_) => None,
            };
            let at = job.and_then(|job| queued_at.get(&job)).copied().unwrap_or(turn.now);
            // Stops go after everything that could start.
            let rank = u8::from(matches!(effect, RunEffect::CancelJob { .. } | RunEffect::ReleaseJob(_)));
            outstanding.push((rank, at, job.unwrap_or(JobId(0)), id, effect));
        }
    }

    /// A job that is not over: back on its host, or on its way there.
    fn restore_job(&mut self, turn: &mut Turn, record: JobRecord) {
        let job = record.state.id;
        let assigned = record.state.phase == JobPhase::InProgress;
        let Some(run) = self.runs.get_mut(&record.run) else { return };
        let (Some(host), true) = (record.state.host.clone(), assigned) else {
            // Its Enqueue is outstanding; what it went through before is kept.
            if let Some(queued_at) = record.queued_at {
                run.jobs.insert(job);
                self.jobs.insert(job, active_job(turn.now, record, Stage::Held, queued_at));
            }
            return;
        };
        run.jobs.insert(job);
        let order = run.run.as_ref().and_then(|run| run.order(job));
        let since = record.state.started_at.or(record.queued_at).unwrap_or(turn.now);
        let minutes = record.state.timeout_minutes;
        let held = self.hold_minutes(record.run);
        let queued_at = record.queued_at.unwrap_or(since);
        self.jobs.insert(job, active_job(turn.now, record, Stage::Assigned { host: host.clone() }, queued_at));
        if let Some(request) = self.request(job) {
            self.queue.occupy(&host, &request);
        }
        // Anew from here: how long it ran already is its runner's to know, should the clock have been set meanwhile.
        self.job_limit(turn.now, job, minutes, held);
        if let Some(order) = order {
            turn.effects.push(Effect::Attach { job, host, order: Box::new(order) });
        }
    }
}

fn active_job(now: Timestamp, record: JobRecord, stage: Stage, queued_at: Timestamp) -> ActiveJob {
    ActiveJob {
        run: record.run,
        pending: Some(pending(&record.state)),
        stage,
        queued_at,
        stage_since: now,
        tries: record.tries,
        lost_on: record.lost_on,
        cancel: record.state.cancel,
        group: None,
    }
}

fn pending(state: &JobState) -> PendingJob {
    PendingJob {
        job: state.id,
        name: state.name.clone(),
        labels: state.labels.clone(),
        group: state.group.clone(),
        concurrency: state.concurrency.clone(),
        environment: state.environment.clone(),
        timeout_minutes: state.timeout_minutes,
    }
}

/// Ends a run whose workflow this version can no longer read: loudly, but without losing it.
fn abandon(turn: &mut Turn, mut record: super::record::RunRecord, jobs: Vec<JobRecord>, reason: &str) {
    record.messages.push(format!("it could not be taken up again after a restart: {reason}"));
    record.status = RunStatus::Completed;
    record.conclusion = Some(Conclusion::Failure);
    record.completed_at = Some(turn.now);
    record.updated_at = turn.now;
    record.claims.clear();
    for mut job in jobs {
        if job.state.conclusion.is_none() {
            job.state.phase = JobPhase::Completed;
            job.state.conclusion = Some(Conclusion::Cancelled);
            job.state.completed_at = Some(turn.now);
            job.state.reason = Some("its run could not be taken up again after a restart".to_owned());
            turn.changes.push(Change::Job(Box::new(job)));
        }
    }
    turn.changes.push(Change::Run(Box::new(record)));
}
