//! The records of the engine, written by sled without the engine.
//!
//! What the engine wrote for one event is taken out of its database: the trees, the keys and the values, byte for byte. The
//! peer writes the same again and again under fresh ids, for the same number of senders that wait for their answer in the
//! same runtime, with one thread that writes what has gathered in one transaction, flushes and syncs: what a program would
//! do that has nothing to decide and nothing to encode.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};
use tokio::sync::oneshot;

/// Tree and key → value.
pub(super) type Dump = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// One put, or a delete.
#[derive(Clone, Debug)]
pub(super) struct Record {
    tree: String,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// All that is in a state that nobody has open.
pub(super) fn dump(state: &Path) -> Dump {
    let database = sled::Config::new().path(state.join("db")).flush_every_ms(None).open().expect("sled opens");
    let mut dump = Dump::new();
    for name in database.tree_names() {
        let tree = database.open_tree(&name).expect("a tree");
        for item in &tree {
            let (key, value) = item.expect("a record");
            dump.insert((String::from_utf8_lossy(&name).into_owned(), key.to_vec()), value.to_vec());
        }
    }
    dump
}

/// What was written between two dumps. What was written as it was before is not seen: the peer is spared that.
pub(super) fn written(before: &Dump, after: &Dump) -> Vec<Record> {
    let put = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let put = put.map(|((tree, key), value)| (tree, key, Some(value.clone())));
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|(tree, key)| (tree, key, None));
    put.chain(gone).map(|(tree, key, value)| Record { tree: tree.clone(), key: key.clone(), value }).collect()
}

/// How many records there are, and their bytes.
pub(super) fn size(records: &[Record]) -> (usize, usize) {
    (records.len(), records.iter().map(|record| record.key.len() + record.value.as_ref().map_or(0, Vec::len)).sum())
}

/// The same record of another event: `ids` of the one that was looked at become `fresh` and those far behind it.
fn renumbered(record: &Record, ids: &[u64], fresh: u64) -> Vec<u8> {
    let mut key = record.key.clone();
    if record.tree == "starts" {
        key.extend_from_slice(fresh.to_string().as_bytes());
        return key;
    }
    for (behind, id) in (0_u64..).zip(ids) {
        if let Some(at) = record.key.windows(8).position(|bytes| bytes == id.to_be_bytes()) {
            key[at..at + 8].copy_from_slice(&(fresh + behind * 1_000_000).to_be_bytes());
        }
    }
    key
}

/// What one sender wants written: number of a tree, key, value.
type Writes = Vec<(usize, Vec<u8>, Option<Vec<u8>>)>;

#[derive(Default)]
struct Queue {
    jobs: Vec<(Writes, oneshot::Sender<()>)>,
    closed: bool,
}

/// Events a second.
pub(super) async fn rate(path: &Path, records: &[Record], ids: &[u64], senders: u32, time: Duration) -> f64 {
    let database = sled::Config::new().path(path).flush_every_ms(None).open().expect("sled opens");
    let mut names: Vec<&str> = records.iter().map(|record| record.tree.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let trees: Vec<sled::Tree> = names.iter().map(|name| database.open_tree(name).expect("a tree")).collect();
    let file = File::open(path.join("db")).expect("sled has a file");
    let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
    let writer = {
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || write(&database, &trees, &file, &shared))
    };
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..senders)
        .map(|_| {
            let (shared, next, ids) = (Arc::clone(&shared), Arc::clone(&next), ids.to_vec());
            let at = |record: &Record| names.iter().position(|name| *name == record.tree).expect("it has a tree");
            let records: Vec<(usize, Record)> = records.iter().map(|record| (at(record), record.clone())).collect();
            tokio::spawn(async move {
                while begin.elapsed() < time || next.load(Ordering::Relaxed) == 0 {
                    let fresh = next.fetch_add(1, Ordering::Relaxed);
                    let writes: Writes = records
                        .iter()
                        .map(|(tree, record)| (*tree, renumbered(record, &ids, fresh), record.value.clone()))
                        .collect();
                    let (sender, receiver) = oneshot::channel();
                    shared.0.lock().expect("nobody panics").jobs.push((writes, sender));
                    shared.1.notify_one();
                    receiver.await.expect("it is written");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a sender ends");
    }
    let rate = next.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    shared.0.lock().expect("nobody panics").closed = true;
    shared.1.notify_one();
    writer.join().expect("the writer ends");
    rate
}

fn write(database: &sled::Db, trees: &[sled::Tree], file: &File, shared: &(Mutex<Queue>, Condvar)) {
    loop {
        let mut queue = shared.0.lock().expect("nobody panics");
        while queue.jobs.is_empty() && !queue.closed {
            queue = shared.1.wait(queue).expect("nobody panics");
        }
        let jobs = std::mem::take(&mut queue.jobs);
        drop(queue);
        if jobs.is_empty() {
            return;
        }
        let mut batches = vec![sled::Batch::default(); trees.len()];
        let mut done = Vec::with_capacity(jobs.len());
        for (writes, sender) in jobs {
            for (tree, key, value) in writes {
                match value {
                    Some(value) => batches[tree].insert(key, value),
                    None => batches[tree].remove(key),
                }
            }
            done.push(sender);
        }
        let result: Result<(), TransactionError<()>> = trees.transaction(|views| {
            for (view, batch) in views.iter().zip(&batches) {
                view.apply_batch(batch)?;
            }
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        result.expect("sled writes");
        database.flush().expect("sled flushes");
        file.sync_data().expect("the disk syncs");
        for sender in done {
            // Each waits for it.
            sender.send(()).expect("the sender waits");
        }
    }
}
