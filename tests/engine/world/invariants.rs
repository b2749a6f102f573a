//! What must hold after every step, and in the end.

use towline::queue::{HostState, Obstacle};
use towline::run::{Conclusion, RunStatus};

use super::{HOSTS, WORKFLOWS, World, host_index, planned_conclusion, undisturbed};

impl World {
    pub(super) fn check_slots(&self) {
        for (index, (name, slots, _)) in HOSTS.iter().enumerate() {
            let running = self.processes.values().filter(|process| process.host == index && process.ended.is_none());
            let used: u32 = running.filter(|process| !process.orphan).map(|process| process.weight).sum();
            assert!(used <= *slots, "{name} has {used} of {slots} slots in use");
        }
    }

    pub(super) fn check(&self) {
        let Some(engine) = &self.engine else { return };
        let summary = engine.summary();
        for host in &summary.hosts {
            assert!(host.used <= host.slots, "{} has {} of {} slots taken", host.name, host.used, host.slots);
        }
        if summary.paused {
            return;
        }
        // With a free matching slot nobody waits; the queue says so itself, and a plain look agrees.
        let waiting = engine.waiting_jobs();
        let free: Vec<_> = summary.hosts.iter().filter(|host| host.state == HostState::Up).collect();
        for job in waiting {
            let reasons = engine.why(job);
            assert!(!reasons.is_empty(), "job {job} waits and cannot say why");
            let Some(run) = engine.run_of(job).and_then(|run| engine.run(run)) else { continue };
            let state = run.job(job).expect("a waiting job is of its run");
            let weight = 1 + u32::from(state.labels.iter().any(|label| label == "heavy"));
            let device = state.concurrency.as_ref().is_some_and(|group| group.group.starts_with("host:"));
            for host in &free {
                let (name, _, labels) = HOSTS[host_index(&host.name)];
                let offers = |label: &String| {
                    ["linux", "ubuntu-latest", "self-hosted"].contains(&label.as_str())
                        || labels.contains(&label.as_str())
                };
                let suits = state.labels.iter().all(offers) && (!device || name == "alpha");
                let room = host.slots - host.used >= weight;
                let lost = self.lost_on(job, host_index(&host.name));
                // A slot kept for a heavy job is not free for others.
                let kept = reasons.iter().any(
                    |reason| matches!(&reason.obstacle, Obstacle::HostReserved { host, .. } if host.as_str() == name),
                );
                assert!(!suits || !room || lost || kept, "job {job} waits beside a free slot of {name}: {reasons:?}");
            }
        }
    }

    pub(super) fn check_end(&self) {
        for sender in &self.senders {
            let run = sender.run.expect("every sender is answered in the end");
            // Forgotten only after a fortnight.
            assert!(self.disk.starts.get(&sender.key).is_none_or(|(started, _)| *started == run));
        }
        assert_eq!(self.disk.runs.len(), self.senders.len(), "a run came from nowhere, or one is missing");
        for record in self.disk.runs.values() {
            assert_eq!(record.status, RunStatus::Completed, "run {} never ended", record.id);
            assert!(record.conclusion.is_some());
        }
        for (key, job) in &self.disk.jobs {
            assert!(job.state.conclusion.is_some(), "job {key:?} never ended");
        }
        for (job, begun) in &self.begun {
            let losses = self.losses.get(job).copied().unwrap_or(0);
            assert!(*begun <= losses + 1, "job {job} was begun {begun} times and lost {losses} times");
        }
        let engine = self.engine.as_ref().expect("the daemon is up in the end");
        assert_eq!(engine.summary().runs, 0);
        assert_eq!(engine.groups().count(), 0, "a group is still held");
        // A cancel that is no force leaves alone what runs always.
        for record in self.disk.jobs.values().filter(|job| job.state.name == "always") {
            let chain = self.disk.runs[&record.run].workflow_path.contains("chain");
            let given_up = record.state.reason.as_deref().is_some_and(|reason| reason.contains("in time"));
            // All its hosts may have died under it.
            let given_up = given_up || !record.lost_on.is_empty();
            if chain && !given_up && !self.forced.contains(&record.run) {
                let ran = matches!(record.state.conclusion, Some(Conclusion::Success | Conclusion::Failure));
                assert!(ran, "a job that runs always did not: {record:?}");
            }
        }
        // A restart at any point leads to the conclusions of no restart.
        for sender in &self.senders {
            let Some(run) = sender.run.filter(|run| !self.disturbed.contains(run)) else { continue };
            if let Some(expected) = undisturbed(WORKFLOWS[sender.workflow].0) {
                let name = WORKFLOWS[sender.workflow].0;
                assert_eq!(self.disk.runs[&run].conclusion, Some(expected), "run {run} of {name}");
                for job in self.disk.jobs.values().filter(|job| job.run == run) {
                    let (ended, skipped) = (job.state.conclusion, job.state.name == "skipped");
                    let wanted = if skipped { Conclusion::Skipped } else { planned_conclusion(&job.state.name) };
                    // Of a matrix that fails fast it is open which legs end by themselves.
                    let fast = name == "fast" && ended == Some(Conclusion::Cancelled);
                    assert!(ended == Some(wanted) || fast, "{} of run {run} ended as {ended:?}", job.state.name);
                }
            }
        }
    }
}
