//! Bytes on disk: blobs named by their digest, and uploads that are to become blobs.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use log::warn;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::{ServicesError, hex, make_directory, random_name, remove_file, write_file};

/// An upload that was not ended after so many seconds was given up.
const ABANDONED_SECONDS: i64 = 24 * 3600;

/// The most blocks of an upload: Azure's own limit.
const MOST_BLOCKS: usize = 50_000;

pub(super) struct Blobs {
    directory: PathBuf,
    uploads_directory: PathBuf,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes of blobs.
    stored: u64,
    uploads: HashMap<String, Upload>,
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
                    upload.bytes = directory_size(&entry);
                    state.uploads.insert(upload.id.clone(), upload);
                }
                // Died before it was known to anybody.
                None => drop(std::fs::remove_dir_all(&entry)),
            }
        }
        Ok(Self { directory, uploads_directory, limit, state: Mutex::new(state) })
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
        self.lock().uploads.remove(id);
        if let Err(error) = std::fs::remove_dir_all(self.upload_path(id)) {
            warn!(upload = id; "the rest of an upload stays on disk: {error}");
        }
    }

    /// Takes one block.
    pub(super) async fn put_block(&self, id: &str, block: &str, body: axum::body::Body) -> Result<(), ServicesError> {
        let path = self.upload_path(id).join(block_name(block));
        self.receive(id, &path, 0, body).await.map(drop)
    }

    /// Takes the whole in one piece.
    pub(super) async fn put_whole(&self, id: &str, body: axum::body::Body) -> Result<(), ServicesError> {
        let path = self.upload_path(id).join("whole");
        self.receive(id, &path, 0, body).await?;
        self.finish(id, vec![path]).await
    }

    /// Takes bytes that belong at an offset.
    pub(super) async fn put_range(&self, id: &str, offset: u64, body: axum::body::Body) -> Result<(), ServicesError> {
        let path = self.upload_path(id).join("ranges");
        self.receive(id, &path, offset, body).await.map(drop)
    }

    /// Makes a blob of the blocks, in this order.
    pub(super) async fn put_block_list(&self, id: &str, blocks: &[String]) -> Result<(), ServicesError> {
        if blocks.len() > MOST_BLOCKS {
            return Err(ServicesError::Broken { reason: format!("more than {MOST_BLOCKS} blocks") });
        }
        let directory = self.upload_path(id);
        let paths: Vec<PathBuf> = blocks.iter().map(|block| directory.join(block_name(block))).collect();
        for (path, block) in paths.iter().zip(blocks) {
            if !path.exists() {
                return Err(ServicesError::NoBlock { id: block.clone() });
            }
        }
        self.finish(id, paths).await
    }

    /// Makes a blob of what came in ranges.
    pub(super) async fn finish_ranges(&self, id: &str) -> Result<(), ServicesError> {
        let path = self.upload_path(id).join("ranges");
        let size = std::fs::metadata(&path).map_or(0, |data| data.len());
        // A hole was never sent; it would be read as zeros, as many as the sender likes.
        if size > self.lock().uploads.get(id).map_or(0, |upload| upload.bytes) {
            return Err(ServicesError::Broken { reason: "parts of it were not uploaded".to_owned() });
        }
        self.finish(id, vec![path]).await
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

    async fn receive(&self, id: &str, path: &Path, offset: u64, body: axum::body::Body) -> Result<u64, ServicesError> {
        if !self.lock().uploads.contains_key(id) {
            return Err(ServicesError::NoUpload);
        }
        let failed = |source| ServicesError::File { path: path.to_owned(), source };
        // Pieces have their place at once; a whole is renamed into it, so that a broken upload of it leaves nothing.
        let in_place = path.ends_with("ranges");
        let unfinished = if in_place { path.to_owned() } else { path.with_extension(random_name()) };
        let mut options = tokio::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(!in_place).mode(0o600).open(&unfinished).await.map_err(failed)?;
        file.seek(std::io::SeekFrom::Start(offset)).await.map_err(failed)?;
        let mut file = tokio::io::BufWriter::with_capacity(256 * 1024, file);
        let mut stream = body.into_data_stream();
        let mut size = 0;
        let received = async {
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| ServicesError::Broken { reason: error.to_string() })?;
                self.reserve(id, piece.len() as u64)?;
                file.write_all(&piece).await.map_err(failed)?;
                size += piece.len() as u64;
            }
            file.flush().await.map_err(failed)?;
            if in_place { Ok(()) } else { tokio::fs::rename(&unfinished, path).await.map_err(failed) }
        }
        .await;
        if let Err(error) = received {
            self.give_back(id, size);
            if !in_place {
                drop(tokio::fs::remove_file(&unfinished).await);
            }
            return Err(error);
        }
        Ok(size)
    }

    /// How many bytes too few there is room for.
    pub(super) fn lacking(&self, bytes: u64) -> u64 {
        let state = self.lock();
        let used = state.stored + state.uploads.values().map(|upload| upload.bytes).sum::<u64>();
        used.saturating_add(bytes).saturating_sub(self.limit)
    }

    fn reserve(&self, id: &str, bytes: u64) -> Result<(), ServicesError> {
        let mut state = self.lock();
        let used = state.stored + state.uploads.values().map(|upload| upload.bytes).sum::<u64>();
        if used.saturating_add(bytes) > self.limit {
            return Err(ServicesError::Full { used, limit: self.limit });
        }
        state.uploads.get_mut(id).ok_or(ServicesError::NoUpload)?.bytes += bytes;
        Ok(())
    }

    fn give_back(&self, id: &str, bytes: u64) {
        if let Some(upload) = self.lock().uploads.get_mut(id) {
            upload.bytes = upload.bytes.saturating_sub(bytes);
        }
    }

    async fn finish(&self, id: &str, parts: Vec<PathBuf>) -> Result<(), ServicesError> {
        let whole = self.upload_path(id).join("joined");
        let joined = whole.clone();
        let stored = tokio::task::spawn_blocking(move || join(&parts, &joined))
            .await
            .map_err(|error| ServicesError::Broken { reason: error.to_string() })?
            .map_err(|source| ServicesError::File { path: whole.clone(), source })?;
        let path = self.path(&stored.sha256);
        let is_new = !path.exists();
        if is_new {
            make_directory(path.parent().unwrap_or(&self.directory))?;
            std::fs::rename(&whole, &path).map_err(|source| ServicesError::File { path: path.clone(), source })?;
        } else {
            remove_file(&whole)?;
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Block ids are any text of the client; their digest is a file name.
fn block_name(id: &str) -> String {
    format!("block-{}", hex(&aws_lc_rs::digest::digest(&SHA256, id.as_bytes()).as_ref()[..16]))
}

/// Joins files into one, which is synced; the parts are removed.
fn join(parts: &[PathBuf], whole: &Path) -> std::io::Result<Stored> {
    let mut digest = Context::new(&SHA256);
    let mut size = 0;
    let mut buffer = vec![0; 1 << 20];
    let single = parts.len() == 1;
    let mut target = if single { None } else { Some(File::create(whole)?) };
    for part in parts {
        let mut source = File::open(part)?;
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
    match target {
        Some(target) => {
            target.sync_all()?;
            for part in parts {
                drop(std::fs::remove_file(part));
            }
        }
        // One part is the whole: no copy.
        None => {
            File::open(&parts[0])?.sync_all()?;
            std::fs::rename(&parts[0], whole)?;
        }
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
