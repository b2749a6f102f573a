//! Keys and values as bytes.
//!
//! A value is one byte of format version, one byte that says how the rest is packed, and JSON. Large values are cut in
//! pieces under consecutive keys, because sled keeps values beyond a page in files of their own that a sync of its
//! main file does not cover.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::trees::{Name, Trees, Write};

/// The version that values are written with.
pub(super) const VERSION: u8 = 1;
const PLAIN: u8 = b'j';
const PACKED: u8 = b'z';
/// Bytes that are not ours to interpret.
const RAW: u8 = b'r';
/// Room that most values need at most.
const USUAL: usize = 1024;
/// Values longer than this are compressed.
const PACK_ABOVE: usize = 4 * 1024;
/// The longest piece.
pub(super) const PIECE: usize = 16 * 1024;
/// The longest value that is unpacked: no record is meant to come near it.
const LONGEST: u64 = 256 << 20;

/// A key of big-endian numbers and zero-terminated names.
#[derive(Clone, Debug, Default)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(24))
    }

    pub(super) fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Names never hold a zero byte; one that does is cut there.
    pub(super) fn name(mut self, name: &str) -> Self {
        self.0.extend(name.bytes().take_while(|byte| *byte != 0));
        self.0.push(0);
        self
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The big-endian number at `at`; 0 when the key is too short.
pub(super) fn number_at(key: &[u8], at: usize) -> u64 {
    key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// The same for a short number.
pub(super) fn short_at(key: &[u8], at: usize) -> u32 {
    key.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Most records fit: to grow from nothing would take it from one size to the next ten times.
    let mut bytes = Vec::with_capacity(USUAL);
    bytes.extend([VERSION, PLAIN]);
    serde_json::to_writer(&mut bytes, value).expect("records have string keys and writing to memory cannot fail");
    if bytes.len() > PACK_ABOVE { pack(&bytes[2..]) } else { bytes }
}

/// Its state is some hundred kilobytes, which costs more to make than a record to compress: one is kept for the next.
static COMPRESSOR: Mutex<Option<Compress>> = Mutex::new(None);

/// A value in gzip's format.
fn pack(bytes: &[u8]) -> Vec<u8> {
    let kept = || COMPRESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let mut compress = kept().take().unwrap_or_else(|| Compress::new(Compression::fast(), false));
    compress.reset();
    let mut packed = Vec::with_capacity(bytes.len() / 2 + 64);
    // Deflated, without a name or a time, quickly, by an unknown system.
    packed.extend_from_slice(&[VERSION, PACKED, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255]);
    loop {
        let read = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = bytes.get(read..).unwrap_or_default();
        let status = compress.compress_vec(rest, &mut packed, FlushCompress::Finish);
        match status.expect("compressing in memory cannot fail") {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError => packed.reserve(bytes.len() / 2 + 64),
        }
    }
    *kept() = Some(compress);
    let mut sum = Crc::new();
    sum.update(bytes);
    packed.extend_from_slice(&sum.sum().to_le_bytes());
    packed.extend_from_slice(&sum.amount().to_le_bytes());
    packed
}

/// Bytes of another room, unchanged.
pub(super) fn encode_raw(bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes.len() + 2);
    value.extend_from_slice(&[VERSION, RAW]);
    value.extend_from_slice(bytes);
    value
}

/// The payload of a value: JSON text, or another room's bytes.
pub(super) fn payload(what: &'static str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
    let fail = |reason: String| StoreError::Decode { what, reason };
    match value {
        [VERSION, PLAIN | RAW, rest @ ..] => Ok(rest.to_vec()),
        [VERSION, PACKED, rest @ ..] => {
            let mut bytes = Vec::new();
            let reader = flate2::read::GzDecoder::new(rest);
            reader.take(LONGEST).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
            Ok(bytes)
        }
        [version, ..] if *version > VERSION => {
            Err(fail(format!("it was written by a newer towline (format {version}, this one knows {VERSION})")))
        }
        _ => Err(fail("it has no format version".to_owned())),
    }
}

pub(super) fn decode<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<T, StoreError> {
    let parse = |bytes: &[u8]| {
        serde_json::from_slice(bytes).map_err(|error| StoreError::Decode { what, reason: error.to_string() })
    };
    match value {
        [VERSION, PLAIN, rest @ ..] => parse(rest),
        other => parse(&payload(what, other)?),
    }
}

/// Writes a value in pieces: the first begins with their number.
pub(super) fn put_pieces(writes: &mut Vec<Write>, tree: Name, key: &[u8], value: &[u8]) {
    let count = value.len().div_ceil(PIECE).max(1);
    let mut pieces = value.chunks(PIECE);
    for index in 0..count {
        let piece = pieces.next().unwrap_or_default();
        let mut bytes = Vec::with_capacity(piece.len() + 4);
        if index == 0 {
            bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
        bytes.extend_from_slice(piece);
        writes.push(Write::put(tree, piece_key(key, index), bytes));
    }
}

fn piece_key(key: &[u8], index: usize) -> Vec<u8> {
    let mut piece = key.to_vec();
    piece.extend_from_slice(&u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
    piece
}

/// Reads a value written in pieces.
pub(super) fn get_pieces(trees: &Trees, tree: Name, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(first) = trees.get(tree, &piece_key(key, 0))? else { return Ok(None) };
    let mut value = first.get(4..).unwrap_or_default().to_vec();
    for index in 1..short_at(&first, 0) as usize {
        let piece = trees.get(tree, &piece_key(key, index))?;
        let piece = piece.ok_or(StoreError::Decode { what: "record", reason: "a piece is missing".to_owned() })?;
        value.extend_from_slice(&piece);
    }
    Ok(Some(value))
}

/// Every value written in pieces under a prefix, in order: its key, and its bytes.
pub(super) fn scan_pieces(
    trees: &Trees,
    tree: Name,
    prefix: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let mut current: Vec<u8> = Vec::new();
    let mut value: Vec<u8> = Vec::new();
    let mut missing = 0;
    for item in trees.tree(tree).scan_prefix(prefix) {
        let (key, piece) = item?;
        let Some(split) = key.len().checked_sub(4) else { continue };
        let index = short_at(&key, split);
        if index == 0 {
            current = key[..split].to_vec();
            missing = short_at(&piece, 0).saturating_sub(1);
            value = piece.get(4..).unwrap_or_default().to_vec();
        } else if current == key[..split] && missing > 0 {
            missing -= 1;
            value.extend_from_slice(&piece);
        } else {
            // A piece that an earlier, longer value left behind.
            continue;
        }
        if missing == 0 && !each(&current, &value)? {
            break;
        }
    }
    Ok(())
}

/// Deletes everything under a prefix.
pub(super) fn delete_prefix(
    trees: &Trees,
    writes: &mut Vec<Write>,
    tree: Name,
    prefix: &[u8],
) -> Result<(), StoreError> {
    for key in trees.tree(tree).scan_prefix(prefix).keys() {
        writes.push(Write::delete(tree, key?.to_vec()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_the_same() {
        let mut number = 1_u32;
        let mut noise = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from_digit(number >> 27, 36).unwrap_or('-')
        };
        for length in [0, 10, PACK_ABOVE - 4, PACK_ABOVE, 100_000, 3_000_000] {
            for text in ["x".repeat(length), (0..length).map(|_| noise()).collect()] {
                let value = encode(&text);
                assert_eq!(value[1] == PACKED, length + 4 > PACK_ABOVE, "{length}");
                assert_eq!(decode::<String>("text", &value).unwrap(), text);
                let mut other = Vec::new();
                if value[1] == PACKED {
                    flate2::read::MultiGzDecoder::new(&value[2..]).read_to_end(&mut other).unwrap();
                    assert_eq!(other.len(), length + 2, "and others can read it");
                }
            }
        }
    }
}
