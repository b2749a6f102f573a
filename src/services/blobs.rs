//! Bytes on disk: blobs named by their digest, and uploads that are to become blobs.

mod incoming;
mod row;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::Body;
use jiff::Timestamp;
use log::warn;
use serde::{Deserialize, Serialize};

use super::{ServicesError, hex, make_directory, random_name, remove_file, write_file};
use incoming::Place;
use row::{Block, Row};

/// An upload that was not ended after so many seconds was given up.
const ABANDONED_SECONDS: i64 = 24 * 3600;

/// The most blocks of an upload: Azure's own limit.
const MOST_BLOCKS: usize = 50_000;

/// The file of blocks that lie where they belong.
const ROW: &str = "row";
/// What the names of the small files begin with that say which blocks these are.
const PLACED: &str = "placed-";

pub(super) struct Blobs {
    directory: PathBuf,
    uploads_directory: PathBuf,
    limit: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Bytes of blobs.
    stored: u64,
    uploads: HashMap<String, Upload>,
    /// Where the blocks of uploads lie.
    rows: HashMap<String, Row>,
}

impl State {
    fn used(&self) -> u64 {
        self.stored + self.uploads.values().map(|upload| upload.bytes).sum::<u64>()
    }
}

/// Bytes on their way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) id: String,
    /// What it becomes.
    pub(super) purpose: Purpose,
    pub(super) created_at: Timestamp,
    /// The blob it is now: all bytes have come.
    pub(super) done: Option<Stored>,
    /// Bytes that came so far.
    #[serde(skip)]
    bytes: u64,
}

/// What an upload becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    Artifact { run: u64, job: u64, repository: String, name: String, mime: String, expires_at: Option<Timestamp> },
    Cache { number: u64, repository: String, scope: String, key: String, version: String },
}

/// A blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) sha256: String,
    pub(super) size: u64,
}

impl Blobs {
    pub(super) fn open(directory: &Path, limit: u64) -> Result<Self, ServicesError> {
        let (directory, uploads_directory) = (directory.join("blobs"), directory.join("uploads"));
        make_directory(&directory)?;
        make_directory(&uploads_directory)?;
        let mut state = State::default();
        for entry in entries(&directory)? {
            state.stored += directory_size(&entry);
        }
        for entry in entries(&uploads_directory)? {
            let record = std::fs::read(entry.join("upload.json")).ok();
            match record.and_then(|bytes| serde_json::from_slice::<Upload>(&bytes).ok()) {
                Some(mut upload) => {
                    let blocks = if upload.done.is_some() { Vec::new() } else { placed(&entry) };
                    // The file of the row has holes.
                    let row = std::fs::metadata(entry.join(ROW)).map_or(0, |data| data.len());
                    let placed: u64 = blocks.iter().map(|block| block.size).sum();
                    upload.bytes = directory_size(&entry).saturating_sub(row) + placed;
                    state.rows.insert(upload.id.clone(), Row::of(blocks));
                    state.uploads.insert(upload.id.clone(), upload);
                }
                // Died before it was known to anybody.
                None => drop(std::fs::remove_dir_all(&entry)),
            }
        }
        Ok(Self { directory, uploads_directory, limit, state: Arc::new(Mutex::new(state)) })
    }

    pub(super) fn path(&self, sha256: &str) -> PathBuf {
        self.directory.join(&sha256[..2.min(sha256.len())]).join(sha256)
    }

    pub(super) fn remove(&self, sha256: &str) -> Result<(), ServicesError> {
        let path = self.path(sha256);
        let size = std::fs::metadata(&path).map_or(0, |data| data.len());
        remove_file(&path)?;
        let mut state = self.lock();
        state.stored = state.stored.saturating_sub(size);
        Ok(())
    }

    /// Begins an upload.
    pub(super) fn begin(&self, purpose: Purpose, now: Timestamp) -> Result<Upload, ServicesError> {
        let upload = Upload { id: random_name(), purpose, created_at: now, done: None, bytes: 0 };
        make_directory(&self.upload_path(&upload.id))?;
        self.save(&upload)?;
        self.lock().uploads.insert(upload.id.clone(), upload.clone());
        Ok(upload)
    }

    /// The newest upload that fits.
    pub(super) fn upload(&self, fits: impl Fn(&Upload) -> bool) -> Option<Upload> {
        self.lock().uploads.values().filter(|upload| fits(upload)).max_by_key(|upload| upload.created_at).cloned()
    }

    /// Forgets an upload and what is left of it.
    pub(super) fn end(&self, id: &str) {
        let mut state = self.lock();
        state.uploads.remove(id);
        state.rows.remove(id);
        drop(state);
        if let Err(error) = std::fs::remove_dir_all(self.upload_path(id)) {
            warn!(upload = id; "the rest of an upload stays on disk: {error}");
        }
    }

    /// Takes one block, of which the request says that it has so many bytes.
    pub(super) async fn put_block(&self, id: &str, block: &str, size: u64, body: Body) -> Result<(), ServicesError> {
        let (directory, name) = (self.upload_path(id), block_name(block));
        let path = directory.join(&name);
        let claimed = {
            let mut state = self.lock();
            if !state.uploads.contains_key(id) {
                return Err(ServicesError::NoUpload);
            }
            state.rows.entry(id.to_owned()).or_default().claim(block, &name, size, self.limit)
        };
        let Some(claimed) = claimed else { return self.receive(id, &path, None, body).await };
        let note = (directory.join(format!("{PLACED}{:06}", claimed.index)), claimed.clone());
        let place =
            Place { path: directory.join(ROW), offset: claimed.offset, block: Some(claimed), is_partial: false };
        let finish = move |_: &Path| {
            let (file, block) = note;
            // One of an earlier request that had no place.
            drop(std::fs::remove_file(path));
            std::fs::write(file, serde_json::to_vec(&block)?)
        };
        incoming::receive(&self.state, self.limit, id, place, body, finish).await?;
        self.digest_ahead(id, directory.join(ROW));
        Ok(())
    }

    /// Takes the whole in one piece.
    pub(super) async fn put_whole(&self, id: &str, body: Body) -> Result<(), ServicesError> {
        let path = self.upload_path(id).join("whole");
        self.receive(id, &path, None, body).await?;
        self.finish(id, vec![Part::All(path)]).await
    }

    /// Takes bytes that belong at an offset.
    pub(super) async fn put_range(&self, id: &str, offset: u64, body: Body) -> Result<(), ServicesError> {
        let path = self.upload_path(id).join("ranges");
        self.receive(id, &path, Some(offset), body).await
    }

    /// Makes a blob of the blocks, in this order.
    pub(super) async fn put_block_list(&self, id: &str, blocks: &[String]) -> Result<(), ServicesError> {
        if blocks.len() > MOST_BLOCKS {
            return Err(ServicesError::Broken { reason: format!("more than {MOST_BLOCKS} blocks") });
        }
        let directory = self.upload_path(id);
        // Whoever did not hear the answer asks again: nothing has come since.
        if let Some(upload) = self.upload(|upload| upload.id == id && upload.done.is_some())
            && !blocks.iter().any(|block| directory.join(block_name(block)).exists())
        {
            return self.save(&upload);
        }
        let (mut parts, mut placed) = (Vec::new(), Vec::new());
        for block in blocks {
            let name = block_name(block);
            let path = directory.join(&name);
            // What came last counts, and only what had no place any more is in a file of its own.
            if path.exists() {
                parts.push(Part::All(path));
                continue;
            }
            let found = self.lock().rows.get(id).and_then(|row| row.find(block, &name).cloned());
            let found = found.ok_or_else(|| ServicesError::NoBlock { id: block.clone() })?;
            parts.push(Part::Of(directory.join(ROW), found.offset, found.size));
            placed.push(found);
        }
        if placed.len() == parts.len() {
            let size = self.lock().rows.get_mut(id).and_then(|row| row.close(&placed));
            if let Some(size) = size {
                return self.finish_row(id, placed, size).await;
            }
        }
        self.finish(id, parts).await
    }

    /// Makes a blob of what came in ranges.
    pub(super) async fn finish_ranges(&self, id: &str) -> Result<(), ServicesError> {
        let path = self.upload_path(id).join("ranges");
        let size = std::fs::metadata(&path).map_or(0, |data| data.len());
        // A hole was never sent; it would be read as zeros, as many as the sender likes.
        if size > self.lock().uploads.get(id).map_or(0, |upload| upload.bytes) {
            return Err(ServicesError::Broken { reason: "parts of it were not uploaded".to_owned() });
        }
        self.finish(id, vec![Part::All(path)]).await
    }

    /// Ends uploads that were given up; returns the blobs that came of them.
    pub(super) fn remove_abandoned(&self, now: Timestamp) -> Vec<String> {
        let is_old = |upload: &&Upload| now.as_second() - upload.created_at.as_second() > ABANDONED_SECONDS;
        let old: Vec<Upload> = self.lock().uploads.values().filter(is_old).cloned().collect();
        for upload in &old {
            self.end(&upload.id);
        }
        old.into_iter().filter_map(|upload| Some(upload.done?.sha256)).collect()
    }

    /// Takes bytes into a file of their own, or to their offset in one.
    async fn receive(&self, id: &str, path: &Path, offset: Option<u64>, body: Body) -> Result<(), ServicesError> {
        if !self.lock().uploads.contains_key(id) {
            return Err(ServicesError::NoUpload);
        }
        // Pieces have their place at once; a whole is renamed into it, so that a broken upload of it leaves nothing.
        let place = match offset {
            Some(offset) => Place { path: path.to_owned(), offset, block: None, is_partial: false },
            None => Place { path: path.with_extension(random_name()), offset: 0, block: None, is_partial: true },
        };
        let (renamed, to) = (place.is_partial, path.to_owned());
        let finish = move |from: &Path| if renamed { std::fs::rename(from, to) } else { Ok(()) };
        incoming::receive(&self.state, self.limit, id, place, body, finish).await
    }

    /// Digests what has come so far of a row, beside everything else.
    fn digest_ahead(&self, id: &str, path: PathBuf) {
        let (state, id) = (Arc::clone(&self.state), id.to_owned());
        let Some(progress) = self.lock().rows.get(&id).map(Row::digest) else { return };
        drop(tokio::task::spawn_blocking(move || {
            let next = |index| lock(&state).rows.get(&id)?.full(index).cloned();
            // The end of the upload reads again what could not be read, and says why it cannot.
            if let Err(error) = progress.advance(&path, next) {
                log::debug!(upload = id; "cannot digest an upload ahead: {error}");
            }
        }));
    }

    /// How many bytes too few there is room for.
    pub(super) fn lacking(&self, bytes: u64) -> u64 {
        let state = self.lock();
        state.used().saturating_add(bytes).saturating_sub(self.limit)
    }

    /// Makes a blob of files, or of parts of them, one behind the other.
    async fn finish(&self, id: &str, parts: Vec<Part>) -> Result<(), ServicesError> {
        let whole = self.upload_path(id).join("joined");
        let joined = whole.clone();
        let join = move || join(&parts, &joined);
        let failed = |source| ServicesError::File { path: whole.clone(), source };
        let stored = incoming::blocking(join).await.map_err(failed)?;
        self.keep(id, &whole, stored)
    }

    /// Makes a blob of a row: its blocks lie where they belong.
    async fn finish_row(&self, id: &str, blocks: Vec<Block>, size: u64) -> Result<(), ServicesError> {
        let path = self.upload_path(id).join(ROW);
        let progress = self.lock().rows.get(id).map(Row::digest).ok_or(ServicesError::NoUpload)?;
        let row = path.clone();
        let digest = move || {
            let digest = progress.finish(&row, &blocks)?;
            let file = File::options().write(true).open(&row)?;
            // Blocks that the list does not name are no part of it.
            file.set_len(size)?;
            file.sync_all()?;
            Ok(Stored { sha256: hex(digest.as_ref()), size })
        };
        let failed = |source| ServicesError::File { path: path.clone(), source };
        let stored = incoming::blocking(digest).await.map_err(failed)?;
        self.keep(id, &path, stored)
    }

    /// Gives the bytes of an upload their name.
    fn keep(&self, id: &str, whole: &Path, stored: Stored) -> Result<(), ServicesError> {
        let path = self.path(&stored.sha256);
        let is_new = !path.exists();
        if is_new {
            make_directory(path.parent().unwrap_or(&self.directory))?;
            std::fs::rename(whole, &path).map_err(|source| ServicesError::File { path: path.clone(), source })?;
        } else {
            remove_file(whole)?;
        }
        let upload = {
            let mut state = self.lock();
            if is_new {
                state.stored += stored.size;
            }
            let upload = state.uploads.get_mut(id).ok_or(ServicesError::NoUpload)?;
            upload.bytes = 0;
            upload.done = Some(stored);
            upload.clone()
        };
        self.save(&upload)
    }

    fn save(&self, upload: &Upload) -> Result<(), ServicesError> {
        let bytes = serde_json::to_vec(upload).expect("an upload is JSON");
        write_file(&self.upload_path(&upload.id).join("upload.json"), &bytes)
    }

    fn upload_path(&self, id: &str) -> PathBuf {
        self.uploads_directory.join(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The blocks that lie in a row, as the small files beside it say.
fn placed(directory: &Path) -> Vec<Block> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let notes = files.filter(|entry| entry.file_name().to_string_lossy().starts_with(PLACED));
    notes.filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok()).collect()
}

/// What a blob is made of.
enum Part {
    All(PathBuf),
    /// So many bytes of a file, from an offset.
    Of(PathBuf, u64, u64),
}

impl Part {
    fn path(&self) -> &Path {
        match self {
            Self::All(path) | Self::Of(path, ..) => path,
        }
    }
}

/// Block ids are any text of the client; their digest is a file name.
fn block_name(id: &str) -> String {
    format!("block-{}", hex(&aws_lc_rs::digest::digest(&SHA256, id.as_bytes()).as_ref()[..16]))
}

/// Joins files into one, which is synced; the parts are removed.
fn join(parts: &[Part], whole: &Path) -> std::io::Result<Stored> {
    let mut digest = Context::new(&SHA256);
    let mut size = 0;
    let mut buffer = vec![0; 1 << 20];
    // One file is the whole: no copy.
    let single = match parts {
        [Part::All(path)] => Some(path),
        _ => None,
    };
    let mut target = if single.is_some() { None } else { Some(File::create(whole)?) };
    for part in parts {
        let mut file = File::open(part.path())?;
        let mut source = match part {
            Part::All(_) => file.take(u64::MAX),
            Part::Of(_, offset, size) => {
                file.seek(SeekFrom::Start(*offset))?;
                file.take(*size)
            }
        };
        loop {
            let length = source.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            digest.update(&buffer[..length]);
            size += length as u64;
            if let Some(target) = &mut target {
                target.write_all(&buffer[..length])?;
            }
        }
    }
    if let Some(target) = target {
        target.sync_all()?;
        for part in parts {
            drop(std::fs::remove_file(part.path()));
        }
    }
    if let Some(path) = single {
        File::open(path)?.sync_all()?;
        std::fs::rename(path, whole)?;
    }
    Ok(Stored { sha256: hex(digest.finish().as_ref()), size })
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, ServicesError> {
    let read =
        std::fs::read_dir(directory).map_err(|source| ServicesError::File { path: directory.to_owned(), source })?;
    Ok(read.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

fn directory_size(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|data| data.len()).sum()
}
