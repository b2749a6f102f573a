//! Secrets are replaced by `***` in everything a run says (K1, K2).
//!
//! Pure: no I/O, no clock, no async.

mod encodings;
mod shapes;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind, packed};
use indexmap::IndexSet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a hit is replaced by.
const STARS: &[u8] = b"***";

/// How many values may wait in the small automaton before the large one is built again.
const RECENT: usize = 16;

/// The values a job must not say, with all their encodings.
///
/// It serialises to the list of raw values; the derived forms are made again on reading.
#[derive(Clone, Default)]
pub struct Masks {
    values: IndexSet<String>,
    /// The first `settled` values are in `large`, the others in `small`: a step that adds masks line by line must not
    /// make us build an automaton of everything each time.
    settled: usize,
    large: OnceLock<Sieve>,
    small: OnceLock<Sieve>,
}

impl Masks {
    /// No masks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Masks a value and each of its lines (W8), in every encoding GitHub's runner knows (K1). An empty value is
    /// ignored. Takes effect for what is masked afterwards.
    pub fn add(&mut self, value: &str) {
        let before = self.values.len();
        for part in std::iter::once(value).chain(value.split(['\r', '\n'])) {
            if !part.is_empty() && !self.values.contains(part) {
                self.values.insert(part.to_owned());
            }
        }
        if self.values.len() == before {
            return;
        }
        self.small = OnceLock::new();
        if self.values.len() - self.settled > RECENT.max(self.settled / 4) {
            self.settled = self.values.len();
            self.large = OnceLock::new();
        }
    }

    /// The raw values, in the order they came: what a checkpoint must keep, and must keep secret.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    /// How many values there are, lines of others among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is nothing to mask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The length in bytes of the longest text that can be a hit.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.sieves().map(|sieve| sieve.longest).max().unwrap_or(0)
    }

    /// Where the secret that ends first in `text` begins, be it known by its value or by its shape (K4). Hits that span
    /// lines are seen too, so nothing in `text` as a whole means nothing in each line of it.
    #[must_use]
    pub fn first(&self, text: &[u8]) -> Option<usize> {
        let hits = self.sieves().filter_map(|sieve| sieve.first(text));
        hits.chain(shapes::find(text)).min_by_key(|hit| hit.end).map(|hit| hit.start)
    }

    /// Whether `text` holds one of the values. Shapes do not count: an output that looks like a token is passed on, as
    /// on GitHub, whose runner knows values only.
    #[must_use]
    pub fn hits(&self, text: &[u8]) -> bool {
        self.sieves().any(|sieve| sieve.first(text).is_some())
    }

    /// `text` with each secret replaced by `***`. Hits that touch or overlap become one.
    #[must_use]
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let ranges = self.ranges(text.as_bytes());
        if ranges.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = Vec::with_capacity(text.len());
        replace(text.as_bytes(), &ranges, &mut masked);
        // Every form is UTF-8 and every shape ASCII, so hits begin and end between characters.
        Cow::Owned(String::from_utf8_lossy(&masked).into_owned())
    }

    /// Appends `text` to `out`, masked as [`Masks::apply`] does.
    pub fn apply_to(&self, text: &[u8], out: &mut Vec<u8>) {
        replace(text, &self.ranges(text), out);
    }

    /// Where the secrets in `text` are: sorted, apart from each other.
    #[must_use]
    pub fn ranges(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut hits = shapes::find(text);
        for sieve in self.sieves() {
            // The plain search is several times faster than the overlapping one, and most lines hold no secret.
            if let Some(first) = sieve.first(text) {
                hits.extend(sieve.all(text, first).map(|(_, hit)| hit));
            }
        }
        hits.sort_unstable_by_key(|hit| hit.start);
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for hit in hits {
            match ranges.last_mut() {
                Some(last) if hit.start <= last.end => last.end = last.end.max(hit.end),
                _ => ranges.push(hit),
            }
        }
        ranges
    }

    fn sieves(&self) -> impl Iterator<Item = &Sieve> {
        let large = (self.settled > 0).then(|| self.large.get_or_init(|| sieve(self.values.iter().take(self.settled))));
        let small = (self.settled < self.values.len())
            .then(|| self.small.get_or_init(|| sieve(self.values.iter().skip(self.settled))));
        large.into_iter().chain(small)
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values are what must not be said.
        write!(f, "Masks({} values)", self.values.len())
    }
}

impl Serialize for Masks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Masks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = IndexSet::<String>::deserialize(deserializer)?;
        Ok(values.iter().map(String::as_str).collect())
    }
}

impl<'a> FromIterator<&'a str> for Masks {
    fn from_iter<I: IntoIterator<Item = &'a str>>(values: I) -> Self {
        let mut masks = Self::new();
        for value in values {
            masks.add(value);
        }
        masks
    }
}

/// Texts that are looked for all at once where they hardly ever are. Up to some dozens of them are looked for by vector
/// instructions, several times faster than an automaton goes.
#[derive(Clone)]
struct Sieve {
    packed: Option<packed::Searcher>,
    search: AhoCorasick,
    longest: usize,
}

impl Sieve {
    /// None of the texts may be empty.
    fn new<T: AsRef<[u8]>>(texts: &[T]) -> Self {
        // Overlapping hits are only told by the standard kind.
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(texts)
            .expect("a set of patterns below 2 GiB always builds");
        let longest = texts.iter().map(|text| text.as_ref().len()).max().unwrap_or(0);
        Self { packed: packed::Searcher::new(texts), search, longest }
    }

    /// The hit that ends first.
    fn first(&self, text: &[u8]) -> Option<Range<usize>> {
        // No hit begins before the leftmost one.
        let from = match &self.packed {
            Some(packed) => packed.find(text)?.start(),
            None => 0,
        };
        self.search.find(&text[from..]).map(|hit| from + hit.start()..from + hit.end())
    }

    /// All hits, also those that overlap, given the one that ends first: which text it is, and where.
    fn all(&self, text: &[u8], first: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let from = first.end.saturating_sub(self.longest);
        self.search
            .find_overlapping_iter(&text[from..])
            .map(move |hit| (hit.pattern().as_usize(), from + hit.start()..from + hit.end()))
    }
}

/// The sieve of all forms of some values.
fn sieve<'a>(values: impl Iterator<Item = &'a String>) -> Sieve {
    let mut forms = IndexSet::new();
    for value in values {
        forms.extend(encodings::forms(value));
    }
    Sieve::new(&forms.into_iter().collect::<Vec<String>>())
}

fn replace(text: &[u8], ranges: &[Range<usize>], out: &mut Vec<u8>) {
    let mut from = 0;
    for range in ranges {
        out.extend_from_slice(&text[from..range.start]);
        out.extend_from_slice(STARS);
        from = range.end;
    }
    out.extend_from_slice(&text[from..]);
}
