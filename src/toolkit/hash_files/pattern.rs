//! One pattern of `@actions/glob`: segments between slashes, each a literal, a glob, or `**`.
//!
//! Pure: no I/O, no clock, no async.

use super::HashFilesError;

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) negate: bool,
    /// The literal segments before the first glob.
    pub(super) search_path: Vec<String>,
    segments: Vec<Segment>,
    /// A slash at the end: directories only.
    directories_only: bool,
    /// Made by [`Pattern::below`].
    implicit: bool,
}

impl Pattern {
    /// `line` is trimmed and neither empty nor a comment.
    pub(super) fn parse(line: &str, workspace: &[String], home: &[String]) -> Result<Self, HashFilesError> {
        let mut negate = false;
        let mut text = line;
        while let Some(rest) = text.strip_prefix('!') {
            negate = !negate;
            text = rest.trim();
        }
        if text.is_empty() {
            return Err(HashFilesError::EmptyPattern);
        }
        let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
        let rooted = text.starts_with('/');
        for (position, name) in names.iter().enumerate() {
            let literal = literal(name);
            let relative =
                literal.as_deref() == Some("..") || literal.as_deref() == Some(".") && (position > 0 || rooted);
            if relative {
                return Err(HashFilesError::RelativePath(text.to_owned()));
            }
        }
        let (root, names) = match names.split_first() {
            _ if rooted => (&[][..], &names[..]),
            Some((&"~", rest)) => (home, rest),
            Some((&".", rest)) => (workspace, rest),
            _ => (workspace, &names[..]),
        };
        let mut segments: Vec<Segment> = root.iter().map(|name| Segment::Literal(name.clone())).collect();
        segments.extend(names.iter().map(|name| Segment::parse(name)));
        let mut search_path = root.to_vec();
        search_path.extend(names.iter().map_while(|name| literal(name)));
        Ok(Self { negate, search_path, segments, directories_only: text.ends_with('/'), implicit: false })
    }

    /// The pattern for all that is below what this one matches, unless it says so itself.
    pub(super) fn below(&self) -> Option<Self> {
        if !self.directories_only && self.ends_in_globstar() {
            return None;
        }
        let mut below = Self { directories_only: false, implicit: true, ..self.clone() };
        below.segments.push(Segment::Globstar);
        Some(below)
    }

    pub(super) fn matches_file(&self, path: &[&str]) -> bool {
        if self.directories_only {
            return false;
        }
        // A written `a/**` also matches `a`; the implicit one only what is below.
        let least = usize::from(self.implicit && self.ends_in_globstar());
        matches(&self.segments, path, least)
    }

    fn ends_in_globstar(&self) -> bool {
        matches!(self.segments.last(), Some(Segment::Globstar))
    }
}

/// Whether the segments match the whole path; a `**` at the very end takes at least `least` names.
fn matches(segments: &[Segment], path: &[&str], least: usize) -> bool {
    // Where to go on after the last `**`: it takes one name more each time, so earlier ones never need another try.
    let (mut segment, mut name) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match segments.get(segment) {
            Some(Segment::Globstar) if segment + 1 == segments.len() && path.len() - name >= least => return true,
            Some(Segment::Globstar) if segment + 1 < segments.len() => {
                retry = Some((segment + 1, name));
                segment += 1;
                continue;
            }
            Some(other) if name < path.len() && other.matches(path[name]) => {
                (segment, name) = (segment + 1, name + 1);
                continue;
            }
            None if name == path.len() => return true,
            _ => {}
        }
        let Some((after, from)) = retry.filter(|(_, from)| *from < path.len()) else { return false };
        retry = Some((after, from + 1));
        (segment, name) = (after, from + 1);
    }
}

#[derive(Clone, Debug)]
enum Segment {
    Literal(String),
    Globstar,
    Glob(Vec<Atom>),
}

#[derive(Clone, Debug)]
enum Atom {
    Character(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[…]`
    Class {
        negate: bool,
        items: Vec<Item>,
    },
}

type CharacterTest = fn(char) -> bool;

#[derive(Clone, Debug)]
enum Item {
    Range(char, char),
    Named(CharacterTest),
}

impl Segment {
    fn parse(text: &str) -> Self {
        if text == "**" {
            return Self::Globstar;
        }
        let characters: Vec<char> = text.chars().collect();
        let mut atoms = Vec::new();
        let mut at = 0;
        while let Some(&c) = characters.get(at) {
            let (atom, length) = match c {
                '\\' if at + 1 < characters.len() => (Atom::Character(characters[at + 1]), 2),
                '?' => (Atom::One, 1),
                '*' => (Atom::Many, 1),
                '[' => class(&characters[at..]).unwrap_or((Atom::Character('['), 1)),
                c => (Atom::Character(c), 1),
            };
            atoms.push(atom);
            at += length;
        }
        Self::Glob(atoms)
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Literal(text) => text == name,
            Self::Globstar => true,
            Self::Glob(atoms) => glob(atoms, name),
        }
    }
}

fn glob(atoms: &[Atom], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut atom, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let matched = match atoms.get(atom) {
            Some(Atom::Many) => {
                retry = Some((atom + 1, at));
                atom += 1;
                continue;
            }
            Some(Atom::One) => at < name.len(),
            Some(Atom::Character(c)) => name.get(at) == Some(c),
            Some(Atom::Class { negate, items }) => {
                name.get(at).is_some_and(|c| items.iter().any(|item| item.holds(*c)) != *negate)
            }
            None if at == name.len() => return true,
            None => false,
        };
        if matched {
            (atom, at) = (atom + 1, at + 1);
            continue;
        }
        let Some((after, from)) = retry.filter(|(_, from)| *from < name.len()) else { return false };
        retry = Some((after, from + 1));
        (atom, at) = (after, from + 1);
    }
}

impl Item {
    fn holds(&self, c: char) -> bool {
        match self {
            Self::Range(first, last) => (*first..=*last).contains(&c),
            Self::Named(test) => test(c),
        }
    }
}

/// A class from its `[` on, and how many characters it has; `None` when it is not closed, so that `[` stands for
/// itself. A class without a valid item matches nothing.
fn class(text: &[char]) -> Option<(Atom, usize)> {
    let negate = matches!(text.get(1), Some('!' | '^'));
    let first = 1 + usize::from(negate);
    let mut items = Vec::new();
    let mut at = first;
    loop {
        let c = *text.get(at)?;
        if c == ']' && at > first {
            let negate = negate && !items.is_empty();
            return Some((Atom::Class { negate, items }, at + 1));
        }
        if let Some((test, length)) = named(&text[at..]) {
            items.push(Item::Named(test));
            at += length;
            continue;
        }
        let (start, next) = character(text, at)?;
        // A minus before the bracket stands for itself.
        if text.get(next) == Some(&'-') && text.get(next + 1).is_some_and(|c| *c != ']') {
            let (end, next) = character(text, next + 1)?;
            if start <= end {
                items.push(Item::Range(start, end));
            }
            at = next;
        } else {
            items.push(Item::Range(start, start));
            at = next;
        }
    }
}

/// A character that may be escaped, and the place behind it.
fn character(text: &[char], at: usize) -> Option<(char, usize)> {
    match *text.get(at)? {
        '\\' => Some((*text.get(at + 1)?, at + 2)),
        c => Some((c, at + 1)),
    }
}

/// `[:alpha:]` and its like.
fn named(text: &[char]) -> Option<(CharacterTest, usize)> {
    const CLASSES: [(&str, CharacterTest); 14] = [
        ("[:alnum:]", char::is_alphanumeric),
        ("[:alpha:]", char::is_alphabetic),
        ("[:ascii:]", |c| c.is_ascii()),
        ("[:blank:]", |c| c == '\t' || c.is_whitespace() && !c.is_control()),
        ("[:cntrl:]", char::is_control),
        ("[:digit:]", char::is_numeric),
        ("[:graph:]", |c| !c.is_whitespace() && !c.is_control()),
        ("[:lower:]", char::is_lowercase),
        ("[:print:]", |c| !c.is_control()),
        ("[:punct:]", |c| c.is_ascii_punctuation()),
        ("[:space:]", char::is_whitespace),
        ("[:upper:]", char::is_uppercase),
        ("[:word:]", |c| c.is_alphanumeric() || c == '_'),
        ("[:xdigit:]", |c| c.is_ascii_hexdigit()),
    ];
    CLASSES
        .iter()
        .find(|(name, _)| name.chars().eq(text.iter().copied().take(name.len())))
        .map(|(name, test)| (*test, name.len()))
}

/// The text that a segment without globs stands for. It decides where the search begins, and reads classes more simply
/// than the search itself: `[x]` is a way to write `x`, and a bracket that closes at once opens nothing.
fn literal(segment: &str) -> Option<String> {
    let characters: Vec<char> = segment.chars().collect();
    let mut text = String::new();
    let mut at = 0;
    while let Some((c, next)) = character(&characters, at).or_else(|| characters.get(at).map(|c| (*c, at + 1))) {
        match characters[at] {
            '*' | '?' => return None,
            '[' => match set(&characters, at + 1) {
                Some((set, behind)) if set.len() == 1 => {
                    text.extend(set);
                    at = behind;
                    continue;
                }
                Some((set, _)) if set.len() > 1 => return None,
                _ => text.push('['),
            },
            _ => text.push(c),
        }
        at = next;
    }
    Some(text)
}

/// The characters up to the next closing bracket, and the place behind it.
fn set(text: &[char], mut at: usize) -> Option<(Vec<char>, usize)> {
    let mut set = Vec::new();
    loop {
        if *text.get(at)? == ']' {
            return Some((set, at + 1));
        }
        let (c, next) = character(text, at)?;
        set.push(c);
        at = next;
    }
}
