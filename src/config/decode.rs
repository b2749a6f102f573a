//! From TOML's spanned tree to values, one key at a time, collecting what is wrong.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Span, codes, nearest};

/// One file being decoded.
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    pub(super) diagnostics: &'a RefCell<Vec<Diagnostic>>,
}

impl Source<'_> {
    pub(super) fn error(&self, code: &'static str, span: Range<usize>, message: impl Into<String>, help: &str) {
        let diagnostic = Diagnostic::error(code, self.path, message).at(Span::of_bytes(self.text, span));
        self.push(diagnostic, help);
    }

    pub(super) fn warning(&self, code: &'static str, span: Range<usize>, message: impl Into<String>, help: &str) {
        let diagnostic = Diagnostic::warning(code, self.path, message).at(Span::of_bytes(self.text, span));
        self.push(diagnostic, help);
    }

    fn push(&self, diagnostic: Diagnostic, help: &str) {
        let diagnostic = if help.is_empty() { diagnostic } else { diagnostic.help(help) };
        self.diagnostics.borrow_mut().push(diagnostic);
    }
}

/// A table whose keys are asked for one by one; [`Table::finish`] complains about those nobody asked for.
pub(super) struct Table<'a> {
    pub(super) source: &'a Source<'a>,
    /// As a user would say it: `[server]`, `[[host]]`.
    pub(super) title: String,
    pub(super) span: Range<usize>,
    entries: &'a DeTable<'a>,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        title: impl Into<String>,
        span: Range<usize>,
        entries: &'a DeTable<'a>,
    ) -> Self {
        Self { source, title: title.into(), span, entries, known: RefCell::default() }
    }

    /// Marks a key as known and gives its value.
    pub(super) fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().insert(key);
        self.entries.get(key)
    }

    /// Pairs of a table whose keys are free.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'a str, Range<usize>, &'a Spanned<DeValue<'a>>)> {
        self.entries.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    pub(super) fn string(&self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        match value.get_ref().as_str() {
            Some("") => {
                self.wrong(key, value, "must not be empty", "remove the key or give it a value");
                None
            }
            Some(text) => Some(text.to_owned()),
            None => {
                self.wrong_type(key, value, "a string in quotes");
                None
            }
        }
    }

    /// A string that must be there.
    pub(super) fn required(&self, key: &'static str, example: &str) -> Option<String> {
        if self.value(key).is_none() {
            self.source.error(
                codes::CONFIG_MISSING,
                self.span.clone(),
                format!("{} has no `{key}`", self.title),
                &format!("add `{key} = {example}`"),
            );
            return None;
        }
        self.string(key)
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let answer = value.get_ref().as_bool();
        if answer.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        answer
    }

    /// A whole number within a range.
    pub(super) fn number(&self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let mend = format!("give a whole number from {} to {}", range.start(), range.end());
                self.wrong(key, value, &format!("is {integer}, which is out of range"), &mend);
                None
            }
        }
    }

    /// A list of strings; a single string is a list of one.
    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<(String, Range<usize>)>> {
        let value = self.value(key)?;
        strings_of(self, key, value)
    }

    /// A list of strings without their places.
    pub(super) fn words(&self, key: &'static str) -> Vec<String> {
        self.strings(key).unwrap_or_default().into_iter().map(|(text, _)| text).collect()
    }

    /// `30s`, `5m`, `12h`, `90d`; a bare number is seconds.
    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        const MEND: &str = "write a number and a unit: \"30s\", \"5m\", \"12h\" or \"90d\"";
        let value = self.value(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) => format!("{integer}s"),
            _ => {
                self.wrong_type(key, value, "a duration");
                return None;
            }
        };
        let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = match unit.trim() {
            "s" => Some(1),
            "m" | "min" => Some(60),
            "h" => Some(3600),
            "d" => Some(86_400),
            _ => None,
        };
        let seconds = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        // A century: beyond it times overflow.
        let seconds = seconds.filter(|&seconds| seconds <= 100 * 366 * 86_400);
        if seconds.is_none() {
            self.wrong(key, value, &format!("is \"{text}\", which is no duration"), MEND);
        }
        seconds.map(Duration::from_secs)
    }

    /// `500MB`, `10GiB`; a bare number is bytes.
    pub(super) fn bytes(&self, key: &'static str) -> Option<u64> {
        const MEND: &str = "write a number and a unit: \"500MB\", \"10GB\", \"2TB\"";
        let value = self.value(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) => integer.to_string(),
            _ => {
                self.wrong_type(key, value, "a size");
                return None;
            }
        };
        let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => Some(1_u64),
            "kb" | "k" => Some(1000),
            "mb" | "m" => Some(1_000_000),
            "gb" | "g" => Some(1_000_000_000),
            "tb" | "t" => Some(1_000_000_000_000),
            "kib" => Some(1 << 10),
            "mib" => Some(1 << 20),
            "gib" => Some(1 << 30),
            "tib" => Some(1 << 40),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        if bytes.is_none() {
            self.wrong(key, value, &format!("is \"{text}\", which is no size"), MEND);
        }
        bytes
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let Some(word) = value.get_ref().as_str() else {
            self.wrong_type(key, value, "a string in quotes");
            return None;
        };
        self.pick(key, word, value.span(), choices)
    }

    /// A list of words, each one of a few.
    pub(super) fn choices<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<Vec<T>> {
        let words = self.strings(key)?;
        Some(words.into_iter().filter_map(|(word, span)| self.pick(key, &word, span, choices)).collect())
    }

    pub(super) fn pick<T: Copy>(&self, key: &str, word: &str, span: Range<usize>, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let help = nearest(word, names.iter().copied()).map_or_else(
                || format!("give one of {}", quoted(&names)),
                |name| format!("did you mean \"{name}\"? There are {}", quoted(&names)),
            );
            self.source.error(
                codes::CONFIG_VALUE,
                span,
                format!("`{key}` of {} cannot be \"{word}\"", self.title),
                &help,
            );
        }
        found
    }

    pub(super) fn table(&self, key: &'static str, title: &str) -> Option<Table<'a>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(self.source, title, value.span(), entries)),
            _ => {
                self.wrong_type(key, value, &format!("a table {title}"));
                None
            }
        }
    }

    /// `[[key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Table<'a>> {
        let title = format!("[[{key}]]");
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.source.error(
                codes::CONFIG_VALUE,
                value.span(),
                format!("`{key}` is a list of tables"),
                &format!("write {title} with two brackets on each side"),
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(entries) => tables.push(Table::new(self.source, &*title, item.span(), entries)),
                _ => self.wrong_type(key, item, &format!("a table {title}")),
            }
        }
        tables
    }

    pub(super) fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, what: &str, help: &str) {
        self.source.error(codes::CONFIG_VALUE, value.span(), format!("`{key}` of {} {what}", self.title), help);
    }

    pub(super) fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let what = format!("is {}, but must be {expected}", article(value.get_ref().type_str()));
        self.wrong(key, value, &what, "");
    }

    /// Complains about every key that was never asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for (key, span, _) in self.pairs() {
            if known.contains(key) {
                continue;
            }
            let help = nearest(key, known.iter().copied()).map_or_else(
                || format!("{} knows {}", self.title, quoted(&known.iter().copied().collect::<Vec<_>>())),
                |name| format!("did you mean `{name}`?"),
            );
            self.source.error(codes::CONFIG_UNKNOWN_KEY, span, format!("{} has no key `{key}`", self.title), &help);
        }
    }
}

/// A list of strings, or a single one.
pub(super) fn strings_of(
    table: &Table<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
) -> Option<Vec<(String, Range<usize>)>> {
    match value.get_ref() {
        DeValue::String(text) => Some(vec![(text.to_string(), value.span())]),
        DeValue::Array(items) => {
            let mut strings = Vec::new();
            for item in items.iter() {
                match item.get_ref().as_str() {
                    Some(text) if !text.is_empty() => strings.push((text.to_owned(), item.span())),
                    _ => table.wrong_type(key, item, "a string in quotes"),
                }
            }
            Some(strings)
        }
        _ => {
            table.wrong_type(key, value, "a list of strings");
            None
        }
    }
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}
