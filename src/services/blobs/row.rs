//! Blocks that lie where they will be in the whole, so that the whole needs no copy, and its digest, which is made while they come.
//!
//! GitHub's clients number their blocks, and all but the last are of one length: that says where each belongs. It is a guess.
//! Whether it was right shows in the list of blocks that ends the upload; if not, the blocks are copied together. A block is written
//! here once, by one request: what is digested never changes, whatever a client sends. The digest names the bytes for everybody.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::MOST_BLOCKS;

/// The last digits of a block's id, where GitHub's clients count.
const DIGITS: usize = 6;
/// After so many bytes they are sent to the disk, so that the end of the upload does not wait for all of them.
const UNSYNCED: u64 = 64 << 20;

/// The blocks of one upload that lie in one file.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Bytes of every block but the last; nothing until the first one comes.
    length: Option<u64>,
    slots: Vec<Slot>,
    /// Requests that write.
    writers: usize,
    /// The upload is being ended: nothing is written any more.
    is_closed: bool,
    digest: Arc<Mutex<Digest>>,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Free,
    Taken,
    Full(Block),
}

/// A block of the row, as a small file beside it says after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    /// Its file name, had it a file.
    pub(super) name: String,
    pub(super) index: usize,
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Of the blocks of this row.
    length: u64,
}

/// How far the digest has come.
struct Digest {
    context: Context,
    blocks: usize,
}

impl Default for Digest {
    fn default() -> Self {
        Self { context: Context::new(&SHA256), blocks: 0 }
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Digest").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

impl Row {
    /// After a restart.
    pub(super) fn of(blocks: Vec<Block>) -> Self {
        let mut row = Self::default();
        for block in blocks {
            if block.index >= MOST_BLOCKS || block.offset != block.length.saturating_mul(block.index as u64) {
                continue;
            }
            row.length = Some(block.length);
            let index = block.index;
            *row.slot(index) = Slot::Full(block);
        }
        row
    }

    /// A place for a block of this id and size, if there is one that nobody wrote to. It has to be given back, or filled.
    pub(super) fn claim(&mut self, id: &str, name: &str, size: u64, limit: u64) -> Option<Block> {
        let index = index(id)?;
        let length = self.length.unwrap_or(size);
        let offset = length.checked_mul(index as u64)?;
        let fits = size > 0 && size <= length && offset.saturating_add(size) <= limit;
        if !fits || self.is_closed || !matches!(self.slots.get(index), None | Some(Slot::Free)) {
            return None;
        }
        self.length = Some(length);
        *self.slot(index) = Slot::Taken;
        self.writers += 1;
        Some(Block { name: name.to_owned(), index, offset, size, length })
    }

    /// Ends a claim: the block is there, or nothing of it counts.
    pub(super) fn settle(&mut self, block: Block, is_full: bool) {
        self.writers = self.writers.saturating_sub(1);
        let index = block.index;
        *self.slot(index) = if is_full { Slot::Full(block) } else { Slot::Free };
    }

    /// The block of this name.
    pub(super) fn find(&self, id: &str, name: &str) -> Option<&Block> {
        self.full(index(id)?).filter(|block| block.name == name)
    }

    /// Whether the row from its start is exactly these blocks; its length then, and it takes no more.
    pub(super) fn close(&mut self, blocks: &[Block]) -> Option<u64> {
        let mut size = 0;
        for (index, block) in blocks.iter().enumerate() {
            if block.offset != size || self.full(index) != Some(block) {
                return None;
            }
            size += block.size;
        }
        if self.writers > 0 {
            return None;
        }
        self.is_closed = true;
        Some(size)
    }

    pub(super) fn digest(&self) -> Progress {
        Progress(Arc::clone(&self.digest))
    }

    pub(super) fn full(&self, index: usize) -> Option<&Block> {
        match self.slots.get(index) {
            Some(Slot::Full(block)) => Some(block),
            _ => None,
        }
    }

    fn slot(&mut self, index: usize) -> &mut Slot {
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        &mut self.slots[index]
    }
}

/// The digest of a row, for threads that may wait.
pub(super) struct Progress(Arc<Mutex<Digest>>);

impl Progress {
    /// Digests the blocks that are there behind those that were digested; `next` knows them. Somebody who does so already is left alone.
    pub(super) fn advance(&self, path: &Path, next: impl Fn(usize) -> Option<Block>) -> std::io::Result<()> {
        let Ok(mut digest) = self.0.try_lock() else { return Ok(()) };
        digest.read(path, next)
    }

    /// The digest of the first blocks: the rest of them is read now.
    pub(super) fn finish(&self, path: &Path, blocks: &[Block]) -> std::io::Result<aws_lc_rs::digest::Digest> {
        let mut digest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if digest.blocks > blocks.len() {
            *digest = Digest::default();
        }
        digest.read(path, |index| blocks.get(index).cloned())?;
        Ok(digest.context.clone().finish())
    }
}

impl Digest {
    fn read(&mut self, path: &Path, next: impl Fn(usize) -> Option<Block>) -> std::io::Result<()> {
        let Some(mut block) = next(self.blocks) else { return Ok(()) };
        let file = File::open(path)?;
        let mut buffer = vec![0; 1 << 20];
        let mut unsynced = 0;
        loop {
            // Either all of a block counts or, after an error, none of it.
            let mut context = self.context.clone();
            let (mut at, end) = (block.offset, block.offset + block.size);
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                file.read_exact_at(&mut buffer[..wanted], at)?;
                context.update(&buffer[..wanted]);
                at += wanted as u64;
            }
            self.context = context;
            self.blocks += 1;
            unsynced += block.size;
            if unsynced >= UNSYNCED {
                file.sync_data()?;
                unsynced = 0;
            }
            match next(self.blocks) {
                Some(following) => block = following,
                None => return Ok(()),
            }
        }
    }
}

/// The number in a block's id, as Azure's library for JavaScript makes it: base64 of a random word and six digits at least.
fn index(id: &str) -> Option<usize> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(id).ok()?;
    let digits = bytes.len().checked_sub(DIGITS).map(|from| &bytes[from..])?;
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().filter(|index| *index < MOST_BLOCKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> String {
        base64::engine::general_purpose::STANDARD.encode(format!("0a1b-{index:06}"))
    }

    fn take(row: &mut Row, at: usize, size: u64) -> Option<Block> {
        row.claim(&id(at), &format!("block-{at}"), size, 1 << 40)
    }

    fn fill(row: &mut Row, at: usize, size: u64) -> Block {
        let block = take(row, at, size).unwrap();
        row.settle(block.clone(), true);
        block
    }

    #[test]
    fn blocks_in_any_order_are_a_whole() {
        let mut row = Row::default();
        let (b, a, c) = (fill(&mut row, 1, 8), fill(&mut row, 0, 8), fill(&mut row, 2, 3));
        assert_eq!((a.offset, b.offset, c.offset), (0, 8, 16));
        assert_eq!(Row::of(vec![c.clone(), a.clone(), b.clone()]).close(&[a.clone(), b.clone(), c.clone()]), Some(19));
        // Another order, or a hole, is no whole; a beginning is one.
        assert_eq!(row.close(&[b.clone(), a.clone()]), None);
        assert_eq!(row.close(&[a.clone(), c]), None);
        assert_eq!(row.close(&[a, b]), Some(16));
        assert_eq!(take(&mut row, 3, 8), None, "it is closed");
    }

    #[test]
    fn a_place_is_written_once() {
        let mut row = Row::default();
        let first = take(&mut row, 0, 8).unwrap();
        assert_eq!(take(&mut row, 0, 8), None, "somebody writes there");
        row.settle(first, false);
        let first = fill(&mut row, 0, 8);
        assert_eq!(take(&mut row, 0, 8), None, "it is digested, perhaps");
        let second = take(&mut row, 1, 8).unwrap();
        assert_eq!(row.close(std::slice::from_ref(&first)), None, "who writes may write behind the end");
        row.settle(second, false);
        assert_eq!(row.close(&[first]), Some(8));
    }

    #[test]
    fn what_does_not_say_where_it_belongs_has_no_place() {
        let mut row = Row::default();
        for (id, size) in [("", 8), ("AAAA", 8), ("no base64!", 8), (&id(50_000), 8), (&id(0), 0), (&id(9), 1 << 39)] {
            assert_eq!(row.claim(id, "x", size, 1 << 40), None, "{id}");
        }
        fill(&mut row, 1, 8);
        assert_eq!(take(&mut row, 0, 9), None, "longer than those before");
    }
}
