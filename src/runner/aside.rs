//! A step that runs beside the others has a job of its own (S14): with what the job had when the step began, and with a part
//! of the journal, a log and steps of the host for itself. What it did becomes the job's where that waits for it.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::toolkit::environment::add_path;
use crate::toolkit::mask::Masks;
use crate::toolkit::matcher::{MatcherConfig, MatchersFile};
use crate::transport::{HostEvent, HostEvents, Resume, Spool};

use super::contexts::Frame;
use super::job::Job;
use super::journal::Part;
use super::summaries::Summaries;
use super::{JobError, Told};

/// So many bits of a host's number count the processes of one background step.
const BITS: u32 = 16;

/// What makes a job that of one background step.
pub(super) struct Aside {
    /// The number of its first process on the host.
    first: u32,
    /// `cancel:` names it.
    stop: watch::Receiver<bool>,
    /// What it set and will be set for the job.
    env: Vec<(String, String)>,
    paths: Vec<String>,
    matchers: Vec<MatcherChange>,
}

/// What a step did to the matchers of the job (W10).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MatcherChange {
    Add(Vec<MatcherConfig>),
    /// Those of an owner.
    Remove(String),
}

/// Where a job hears of its steps.
pub(super) enum Events {
    Host(HostEvents),
    /// From the job it runs beside.
    Aside(mpsc::Receiver<HostEvent>),
}

impl Events {
    /// The next event. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Option<HostEvent> {
        match self {
            Self::Host(events) => events.next().await,
            Self::Aside(events) => events.recv().await,
        }
    }

    /// Nobody listens any more.
    pub(super) fn close(&mut self) {
        if let Self::Aside(events) = self {
            events.close();
        }
    }
}

/// The ends of a background step that its job keeps.
pub(super) struct Reins {
    pub(super) events: mpsc::Sender<HostEvent>,
    pub(super) told: watch::Sender<Told>,
    pub(super) stop: watch::Sender<bool>,
    /// The number of its first process on the host.
    pub(super) number: u32,
    /// The job has its end already.
    pub(super) joined: bool,
}

/// What a job and those beside it tell each other of secrets: a mask holds for all of them at once (W8).
#[derive(Clone)]
pub(super) struct SharedMasks {
    all: Arc<Mutex<Vec<String>>>,
    /// How many of them are known here.
    heard: usize,
    /// How many of the own masks are in there or were before.
    own: usize,
}

impl SharedMasks {
    fn new(masks: &Masks) -> Self {
        Self { all: Arc::default(), heard: 0, own: masks.len() }
    }

    fn exchange(&mut self, masks: &mut Masks) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == self.heard && masks.len() == self.own {
            return;
        }
        let own: Vec<String> = masks.values().skip(self.own).map(str::to_owned).collect();
        all[self.heard..].iter().for_each(|value| masks.add(value));
        all.extend(own);
        self.heard = all.len();
        self.own = masks.len();
    }
}

impl Aside {
    /// The host's number of its process `count`, from 1.
    pub(super) fn number(&self, count: u32) -> u32 {
        if count <= 1 { self.first } else { (self.first << BITS) | count }
    }
}

/// Whether a number of the host is that of a process of the background step whose first process has number `first`.
pub(super) fn owns(first: u32, number: u32) -> bool {
    number == first || number >> BITS == first
}

/// Returns when a background step is cancelled by name; once.
pub(super) async fn stop_of(aside: &mut Option<Aside>) {
    let changed = match aside {
        Some(aside) => aside.stop.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

impl Job {
    /// A job for one background step, and what holds it.
    pub(super) fn split_off(&mut self, key: &str) -> Result<(Self, Reins), JobError> {
        let number = self.next_number();
        let Part { journal, log, joined } = self.journal.part(key);
        let log = self.log.beside(number, if joined { (0, 0) } else { log })?;
        let shared = self.shared_masks.get_or_insert_with(|| SharedMasks::new(&self.masks));
        shared.exchange(&mut self.masks);
        let shared_masks = Some(shared.clone());
        let (events, receiver) = mpsc::channel(64);
        let (told, told_receiver) = watch::channel(*self.told.borrow());
        let (stop, stop_receiver) = watch::channel(false);
        let mut job = Self {
            runner: self.runner.clone(),
            order: Arc::clone(&self.order),
            host_name: self.host_name.clone(),
            host: self.host.clone(),
            events: Events::Aside(receiver),
            journal,
            log,
            summaries: Summaries::aside(),
            masks: self.masks.clone(),
            masks_kept: 0,
            shared_masks,
            matchers: self.matchers.clone(),
            reports: self.reports.clone(),
            told: told_receiver,
            workspace: self.workspace.clone(),
            fixed: self.fixed.clone(),
            surroundings: Arc::clone(&self.surroundings),
            machine: self.machine.clone(),
            containers: self.containers.split_off(),
            reached: self.reached.beside(),
            env: self.env.clone(),
            paths: self.paths.clone(),
            status: self.status,
            posts: Vec::new(),
            found: self.found.clone(),
            pres: self.pres.clone(),
            states: self.states.clone(),
            artifacts: self.artifacts.clone(),
            hashed: self.hashed.clone(),
            nodes: self.nodes.clone(),
            background: Vec::new(),
            beside: tokio::task::JoinSet::new(),
            aside: Some(Aside {
                first: number,
                stop: stop_receiver,
                env: Vec::new(),
                paths: Vec::new(),
                matchers: Vec::new(),
            }),
            background_failed: false,
            number: 0,
            resume: Resume { offset: 0, ended: 0 },
            deadline: self.deadline,
            out_of_time: false,
            interruption: None,
            owed: None,
            is_reread: self.host.attached(),
            cancel_deadline: self.cancel_deadline,
            step_deadline: None,
            steps: Vec::new(),
        };
        job.recall_masks()?;
        Ok((job, Reins { events, told, stop, number, joined }))
    }

    /// Makes what a background step did the job's own. `other` is the frame it ran in.
    pub(super) fn join(&mut self, frame: &mut Frame, (id, key): (&str, &str), aside: &mut Self, other: &Frame) {
        let did = aside.aside.take();
        if let Some(Aside { env, paths, matchers, .. }) = did {
            self.env.extend(env);
            paths.into_iter().for_each(|path| add_path(&mut self.paths, path));
            matchers.into_iter().for_each(|change| self.change_matchers(change));
        }
        for (name, value) in other.steps.outputs_of(id) {
            frame.steps.set_output(id, name, value);
        }
        for post in aside.posts.drain(..) {
            self.stack_post(post);
        }
        let inside = format!("{key}.");
        let states = aside.states.drain().filter(|(of, _)| of == key || of.starts_with(&inside));
        self.states.extend(states);
        self.summaries.adopt(std::mem::replace(&mut aside.summaries, Summaries::aside()));
        if self.journal.is_live() {
            self.summaries.write();
        }
        for (name, subject) in std::mem::take(&mut aside.artifacts) {
            self.artifacts.entry(name).or_insert(subject);
        }
        self.containers.join(&aside.containers);
        self.nodes.append(&mut aside.nodes);
    }

    /// The spool of the next process.
    pub(super) fn spool(&self) -> Spool {
        if self.aside.is_some() { Spool::Own(0) } else { Spool::Main }
    }

    /// Tells this job from those beside it on the host.
    pub(super) fn mark(&self) -> String {
        match &self.aside {
            None => self.order.job.to_string(),
            Some(aside) => format!("{}-{}", self.order.job, aside.first),
        }
    }

    /// A variable for all steps that come.
    pub(super) fn set_env(&mut self, name: String, value: String) {
        if let Some(aside) = &mut self.aside {
            aside.env.push((name.clone(), value.clone()));
        }
        self.env.insert(name, value);
    }

    /// A directory for `PATH` of all steps that come.
    pub(super) fn add_path(&mut self, path: String) {
        if let Some(aside) = &mut self.aside {
            aside.paths.push(path.clone());
        }
        add_path(&mut self.paths, path);
    }

    /// Changes the matchers of all steps that come.
    pub(super) fn change_matchers(&mut self, change: MatcherChange) {
        match &change {
            MatcherChange::Add(matchers) => drop(self.matchers.add(MatchersFile { matchers: matchers.clone() })),
            MatcherChange::Remove(owner) => self.matchers.remove(owner),
        }
        if let Some(aside) = &mut self.aside {
            aside.matchers.push(change);
        }
    }

    /// Learns what others masked, and tells them.
    pub(super) fn exchange_masks(&mut self) {
        if let Some(shared) = &mut self.shared_masks {
            shared.exchange(&mut self.masks);
        }
    }

    /// Records masks that a step asked for while others run: after a crash these may be followed before it.
    pub(super) fn keep_masks(&mut self, known: usize) -> Result<(), JobError> {
        let others = self.aside.is_some() || !self.beside.is_empty();
        if self.masks.len() == known || !others || !self.journal.is_live() {
            return Ok(());
        }
        let new: Vec<String> = self.masks.values().skip(known).map(str::to_owned).collect();
        self.masks_kept += 1;
        self.record_in_step(&format!("masks/{}", self.masks_kept), &new)
    }

    /// Learns them again.
    pub(super) fn recall_masks(&mut self) -> Result<(), JobError> {
        while let Some(values) = self.journal.recall::<Vec<String>>(&format!("masks/{}", self.masks_kept + 1))? {
            values.iter().for_each(|value| self.masks.add(value));
            self.masks_kept += 1;
        }
        self.exchange_masks();
        Ok(())
    }

    /// Whether this is a background step that was cancelled by name, before the step inside of it that has this key.
    pub(super) fn is_stopped(&mut self, key: &str) -> Result<bool, JobError> {
        let Some(aside) = &self.aside else { return Ok(false) };
        let wanted = *aside.stop.borrow();
        let key = format!("{key}/stopped");
        if self.journal.recall::<()>(&key)?.is_some() {
            return Ok(true);
        }
        // What ran before a restart is walked through again.
        if !wanted || !self.journal.is_live() {
            return Ok(false);
        }
        self.record(&key, &())?;
        Ok(true)
    }

    /// Whether somebody cancelled the job, or this background step by its name.
    pub(super) fn is_cancelled_from_outside(&self) -> bool {
        self.told.borrow().cancel != super::Cancel::No || self.aside.as_ref().is_some_and(|aside| *aside.stop.borrow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hold_for_all_at_once() {
        let mut job = Masks::new();
        job.add("known before");
        let mut shared = SharedMasks::new(&job);
        let (mut beside, mut other) = (job.clone(), job.clone());
        let (mut from_beside, mut from_other) = (shared.clone(), shared.clone());
        beside.add("one\ntwo");
        from_beside.exchange(&mut beside);
        job.add("three");
        shared.exchange(&mut job);
        from_other.exchange(&mut other);
        from_beside.exchange(&mut beside);
        for masks in [&job, &beside, &other] {
            let said = masks.apply("known before, one, two, three, four").into_owned();
            assert_eq!(said, "***, ***, ***, ***, four");
        }
    }

    #[test]
    fn processes_of_background_steps_have_numbers_of_their_own() {
        let (_, stop) = watch::channel(false);
        let aside = Aside { first: 7, stop, env: Vec::new(), paths: Vec::new(), matchers: Vec::new() };
        let numbers: Vec<u32> = (1..4).map(|count| aside.number(count)).collect();
        assert!(numbers.iter().all(|&number| owns(7, number) && !owns(8, number)), "{numbers:?}");
        assert!(numbers[0] < numbers[1] && numbers[1] < numbers[2]);
        assert!(!owns(7, 0) && !owns(7, 1) && !owns(7, 8));
    }
}
