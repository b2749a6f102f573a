//! YAML text → a tree of numbered nodes, with the scalars GitHub would see.
//!
//! The tree comes from serde_yaml through a visitor that keeps what a map type would lose: the order, double keys and
//! keys that are no strings. Nodes are numbered in reading order; [`super::place`] turns a number into a place of the
//! text, so nothing but the number is carried around.
//!
//! Pure: no I/O, no clock, no async.

use std::cell::{Cell, RefCell};

use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::place::Places;

/// GitHub reads no larger file (S19).
const LARGEST_FILE: usize = 1 << 20;

const TOO_DEEP: &str = "Maximum object depth exceeded";

/// The number of a node in reading order: a mapping, its first key, that key's value, …
pub(super) type NodeId = u32;

/// A node of the file. Aliases are replaced by what they stand for (S16).
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// In file order, double keys included.
    Map(Vec<(Node, Node)>),
}

impl Node {
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(pairs) => pairs.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// Why a text is no YAML tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) message: String,
    pub(super) at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    Syntax,
    Tag,
    TooLarge,
    TooDeep,
}

/// Where a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    File,
    Byte(usize),
    Node(NodeId),
}

/// Reads a file. `depth` is how many collections may be nested.
pub(super) fn load(text: &str, depth: usize) -> Result<Node, Fault> {
    if text.len() > LARGEST_FILE {
        return Err(Fault {
            kind: FaultKind::TooLarge,
            message: format!("the file has {} bytes; GitHub reads at most 1 MiB", text.len()),
            at: At::File,
        });
    }
    let places = Places::lazy(text);
    if may_be_steep(text)
        && let Some(id) = super::place::first_deeper_than(text, depth)
    {
        return Err(Fault { kind: FaultKind::TooDeep, message: TOO_DEEP.to_owned(), at: At::Node(id) });
    }
    let reading = Reading::default();
    let deserializer = serde_yaml::Deserializer::from_str(text);
    let mut root = match (Seed { reading: &reading, id: None, depth }).deserialize(deserializer) {
        Ok(root) => root,
        Err(error) => return Err(syntax_fault(text, &reading, &error)),
    };
    if let Some((id, tag)) = reading.tags.borrow().first() {
        return Err(tag_fault(*id, tag));
    }
    if may_hold_tags(text)
        && let Some((id, tag)) = places.first_foreign_tag()
    {
        return Err(tag_fault(id, &tag));
    }
    if reading.doubtful.get() || holds_foreign_numbers(text) {
        resolve_again(&mut root, &places);
    }
    Ok(root)
}

/// What the visitors share.
#[derive(Default)]
struct Reading {
    next: Cell<NodeId>,
    too_deep: Cell<bool>,
    /// Some text looks like a number to GitHub, but not to serde_yaml: only the style of the scalar decides.
    doubtful: Cell<bool>,
    tags: RefCell<Vec<(NodeId, String)>>,
}

#[derive(Clone, Copy)]
struct Seed<'r> {
    reading: &'r Reading,
    /// Known already for the content of a tagged node.
    id: Option<NodeId>,
    /// Collections that may still be opened.
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let id = self.id.unwrap_or_else(|| self.reading.next.replace(self.reading.next.get() + 1));
        let content = deserializer.deserialize_any(ContentVisitor { seed: self, id })?;
        Ok(Node { id, content })
    }
}

struct ContentVisitor<'r> {
    seed: Seed<'r>,
    id: NodeId,
}

impl<'r> ContentVisitor<'r> {
    fn inner<E: serde::de::Error>(&self) -> Result<Seed<'r>, E> {
        match self.seed.depth.checked_sub(1) {
            Some(depth) => Ok(Seed { reading: self.seed.reading, id: None, depth }),
            None => {
                self.seed.reading.too_deep.set(true);
                Err(E::custom("too deep"))
            }
        }
    }
}

impl<'de> Visitor<'de> for ContentVisitor<'_> {
    type Value = Content;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a YAML node")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "GitHub's numbers are doubles")]
    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "GitHub's numbers are doubles")]
    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "GitHub's numbers are doubles")]
    fn visit_i128<E>(self, value: i128) -> Result<Content, E> {
        Ok(Content::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "GitHub's numbers are doubles")]
    fn visit_u128<E>(self, value: u128) -> Result<Content, E> {
        Ok(Content::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Number(value + 0.0))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        if core_number(value).is_some() && left_as_text(value) {
            self.seed.reading.doubtful.set(true);
        }
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let seed = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(seed)? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Content, A::Error> {
        let seed = self.inner()?;
        let mut map = Vec::new();
        while let Some(key) = pairs.next_key_seed(seed)? {
            map.push((key, pairs.next_value_seed(seed)?));
        }
        Ok(Content::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Content, A::Error> {
        let (tag, content) = data.variant::<String>()?;
        self.seed.reading.tags.borrow_mut().push((self.id, format!("!{tag}")));
        let seed = Seed { id: Some(self.id), ..self.seed };
        Ok(content.newtype_variant_seed(seed)?.content)
    }
}

/// The number that a plain scalar means under the YAML 1.2 core schema, as GitHub reads it.
pub(super) fn core_number(text: &str) -> Option<f64> {
    let first = *text.as_bytes().first()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_holds = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) || !exponent_holds {
        return None;
    }
    // A negative zero is zero wherever it is shown or compared.
    unsigned.parse::<f64>().ok().map(|value| sign * value + 0.0)
}

fn radix(digits: &str, radix: u32) -> Option<f64> {
    let mut value = 0.0;
    for digit in digits.chars() {
        value = value * f64::from(radix) + f64::from(digit.to_digit(radix)?);
    }
    (!digits.is_empty()).then_some(value)
}

/// Leading zeros and numbers beyond a double: serde_yaml calls them strings, GitHub numbers.
fn left_as_text(number: &str) -> bool {
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    (digits.len() > 1 && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.starts_with('0'))
        || core_number(number).is_some_and(f64::is_infinite)
        || digits.starts_with("0x")
        || digits.starts_with("0o")
}

/// Numbers of serde_yaml that are strings on GitHub: binary, and hexadecimal or octal with a sign.
fn holds_foreign_numbers(text: &str) -> bool {
    ["0b", "+0x", "-0x", "+0o", "-0o"].iter().any(|prefix| text.contains(prefix))
}

fn resolve_again(node: &mut Node, places: &Places<'_>) {
    match &mut node.content {
        Content::List(items) => items.iter_mut().for_each(|item| resolve_again(item, places)),
        Content::Map(pairs) => {
            for (key, value) in pairs {
                resolve_again(key, places);
                resolve_again(value, places);
            }
        }
        Content::Text(text) => {
            if let Some(number) = core_number(text)
                && places.plain_text(node.id).is_some()
            {
                node.content = Content::Number(number);
            }
        }
        Content::Number(_) => {
            if let Some(text) = places.plain_text(node.id)
                && core_number(text).is_none()
            {
                node.content = Content::Text(text.to_owned());
            }
        }
        Content::Null | Content::Bool(_) => {}
    }
}

/// Whether brackets may be nested so deeply that the parser, whose work grows with the square of their depth, must not
/// see them. Brackets in text count as well, so this is only a suspicion.
fn may_be_steep(text: &str) -> bool {
    const SUSPICIOUS: usize = 500;
    let mut open: usize = 0;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > SUSPICIOUS
    })
}

/// Whether looking for tags is worth the time: a `!` where a node may begin.
fn may_hold_tags(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.match_indices('!').any(|(at, _)| {
        let before = at.checked_sub(1).map_or(b'\n', |at| bytes[at]);
        let after = bytes.get(at + 1).copied().unwrap_or(b' ');
        matches!(before, b' ' | b'\n' | b'\t' | b'[' | b',' | b'{') && matches!(after, b'!' | b'<')
    })
}

fn tag_fault(id: NodeId, tag: &str) -> Fault {
    Fault { kind: FaultKind::Tag, message: format!("Unexpected tag '{tag}'"), at: At::Node(id) }
}

fn syntax_fault(text: &str, reading: &Reading, error: &serde_yaml::Error) -> Fault {
    if reading.too_deep.get() {
        let last = reading.next.get().saturating_sub(1);
        return Fault { kind: FaultKind::TooDeep, message: TOO_DEEP.to_owned(), at: At::Node(last) };
    }
    let location = error.location();
    let at = location.as_ref().map_or(At::File, |place| At::Byte(place.index().min(text.len())));
    let mut message = error.to_string();
    if let Some(place) = location {
        let suffix = format!(" at line {} column {}", place.line(), place.column());
        if let Some(found) = message.find(&suffix) {
            message.replace_range(found..found + suffix.len(), "");
        }
    }
    if message.contains("recursion limit") {
        return Fault { kind: FaultKind::TooDeep, message: TOO_DEEP.to_owned(), at };
    }
    if message.contains("repetition limit") {
        return Fault {
            kind: FaultKind::TooLarge,
            message: "the aliases of the file repeat too much".to_owned(),
            at: At::File,
        };
    }
    if message.contains("EndOfStream") || message.contains("end of file") || message.contains("EOF") {
        return Fault { kind: FaultKind::Syntax, message: "the file is empty".to_owned(), at: At::File };
    }
    Fault { kind: FaultKind::Syntax, message, at }
}
