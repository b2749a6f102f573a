//! What was found out about lists of runs, kept in memory so that the next page does not read a million records again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::codec::number_at;
use super::runs::RunFilter;
use super::trees::{Name, Trees};
use crate::id::RunId;

/// Of every so many runs the number is remembered: a page far down begins there.
const STRIDE: usize = 1024;
/// How many filters are remembered; the one that was not asked for longest is forgotten.
const FILTERS: usize = 32;
/// A filter that so many runs changed under without being asked for is forgotten.
const MOST_TOUCHED: usize = 10_000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lists {
    counts: Mutex<HashMap<Vec<u8>, Count>>,
    narrowed: Mutex<Vec<Arc<Remembered>>>,
}

/// Runs that were counted, and the number of the first that was not.
#[derive(Debug, Default)]
struct Count {
    total: usize,
    next: u64,
    /// The first run, and every [`STRIDE`]th after it.
    marks: Vec<u64>,
}

/// A filter's list.
#[derive(Debug)]
struct Remembered {
    filter: RunFilter,
    narrowed: Mutex<Narrowed>,
    /// Runs that were written since the list was brought up to date. Apart from the list, which may be locked for as long as
    /// a search takes.
    touched: Mutex<BTreeSet<u64>>,
}

/// The runs that a filter wants, as far as they were looked for.
#[derive(Debug, Default)]
pub(super) struct Narrowed {
    /// Newest first.
    pub(super) ids: Vec<u64>,
    /// The oldest run that was looked at.
    pub(super) looked_to: Option<u64>,
    /// Whether there is nothing to look at any more.
    pub(super) whole: bool,
}

impl Narrowed {
    fn put(&mut self, id: u64, wanted: bool) {
        if !self.whole && self.looked_to.is_none_or(|oldest| id < oldest) {
            return;
        }
        match self.ids.binary_search_by(|known| id.cmp(known)) {
            Ok(at) if !wanted => drop(self.ids.remove(at)),
            Err(at) if wanted => self.ids.insert(at, id),
            _ => {}
        }
    }
}

impl Lists {
    /// A run was written, or is no longer there.
    pub(super) fn touch(&self, run: RunId) {
        locked(&self.narrowed).retain(|remembered| {
            let mut touched = locked(&remembered.touched);
            touched.insert(run.0);
            touched.len() < MOST_TOUCHED
        });
    }

    /// Runs were deleted: what was counted is counted again.
    pub(super) fn deleted(&self) {
        locked(&self.counts).clear();
    }

    /// The numbers of a page of all runs whose keys in a tree begin with a prefix, newest first, and how many there are.
    /// Counted once, then only what is new.
    pub(super) fn page(
        &self,
        trees: &Trees,
        name: Name,
        prefix: &[u8],
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<u64>, usize), StoreError> {
        let tree = trees.tree(name);
        let key_of = |id: u64| [prefix, &id.to_be_bytes()].concat();
        let mut counts = locked(&self.counts);
        let count = counts.entry(prefix.to_vec()).or_default();
        for key in tree.range(key_of(count.next)..).keys() {
            let key = key?;
            if !key.starts_with(prefix) {
                break;
            }
            let id = number_at(&key, prefix.len());
            if count.total.is_multiple_of(STRIDE) {
                count.marks.push(id);
            }
            count.total += 1;
            count.next = id + 1;
        }
        // Counted from the oldest.
        let end = count.total.saturating_sub(skip);
        let begin = end.saturating_sub(limit);
        let Some(mark) = count.marks.get(begin / STRIDE).filter(|_| begin < end) else {
            return Ok((Vec::new(), count.total));
        };
        let (first, last, total) = (key_of(*mark), key_of(count.next), count.total);
        drop(counts);
        let before = begin / STRIDE * STRIDE;
        let mut ids = Vec::with_capacity(end - begin);
        if skip < STRIDE {
            for key in tree.range(first..last).keys().rev().skip(skip).take(end - begin) {
                ids.push(number_at(&key?, prefix.len()));
            }
        } else {
            for key in tree.range(first..last).keys().skip(begin - before).take(end - begin) {
                ids.push(number_at(&key?, prefix.len()));
            }
            ids.reverse();
        }
        Ok((ids, total))
    }

    /// Gives `use_it` the list of a filter, after `wants` told of each run that was written since whether it belongs there.
    pub(super) fn narrowed<T>(
        &self,
        filter: &RunFilter,
        wants: impl Fn(u64) -> Result<bool, StoreError>,
        use_it: impl FnOnce(&mut Narrowed) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let remembered = self.remembered(filter);
        let mut narrowed = locked(&remembered.narrowed);
        // What is written from here on is for the next time, whether this one sees it or not.
        let touched = std::mem::take(&mut *locked(&remembered.touched));
        let outcome = touched
            .iter()
            .try_for_each(|id| {
                let wanted = wants(*id)?;
                narrowed.put(*id, wanted);
                Ok(())
            })
            .and_then(|()| use_it(&mut narrowed));
        if outcome.is_err() {
            *narrowed = Narrowed::default();
        }
        outcome
    }

    fn remembered(&self, filter: &RunFilter) -> Arc<Remembered> {
        let mut all = locked(&self.narrowed);
        let found = match all.iter().position(|one| one.filter == *filter) {
            Some(at) => all.remove(at),
            None => {
                Arc::new(Remembered { filter: filter.clone(), narrowed: Mutex::default(), touched: Mutex::default() })
            }
        };
        if all.len() >= FILTERS {
            all.remove(0);
        }
        all.push(Arc::clone(&found));
        found
    }
}
