//! Workflow commands: lines of a step's output that speak to the runner (W4–W9).
//!
//! Pure: no I/O, no clock, no async.

mod rules;

pub(super) use rules::blocked_variable;
pub use rules::{Rules, Said, Settings};

/// The commands GitHub's runner knows, besides `stop-commands`.
pub const COMMANDS: &[&str] = &[
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "warning",
];

/// Stops the taking of commands until its token is said.
pub const STOP: &str = "stop-commands";

/// One command line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// As written; names compare without case.
    pub name: String,
    /// In order; names compare without case, a later one replaces an earlier one. None is empty.
    pub properties: Vec<(String, String)>,
    pub data: String,
}

impl Command {
    /// Takes a line apart if it is a command whose name is `known`: `::name key=value,…::data` after leading space,
    /// else `##[name key=value;…]data` anywhere in the line (W4).
    #[must_use]
    pub fn parse(line: &str, known: impl Fn(&str) -> bool) -> Option<Self> {
        Self::parse_colons(line, &known).or_else(|| Self::parse_brackets(line, &known))
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn parse_colons(line: &str, known: impl Fn(&str) -> bool) -> Option<Self> {
        let (head, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
        let mut command = Self::parse_head(head, known, ',', |text| unescape(text, COLON_PROPERTY))?;
        command.data = unescape(data, COLON_DATA);
        Some(command)
    }

    fn parse_brackets(line: &str, known: impl Fn(&str) -> bool) -> Option<Self> {
        let (_, rest) = line.split_once("##[")?;
        let (head, data) = rest.split_once(']')?;
        let mut command = Self::parse_head(head, known, ';', |text| unescape(text, BRACKETS))?;
        command.data = unescape(data, BRACKETS);
        Some(command)
    }

    fn parse_head(
        head: &str,
        known: impl Fn(&str) -> bool,
        separator: char,
        unescape: impl Fn(&str) -> String,
    ) -> Option<Self> {
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        if !known(name) {
            return None;
        }
        let mut command = Self { name: name.to_owned(), properties: Vec::new(), data: String::new() };
        for property in properties.trim().split(separator) {
            // Splitting drops empty parts, so `=` at the borders of a part are not seen; a pair without one half is none.
            let Some((key, value)) = property.trim_start_matches('=').split_once('=') else { continue };
            let value = value.trim_start_matches('=');
            if !value.is_empty() {
                command.set_property(key, unescape(value));
            }
        }
        Some(command)
    }

    pub(super) fn set_property(&mut self, name: &str, value: String) {
        match self.properties.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value,
            None => self.properties.push((name.to_owned(), value)),
        }
    }

    pub(super) fn remove_property(&mut self, name: &str) {
        self.properties.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }
}

/// Whether a line may be a command at all: what is cheap to ask of every line.
#[must_use]
pub fn may_be_command(line: &[u8]) -> bool {
    memchr::memmem::find(line, b"::").is_some() || memchr::memmem::find(line, b"##[").is_some()
}

type Escapes = &'static [(&'static str, &'static str)];

const COLON_DATA: Escapes = &[("%0D", "\r"), ("%0A", "\n"), ("%25", "%")];
const COLON_PROPERTY: Escapes = &[("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")];
const BRACKETS: Escapes = &[("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%25", "%")];

/// One pass from left to right: the `%` of a decoded `%25` never begins another escape.
fn unescape(text: &str, escapes: Escapes) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        match escapes.iter().find(|(code, _)| rest.starts_with(code)) {
            Some((code, character)) => {
                plain.push_str(character);
                rest = &rest[code.len()..];
            }
            None => {
                plain.push('%');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_apart() {
        let any = |_: &str| true;
        type Parts<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let check = |line: &str, expect: Option<Parts<'_>>| {
            let command = Command::parse(line, any);
            let command = command.as_ref().map(|command| {
                let properties: Vec<_> =
                    command.properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                (command.name.as_str(), properties, command.data.as_str())
            });
            assert_eq!(command, expect.map(|(name, properties, data)| (name, properties.to_vec(), data)), "{line}");
        };
        check("::error file=a.rs,line=3::no%0Away", Some(("error", &[("file", "a.rs"), ("line", "3")], "no\nway")));
        check("  ::x k==v,=w,u=::%2525%25", Some(("x", &[("k", "v")], "%25%")));
        check("text ##[x a=1;B=2;b=3]d%5D%", Some(("x", &[("a", "1"), ("B", "3")], "d]%")));
        check("x ::debug::late", None);
        check("::debug", None);
        check("##[debug", None);
    }
}
