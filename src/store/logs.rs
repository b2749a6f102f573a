//! Logs of jobs: one append-only file each, `logs/RUN/ATTEMPT/JOB.log`.
//!
//! The runner writes a file and publishes its length; readers read the file up to that length and never hold up the
//! writer. Once the job has ended the file may be packed: gzip members of about a mebibyte of text each, with an index
//! of where each begins and which line it begins with, so that any part can be read without the parts before it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::StoreError;
use crate::id::{JobId, RunId};
use crate::run::report::Summary;

/// Text in one member of a packed log.
const MEMBER: usize = 1 << 20;
/// The most that one read returns.
pub const READ_LIMIT: u64 = 4 << 20;

/// All logs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logs {
    root: Arc<PathBuf>,
    /// Lengths of logs that are being written.
    live: Arc<Mutex<HashMap<JobId, watch::Sender<u64>>>>,
}

/// Where a job's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId {
    pub run: RunId,
    pub attempt: u32,
    pub job: JobId,
}

/// Where the members of a packed log begin.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    /// Bytes of text in all.
    length: u64,
    lines: u64,
    members: Vec<Member>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    /// Offset in the packed file.
    at: u64,
    /// Offset of its first byte in the text.
    text: u64,
    /// Lines of the text before it.
    line: u64,
}

impl Logs {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root: Arc::new(root), live: Arc::default() }
    }

    /// The file that a job's log is written to.
    #[must_use]
    pub fn path(&self, log: LogId) -> PathBuf {
        let LogId { run, attempt, job } = log;
        self.root.join(run.to_string()).join(attempt.to_string()).join(format!("{job}.log"))
    }

    fn packed_path(&self, log: LogId) -> PathBuf {
        self.path(log).with_extension("log.gz")
    }

    fn index_path(&self, log: LogId) -> PathBuf {
        self.path(log).with_extension("index")
    }

    /// Announces that a log is being written: its writer sends the length here. One that is packed already is unpacked: the process
    /// ended between that and the record of the job's end, or the job begins anew.
    #[must_use]
    pub fn open(&self, log: LogId) -> watch::Sender<u64> {
        if let Err(error) = self.unpack(log) {
            log::error!(job = log.job.0; "the log of job {} stays packed: {error}", log.job);
        }
        let length = fs::metadata(self.path(log)).map_or(0, |metadata| metadata.len());
        let sender = watch::Sender::new(length);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(log.job, sender.clone());
        sender
    }

    /// Announces that a log is complete. Those who follow it are told that no more comes.
    pub fn close(&self, log: LogId) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&log.job);
    }

    /// The growing length of a log that is being written; `None` when it is complete or not begun. The channel closes
    /// when the log is complete and its writer is gone. A length may shrink once, after a restart of the daemon.
    #[must_use]
    pub fn follow(&self, job: JobId) -> Option<watch::Receiver<u64>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(&job).map(watch::Sender::subscribe)
    }

    /// The bytes of text that readers may see now.
    ///
    /// # Errors
    /// The log exists and cannot be read.
    pub fn length(&self, log: LogId) -> Result<u64, StoreError> {
        if let Some(length) = self.follow(log.job) {
            return Ok(*length.borrow());
        }
        if let Some(index) = self.index(log)? {
            return Ok(index.length);
        }
        match fs::metadata(self.path(log)) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(source) => Err(StoreError::Log { path: self.path(log), source }),
        }
    }

    /// At most `limit` bytes of text from an offset; empty at the end, and for a log that does not exist. Blocks for
    /// the disk: not for a worker thread.
    ///
    /// # Errors
    /// The log exists and cannot be read.
    pub fn read(&self, log: LogId, from: u64, limit: u64) -> Result<Vec<u8>, StoreError> {
        let limit = limit.min(READ_LIMIT);
        let length = self.length(log)?;
        if from >= length {
            return Ok(Vec::new());
        }
        let limit = limit.min(length - from);
        match self.index(log)? {
            Some(index) => self.read_packed(log, &index, from, limit),
            None => self.read_plain(log, from, limit),
        }
    }

    fn read_plain(&self, log: LogId, from: u64, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(log);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            // It was packed in this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.index(log)? {
                Some(index) => self.read_packed(log, &index, from, limit),
                None => Ok(Vec::new()),
            },
            other => other.map_err(|source| StoreError::Log { path, source }),
        }
    }

    fn read_packed(&self, log: LogId, index: &Index, from: u64, limit: u64) -> Result<Vec<u8>, StoreError> {
        let first = index.members.partition_point(|member| member.text <= from).saturating_sub(1);
        let Some(member) = index.members.get(first) else { return Ok(Vec::new()) };
        let path = self.packed_path(log);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(member.at))?;
            let mut text = flate2::read::MultiGzDecoder::new(file);
            io::copy(&mut Read::by_ref(&mut text).take(from - member.text), &mut io::sink())?;
            let mut bytes = Vec::new();
            text.take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| StoreError::Log { path: path.clone(), source })
    }

    /// The offset at which a line (from 0) begins; the end of the text when there are fewer lines. Blocks.
    ///
    /// # Errors
    /// The log exists and cannot be read.
    pub fn line_offset(&self, log: LogId, line: u64) -> Result<u64, StoreError> {
        let index = self.index(log)?;
        let start = index.as_ref().and_then(|index| {
            let after = index.members.partition_point(|member| member.line <= line);
            after.checked_sub(1).and_then(|at| index.members.get(at))
        });
        let (mut offset, mut seen) = start.map_or((0, 0), |member| (member.text, member.line));
        while seen < line {
            let bytes = self.read(log, offset, READ_LIMIT)?;
            if bytes.is_empty() {
                break;
            }
            let mut used = bytes.len();
            for at in memchr::memchr_iter(b'\n', &bytes) {
                seen += 1;
                if seen == line {
                    used = at + 1;
                    break;
                }
            }
            offset += used as u64;
        }
        Ok(offset)
    }

    /// What the steps of a job wrote for people to read first, in the order in which they ended. Blocks.
    ///
    /// # Errors
    /// There are summaries and they cannot be read.
    pub fn summaries(&self, log: LogId) -> Result<Vec<Summary>, StoreError> {
        let path = Summary::path_beside(&self.path(log));
        let fail = |source| StoreError::Log { path: path.clone(), source };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fail(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(fail(source)),
        }
    }

    /// Packs a complete log. Does nothing when it is packed, missing or being written. Blocks.
    ///
    /// # Errors
    /// The log cannot be read or the packed one not be written; the log stays as it was.
    pub fn pack(&self, log: LogId) -> Result<(), StoreError> {
        let path = self.path(log);
        let Ok(plain) = fs::metadata(&path) else { return Ok(()) };
        if self.follow(log.job).is_some() {
            return Ok(());
        }
        // What could not be unpacked is not replaced by nothing.
        if plain.len() == 0 && self.index_path(log).exists() {
            return fs::remove_file(&path).map_err(|source| StoreError::Log { path, source });
        }
        self.pack_file(log, &path).map_err(|source| StoreError::Log { path, source })
    }

    fn pack_file(&self, log: LogId, path: &Path) -> io::Result<()> {
        let mut text = File::open(path)?;
        let packed = self.packed_path(log);
        let unfinished = path.with_extension("unfinished");
        let mut output = File::create(&unfinished)?;
        let mut index = Index { length: 0, lines: 0, members: Vec::new() };
        let mut block = Vec::with_capacity(MEMBER);
        loop {
            block.clear();
            Read::by_ref(&mut text).take(MEMBER as u64).read_to_end(&mut block)?;
            if block.is_empty() {
                break;
            }
            index.members.push(Member { at: output.stream_position()?, text: index.length, line: index.lines });
            let mut encoder = flate2::write::GzEncoder::new(&mut output, flate2::Compression::default());
            encoder.write_all(&block)?;
            encoder.finish()?;
            index.length += block.len() as u64;
            index.lines += block.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        output.sync_all()?;
        fs::rename(&unfinished, &packed)?;
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(&index)?)?;
        file.sync_all()?;
        // From here on readers use the packed log.
        fs::rename(&unfinished, self.index_path(log))?;
        fs::remove_file(path)
    }

    fn unpack(&self, log: LogId) -> Result<(), StoreError> {
        let Some(index) = self.index(log)? else { return Ok(()) };
        let path = self.path(log);
        let restore = || -> io::Result<()> {
            if fs::metadata(&path).map_or(0, |plain| plain.len()) != index.length {
                let unfinished = path.with_extension("unfinished");
                let mut plain = File::create(&unfinished)?;
                io::copy(&mut flate2::read::MultiGzDecoder::new(File::open(self.packed_path(log))?), &mut plain)?;
                plain.sync_all()?;
                fs::rename(&unfinished, &path)?;
            }
            fs::remove_file(self.index_path(log))?;
            fs::remove_file(self.packed_path(log))
        };
        restore().map_err(|source| StoreError::Log { path: path.clone(), source })
    }

    fn index(&self, log: LogId) -> Result<Option<Index>, StoreError> {
        let path = self.index_path(log);
        let fail = |source| StoreError::Log { path: path.clone(), source };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| fail(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(fail(source)),
        }
    }

    /// Removes the logs of a run.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove_run(&self, run: RunId) -> Result<(), StoreError> {
        let path = self.root.join(run.to_string());
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::Log { path, source: error }),
            _ => Ok(()),
        }
    }

    /// Removes the logs of one job, after their time; the record of the job stays.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(&self, log: LogId) -> Result<(), StoreError> {
        let summaries = Summary::path_beside(&self.path(log));
        for path in [self.path(log), self.index_path(log), self.packed_path(log), summaries] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Log { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Bytes on the disk of all logs of a run.
    #[must_use]
    pub fn size(&self, run: RunId) -> u64 {
        let attempts = fs::read_dir(self.root.join(run.to_string())).into_iter().flatten().flatten();
        attempts
            .flat_map(|attempt| fs::read_dir(attempt.path()).into_iter().flatten().flatten())
            .filter_map(|file| file.metadata().ok())
            .map(|metadata| metadata.len())
            .sum()
    }
}
