//! The waiting jobs and the hosts, and which pair is next.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::hosts::{Capacity, Host, HostFacts, HostState};
use super::labels::{LabelMap, Labels};
use super::reason::{Obstacle, Reason};
use crate::id::{HostName, JobId, RepositoryName};

/// How many turns one step of priority is worth. Bounded, so that a low priority waits longer but never for ever.
const TURNS_PER_PRIORITY: i64 = 64;
/// Shapes without waiting jobs that are kept for the next job of their kind.
const IDLE_SHAPES: usize = 256;

/// What a job asks of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub job: JobId,
    pub repository: RepositoryName,
    /// All must match, without case (S5).
    pub labels: Vec<String>,
    /// Slots it takes; 0 counts as 1.
    pub weight: u32,
    /// 0 is normal; higher goes earlier.
    pub priority: i32,
    /// Hosts it must not go to: they died under it.
    pub avoid: Vec<HostName>,
    /// The one host it may go to: its device group lives there.
    pub only: Option<HostName>,
    pub since: Timestamp,
}

/// A job and the host it goes to. The slot is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub job: JobId,
    pub host: HostName,
}

/// A place in the order: fair turn, then age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Turn {
    fair: i64,
    sequence: u64,
}

/// What makes jobs interchangeable for the question "which host?".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ShapeKey {
    /// Only while there are hosts that do not serve all.
    repository: Option<RepositoryName>,
    labels: Labels,
    weight: u32,
    avoid: BTreeSet<HostName>,
    only: Option<HostName>,
}

#[derive(Debug)]
struct Shape {
    key: ShapeKey,
    /// Hosts whose labels satisfy it, whatever their state.
    hosts: BTreeSet<HostName>,
    waiting: BTreeMap<Turn, JobId>,
}

#[derive(Debug)]
struct Waiting {
    repository: RepositoryName,
    shape: usize,
    turn: Turn,
    since: Timestamp,
}

#[derive(Debug)]
struct Running {
    host: HostName,
    weight: u32,
    labels: Labels,
}

/// Waiting jobs, running jobs and hosts.
#[derive(Debug, Default)]
pub struct Queue {
    map: LabelMap,
    paused: bool,
    /// Jobs that may run at once; 0 for no limit.
    limit: u32,
    hosts: BTreeMap<HostName, Host>,
    /// Whether some host serves only some repositories.
    choosy: bool,
    /// Hosts with a free slot that take jobs.
    free: BTreeSet<HostName>,
    shapes: Vec<Option<Shape>>,
    shape_of: HashMap<ShapeKey, usize>,
    idle_shapes: BTreeSet<usize>,
    vacant_shapes: Vec<usize>,
    /// The first turn of every shape with waiting jobs.
    heads: BTreeSet<(Turn, usize)>,
    waiting: HashMap<JobId, Waiting>,
    running: HashMap<JobId, Running>,
    /// Repository → its next fair turn, while that is ahead of `turn`.
    next_turn: HashMap<RepositoryName, i64>,
    /// The fair turn served last.
    turn: i64,
    sequence: u64,
    /// Heavy job → host kept free for it.
    reservations: HashMap<JobId, HostName>,
}

impl Queue {
    /// A queue without hosts.
    #[must_use]
    pub fn new(map: LabelMap) -> Self {
        Self { map, ..Self::default() }
    }

    /// Replaces the label map; waiting jobs are matched again.
    pub fn set_label_map(&mut self, map: LabelMap) {
        if self.map != map {
            self.map = map;
            let names: Vec<HostName> = self.hosts.keys().cloned().collect();
            for name in names {
                self.match_shapes(&name);
            }
        }
    }

    /// Stops or resumes assigning altogether.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether assigning is stopped.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Adds a host, or replaces its facts. It is up; draining and pauses stay as they are.
    pub fn host_up(&mut self, facts: HostFacts) {
        let name = facts.name.clone();
        match self.hosts.get_mut(&name) {
            Some(host) => {
                host.up = true;
                host.quiet_until = None;
                if host.facts != facts {
                    host.offered = facts.offered();
                    host.facts = facts;
                    host.running.clear();
                    host.used = 0;
                    host.label_load.clear();
                    self.reload(&name);
                }
            }
            None => {
                self.hosts.insert(name.clone(), Host::new(facts));
                self.reload(&name);
            }
        }
        self.tell_apart();
        self.refresh(&name);
    }

    /// Counts the jobs that are thought to run on a host whose facts are new, and matches its labels.
    fn reload(&mut self, name: &HostName) {
        if let Some(host) = self.hosts.get_mut(name) {
            for (job, running) in self.running.iter().filter(|(_, running)| running.host == *name) {
                host.occupy(*job, running.weight, &running.labels);
            }
        }
        self.match_shapes(name);
    }

    /// Forgets a host. Jobs that run there still count as running.
    pub fn host_removed(&mut self, name: &HostName) {
        if let Some(host) = self.hosts.remove(name) {
            for shape in host.shapes {
                if let Some(shape) = self.shapes[shape].as_mut() {
                    shape.hosts.remove(name);
                }
            }
            if let Some(job) = host.reserved {
                self.reservations.remove(&job);
            }
        }
        self.free.remove(name);
        self.tell_apart();
    }

    /// Marks a host that cannot be reached: it takes nothing until it is up again.
    pub fn host_down(&mut self, name: &HostName) {
        self.change(name, |host| host.up = false);
    }

    /// Lets a host end what it runs, or take jobs again.
    pub fn set_draining(&mut self, name: &HostName, draining: bool) {
        self.change(name, |host| host.draining = draining);
    }

    /// Pauses or resumes a host.
    pub fn set_host_paused(&mut self, name: &HostName, paused: bool) {
        self.change(name, |host| host.paused = paused);
    }

    /// Gives a host no job until then.
    pub fn set_quiet(&mut self, name: &HostName, until: Option<Timestamp>) {
        self.change(name, |host| host.quiet_until = until);
    }

    /// The clock was set: hosts that are left alone for a while are so for as long as before.
    pub fn clock_set(&mut self, by: SignedDuration) {
        let quiet = self.hosts.values().filter(|host| host.quiet_until.is_some());
        let quiet: Vec<HostName> = quiet.map(|host| host.facts.name.clone()).collect();
        for name in quiet {
            let moved = |until: Timestamp| until.saturating_add(by).unwrap_or(until);
            self.change(&name, |host| host.quiet_until = host.quiet_until.map(moved));
        }
    }

    /// Says until when a host is in its quiet hours; `None` outside of them.
    pub fn set_hours(&mut self, name: &HostName, until: Option<Timestamp>) {
        self.change(name, |host| host.hours_until = until);
    }

    /// Sets how many jobs may run at once on all hosts together; 0 for as many as there are slots.
    pub fn set_limit(&mut self, jobs: u32) {
        self.limit = jobs;
    }

    fn at_limit(&self) -> bool {
        self.limit > 0 && self.running.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    /// Ends the quiet of hosts whose time has come.
    pub fn wake(&mut self, now: Timestamp) {
        let due: Vec<HostName> = self
            .hosts
            .values()
            .filter(|host| [host.quiet_until, host.hours_until].iter().flatten().any(|until| *until <= now))
            .map(|host| host.facts.name.clone())
            .collect();
        for name in due {
            self.change(&name, |host| {
                host.quiet_until = host.quiet_until.filter(|until| *until > now);
                host.hours_until = host.hours_until.filter(|until| *until > now);
            });
        }
    }

    fn change(&mut self, name: &HostName, change: impl FnOnce(&mut Host)) {
        if let Some(host) = self.hosts.get_mut(name) {
            change(host);
            self.refresh(name);
        }
    }

    /// Puts the host in or out of `free`, and gives up its reservation when it takes no jobs.
    fn refresh(&mut self, name: &HostName) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        if host.takes_jobs() && host.free() > 0 {
            if !self.free.contains(name) {
                self.free.insert(name.clone());
            }
        } else {
            self.free.remove(name);
        }
        if !host.takes_jobs()
            && let Some(job) = host.reserved.take()
        {
            self.reservations.remove(&job);
        }
    }

    fn match_shapes(&mut self, name: &HostName) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.shapes.clear();
        for (index, shape) in self.shapes.iter_mut().enumerate() {
            let Some(shape) = shape else { continue };
            if matches(&shape.key, host, &self.map) {
                shape.hosts.insert(name.clone());
                host.shapes.insert(index);
            } else {
                shape.hosts.remove(name);
            }
        }
    }

    /// Adds a job that wants a host. A job that waits or runs already stays as it is.
    pub fn enqueue(&mut self, request: Request) {
        if self.waiting.contains_key(&request.job) || self.running.contains_key(&request.job) {
            return;
        }
        let Request { job, repository, labels, weight, priority, avoid, only, since } = request;
        let fair = self.next_turn.get(&repository).map_or(self.turn, |next| self.turn.max(*next));
        self.sequence += 1;
        let turn = Turn { fair: fair - i64::from(priority) * TURNS_PER_PRIORITY, sequence: self.sequence };
        if self.next_turn.len() > 1024 {
            let served = self.turn;
            self.next_turn.retain(|_, next| *next > served);
        }
        self.next_turn.insert(repository.clone(), fair + 1);
        let key = ShapeKey {
            repository: self.choosy.then(|| repository.clone()),
            labels: Labels::new(labels.iter().map(String::as_str)),
            weight: weight.max(1),
            avoid: avoid.into_iter().collect(),
            only,
        };
        self.put(job, Waiting { repository, shape: 0, turn, since }, key);
    }

    /// Puts a job where it waits.
    fn put(&mut self, job: JobId, waiting: Waiting, key: ShapeKey) {
        let turn = waiting.turn;
        let index = self.shape(key);
        let shape = self.shapes[index].as_mut().expect("the index is of a live shape");
        if let Some((head, _)) = shape.waiting.first_key_value() {
            if turn < *head {
                self.heads.remove(&(*head, index));
                self.heads.insert((turn, index));
            }
        } else {
            self.heads.insert((turn, index));
            self.idle_shapes.remove(&index);
        }
        shape.waiting.insert(turn, job);
        self.waiting.insert(job, Waiting { shape: index, ..waiting });
    }

    /// Hosts that serve only some repositories have come, or gone: jobs are told apart by repository then, or no longer.
    fn tell_apart(&mut self) {
        let choosy = self.hosts.values().any(|host| !host.facts.repositories.is_empty());
        if self.choosy == choosy {
            return;
        }
        self.choosy = choosy;
        for job in self.waiting_jobs() {
            let known = self.waiting.get(&job).and_then(|waiting| self.shapes[waiting.shape].as_ref());
            let Some(mut key) = known.map(|shape| shape.key.clone()) else { continue };
            let Some(waiting) = self.take(job) else { continue };
            key.repository = choosy.then(|| waiting.repository.clone());
            self.put(job, waiting, key);
        }
    }

    fn shape(&mut self, key: ShapeKey) -> usize {
        if let Some(index) = self.shape_of.get(&key) {
            return *index;
        }
        let index = self.vacant_shapes.pop().unwrap_or_else(|| {
            self.shapes.push(None);
            self.shapes.len() - 1
        });
        let mut hosts = BTreeSet::new();
        for host in self.hosts.values_mut() {
            if matches(&key, host, &self.map) {
                hosts.insert(host.facts.name.clone());
                host.shapes.insert(index);
            }
        }
        self.shape_of.insert(key.clone(), index);
        self.shapes[index] = Some(Shape { key, hosts, waiting: BTreeMap::new() });
        index
    }

    /// Takes a waiting job out. False when it does not wait.
    pub fn withdraw(&mut self, job: JobId) -> bool {
        self.take(job).is_some()
    }

    fn take(&mut self, job: JobId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&job)?;
        let index = waiting.shape;
        let shape = self.shapes[index].as_mut().expect("a waiting job is in a live shape");
        let was_head = shape.waiting.first_key_value().is_some_and(|(turn, _)| *turn == waiting.turn);
        shape.waiting.remove(&waiting.turn);
        if was_head {
            self.heads.remove(&(waiting.turn, index));
            if let Some((head, _)) = shape.waiting.first_key_value() {
                self.heads.insert((*head, index));
            }
        }
        if shape.waiting.is_empty() {
            self.idle_shapes.insert(index);
            if self.idle_shapes.len() > IDLE_SHAPES {
                self.drop_idle_shape();
            }
        }
        if let Some(host) = self.reservations.remove(&job)
            && let Some(host) = self.hosts.get_mut(&host)
        {
            host.reserved = None;
        }
        Some(waiting)
    }

    fn drop_idle_shape(&mut self) {
        let Some(index) = self.idle_shapes.pop_first() else { return };
        if let Some(shape) = self.shapes[index].take() {
            self.shape_of.remove(&shape.key);
            for name in &shape.hosts {
                if let Some(host) = self.hosts.get_mut(name) {
                    host.shapes.remove(&index);
                }
            }
            self.vacant_shapes.push(index);
        }
    }

    /// Counts a job as running on a host that may not be known yet: after a restart.
    pub fn occupy(&mut self, host: &HostName, request: &Request) {
        self.take(request.job);
        let labels = Labels::new(request.labels.iter().map(String::as_str));
        let weight = request.weight.max(1);
        if let Some(known) = self.hosts.get_mut(host) {
            known.occupy(request.job, weight, &labels);
        }
        let running = Running { host: host.clone(), weight, labels };
        self.running.insert(request.job, running);
        self.refresh(host);
    }

    /// Frees the slot of a job that ended. False when it held none.
    pub fn release(&mut self, job: JobId) -> bool {
        let Some(running) = self.running.remove(&job) else { return false };
        if let Some(host) = self.hosts.get_mut(&running.host) {
            host.vacate(job);
        }
        self.refresh(&running.host);
        true
    }

    /// Gives waiting jobs to free hosts, in order, until none fits. Call it after every change; it is cheap when
    /// nothing can start.
    #[must_use]
    pub fn assign(&mut self) -> Vec<Assignment> {
        let mut assignments = Vec::new();
        if self.paused || self.at_limit() || self.free.is_empty() || self.heads.is_empty() {
            return assignments;
        }
        // Capacity only shrinks in here, so a shape that found no host is done, until a reservation is given back.
        let mut blocked: HashSet<usize> = HashSet::new();
        let mut from = self.heads.first().copied();
        while let Some((turn, index)) = from {
            if self.free.is_empty() || self.at_limit() {
                break;
            }
            if blocked.contains(&index) {
                from = self.after((turn, index));
                continue;
            }
            let shape = self.shapes[index].as_ref().expect("a head belongs to a live shape");
            let job = shape.waiting[&turn];
            if let Some(host) = self.best_host(shape, job) {
                let kept = self.reservations.get(&job).is_some_and(|kept| *kept != host);
                self.start(job, &host);
                assignments.push(Assignment { job, host });
                if kept {
                    blocked.clear();
                    from = self.heads.first().copied();
                } else {
                    // The shape's next head is later, so the walk goes on from here.
                    from = self.after((turn, index));
                }
            } else {
                if shape.key.weight > 1 {
                    self.reserve(index, job);
                }
                blocked.insert(index);
                from = self.after((turn, index));
            }
        }
        assignments
    }

    fn after(&self, head: (Turn, usize)) -> Option<(Turn, usize)> {
        self.heads.range((std::ops::Bound::Excluded(head), std::ops::Bound::Unbounded)).next().copied()
    }

    /// The free host that suits the job best: one that holds its workspace, else the least loaded.
    fn best_host(&self, shape: &Shape, job: JobId) -> Option<HostName> {
        let repository = self.waiting[&job].repository.as_str();
        let fits = |host: &&Host| {
            host.free() >= shape.key.weight
                && host.reserved.is_none_or(|kept| self.same_shape(kept, job))
                && host.label_at_limit(&shape.key.labels).is_none()
        };
        // Walk the smaller of the two sets.
        let candidates: Box<dyn Iterator<Item = &HostName>> = if self.free.len() <= shape.hosts.len() {
            Box::new(self.free.iter().filter(|name| shape.hosts.contains(*name)))
        } else {
            Box::new(shape.hosts.iter().filter(|name| self.free.contains(*name)))
        };
        candidates
            .filter_map(|name| self.hosts.get(name))
            .filter(fits)
            .min_by_key(|host| {
                let load = u64::from(host.used) * 1000 / u64::from(host.facts.slots.max(1));
                (!host.warm.contains(repository), load)
            })
            .map(|host| host.facts.name.clone())
    }

    /// A host is kept for a kind of job: whichever is first when it becomes free.
    fn same_shape(&self, one: JobId, other: JobId) -> bool {
        let shape = |job| self.waiting.get(&job).map(|waiting| waiting.shape);
        one == other || shape(one).is_some() && shape(one) == shape(other)
    }

    fn start(&mut self, job: JobId, name: &HostName) {
        let waiting = self.take(job).expect("only waiting jobs are started");
        if let Some(kept) = self.hosts.get_mut(name).and_then(|host| host.reserved.take()) {
            self.reservations.remove(&kept);
        }
        self.turn = self.turn.max(waiting.turn.fair);
        let key = &self.shapes[waiting.shape].as_ref().map(|shape| shape.key.clone());
        let (weight, labels) = key.as_ref().map_or((1, Labels::default()), |key| (key.weight, key.labels.clone()));
        let host = self.hosts.get_mut(name).expect("free hosts are known");
        host.occupy(job, weight, &labels);
        if !host.warm.contains(waiting.repository.as_str()) {
            host.warm.insert(waiting.repository.0.clone());
        }
        let running = Running { host: name.clone(), weight, labels };
        self.running.insert(job, running);
        self.refresh(name);
    }

    /// Keeps one host free for a job of several slots, so that small jobs cannot starve it.
    fn reserve(&mut self, shape: usize, job: JobId) {
        if self.reservations.keys().any(|kept| self.same_shape(*kept, job)) {
            return;
        }
        let Some(shape) = self.shapes[shape].as_ref() else { return };
        let host = shape
            .hosts
            .iter()
            .filter_map(|name| self.hosts.get(name))
            .filter(|host| host.takes_jobs() && host.reserved.is_none() && host.facts.slots >= shape.key.weight)
            .max_by_key(|host| host.free())
            .map(|host| host.facts.name.clone());
        if let Some(name) = host
            && let Some(host) = self.hosts.get_mut(&name)
        {
            host.reserved = Some(job);
            self.reservations.insert(job, name);
        }
    }

    /// How many jobs wait for a host.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many jobs hold a slot.
    #[must_use]
    pub fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Whether the job waits for a host.
    #[must_use]
    pub fn is_waiting(&self, job: JobId) -> bool {
        self.waiting.contains_key(&job)
    }

    /// The host whose slot the job holds.
    #[must_use]
    pub fn host_of(&self, job: JobId) -> Option<&HostName> {
        self.running.get(&job).map(|running| &running.host)
    }

    /// Waiting jobs in the order they would start if every host suited all.
    #[must_use]
    pub fn waiting_jobs(&self) -> Vec<JobId> {
        let mut jobs: Vec<(Turn, JobId)> = self.waiting.iter().map(|(job, waiting)| (waiting.turn, *job)).collect();
        jobs.sort_unstable();
        jobs.into_iter().map(|(_, job)| job).collect()
    }

    /// Every host and its load, by name.
    #[must_use]
    pub fn hosts(&self) -> Vec<Capacity> {
        self.hosts.values().map(capacity).collect()
    }

    /// One host and its load.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<Capacity> {
        self.hosts.get(name).map(capacity)
    }

    /// Facts of one host.
    #[must_use]
    pub fn host_facts(&self, name: &HostName) -> Option<&HostFacts> {
        self.hosts.get(name).map(|host| &host.facts)
    }

    /// Why a waiting job waits, and what would start it. Empty when it does not wait here.
    #[must_use]
    pub fn why(&self, job: JobId) -> Vec<Reason> {
        let Some(waiting) = self.waiting.get(&job) else { return Vec::new() };
        let Some(shape) = self.shapes[waiting.shape].as_ref() else { return Vec::new() };
        let mut reasons = Vec::new();
        if self.paused {
            reasons.push(Obstacle::QueuePaused);
        }
        if self.at_limit() {
            reasons.push(Obstacle::JobLimit { jobs: self.limit });
        }
        if shape.hosts.is_empty() {
            reasons.push(self.no_match(&shape.key));
            return reasons.into_iter().map(|obstacle| Reason::new(obstacle, waiting.since)).collect();
        }
        let largest = shape.hosts.iter().filter_map(|name| self.hosts.get(name)).map(|host| host.facts.slots).max();
        if let Some(largest) = largest.filter(|largest| *largest < shape.key.weight) {
            reasons.push(Obstacle::TooHeavy { weight: shape.key.weight, largest });
        }
        let mut busy = Vec::new();
        for host in shape.hosts.iter().filter_map(|name| self.hosts.get(name)) {
            let name = host.facts.name.clone();
            match host.state() {
                HostState::Down => reasons.push(Obstacle::HostDown { host: name }),
                HostState::Draining => reasons.push(Obstacle::HostDraining { host: name }),
                HostState::Paused => reasons.push(Obstacle::HostPaused { host: name }),
                HostState::Quiet(until) => reasons.push(Obstacle::HostQuiet { host: name, until }),
                HostState::Up if host.free() < shape.key.weight => busy.push(name),
                HostState::Up => {
                    if let Some(label) = host.label_at_limit(&shape.key.labels) {
                        reasons.push(Obstacle::LabelLimit { host: name, label: label.to_owned() });
                    } else if let Some(other) = host.reserved.filter(|kept| !self.same_shape(*kept, job)) {
                        reasons.push(Obstacle::HostReserved { host: name, job: other });
                    }
                }
            }
        }
        if !busy.is_empty() {
            let ahead = shape.waiting.range(..waiting.turn).count();
            reasons.push(Obstacle::HostsBusy { hosts: busy, ahead });
        }
        reasons.into_iter().map(|obstacle| Reason::new(obstacle, waiting.since)).collect()
    }

    /// The host that comes closest to what a job asks for.
    fn no_match(&self, key: &ShapeKey) -> Obstacle {
        let labels: Vec<String> = key.labels.0.iter().cloned().collect();
        if let Some(only) = &key.only {
            return Obstacle::DeviceHost { host: only.clone(), known: self.hosts.contains_key(only) };
        }
        let suits = |host: &&Host| key.labels.missing(&host.offered, &self.map).is_empty();
        let others: Vec<HostName> = self
            .hosts
            .values()
            .filter(suits)
            .filter(|host| key.repository.as_ref().is_some_and(|repository| !host.facts.serves(repository)))
            .map(|host| host.facts.name.clone())
            .collect();
        if !others.is_empty() {
            return Obstacle::OtherRepositories { hosts: others };
        }
        if !key.avoid.is_empty() && self.hosts.values().any(|host| suits(&host)) {
            return Obstacle::HostsLost { hosts: key.avoid.iter().cloned().collect() };
        }
        let nearest = self
            .hosts
            .values()
            .map(|host| (key.labels.missing(&host.offered, &self.map), host.facts.name.clone()))
            .min_by_key(|(missing, _)| missing.len())
            .map(|(missing, host)| (host, missing));
        Obstacle::NoHost { labels, nearest }
    }
}

fn matches(key: &ShapeKey, host: &Host, map: &LabelMap) -> bool {
    key.only.as_ref().is_none_or(|only| only.0.eq_ignore_ascii_case(&host.facts.name.0))
        && !key.avoid.contains(&host.facts.name)
        && key.repository.as_ref().is_none_or(|repository| host.facts.serves(repository))
        && key.labels.missing(&host.offered, map).is_empty()
}

fn capacity(host: &Host) -> Capacity {
    Capacity {
        name: host.facts.name.clone(),
        state: host.state(),
        slots: host.facts.slots,
        used: host.used,
        jobs: host.running.keys().copied().collect(),
    }
}
