//! Expressions in the dialect of GitHub's runner (.NET's with ECMAScript classes), run by an engine that is linear where
//! it can be and bounded where the expression looks around or back.
//!
//! Pure: no I/O, no clock, no async.

use super::Exhausted;

/// Steps back per line before an expression is given up: well below a second.
const BACKTRACK_LIMIT: usize = 200_000;

/// The longest expression.
const LONGEST: usize = 16 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Regexp {
    regex: fancy_regex::Regex,
}

impl Regexp {
    pub(super) fn new(expression: &str) -> Result<Self, String> {
        if expression.len() > LONGEST {
            return Err(format!("an expression is longer than {LONGEST} bytes"));
        }
        let regex = fancy_regex::RegexBuilder::new(&translate(expression))
            .backtrack_limit(BACKTRACK_LIMIT)
            .build()
            .map_err(|error| format!("Invalid pattern '{expression}': {error}"))?;
        Ok(Self { regex })
    }

    /// The number of groups, the whole match included.
    pub(super) fn groups(&self) -> usize {
        self.regex.captures_len()
    }

    pub(super) fn find<'a>(&self, line: &'a str) -> Result<Option<fancy_regex::Captures<'a>>, Exhausted> {
        self.regex.captures(line).map_err(|_| Exhausted)
    }
}

/// From .NET's spelling to Rust's: classes are ASCII, `\<`, `\>` and a brace alone are plain characters, and inside of a
/// class `[`, `&` and `~` are too.
fn translate(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len() + 16);
    let mut rest = expression;
    let mut in_class = false;
    // The first `]` of a class is a plain character.
    let mut class_start = 0;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let Some(escaped) = rest.chars().next() else {
                    out.push('\\');
                    break;
                };
                rest = &rest[escaped.len_utf8()..];
                escape(escaped, in_class, &mut out);
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
                class_start = out.len();
            }
            ']' if in_class && out.len() > class_start => {
                in_class = false;
                out.push(']');
            }
            '[' | ']' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(character);
            }
            '-' if in_class && out.ends_with('-') => out.push_str("\\-"),
            '{' if !in_class && !is_repetition(rest) => out.push_str("\\{"),
            other => out.push(other),
        }
    }
    out
}

fn escape(escaped: char, in_class: bool, out: &mut String) {
    const SPACE: &str = " \\t\\n\\r\\x0b\\x0c";
    let class = match escaped {
        'd' => Some(("0-9", false)),
        'D' => Some(("0-9", true)),
        'w' => Some(("a-zA-Z0-9_", false)),
        'W' => Some(("a-zA-Z0-9_", true)),
        's' => Some((SPACE, false)),
        'S' => Some((SPACE, true)),
        _ => None,
    };
    match (class, escaped) {
        (Some((members, false)), _) if in_class => out.push_str(members),
        (Some((members, negated)), _) => {
            out.push_str(if negated { "[^" } else { "[" });
            out.push_str(members);
            out.push(']');
        }
        (None, 'e') => out.push_str("\\x1b"),
        (None, 'Z') => out.push_str("\\z"),
        (None, 'b') if in_class => out.push_str("\\x08"),
        (None, '<' | '>' | '\'' | '"' | '/' | ' ' | '@' | ',' | '=' | ':' | ';' | '!' | '%' | '`' | '_') => {
            out.push(escaped);
        }
        (None, other) => {
            out.push('\\');
            out.push(other);
        }
    }
}

/// Whether what follows a `{` makes it a repetition: `3}`, `3,}` or `3,5}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inside, _)) = rest.split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    !low.is_empty() && low.chars().chain(high.chars()).all(|character| character.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_are_translated() {
        let check = |expression: &str, line: &str, group: Option<&str>| {
            let regexp = Regexp::new(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
            let found = regexp.find(line).unwrap();
            assert_eq!(found.and_then(|groups| groups.get(1).map(|text| text.as_str())), group, "{expression}");
        };
        check(r"^(\d+\>)", "12>", Some("12>"));
        check(r"([[\]&&~~a-]+)", "[]&~-a", Some("[]&~-a"));
        check(r"([+--]+)", "+,-.", Some("+,-"));
        check(r"([]x]+)", "]x", Some("]x"));
        check(r"([^]x]+)", "ab", Some("ab"));
        check(r"(a{b})", "a{b}", Some("a{b}"));
        check(r"(a{2,3})", "aaaa", Some("aaa"));
        check(r"(\w+)", "é1", Some("1"));
        check(r"([\S]+)\s", "ab c", Some("ab"));
        check(r"(?<!x)(y)", "xy", None);
        check(r"\e\[31m(.+)", "\x1b[31mred", Some("red"));
        check(r"(\/a\/[\w.-]+)", "/a/b-c.d", Some("/a/b-c.d"));
    }

    #[test]
    fn what_is_no_expression_is_told() {
        for expression in ["(", "[a", "*", "\\", &"a".repeat(LONGEST + 1)] {
            assert!(Regexp::new(expression).is_err(), "{expression}");
        }
    }
}
