//! The one thread that writes: group commit, flush, sync.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::StoreError;
use super::trees::{Trees, Write};

/// The most writes of one transaction; more wait for the next.
const BATCH: usize = 4096;
/// Free bytes below which nothing is written, so that sled never meets a full disk half-way: at most this much, and at
/// most a twentieth of the disk.
const RESERVE: u64 = 32 << 20;

/// Hands writes to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    trees: Trees,
    queue: Mutex<Queue>,
    wake: Condvar,
    directory: PathBuf,
    durable: bool,
    /// Free bytes that the disk has to keep.
    reserve: AtomicU64,
    /// A commit of the series failed.
    broken: AtomicBool,
}

/// Its length is bounded by the number of callers: each waits for its own commit, or has few under way.
#[derive(Debug, Default)]
struct Queue {
    jobs: Vec<Commit>,
    closed: bool,
}

#[derive(Debug)]
struct Commit {
    writes: Vec<Write>,
    done: Done,
    /// One of a series: see [`Writer::commit_next`].
    in_series: bool,
}

type Outcome = Result<(), Arc<StoreError>>;

#[derive(Debug)]
enum Done {
    Waker(oneshot::Sender<Outcome>),
    Thread(std::sync::mpsc::SyncSender<Outcome>),
}

impl Done {
    fn tell(self, outcome: Outcome) {
        // A caller that stopped waiting does not need to know.
        match self {
            Self::Waker(sender) => drop(sender.send(outcome)),
            Self::Thread(sender) => drop(sender.send(outcome)),
        }
    }
}

/// A commit under way; ends when it is durable.
#[derive(Debug)]
pub(crate) struct Pending(oneshot::Receiver<Outcome>);

impl Future for Pending {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|told| told.map_err(|_| StoreError::Closed)?.map_err(|error| again(&error)))
    }
}

impl Writer {
    pub(super) fn start(directory: &Path, trees: Trees, durable: bool) -> Self {
        let shared = Arc::new(State {
            trees,
            queue: Mutex::default(),
            wake: Condvar::new(),
            directory: directory.to_owned(),
            durable,
            reserve: AtomicU64::new(RESERVE),
            broken: AtomicBool::new(false),
        });
        let state = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || state.run()).ok();
        Self { shared, thread }
    }

    pub(super) fn trees(&self) -> &Trees {
        &self.shared.trees
    }

    /// Queues the writes at once; the future ends when they are durable.
    pub(super) fn commit(&self, writes: Vec<Write>) -> Pending {
        self.push(writes, false)
    }

    /// The same for one of a series that does not wait for the one before it: once one failed, those after it fail too,
    /// until the series begins anew. So what is on the disk is never a later one without an earlier one.
    pub(super) fn commit_next(&self, writes: Vec<Write>) -> Pending {
        self.push(writes, true)
    }

    /// Lets a series go on after a failure. None of it may be under way.
    pub(super) fn begin_anew(&self) {
        self.shared.broken.store(false, Ordering::Release);
    }

    /// A commit that blocks the calling thread.
    pub(super) fn commit_blocking(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.queue(Commit { writes, done: Done::Thread(sender), in_series: false });
        receiver.recv().map_err(|_| StoreError::Closed)?.map_err(|error| again(&error))
    }

    fn push(&self, writes: Vec<Write>, in_series: bool) -> Pending {
        let (sender, receiver) = oneshot::channel();
        self.queue(Commit { writes, done: Done::Waker(sender), in_series });
        Pending(receiver)
    }

    fn queue(&self, commit: Commit) {
        let mut queue = self.shared.lock();
        if self.thread.is_some() && !queue.closed {
            queue.jobs.push(commit);
            self.shared.wake.notify_one();
        }
    }

    /// Sets how much has to stay free.
    pub(super) fn keep_free(&self, bytes: u64) {
        self.shared.reserve.store(bytes.max(RESERVE), Ordering::Relaxed);
    }

    /// Whether a commit would be refused for want of space.
    pub(super) fn check_space(&self) -> Result<(), StoreError> {
        self.shared.check_space()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread does not panic; if it did, there is nothing left to save here.
            let _ = thread.join();
        }
    }
}

/// One failure has several recipients.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full { directory, free } => StoreError::Full { directory: directory.clone(), free: *free },
        StoreError::Closed => StoreError::Closed,
        StoreError::Write(reason) => StoreError::Write(reason.clone()),
        other => StoreError::Write(other.to_string()),
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut synced: Option<File> = None;
        while let Some(commits) = self.next() {
            let mut writes = Vec::new();
            let mut done = Vec::with_capacity(commits.len());
            let mut in_series = false;
            for commit in commits {
                if commit.in_series && self.broken.load(Ordering::Acquire) {
                    let reason = "an earlier change was not written".to_owned();
                    commit.done.tell(Err(Arc::new(StoreError::Write(reason))));
                    continue;
                }
                in_series |= commit.in_series;
                writes.extend(commit.writes);
                done.push(commit.done);
            }
            if done.is_empty() {
                continue;
            }
            let outcome = self.write(writes, &mut synced).map_err(Arc::new);
            if let Err(error) = &outcome {
                log::error!("{error}");
                synced = None;
                self.broken.fetch_or(in_series, Ordering::AcqRel);
            }
            for done in done {
                done.tell(outcome.clone());
            }
        }
    }

    /// Waits for commits; `None` when closed and nothing is left.
    fn next(&self) -> Option<Vec<Commit>> {
        let mut queue = self.lock();
        loop {
            if !queue.jobs.is_empty() {
                let mut total = 0;
                let take = queue
                    .jobs
                    .iter()
                    .take_while(|commit| {
                        let fits = total == 0 || total + commit.writes.len() <= BATCH;
                        total += commit.writes.len();
                        fits
                    })
                    .count();
                return Some(queue.jobs.drain(..take).collect());
            }
            if queue.closed {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&self, writes: Vec<Write>, synced: &mut Option<File>) -> Result<(), StoreError> {
        if self.durable {
            self.check_space()?;
        }
        if !writes.is_empty() {
            self.trees.apply(writes)?;
        }
        if !self.durable {
            return Ok(());
        }
        self.trees.flush().and_then(|()| {
            let file = match synced.take() {
                Some(file) => file,
                None => File::open(self.directory.join("db").join("db")).map_err(|error| failed(&error))?,
            };
            file.sync_data().map_err(|error| failed(&error))?;
            *synced = Some(file);
            Ok(())
        })
    }

    fn check_space(&self) -> Result<(), StoreError> {
        let Ok(status) = rustix::fs::statvfs(&self.directory) else { return Ok(()) };
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        let total = status.f_blocks.saturating_mul(status.f_frsize);
        if free < self.reserve.load(Ordering::Relaxed).min(total / 20) {
            return Err(StoreError::Full { directory: self.directory.clone(), free });
        }
        Ok(())
    }
}

fn failed(error: &std::io::Error) -> StoreError {
    StoreError::Write(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::trees::Name;
    use super::*;

    #[tokio::test]
    async fn what_follows_a_failure_in_a_series_is_not_written_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let database = sled::Config::new().temporary(true).flush_every_ms(None).open().unwrap();
        let writer = Writer::start(directory.path(), Trees::new(database).unwrap(), true);
        let put = |number: u8| vec![Write::put(Name::Keys, vec![number], vec![number])];
        // There is no file that could be synced.
        let (first, second) = (writer.commit_next(put(1)), writer.commit_next(put(2)));
        assert!(first.await.is_err() && second.await.is_err());
        std::fs::create_dir(directory.path().join("db")).unwrap();
        File::create(directory.path().join("db/db")).unwrap();
        writer.commit(put(3)).await.expect("others go on");
        assert!(writer.commit_next(put(4)).await.is_err());
        assert_eq!(writer.trees().get(Name::Keys, &[4]).unwrap(), None);
        writer.begin_anew();
        writer.commit_next(put(5)).await.expect("it begins anew");
        assert_eq!(writer.trees().get(Name::Keys, &[5]).unwrap().as_deref(), Some(&[5][..]));
    }
}
