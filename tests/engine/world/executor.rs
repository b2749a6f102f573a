//! The executor of the world: brings jobs to hosts, reports, stops.

use jiff::SignedDuration;
use serde_json::Map;
use towline::engine::Input;
use towline::id::{HostName, JobId};
use towline::run::Conclusion;
use towline::run::order::Order;
use towline::run::report::{JobResult, Report, StepKind, StepState};

use super::{Followed, HOSTS, Happening, Process, World, planned_conclusion};

impl World {
    pub(super) fn follow(&mut self, job: JobId, host: usize, order: Order) {
        assert!(self.followed.get(&job).is_none_or(|followed| followed.host == host), "a job was given to two hosts");
        let deaf = self.random.percent(3);
        let weight = 1 + u32::from(order.runs_on.iter().any(|label| label == "heavy"));
        let hold = u64::from(order.hold_minutes) * 60;
        self.followed.insert(job, Followed { host, name: order.name, weight, hold, cancel: false, deaf });
        let (delay, daemon) = (self.random.below(4), self.daemon);
        self.after(delay, Happening::Begin { daemon, job });
    }

    pub(super) fn report(&mut self, job: JobId, host: usize, report: Report) {
        let delay = self.random.below(5);
        let (daemon, host) = (self.daemon, HostName::from(HOSTS[host].0));
        let input = Box::new(Input::Report { job, host, report });
        if self.random.percent(20) {
            let later = delay + self.random.below(60);
            self.after(later, Happening::Deliver { daemon, input: input.clone() });
        }
        self.after(delay, Happening::Deliver { daemon, input });
    }

    pub(super) fn finished(&mut self, job: JobId, host: usize, conclusion: Conclusion, host_lost: bool) {
        self.followed.remove(&job);
        let result = JobResult {
            conclusion,
            outputs: Map::new(),
            environment_url: None,
            reason: host_lost.then(|| format!("{} died", HOSTS[host].0)),
            host_lost,
        };
        self.report(job, host, Report::Finished { at: self.now, result });
    }

    /// The job arrives at its host: begun, or found running, or found ended, or lost.
    pub(super) fn begin(&mut self, job: JobId) {
        let Some(followed) = self.followed.get(&job) else { return };
        let (host, name, cancel) = (followed.host, followed.name.clone(), followed.cancel);
        let (weight, hold) = (followed.weight, followed.hold);
        if let Some(process) = self.processes.get_mut(&job)
            && process.host == host
        {
            process.orphan = false;
            let held = process.held;
            if let Some(conclusion) = process.ended {
                self.finished(job, host, conclusion, false);
            } else if held.is_some() {
                self.report(job, host, Report::Held { until: held });
            }
            return;
        }
        let losses = self.losses.get(&job).copied().unwrap_or(0);
        let begun = self.begun.get(&job).copied().unwrap_or(0);
        if begun > losses {
            panic!("job {job} runs somewhere and was given to {}", HOSTS[host].0);
        }
        let lost_here = begun > 0 && !self.processes.contains_key(&job) && self.lost_on(job, host);
        if lost_here {
            // Attached to after its host died: it cannot go on here.
            return self.finished(job, host, Conclusion::Failure, true);
        }
        if cancel {
            return self.finished(job, host, Conclusion::Cancelled, false);
        }
        if !self.alive[host] {
            self.followed.remove(&job);
            let (delay, daemon) = (self.random.below(5), self.daemon);
            let reason = "connection refused".to_owned();
            let input = Box::new(Input::DispatchFailed { job, host: HOSTS[host].0.into(), reason });
            return self.after(delay, Happening::Deliver { daemon, input });
        }
        self.starts += 1;
        let start = self.starts;
        self.say(|| format!("   {} begins job {job} {name}", HOSTS[host].0));
        *self.begun.entry(job).or_default() += 1;
        self.processes.insert(job, Process { host, start, ended: None, orphan: false, name, weight, hold, held: None });
        self.check_slots();
        self.report(job, host, Report::Started { at: self.now, workspace: "/work".to_owned() });
        if self.random.percent(50) {
            let step = StepState {
                number: 2,
                id: "x".to_owned(),
                name: "Run x".to_owned(),
                kind: StepKind::Main,
                started_at: Some(self.now),
                completed_at: None,
                outcome: None,
                conclusion: None,
                log_start: None,
                log_end: None,
                first_line: None,
                exit_code: None,
            };
            self.report(job, host, Report::Step { step });
        }
        let takes = 1 + self.random.below(90);
        self.after(takes, Happening::End { job, start });
    }

    pub(super) fn lost_on(&self, job: JobId, host: usize) -> bool {
        self.lost_hosts.get(&job).is_some_and(|hosts| hosts.contains(&host))
    }

    pub(super) fn end(&mut self, job: JobId, start: u64) {
        let Some(process) = self.processes.get_mut(&job) else { return };
        if process.start != start || process.ended.is_some() {
            return;
        }
        let conclusion = planned_conclusion(&process.name);
        let (host, hold) = (process.host, process.hold);
        if conclusion == Conclusion::Failure && hold > 0 && process.held.is_none() {
            let held = self.now.saturating_add(SignedDuration::from_secs(hold as i64)).ok();
            process.held = held;
            if self.followed.get(&job).is_some_and(|followed| followed.host == host) {
                self.report(job, host, Report::Held { until: held });
            }
            return self.after(hold, Happening::End { job, start });
        }
        process.ended = Some(conclusion);
        if self.followed.get(&job).is_some_and(|followed| followed.host == host) {
            self.finished(job, host, conclusion, false);
        }
    }

    /// What is held need not be any longer.
    pub(super) fn release(&mut self, job: JobId) {
        if let Some(process) = self.processes.get(&job).filter(|process| process.held.is_some()) {
            let start = process.start;
            self.after(1, Happening::End { job, start });
        }
    }

    pub(super) fn cancel(&mut self, job: JobId, host: usize, force: bool) {
        let Some(followed) = self.followed.get_mut(&job) else { return };
        assert_eq!(followed.host, host, "a cancel went to the wrong host");
        followed.cancel = true;
        if followed.deaf {
            // The engine gives such a runner up, after a while.
            if force && let Some(process) = self.processes.get_mut(&job) {
                process.orphan = true;
            }
            return;
        }
        let (delay, daemon) = (self.random.below(if force { 5 } else { 60 }), self.daemon);
        self.after(delay, Happening::Stop { daemon, job });
    }

    pub(super) fn stop(&mut self, job: JobId) {
        let Some(followed) = self.followed.get(&job) else { return };
        let host = followed.host;
        let Some(process) = self.processes.get_mut(&job) else { return };
        if process.ended.is_none() && process.host == host {
            process.ended = Some(Conclusion::Cancelled);
            self.finished(job, host, Conclusion::Cancelled, false);
        }
    }
}
