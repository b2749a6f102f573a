//! The places of nodes in the text, for diagnostics: built only when there is something to say.
//!
//! Pure: no I/O, no clock, no async.

use std::cell::OnceCell;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::yaml::NodeId;

/// No file of 1 MiB has more nodes, unless aliases multiply them.
const MOST_NODES: usize = 1 << 21;

/// Deeper than any file may be, so that a faulty one costs little.
const DEEPEST: usize = 200;

/// Places by node number.
pub(super) struct Places<'t> {
    text: &'t str,
    entries: OnceCell<Vec<Entry>>,
}

#[derive(Clone)]
struct Entry {
    range: Range<usize>,
    /// The text of a plain scalar without a tag.
    plain: Option<String>,
    tag: Option<String>,
}

impl<'t> Places<'t> {
    /// Nothing is read before the first question.
    pub(super) fn lazy(text: &'t str) -> Self {
        Self { text, entries: OnceCell::new() }
    }

    fn entries(&self) -> &[Entry] {
        self.entries.get_or_init(|| read(self.text))
    }

    /// Bytes of a node: a scalar as written, the first line of a collection.
    pub(super) fn range(&self, node: NodeId) -> Option<Range<usize>> {
        self.entries().get(node as usize).map(|entry| entry.range.clone())
    }

    /// What a plain scalar says, before any schema.
    pub(super) fn plain_text(&self, node: NodeId) -> Option<&str> {
        self.entries().get(node as usize)?.plain.as_deref()
    }

    /// The first tag that GitHub does not know.
    pub(super) fn first_foreign_tag(&self) -> Option<(NodeId, String)> {
        const KNOWN: &[&str] = &["str", "int", "float", "bool", "null", "seq", "map"];
        self.entries().iter().zip(0..).find_map(|(entry, id)| {
            let tag = entry.tag.as_ref()?;
            let known = tag.strip_prefix("tag:yaml.org,2002:").is_some_and(|suffix| KNOWN.contains(&suffix));
            (!known).then(|| (id, tag.clone()))
        })
    }
}

/// The first collection inside more than so many others. Stops there: what follows is not read.
pub(super) fn first_deeper_than(text: &str, limit: usize) -> Option<NodeId> {
    let (mut depth, mut next): (usize, NodeId) = (0, 0);
    for event in Parser::new_from_str(text) {
        let event = match event {
            Ok((event, _)) => event,
            // This parser has a limit of its own for brackets, far above ours.
            Err(error) => return error.info().contains("recursion limit").then_some(next.saturating_sub(1)),
        };
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                depth += 1;
                if depth > limit {
                    return Some(next);
                }
                next += 1;
            }
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            Event::Scalar(..) => next += 1,
            _ => {}
        }
    }
    None
}

/// A collection that is still open, for what an anchor on it stands for.
struct Open {
    anchor: usize,
    first: usize,
}

fn read(text: &str) -> Vec<Entry> {
    let bytes = ByteOffsets::new(text);
    let mut entries: Vec<Entry> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    // Anchor → the entries it stands for.
    let mut anchors: std::collections::HashMap<usize, Range<usize>> = std::collections::HashMap::new();
    let mut behind = 0;
    let mut depth: usize = 0;
    for event in Parser::new_from_str(text) {
        // serde_yaml has read the whole file already; what this parser alone refuses only costs places.
        let Ok((event, span)) = event else { break };
        let (start, end) = (bytes.of(span.start.index()), bytes.of(span.end.index()));
        let empty = matches!(&event, Event::Scalar(value, ScalarStyle::Plain, ..) if value.is_empty());
        let start = behind_properties(text, start, empty);
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let plain =
                    (style == ScalarStyle::Plain && tag.is_none() && !value.is_empty()).then(|| value.to_string());
                let range = scalar_range(text, start..end, behind, style, value.is_empty());
                entries.push(Entry { range, plain, tag: tag.as_deref().map(spell) });
                if anchor > 0 {
                    anchors.insert(anchor, entries.len() - 1..entries.len());
                }
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                // Nothing is said about nodes below the deepest level that is read.
                depth += 1;
                if depth > DEEPEST {
                    break;
                }
                open.push(Open { anchor, first: entries.len() });
                entries.push(Entry { range: first_line(text, start), plain: None, tag: tag.as_deref().map(spell) });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                depth = depth.saturating_sub(1);
                if let Some(Open { anchor, first }) = open.pop()
                    && anchor > 0
                {
                    anchors.insert(anchor, first..entries.len());
                }
            }
            Event::Alias(anchor) => {
                let copied = anchors.get(&anchor).cloned().unwrap_or(0..0);
                if entries.len() + copied.len() > MOST_NODES {
                    break;
                }
                let copies: Vec<Entry> = entries[copied].to_vec();
                entries.extend(copies);
            }
            _ => {}
        }
        behind = end.max(behind);
    }
    entries
}

/// GitHub counts a node from behind its anchor and tag; comments may stand between the anchor of a block and its first
/// line.
fn behind_properties(text: &str, start: usize, empty: bool) -> usize {
    let mut at = start;
    while text[at..].starts_with(['&', '!']) {
        at += text[at..].find(char::is_whitespace).unwrap_or(text.len() - at);
        if empty {
            // Nothing follows: what comes next is another node.
            return at;
        }
        loop {
            at += text[at..].len() - text[at..].trim_start().len();
            if !text[at..].starts_with('#') {
                break;
            }
            at += text[at..].find('\n').unwrap_or(text.len() - at);
        }
    }
    at
}

fn spell(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

/// GitHub counts a block scalar from its `|` or `>`, and an absent value from behind the colon.
fn scalar_range(text: &str, range: Range<usize>, behind: usize, style: ScalarStyle, empty: bool) -> Range<usize> {
    match style {
        ScalarStyle::Literal | ScalarStyle::Folded => {
            let header = text.get(behind..range.start).and_then(|gap| gap.find(['|', '>'])).map(|at| behind + at);
            let start = header.unwrap_or(range.start);
            let end = text[..range.end].trim_end().len().max(start + 1);
            start..end
        }
        ScalarStyle::Plain if empty => {
            let gap = text.get(behind..range.start).unwrap_or("");
            let question = gap.find(|c: char| !c.is_whitespace()).filter(|&at| gap[at..].starts_with('?'));
            let at = match question {
                // A key that is announced and then absent.
                Some(at) => behind + at + 1,
                None if text[range.start..].starts_with(':') => range.start + 1,
                None => range.start,
            };
            at..at
        }
        _ => range,
    }
}

fn first_line(text: &str, start: usize) -> Range<usize> {
    let line = text[start..].lines().next().unwrap_or("");
    start..start + line.trim_end().len()
}

/// The parser counts characters, we count bytes.
struct ByteOffsets(Option<Vec<u32>>, usize);

impl ByteOffsets {
    fn new(text: &str) -> Self {
        let offsets = (!text.is_ascii())
            .then(|| text.char_indices().map(|(at, _)| u32::try_from(at).expect("files are at most 1 MiB")).collect());
        Self(offsets, text.len())
    }

    fn of(&self, character: usize) -> usize {
        match &self.0 {
            Some(offsets) => offsets.get(character).map_or(self.1, |&at| at as usize),
            None => character.min(self.1),
        }
    }
}
