//! The live log of runs as lines for a pusher's terminal.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::drive::Handle;
use crate::engine::Update;
use crate::id::{JobId, RunId};
use crate::run::{Conclusion, JobPhase, RunStatus};
use crate::server::terminal::{self, Kind};
use crate::store::Store;
use crate::store::logs::LogId;
use crate::toolkit::output::LONGEST_LINE;
use crate::toolkit::stamp;

/// Bytes that are read at once.
const WINDOW: u64 = 64 << 10;
/// Lines that may wait for a slow terminal.
const WAITING: usize = 256;

/// Lines of all jobs of the runs until the runs are over.
pub(super) fn lines(store: Store, engine: Handle, runs: Vec<RunId>) -> BoxStream<'static, String> {
    let (sender, receiver) = mpsc::channel(WAITING);
    // Ends with the runs, or when nobody listens any more.
    tokio::task::spawn(async move {
        let mut follow = Follow { store, sender, open: runs.into_iter().collect(), read: BTreeMap::new() };
        follow.run(&engine).await;
    });
    stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|line| (line, receiver)) }).boxed()
}

struct Follow {
    store: Store,
    sender: mpsc::Sender<String>,
    open: BTreeSet<RunId>,
    /// Bytes of each job's log that were printed.
    read: BTreeMap<JobId, u64>,
}

impl Follow {
    async fn run(&mut self, engine: &Handle) {
        let mut updates = engine.updates();
        // What lags behind is seen with the next look: the store is read, not the update.
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
        while !self.open.is_empty() && !self.sender.is_closed() {
            for run in self.open.clone() {
                if self.look(run).await.is_none() {
                    return;
                }
            }
            tokio::select! {
                _ = ticks.tick() => {}
                update = updates.recv() => {
                    if matches!(update, Ok(Update::Job { .. })) {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// Prints what is new of a run; `None` when nobody listens.
    async fn look(&mut self, run: RunId) -> Option<()> {
        let Ok(Some(record)) = self.store.run(run) else {
            self.open.remove(&run);
            return Some(());
        };
        let jobs = self.store.jobs(run, record.attempt).unwrap_or_default();
        for job in &jobs {
            let state = &job.state;
            let log = LogId { run, attempt: record.attempt, job: state.id };
            loop {
                let from = self.read.get(&state.id).copied().unwrap_or(0);
                let mut bytes = self.store.logs().read(log, from, WINDOW).unwrap_or_default();
                if !bytes.is_empty() && !bytes.contains(&b'\n') {
                    // A long line, or one that is being written.
                    bytes = self.store.logs().read(log, from, WINDOW + LONGEST_LINE as u64).unwrap_or_default();
                }
                let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else { break };
                for line in String::from_utf8_lossy(&bytes[..end]).lines() {
                    let line = line.get(stamp::LENGTH + 1..).unwrap_or_default();
                    let (kind, text) = terminal::marker(line);
                    let word = match kind {
                        Kind::EndGroup => continue,
                        Kind::Group => "> ",
                        other => other.word(),
                    };
                    self.sender.send(format!("{} | {word}{text}", state.name)).await.ok()?;
                }
                self.read.insert(state.id, from + end as u64 + 1);
            }
        }
        if record.status == RunStatus::Completed {
            self.open.remove(&run);
            for job in jobs.iter().filter(|job| job.state.phase == JobPhase::Completed) {
                let word = job.state.conclusion.map_or("unknown", Conclusion::as_str);
                self.sender.send(format!("{:12} {}", word, job.state.name)).await.ok()?;
            }
            let word = record.conclusion.map_or("unknown", Conclusion::as_str);
            self.sender.send(format!("{}: {word}", record.workflow_path)).await.ok()?;
        }
        Some(())
    }
}
