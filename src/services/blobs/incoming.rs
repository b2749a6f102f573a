//! Bytes of one request on their way into a file: written by threads that may wait, while the next ones come.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::task::JoinHandle;

use super::row::Block;
use super::{ServicesError, State};

/// So many bytes are written at once; as many may come meanwhile.
const PIECE: usize = 256 * 1024;

/// Where the bytes of a request go.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    /// What was claimed in the upload's row.
    pub(super) block: Option<Block>,
    /// What is there counts only when the request is over.
    pub(super) is_partial: bool,
}

/// What a request holds until it is over, in whatever way: room, and its place. The threads that write hold it too, so that nobody gets
/// the place before the last of them is done.
struct Held {
    state: Arc<Mutex<State>>,
    id: String,
    place: Place,
    /// Bytes that are reserved.
    size: AtomicU64,
    is_done: AtomicBool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let (size, is_done) = (*self.size.get_mut(), *self.is_done.get_mut());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upload) = state.uploads.get_mut(&self.id).filter(|_| !is_done) {
            upload.bytes = upload.bytes.saturating_sub(size);
        }
        if let Some(block) = self.place.block.take()
            && let Some(row) = state.rows.get_mut(&self.id)
        {
            row.settle(block, is_done);
        }
        drop(state);
        if !is_done && self.place.is_partial {
            drop(std::fs::remove_file(&self.place.path));
        }
    }
}

/// Takes the bytes of a request. `finish` gives them their name, when all have come.
pub(super) async fn receive(
    state: &Arc<Mutex<State>>,
    limit: u64,
    id: &str,
    place: Place,
    body: axum::body::Body,
    finish: impl FnOnce(&Path) -> std::io::Result<()> + Send + 'static,
) -> Result<(), ServicesError> {
    let path = place.path.clone();
    let failed = |source| ServicesError::File { path: path.clone(), source };
    let (mut at, end) = (place.offset, place.block.as_ref().map(|block| block.offset + block.size));
    let (is_partial, opened) = (place.is_partial, place.path.clone());
    let (size, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    let held = Arc::new(Held { state: Arc::clone(state), id: id.to_owned(), place, size, is_done });
    let open = move || {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = File::options();
        options.write(true).create(true).truncate(is_partial).mode(0o600).open(opened)
    };
    let file = Arc::new(blocking(open).await.map_err(failed)?);
    let mut writing = Writing(None);
    let mut stream = body.into_data_stream();
    let (mut pieces, mut gathered) = (Vec::new(), 0);
    loop {
        let piece = stream.next().await.transpose();
        let piece = piece.map_err(|error| ServicesError::Broken { reason: error.to_string() })?;
        if let Some(piece) = &piece {
            reserve(state, limit, id, piece.len() as u64)?;
            held.size.fetch_add(piece.len() as u64, Ordering::Relaxed);
            gathered += piece.len();
            if end.is_some_and(|end| at + gathered as u64 > end) {
                return Err(ServicesError::Broken { reason: "there is more of a block than was said".to_owned() });
            }
            pieces.push(piece.clone());
        }
        let is_over = piece.is_none();
        if gathered >= PIECE || is_over {
            writing.end().await.map_err(failed)?;
            writing.begin(&held, &file, std::mem::take(&mut pieces), at);
            at += gathered as u64;
            gathered = 0;
        }
        if is_over {
            break;
        }
    }
    writing.end().await.map_err(failed)?;
    if end.is_some_and(|end| at != end) {
        return Err(ServicesError::Broken { reason: "there is less of a block than was said".to_owned() });
    }
    let done = move || {
        finish(&held.place.path)?;
        held.is_done.store(true, Ordering::Relaxed);
        // The last one who holds it: now it counts.
        drop(held);
        Ok(())
    };
    blocking(done).await.map_err(failed)
}

/// A thread that writes.
struct Writing(Option<JoinHandle<std::io::Result<()>>>);

impl Writing {
    fn begin(&mut self, held: &Arc<Held>, file: &Arc<File>, pieces: Vec<Bytes>, mut at: u64) {
        let (held, file) = (Arc::clone(held), Arc::clone(file));
        self.0 = Some(tokio::task::spawn_blocking(move || {
            for piece in pieces {
                file.write_all_at(&piece, at)?;
                at += piece.len() as u64;
            }
            drop(held);
            Ok(())
        }));
    }

    async fn end(&mut self) -> std::io::Result<()> {
        match self.0.take() {
            Some(writing) => writing.await.map_err(std::io::Error::other)?,
            None => Ok(()),
        }
    }
}

fn reserve(state: &Mutex<State>, limit: u64, id: &str, bytes: u64) -> Result<(), ServicesError> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let used = state.used();
    if used.saturating_add(bytes) > limit {
        return Err(ServicesError::Full { used, limit });
    }
    state.uploads.get_mut(id).ok_or(ServicesError::NoUpload)?.bytes += bytes;
    Ok(())
}

/// Work that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
