//! Terminal output to HTML that is safe whatever the bytes are: colours become classes, everything else that a terminal
//! would obey is dropped, all text is escaped.

use std::fmt::Write;

/// Longer lines are cut in pages; the raw log has them whole.
const LINE_LIMIT: usize = 32 * 1024;

/// What a line of a job's log is, by its `##[word]` prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Group,
    EndGroup,
    Error,
    Warning,
    Notice,
    Debug,
    Command,
    Section,
}

/// A line of a job's log taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// RFC 3339 with seven digits, when the line starts with one.
    pub time: &'a str,
    pub kind: Kind,
    pub text: &'a str,
}

/// Takes a stored line apart: time stamp, marker, text. Lines without either are all text.
#[must_use]
pub fn line(stored: &str) -> Line<'_> {
    let (time, rest) = match stored.split_once(' ') {
        Some((time, rest)) if is_stamp(time) => (time, rest),
        _ if is_stamp(stored) => (stored, ""),
        _ => ("", stored),
    };
    let (kind, text) = marker(rest);
    Line { time, kind, text }
}

fn is_stamp(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() == 28 && bytes[27] == b'Z' && bytes[10] == b'T' && bytes[4] == b'-' && bytes[0].is_ascii_digit()
}

/// What a line without its time stamp is, and its text.
#[must_use]
pub fn marker(text: &str) -> (Kind, &str) {
    let Some((word, rest)) = text.strip_prefix("##[").and_then(|rest| rest.split_once(']')) else {
        return (Kind::Plain, text);
    };
    let kind = match word {
        "group" => Kind::Group,
        "endgroup" => Kind::EndGroup,
        "error" => Kind::Error,
        "warning" => Kind::Warning,
        "notice" => Kind::Notice,
        "debug" => Kind::Debug,
        "command" => Kind::Command,
        "section" => Kind::Section,
        _ => return (Kind::Plain, text),
    };
    (kind, rest)
}

impl Kind {
    /// The class of the line.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Plain | Self::Group | Self::EndGroup => "",
            Self::Error => "le",
            Self::Warning => "lw",
            Self::Notice => "ln",
            Self::Debug => "ld",
            Self::Command => "lc",
            Self::Section => "ls",
        }
    }

    /// The word that stands before the text, so that colour is not the only sign.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "Error: ",
            Self::Warning => "Warning: ",
            Self::Notice => "Notice: ",
            _ => "",
        }
    }
}

/// The look of a stretch of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    /// 1–16: the palette entry plus one; 0: the default colour.
    front: u8,
    back: u8,
    bold: bool,
    faint: bool,
    italic: bool,
    underline: bool,
    struck: bool,
}

/// The text as HTML. Colours are classes `f0`–`f15` and `b0`–`b15`; other colours go to the nearest of these, which keeps
/// contrast in light and dark. Cursor movement, titles, links and other sequences leave nothing; of text overwritten by
/// carriage returns the last state stays.
#[must_use]
pub fn html(text: &str) -> String {
    let (text, cut) = match text.char_indices().nth(LINE_LIMIT) {
        Some((at, _)) => (&text[..at], true),
        None => (text, false),
    };
    let mut out = String::with_capacity(text.len() + 16);
    let mut look = Look::default();
    let mut open = false;
    let mut rest = last_overwrite(text);
    while let Some(at) = rest.find(['\u{1b}', '\u{9b}']) {
        push(&mut out, &rest[..at]);
        let (sequence, after) = escape(&rest[at..]);
        rest = after;
        let Some(parameters) = sequence else { continue };
        let next = apply(look, parameters);
        if next != look {
            if open {
                out.push_str("</span>");
            }
            open = next != Look::default();
            if open {
                open_span(&mut out, next);
            }
            look = next;
        }
    }
    push(&mut out, rest);
    if open {
        out.push_str("</span>");
    }
    if cut {
        out.push_str("<em> … cut here; the raw log has the whole line</em>");
    }
    out
}

/// A terminal shows what was written after the last carriage return.
fn last_overwrite(text: &str) -> &str {
    let text = text.trim_end_matches('\r');
    text.rsplit('\r').next().unwrap_or(text)
}

/// Splits off one escape sequence: the parameters if it sets the look, and what follows it.
fn escape(text: &str) -> (Option<&str>, &str) {
    let mut characters = text.chars();
    let first = characters.next();
    let rest = characters.as_str();
    let body = match first {
        Some('\u{9b}') => rest,
        _ => match rest.chars().next() {
            Some('[') => &rest[1..],
            // Operating system commands, device control, privacy messages: up to BEL or ST, never beyond the line.
            Some(']' | 'P' | 'X' | '^' | '_') => {
                let body = &rest[1..];
                let bell = body.find('\u{7}').map(|at| (at, 1));
                let st = body.find("\u{1b}\\").map(|at| (at, 2));
                let end = [bell, st].into_iter().flatten().min();
                return (None, end.map_or("", |(at, length)| &body[at + length..]));
            }
            // Two-byte sequences such as a character set choice have an intermediate byte first.
            Some(' '..='/') => {
                let body = rest.trim_start_matches(|c| (' '..='/').contains(&c));
                let mut after = body.chars();
                after.next();
                return (None, after.as_str());
            }
            Some('0'..='~') => return (None, &rest[1..]),
            _ => return (None, rest),
        },
    };
    let end = body.find(|c: char| !(' '..='?').contains(&c)).unwrap_or(body.len());
    let parameters = &body[..end];
    match body[end..].chars().next() {
        Some('m') => (Some(parameters), &body[end + 1..]),
        Some('@'..='~') => (None, &body[end + 1..]),
        _ => (None, &body[end..]),
    }
}

fn apply(mut look: Look, parameters: &str) -> Look {
    let mut numbers = parameters.split([';', ':']).map(|number| number.parse::<u16>().unwrap_or(0));
    while let Some(number) = numbers.next() {
        match number {
            0 => look = Look::default(),
            1 => look.bold = true,
            2 => look.faint = true,
            3 => look.italic = true,
            4 => look.underline = true,
            7 => std::mem::swap(&mut look.front, &mut look.back),
            9 => look.struck = true,
            22 => (look.bold, look.faint) = (false, false),
            23 => look.italic = false,
            24 => look.underline = false,
            29 => look.struck = false,
            30..=37 => look.front = to_u8(number - 30) + 1,
            39 => look.front = 0,
            40..=47 => look.back = to_u8(number - 40) + 1,
            49 => look.back = 0,
            90..=97 => look.front = to_u8(number - 90) + 9,
            100..=107 => look.back = to_u8(number - 100) + 9,
            38 | 48 => {
                let colour = match numbers.next() {
                    Some(5) => numbers.next().map(|index| indexed(index.min(255))),
                    Some(2) => {
                        let mut part = || numbers.next().unwrap_or(0).min(255);
                        Some(nearest(part(), part(), part()))
                    }
                    _ => None,
                };
                let Some(colour) = colour else { continue };
                *(if number == 38 { &mut look.front } else { &mut look.back }) = colour + 1;
            }
            _ => {}
        }
    }
    look
}

fn to_u8(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// An entry of the 256 colour table as one of 16.
fn indexed(index: u16) -> u8 {
    match index {
        0..=15 => to_u8(index),
        16..=231 => {
            let level = |step: u16| if step == 0 { 0 } else { 55 + step * 40 };
            let index = index - 16;
            nearest(level(index / 36), level(index / 6 % 6), level(index % 6))
        }
        _ => {
            let grey = 8 + (index.min(255) - 232) * 10;
            nearest(grey, grey, grey)
        }
    }
}

/// The palette entry with the same hue and about the same brightness.
fn nearest(red: u16, green: u16, blue: u16) -> u8 {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    if most - least < 40 {
        return match most {
            0..=63 => 0,
            64..=150 => 8,
            151..=220 => 7,
            _ => 15,
        };
    }
    let middle = u32::from(most + least) / 2;
    let bit = |value: u16, weight: u8| if u32::from(value) > middle { weight } else { 0 };
    let hue = bit(red, 1) | bit(green, 2) | bit(blue, 4);
    if most > 200 { hue + 8 } else { hue }
}

fn open_span(out: &mut String, look: Look) {
    out.push_str("<span class=\"");
    let mut first = true;
    let mut class = |out: &mut String, on: bool, name: std::fmt::Arguments<'_>| {
        if on {
            if !std::mem::take(&mut first) {
                out.push(' ');
            }
            let _ = out.write_fmt(name);
        }
    };
    class(out, look.front > 0, format_args!("f{}", look.front.wrapping_sub(1)));
    class(out, look.back > 0, format_args!("b{}", look.back.wrapping_sub(1)));
    class(out, look.bold, format_args!("tb"));
    class(out, look.faint, format_args!("tf"));
    class(out, look.italic, format_args!("ti"));
    class(out, look.underline, format_args!("tu"));
    class(out, look.struck, format_args!("ts"));
    out.push_str("\">");
}

/// Escapes text; control characters vanish, and characters that reorder text are made visible.
fn push(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' => out.push('\t'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => out.push('\u{fffd}'),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
}

/// The text without anything a terminal would obey, not escaped: for excerpts and titles.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = last_overwrite(text);
    while let Some(at) = rest.find(['\u{1b}', '\u{9b}']) {
        out.extend(rest[..at].chars().filter(|c| !c.is_control() || *c == '\t'));
        rest = escape(&rest[at..]).1;
    }
    out.extend(rest.chars().filter(|c| !c.is_control() || *c == '\t'));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_taken_apart() {
        for (stored, time, kind, text) in [
            ("2026-11-21T21:00:00.0000000Z hello", "2026-11-21T21:00:00.0000000Z", Kind::Plain, "hello"),
            ("2026-11-21T21:00:00.0000000Z ##[group]Run x", "2026-11-21T21:00:00.0000000Z", Kind::Group, "Run x"),
            ("2026-11-21T21:00:00.0000000Z", "2026-11-21T21:00:00.0000000Z", Kind::Plain, ""),
            ("##[error]no", "", Kind::Error, "no"),
            ("##[unknown]x", "", Kind::Plain, "##[unknown]x"),
            ("##[error", "", Kind::Plain, "##[error"),
            ("", "", Kind::Plain, ""),
        ] {
            assert_eq!(line(stored), Line { time, kind, text }, "{stored:?}");
        }
    }

    #[test]
    fn colours_become_classes_and_the_rest_goes() {
        for (text, expected) in [
            ("plain", "plain"),
            ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#39;"),
            ("\u{1b}[31mred\u{1b}[0m x", "<span class=\"f1\">red</span> x"),
            ("\u{1b}[1;32mok\u{1b}[m", "<span class=\"f2 tb\">ok</span>"),
            ("\u{1b}[31ma\u{1b}[32mb", "<span class=\"f1\">a</span><span class=\"f2\">b</span>"),
            ("\u{1b}[97;41mx", "<span class=\"f15 b1\">x</span>"),
            ("\u{1b}[38;5;196mx", "<span class=\"f9\">x</span>"),
            ("\u{1b}[38;5;2mx", "<span class=\"f2\">x</span>"),
            ("\u{1b}[38;2;0;0;250mx", "<span class=\"f12\">x</span>"),
            ("\u{1b}[48;2;9;9;9mx", "<span class=\"b0\">x</span>"),
            ("\u{1b}[2K\u{1b}[1Gprogress", "progress"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;javascript:alert(1)\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]52;c;never ended", ""),
            ("\u{1b}(Btext\u{1b}=x", "textx"),
            ("10%\r50%\r100%\r", "100%"),
            ("a\u{202e}b\u{0}\u{8}c", "a\u{fffd}bc"),
            ("\u{1b}[31", ""),
            ("\u{1b}", ""),
            ("\u{9b}32mx", "<span class=\"f2\">x</span>"),
            ("\u{1b}[31é", "é"),
        ] {
            assert_eq!(html(text), expected, "{text:?}");
        }
        assert!(html(&"x".repeat(1 << 20)).len() < 40_000);
    }

    proptest! {
        #[test]
        fn nothing_escapes(text in "(\u{1b}(\\[[0-9;:?]{0,8}[a-zA-Zé]|\\]|P|\\\\|\u{7})|[<>&\"'\u{9b}\ra-f\u{202e}é\u{1b}]){0,40}") {
            let html = html(&text);
            let mut depth = 0;
            for tag in html.split('<').skip(1) {
                if tag.starts_with("/span>") { depth -= 1 } else {
                    prop_assert!(tag.starts_with("span class=\""), "{html}");
                    depth += 1;
                }
                prop_assert!((0..=1).contains(&depth));
            }
            prop_assert_eq!(depth, 0);
            prop_assert!(!html.chars().any(|c| c.is_control() && c != '\t'));
            prop_assert!(!plain(&text).chars().any(|c| c.is_control() && c != '\t'));
        }
    }
}
