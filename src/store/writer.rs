//! The one thread that writes: group commit, flush, sync.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
}

/// Its length is bounded by the number of callers: each waits for its own commit.
#[derive(Debug, Default)]
struct Queue {
    jobs: Vec<Commit>,
    closed: bool,
}

#[derive(Debug)]
struct Commit {
    writes: Vec<Write>,
    done: Done,
}

type Outcome = Result<(), Arc<StoreError>>;

#[derive(Debug)]
enum Done {
    Waker(oneshot::Sender<Outcome>),
    Thread(std::sync::mpsc::SyncSender<Outcome>),
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
        });
        let state = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || state.run()).ok();
        Self { shared, thread }
    }

    pub(super) fn trees(&self) -> &Trees {
        &self.shared.trees
    }

    /// Queues the writes at once; the future ends when they are durable.
    pub(super) fn commit(&self, writes: Vec<Write>) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.push(writes, Done::Waker(sender));
        async move { receiver.await.map_err(|_| StoreError::Closed)?.map_err(|error| again(&error)) }
    }

    /// The same, blocking the calling thread.
    pub(super) fn commit_blocking(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.push(writes, Done::Thread(sender));
        receiver.recv().map_err(|_| StoreError::Closed)?.map_err(|error| again(&error))
    }

    fn push(&self, writes: Vec<Write>, done: Done) {
        let mut queue = self.shared.lock();
        if self.thread.is_some() && !queue.closed {
            queue.jobs.push(Commit { writes, done });
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
            for commit in commits {
                writes.extend(commit.writes);
                done.push(commit.done);
            }
            let outcome = self.write(writes, &mut synced).map_err(Arc::new);
            if let Err(error) = &outcome {
                log::error!("{error}");
                synced = None;
            }
            for done in done {
                // A caller that stopped waiting does not need to know.
                match done {
                    Done::Waker(sender) => drop(sender.send(outcome.clone())),
                    Done::Thread(sender) => drop(sender.send(outcome.clone())),
                }
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
