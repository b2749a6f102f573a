//! What is wrong, where, and how to mend it; rendered as text with a snippet, JSON, or GitHub annotation.
//!
//! A diagnostic is about a file that somebody wrote. A failing job is a conclusion and a broken machine is an error
//! of its room; neither is ever a diagnostic.
//!
//! Pure: no I/O, no clock, no async.

pub mod codes;
mod render;
mod suggest;

pub use codes::{Code, explain};
pub use render::{github, json, json_report, text};
pub use suggest::nearest;

/// One fault or piece of advice about one place of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// One of [`codes`], for example `TL001`.
    pub code: &'static str,
    pub severity: Severity,
    /// What is wrong: one line, no final full stop. Where GitHub has a text for it, GitHub's text.
    pub message: String,
    /// The file, as the user named it.
    pub path: String,
    /// Where in the file; `None` when it is about the file as a whole.
    pub span: Option<Span>,
    /// How to mend it.
    pub help: Option<String>,
    /// Further facts, each a line of its own.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// A fault that GitHub refuses.
    #[must_use]
    pub fn error(code: &'static str, path: &str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, path, message.into())
    }

    /// Advice: GitHub accepts it.
    #[must_use]
    pub fn warning(code: &'static str, path: &str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, path, message.into())
    }

    fn new(code: &'static str, severity: Severity, path: &str, message: String) -> Self {
        Self { code, severity, message, path: path.to_owned(), span: None, help: None, notes: Vec::new() }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// The same, with a mend.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, with one more fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Whether GitHub refuses the file because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// From the first character of a place to just behind its last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub start: Position,
    pub end: Position,
}

impl Span {
    /// The span of a range of bytes of a text. Offsets past the end or inside a character move back to a border.
    #[must_use]
    pub fn of_bytes(text: &str, range: std::ops::Range<usize>) -> Self {
        let start = Position::of_byte(text, range.start);
        Self { start, end: Position::of_byte(text, range.end.max(start.offset)) }
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Bytes before it.
    pub offset: usize,
    /// From 1.
    pub line: usize,
    /// From 1, in characters (Unicode scalar values).
    pub column: usize,
}

impl Position {
    /// The position of a byte of a text. An offset past the end or inside a character moves back to a border.
    #[must_use]
    pub fn of_byte(text: &str, offset: usize) -> Self {
        let offset = text.floor_char_boundary(offset);
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            offset,
            line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
