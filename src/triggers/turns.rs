//! Whose turn it is: deliveries wait in a line per source, and a few of each line are handled at once.
//!
//! What waits is small and belongs to nobody: a task per waiting delivery would hold room for all that handling it may ever
//! need.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Deliveries handled at once: each may run a few git processes.
const AT_ONCE: usize = 16;
/// The same of one source: a forge that does not answer holds up nobody else.
const AT_ONCE_OF_ONE: usize = 4;

/// The lines of all sources.
pub(super) struct Turns<T> {
    all: Arc<Semaphore>,
    lanes: Mutex<HashMap<String, Arc<Lane<T>>>>,
}

/// Held by who handles a delivery now.
pub(super) struct Turn {
    _of_source: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// The line of one source.
pub(super) struct Lane<T> {
    at_once: Arc<Semaphore>,
    line: Mutex<Line<T>>,
}

struct Line<T> {
    waiting: VecDeque<T>,
    /// Tasks that take from the line until it is empty.
    workers: usize,
}

/// Held by a task that takes from a line.
pub(super) struct Worker<T> {
    lane: Arc<Lane<T>>,
    /// It found the line empty and is not counted any more.
    left: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_ONCE)), lanes: Mutex::default() }
    }
}

impl<T> Turns<T> {
    pub(super) fn lane(&self, source: &str) -> Arc<Lane<T>> {
        let mut lanes = locked(&self.lanes);
        if let Some(lane) = lanes.get(source) {
            return Arc::clone(lane);
        }
        let line = Line { waiting: VecDeque::new(), workers: 0 };
        let lane = Arc::new(Lane { at_once: Arc::new(Semaphore::new(AT_ONCE_OF_ONE)), line: Mutex::new(line) });
        lanes.insert(source.to_owned(), Arc::clone(&lane));
        lane
    }

    /// Waits for a turn; `None` is never given while the daemon lives.
    pub(super) async fn next(&self, lane: &Lane<T>) -> Option<Turn> {
        let of_source = Arc::clone(&lane.at_once).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _of_source: of_source, _of_all: of_all })
    }

    /// A turn and its worker, if nobody has to be waited for.
    pub(super) fn now(&self, lane: &Arc<Lane<T>>) -> Option<(Turn, Worker<T>)> {
        let mut line = locked(&lane.line);
        if !line.waiting.is_empty() || line.workers >= AT_ONCE_OF_ONE {
            return None;
        }
        let of_source = Arc::clone(&lane.at_once).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        line.workers += 1;
        Some((Turn { _of_source: of_source, _of_all: of_all }, Worker { lane: Arc::clone(lane), left: false }))
    }
}

impl<T> Lane<T> {
    /// Puts something at the end of the line. When there could be one more to take from it, that is given: it must begin.
    pub(super) fn join(self: &Arc<Self>, one: T) -> Option<Worker<T>> {
        let mut line = locked(&self.line);
        line.waiting.push_back(one);
        if line.workers >= AT_ONCE_OF_ONE {
            return None;
        }
        line.workers += 1;
        Some(Worker { lane: Arc::clone(self), left: false })
    }
}

impl<T> Worker<T> {
    pub(super) fn lane(&self) -> &Lane<T> {
        &self.lane
    }

    /// The first of the line. After `None` the worker ends: what comes later makes another.
    pub(super) fn next(&mut self) -> Option<T> {
        let mut line = locked(&self.lane.line);
        let first = line.waiting.pop_front();
        if first.is_none() && !self.left {
            self.left = true;
            line.workers -= 1;
            // A burst is over.
            line.waiting.shrink_to_fit();
        }
        first
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        if !self.left {
            locked(&self.lane.line).workers -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_few_workers_that_end_when_it_is_empty() {
        let turns = Turns::default();
        let lane = turns.lane("ada/app");
        let mut workers: Vec<_> = (0..10).filter_map(|number| lane.join(number)).collect();
        assert_eq!(workers.len(), AT_ONCE_OF_ONE);
        assert!(turns.now(&lane).is_none(), "nobody overtakes");
        let taken: Vec<i32> = std::iter::from_fn(|| workers[0].next()).collect();
        assert_eq!(taken, (0..10).collect::<Vec<_>>(), "in their order");
        // The first left; the others have not looked yet.
        assert!(lane.join(10).is_some(), "one that comes then is not forgotten");
        drop(workers);
        let (turn, worker) = turns.now(&turns.lane("other")).expect("nobody waits");
        drop((turn, worker));
    }

    #[test]
    fn one_source_takes_no_more_than_its_share_and_all_no_more_than_theirs() {
        let turns = Turns::<()>::default();
        let held: Vec<_> = (0..10)
            .flat_map(|source| {
                let lane = turns.lane(&source.to_string());
                std::iter::from_fn(|| turns.now(&lane)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(held.len(), AT_ONCE);
        drop(held);
        assert!(turns.now(&turns.lane("9")).is_some());
    }
}
