//! The bound on intermediate results, counted as GitHub's runner counts them: two bytes per UTF-16 unit, a fixed size
//! for every other value, and what lies below a finished result is forgotten.

use super::{EvaluationError, Value};

/// What expressions in workflow and action files may use: 10 MiB.
pub const MAX_MEMORY: usize = 10 * 1024 * 1024;
/// What GitHub's library grants an expression that stands alone: 1 MiB.
pub const MAX_MEMORY_ALONE: usize = 1024 * 1024;

const OBJECT: usize = 24;
const STRING: usize = 26;

#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    total: usize,
    /// Bytes of the results at each depth that are still needed.
    depths: Vec<usize>,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, total: 0, depths: Vec::new() }
    }

    /// Counts a result of a node at this depth, and forgets what lies deeper if the result is complete in itself.
    pub(super) fn add(&mut self, depth: usize, bytes: usize, complete: bool) -> Result<(), EvaluationError> {
        if complete {
            for forgotten in self.depths.drain((depth + 1).min(self.depths.len())..) {
                self.total -= forgotten;
            }
        }
        if self.depths.len() <= depth {
            self.depths.resize(depth + 1, 0);
        }
        self.depths[depth] += bytes;
        self.total += bytes;
        self.check(0)
    }

    /// Whether so many bytes more would still be allowed: asked while a long result grows.
    pub(super) fn check(&self, bytes: usize) -> Result<(), EvaluationError> {
        if self.total.saturating_add(bytes) > self.limit {
            return Err(EvaluationError::Failed("The maximum allowed memory size was exceeded".to_owned()));
        }
        Ok(())
    }
}

pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text_size(text),
        _ => OBJECT,
    }
}

pub(super) fn text_size(text: &str) -> usize {
    // UTF-16 units: one per character, two for those of four bytes.
    let units = if text.is_ascii() { text.len() } else { text.chars().map(char::len_utf16).sum() };
    STRING + 2 * units
}

/// References to so many values.
pub(super) fn references(count: usize) -> usize {
    OBJECT + 8 * count
}
