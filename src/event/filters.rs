//! Branch, tag and path patterns in GitHub's dialect (T2–T5).
//!
//! The dialect is its own: a pattern matches the whole text; `*` stops at `/`, `**` does not; `?` and `+` repeat the
//! character before them as in a regular expression; `[]` holds characters and ranges; `\` takes the meaning away; `!`
//! negates at the start only.

use regex::Regex;

/// Pushes and pull requests with more files are tested by their first 300 only (T4).
pub const FILES_TESTED: usize = 300;

/// A list of patterns, compiled. Later patterns overrule earlier ones; `!` takes back (T2).
#[derive(Clone, Debug)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    source: String,
    /// `None` for a pattern too large to compile: it matches nothing.
    regex: Option<Regex>,
}

impl Patterns {
    /// Compiles a list. Malformed parts of a pattern stand for themselves, as GitHub refuses few of them.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Self {
        Self { patterns: patterns.into_iter().map(|pattern| Pattern::new(pattern.as_ref())).collect() }
    }

    /// Whether the text ends up matched: the last pattern that matches it decides. A list with only negative patterns
    /// matches nothing.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.deciding(text).is_some_and(|pattern| !pattern.starts_with('!'))
    }

    /// The last pattern that matches the text, as written.
    #[must_use]
    pub fn deciding(&self, text: &str) -> Option<&str> {
        self.patterns
            .iter()
            .rev()
            .find(|pattern| pattern.regex.as_ref().is_some_and(|regex| regex.is_match(text)))
            .map(|pattern| pattern.source.as_str())
    }

    /// Would `branches:`, `tags:` or `paths:` with these patterns let the texts through: at least one is matched.
    #[must_use]
    pub fn pass<S: AsRef<str>>(&self, texts: &[S]) -> bool {
        texts.iter().any(|text| self.matches(text.as_ref()))
    }

    /// Would `…-ignore:` with these patterns stop the texts: every one is matched (T5).
    #[must_use]
    pub fn ignore<S: AsRef<str>>(&self, texts: &[S]) -> bool {
        texts.iter().all(|text| self.matches(text.as_ref()))
    }
}

impl Pattern {
    fn new(source: &str) -> Self {
        let body = source.strip_prefix('!').unwrap_or(source);
        let regex = regex::RegexBuilder::new(&to_regex(body)).size_limit(1 << 20).build().ok();
        Self { source: source.to_owned(), regex }
    }
}

/// Translates a pattern without its `!`.
fn to_regex(pattern: &str) -> String {
    let chars: Vec<char> = pattern.chars().collect();
    let mut regex = String::from("(?s)^");
    // Whether `?` and `+` have a character before them to repeat.
    let mut repeatable = false;
    let mut at = 0;
    while at < chars.len() {
        let char = chars[at];
        at += 1;
        match char {
            '*' if chars.get(at) == Some(&'*') => {
                let at_segment_start = at < 2 || chars[at - 2] == '/';
                at += 1;
                if at_segment_start && chars.get(at) == Some(&'/') {
                    // Any directories, also none: `**/docs/**` matches `docs/hello.md`.
                    regex.push_str("(?:.+/)?");
                    at += 1;
                } else {
                    regex.push_str(".*");
                }
                repeatable = false;
            }
            '*' => {
                regex.push_str("[^/]*");
                repeatable = false;
            }
            '?' | '+' if repeatable => {
                regex.push(char);
                repeatable = false;
            }
            '[' => match character_class(&chars[at..]) {
                Some((class, length)) => {
                    regex.push_str(&class);
                    at += length;
                    repeatable = true;
                }
                None => {
                    regex.push_str("\\[");
                    repeatable = true;
                }
            },
            _ => {
                let literal = match chars.get(at) {
                    Some(&escaped) if char == '\\' => {
                        at += 1;
                        escaped
                    }
                    _ => char,
                };
                regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
                repeatable = true;
            }
        }
    }
    regex.push('$');
    regex
}

/// Reads a class after its `[`: its regular expression and how many characters it took with its `]`.
fn character_class(chars: &[char]) -> Option<(String, usize)> {
    let end = chars.iter().position(|&char| char == ']').filter(|&end| end > 0)?;
    let mut class = String::from("[");
    let mut at = 0;
    while at < end {
        let from = chars[at];
        let is_range = at + 2 < end && chars[at + 1] == '-' && from <= chars[at + 2];
        let to = if is_range { chars[at + 2] } else { from };
        class.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(from), u32::from(to)));
        at += if is_range { 3 } else { 1 };
    }
    class.push(']');
    Some((class, end + 1))
}

/// What a pattern is matched against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternKind {
    /// Branches and tags.
    Ref,
    Path,
}

/// A fault of a pattern. GitHub reports few of these: they are advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternFault {
    pub message: &'static str,
    /// A matter of style: the pattern does what it says.
    pub style_only: bool,
}

const REF_CHARACTERS: &str = "ref name cannot contain spaces, ~, ^, :, [, ?, *";
const NOTHING_TO_REPEAT: &str = "the character before ? and + must not be a special character";

/// Finds what cannot be meant in a pattern.
#[must_use]
pub fn check(pattern: &str, kind: PatternKind) -> Vec<PatternFault> {
    let mut faults = Vec::new();
    let mut fault = |message| faults.push(PatternFault { message, style_only: false });
    if pattern.is_empty() {
        fault("pattern cannot be empty");
        return faults;
    }
    let body = pattern.strip_prefix('!').unwrap_or(pattern);
    if body.is_empty() {
        fault("at least one character must follow !");
        return faults;
    }
    match kind {
        PatternKind::Ref => {
            if pattern.starts_with('/') {
                fault("ref name must not start with /");
            }
            if body.ends_with(['/', '.']) {
                fault("ref name must not end with / or .");
            }
        }
        PatternKind::Path => {
            if pattern.trim() != pattern {
                fault("leading and trailing spaces are not allowed in a path");
            }
            if body == "." || body == ".." || body.starts_with("./") || body.starts_with("../") {
                fault("'.' and '..' at the start of a path never match");
            }
        }
    }
    let mut style = false;
    let mut repeatable = false;
    let mut chars = body.chars().peekable();
    while let Some(char) = chars.next() {
        let before = std::mem::replace(&mut repeatable, true);
        match char {
            '\\' => match chars.peek() {
                Some('[' | '?' | '*') => {
                    chars.next();
                    if kind == PatternKind::Ref {
                        fault(REF_CHARACTERS);
                    }
                }
                Some('+' | '\\' | '!') => {
                    chars.next();
                }
                _ if kind == PatternKind::Ref => {
                    fault("only the special characters [, ?, +, *, \\ and ! can be escaped with \\");
                }
                _ => {}
            },
            '?' | '+' => {
                repeatable = false;
                if !before {
                    fault(NOTHING_TO_REPEAT);
                }
            }
            '*' => repeatable = false,
            '\n' => fault("newline cannot be contained"),
            '\r' => {
                chars.next_if_eq(&'\n');
                fault("newline cannot be contained");
            }
            ' ' | '\t' | '~' | '^' | ':' if kind == PatternKind::Ref => fault(REF_CHARACTERS),
            '[' => {
                let mut class = String::new();
                let closed = loop {
                    match chars.next() {
                        None => break false,
                        Some(']') => break true,
                        Some(char) => class.push(char),
                    }
                };
                if closed {
                    match class_fault(&class) {
                        Some(message) => fault(message),
                        None => style |= class.chars().count() == 1,
                    }
                } else {
                    fault("missing ] of a character class");
                }
            }
            _ => {}
        }
    }
    if style {
        faults.push(PatternFault { message: "a character class with a single character is useless", style_only: true });
    }
    faults
}

fn class_fault(class: &str) -> Option<&'static str> {
    let chars: Vec<char> = class.chars().collect();
    if chars.is_empty() {
        return Some("character class must not be empty");
    }
    let mut at = 0;
    while at < chars.len() {
        if chars.get(at + 1) != Some(&'-') {
            at += 1;
            continue;
        }
        match chars.get(at + 2) {
            None => return Some("range of a character class has no end"),
            Some(end) if chars[at] > *end => return Some("range of a character class starts after its end"),
            Some(_) => at += 3,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Patterns;

    #[track_caller]
    fn check(patterns: &[&str], text: &str, expect: bool) {
        assert_eq!(Patterns::new(patterns).matches(text), expect, "{patterns:?} on {text:?}");
    }

    #[test]
    fn t3_dialect() {
        check(&["*"], "main", true);
        check(&["*"], "feature/a", false);
        check(&["**"], "feature/a", true);
        check(&["feature/*"], "feature/a/b", false);
        check(&["*.jsx?"], "page.js", true);
        check(&["*.jsx?"], "page.jsx", true);
        check(&["*.jsx?"], "page.jsxx", false);
        check(&["**.js"], "a/b/c.js", true);
        check(&["v[12].[0-9]+.[0-9]+"], "v1.10.1", true);
        check(&["v[12].[0-9]+.[0-9]+"], "v3.0.0", false);
        check(&["a.b"], "axb", false);
        check(&["docs/**/*.md"], "docs/README.md", true);
        check(&["docs/**/*.md"], "docs/a/b/c.md", true);
        check(&["**/README.md"], "README.md", true);
        check(&["a**/b"], "axx/y/b", true);
        check(&["\\*"], "*", true);
        check(&["\\*"], "x", false);
        check(&["+"], "+", true);
        check(&["["], "[", true);
        check(&["[]"], "[]", true);
        check(&["Main"], "main", false);
        check(&["mona"], "mona/x", false);
        check(&["*"], "a\nb", true);
    }

    #[test]
    fn t2_later_patterns_overrule() {
        check(&["releases/**", "!releases/**-alpha"], "releases/10-alpha", false);
        check(&["releases/**", "!releases/**-alpha"], "releases/10", true);
        check(&["a*", "!ab*", "abc"], "abc", true);
        check(&["!x"], "y", false);
    }

    #[test]
    fn t3_hostile_patterns_are_bounded() {
        let long = "a?".repeat(20_000);
        check(&[&long], "aaaa", Patterns::new([&long]).matches("aaaa"));
        check(&["[\u{10ffff}-\u{10ffff}]"], "\u{10ffff}", true);
        check(&["[z-a]"], "-", true);
    }

    #[test]
    fn t5_paths_ignore_needs_one_file_that_is_not_ignored() {
        let docs = Patterns::new(["docs/**"]);
        assert!(docs.ignore(&["docs/a", "docs/b"]));
        assert!(!docs.ignore(&["docs/a", "src/b"]));
        assert!(docs.pass(&["docs/a", "src/b"]));
    }
}
