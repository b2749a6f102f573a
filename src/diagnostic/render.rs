//! The forms of a diagnostic: text for people, JSON for programs, workflow commands for GitHub.
//!
//! Pure: no I/O, no clock, no async.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Element, Group, Level, Message, Origin, Renderer, Snippet};
use serde_json::json;

use super::{Diagnostic, Severity, Span};

/// Text as rustc shows it. `source` is the file's text, if it is at hand: without it the place is named, not shown.
/// Ends with a newline.
#[must_use]
pub fn text(diagnostic: &Diagnostic, source: Option<&str>, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let path = printable(&diagnostic.path);
    let mut group = Group::with_title(level.primary_title(printable(&diagnostic.message)).id(diagnostic.code));
    group = match (diagnostic.span, source) {
        (Some(span), Some(source)) => group.element(snippet(source, span, path)),
        (Some(span), None) => group.element(Origin::path(path).line(span.start.line).char_column(span.start.column)),
        (None, _) => group.element(Origin::path(path)),
    };
    for note in &diagnostic.notes {
        group = group.element(message(Level::NOTE, note));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(message(Level::HELP, help));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    format!("{}\n", renderer.decor_style(DecorStyle::Ascii).render(&[group]))
}

fn message<'a>(level: Level<'a>, text: &str) -> Element<'a> {
    let message: Message<'a> = level.message(printable(text));
    message.into()
}

/// Control characters in a file or a name must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Only the lines around the place are handed on, so that a huge file costs nothing.
fn snippet<'a>(source: &'a str, span: Span, path: String) -> Element<'a> {
    let start = source.floor_char_boundary(span.start.offset);
    let end = source.floor_char_boundary(span.end.offset.max(start));
    let from = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let to = source[end..].find('\n').map_or(source.len(), |newline| end + newline);
    // A place that covers many lines is shown by its first one.
    let to = if source[from..to].bytes().filter(|&byte| byte == b'\n').count() > 8 {
        source[start..].find('\n').map_or(source.len(), |newline| start + newline)
    } else {
        to
    };
    let end = end.min(to);
    Snippet::source(&source[from..to])
        .line_start(span.start.line)
        .path(path)
        .annotation(AnnotationKind::Primary.span(start - from..end - from))
        .into()
}

/// One diagnostic as an object of `check --format json`.
#[must_use]
pub fn json(diagnostic: &Diagnostic) -> serde_json::Value {
    let span = diagnostic.span;
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity.as_str(),
        "message": diagnostic.message,
        "line": span.map(|span| span.start.line),
        "column": span.map(|span| span.start.column),
        "end_line": span.map(|span| span.end.line),
        "end_column": span.map(|span| span.end.column),
        "help": diagnostic.help,
        "notes": diagnostic.notes,
    })
}

/// The whole output of `check --format json`: one entry per file, also for files without fault.
#[must_use]
pub fn json_report<'a>(files: impl IntoIterator<Item = (&'a str, &'a [Diagnostic])>) -> serde_json::Value {
    let files: Vec<serde_json::Value> = files
        .into_iter()
        .map(|(path, diagnostics)| json!({"path": path, "diagnostics": diagnostics.iter().map(json).collect::<Vec<_>>()}))
        .collect();
    json!({ "files": files })
}

/// A workflow command (W6) that makes GitHub show the diagnostic beside the line. Without a newline.
#[must_use]
pub fn github(diagnostic: &Diagnostic) -> String {
    let mut properties = format!("file={}", property(&diagnostic.path));
    if let Some(span) = diagnostic.span {
        properties += &format!(",line={},endLine={}", span.start.line, span.end.line);
        // Columns over several lines are an invalid combination on GitHub.
        if span.start.line == span.end.line {
            properties += &format!(",col={},endColumn={}", span.start.column, span.end.column);
        }
    }
    let mut message = diagnostic.message.clone();
    for line in diagnostic.notes.iter().chain(&diagnostic.help) {
        message += "\n";
        message += line;
    }
    format!("::{} {properties},title={}::{}", diagnostic.severity.as_str(), diagnostic.code, data(&message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "on: push\njobs:\n  a:\n    if: ${{ gihtub.ref }}\n";

    fn example() -> Diagnostic {
        let at = SOURCE.find("gihtub").unwrap();
        Diagnostic::error(super::super::codes::UNKNOWN_CONTEXT, "ci.yml", "Unrecognized named-value: 'gihtub'")
            .at(Span::of_bytes(SOURCE, at..at + 6))
            .help("did you mean `github`?")
    }

    #[test]
    fn text_shows_the_line() {
        let expected = "error[TL003]: Unrecognized named-value: 'gihtub'
 --> ci.yml:4:13
  |
4 |     if: ${{ gihtub.ref }}
  |             ^^^^^^
  |
  = help: did you mean `github`?
";
        assert_eq!(text(&example(), Some(SOURCE), false), expected);
        assert!(text(&example(), Some(SOURCE), true).contains("\u{1b}["));
        assert!(text(&example(), None, false).contains("ci.yml:4:13"));
    }

    #[test]
    fn text_survives_spans_that_do_not_fit() {
        for (start, end) in [(0, 0), (0, 1_000_000), (5, 2), (999, 1000)] {
            let mut diagnostic = example();
            diagnostic.span = Some(Span::of_bytes(SOURCE, start..end));
            assert!(text(&diagnostic, Some(SOURCE), false).contains("TL003"), "{start}..{end}");
            assert!(text(&diagnostic, Some("ä"), false).contains("TL003"), "{start}..{end}");
            assert!(text(&diagnostic, Some(""), false).contains("TL003"), "{start}..{end}");
        }
    }

    #[test]
    fn control_characters_are_not_printed() {
        let diagnostic = Diagnostic::error("TL001", "a\u{1b}b", "x\u{7}");
        assert!(!text(&diagnostic, None, false).contains(['\u{1b}', '\u{7}']));
    }

    #[test]
    fn json_has_the_documented_fields() {
        let value = json_report([("ci.yml", &[example()][..]), ("b.yml", &[][..])]);
        assert_eq!(value["files"][0]["diagnostics"][0]["line"], 4);
        assert_eq!(value["files"][0]["diagnostics"][0]["end_column"], 19);
        assert_eq!(value["files"][0]["diagnostics"][0]["severity"], "error");
        assert_eq!(value["files"][1]["diagnostics"], serde_json::json!([]));
    }

    #[test]
    fn github_escapes() {
        let diagnostic = Diagnostic { path: "a,b:c.yml".into(), ..example() }.note("100%\r\nsure");
        assert_eq!(
            github(&diagnostic),
            "::error file=a%2Cb%3Ac.yml,line=4,endLine=4,col=13,endColumn=19,title=TL003::\
             Unrecognized named-value: 'gihtub'%0A100%25%0D%0Asure%0Adid you mean `github`?"
        );
    }
}
