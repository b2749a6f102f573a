//! The forms in which a secret may turn up: how tools on the way to a log encode text.
//!
//! Pure: no I/O, no clock, no async.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Base64 without its padding is only searched for when it is this long: two or three characters are in every word.
const SHORTEST_BASE64: usize = 6;

/// PowerShell prints parts of an argument; shorter parts are not secret enough (as in GitHub's runner).
const SHORTEST_PART: usize = 6;

/// Of a longer value only the plain form is searched for: the largest secret GitHub keeps is smaller.
const LONGEST_ENCODED: usize = 64 * 1024;

/// A longer value cannot be in a line, which is printed in shorter pieces; its lines are masked on their own.
const LONGEST: usize = 1024 * 1024;

/// All forms of one value, the value itself first; duplicates and empty ones may be among them only once removed.
pub(super) fn forms(value: &str) -> impl Iterator<Item = String> {
    let mut forms = Vec::new();
    if value.len() <= LONGEST {
        forms.push(value.to_owned());
    }
    if value.len() <= LONGEST_ENCODED {
        encoded(value, &mut forms);
    }
    forms.into_iter().filter(|form| !form.is_empty())
}

fn encoded(value: &str, forms: &mut Vec<String>) {
    base64(value, forms);
    // What is passed to a program in double quotes.
    forms.push(value.replace('"', "\\\""));
    // A string inside an expression.
    forms.push(value.replace('\'', "''"));
    forms.push(json(value));
    forms.push(uri(value));
    forms.push(xml(value));
    forms.extend(without_quotes(value).map(str::to_owned));
    forms.extend(powershell(value).into_iter().flatten().map(str::to_owned));
}

/// A secret inside longer text, like `user:password`, begins at one of three alignments: its own digits are those of
/// the value itself and of the value without its first byte or two.
fn base64(value: &str, forms: &mut Vec<String>) {
    for shift in 0..3 {
        let Some(bytes) = value.as_bytes().get(shift..).filter(|bytes| !bytes.is_empty()) else { return };
        let padded = STANDARD.encode(bytes);
        let bare = padded.trim_end_matches('=');
        if bare.len() >= SHORTEST_BASE64 {
            forms.push(bare.to_owned());
            forms.push(URL_SAFE_NO_PAD.encode(bytes));
            // When text follows the secret, the digit that the two share differs.
            let whole = bytes.len() * 8 / 6;
            forms.push(bare[..whole].to_owned());
        }
        forms.push(padded);
    }
}

fn json(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

fn uri(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for &byte in value.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn xml(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '&' => escaped.push_str("&amp;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A shell takes the quotes around a value away. What remains of a short one is too common to be masked.
fn without_quotes(value: &str) -> Option<&str> {
    (value.chars().count() > 8).then(|| value.strip_prefix('"')?.strip_suffix('"')).flatten()
}

/// When an argument with `&` makes PowerShell fail, it prints the parts before and after the mark, with colour codes
/// between them and around the letter behind `&+`.
fn powershell(value: &str) -> [Option<&str>; 2] {
    let (before, after) = if let Some(at) = value.find("&+") {
        let mut after = value[at + 2..].chars();
        after.next();
        (&value[..at + 2], after.as_str())
    } else if let Some(at) = value.rfind('&') {
        (&value[..=at], &value[at + 1..])
    } else {
        return [None, None];
    };
    [before, after].map(|part| (part.chars().count() >= SHORTEST_PART).then_some(part))
}
