//! Lines of a log as HTML: numbers that link, groups that fold, time stamps on demand.

use std::fmt::Write;

use crate::server::terminal::{self, Kind};

/// One line, rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub step: u32,
    /// From 1 within its step.
    pub number: u64,
    /// `21:00:00.000`
    pub time: String,
    pub kind: Kind,
    pub html: String,
}

/// Renders a stored line.
#[must_use]
pub fn rendered(step: u32, number: u64, stored: &str) -> LogLine {
    let line = terminal::line(stored);
    let time = line.time.get(11..23).unwrap_or_default().to_owned();
    LogLine { step, number, time, kind: line.kind, html: format!("{}{}", line.kind.word(), terminal::html(line.text)) }
}

impl LogLine {
    /// Writes the line as a block of its own; `prefix` keeps ids apart when a line is shown twice on a page.
    pub(in crate::server) fn write(&self, out: &mut String, prefix: &str) {
        let class = self.kind.class();
        let space = if class.is_empty() { "" } else { " " };
        let _ = write!(
            out,
            "<div class=\"l{space}{class}\" id=\"{prefix}{}-{n}\"><a href=\"#{prefix}{}-{n}\" data-n=\"{n}\" aria-label=\"Line {n}\"></a><span{}>{}</span></div>",
            self.step,
            self.step,
            self.stamp(),
            self.html,
            n = self.number,
        );
    }

    /// Writes the head of a group, left open for the lines that follow.
    pub(in crate::server) fn write_group(&self, out: &mut String, open: bool) {
        let _ = write!(
            out,
            "<details id=\"s{}-{n}\"{}><summary><i data-n=\"{n}\"></i><span{}>{}</span></summary>",
            self.step,
            if open { " data-open" } else { "" },
            self.stamp(),
            self.html,
            n = self.number,
        );
    }

    fn stamp(&self) -> String {
        if self.time.is_empty() { String::new() } else { format!(" data-t=\"{}\"", self.time) }
    }
}

/// Some lines of one step, around which there may be more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWindow {
    pub step: u32,
    pub lines: Vec<LogLine>,
    /// Lines before the first that are not shown, and the link that shows them.
    pub before: u64,
    pub before_link: String,
    /// The same after the last.
    pub after: u64,
    pub after_link: String,
}

impl LogWindow {
    /// The lines with their groups as elements that fold. A group the window cuts into ends with the window.
    #[must_use]
    pub fn html(&self) -> String {
        let mut out = String::with_capacity(self.lines.len() * 140);
        if self.before > 0 {
            let _ =
                write!(out, "<p class=\"gap\"><a href=\"{}\">{} earlier lines</a></p>", self.before_link, self.before);
        }
        let closes = |from: usize| {
            self.lines[from..].iter().map(|line| line.kind).find(|kind| matches!(kind, Kind::Group | Kind::EndGroup))
                == Some(Kind::EndGroup)
        };
        let mut in_group = false;
        for (at, line) in self.lines.iter().enumerate() {
            // GitHub's groups do not nest: a new one ends the one before (W7).
            if in_group && matches!(line.kind, Kind::Group | Kind::EndGroup) {
                out.push_str("</details>");
                in_group = false;
            }
            match line.kind {
                Kind::EndGroup => {}
                Kind::Group => {
                    line.write_group(&mut out, !closes(at + 1));
                    in_group = true;
                }
                _ => line.write(&mut out, "s"),
            }
        }
        if in_group {
            out.push_str("</details>");
        }
        if self.after > 0 {
            let _ = write!(out, "<p class=\"gap\"><a href=\"{}\">{} more lines</a></p>", self.after_link, self.after);
        }
        out
    }
}

/// A line found by a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHit {
    pub step: u32,
    pub line: u64,
    pub link: String,
    pub html: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(lines: &[&str]) -> String {
        let lines = lines.iter().zip(1..).map(|(line, number)| rendered(2, number, line)).collect();
        LogWindow { step: 2, lines, ..LogWindow::default() }.html()
    }

    #[test]
    fn groups_fold_and_never_nest() {
        let html = window(&["a", "##[group]one", "b", "##[group]two", "c", "##[endgroup]", "d", "##[group]open"]);
        let shape: Vec<&str> = html.split('<').filter_map(|tag| tag.split([' ', '>']).next()).collect();
        let details: Vec<&&str> = shape.iter().filter(|tag| tag.ends_with("details")).collect();
        assert_eq!(details, [&"details", &"/details", &"details", &"/details", &"details", &"/details"]);
        assert!(html.ends_with("</details>"));
        assert_eq!(html.matches("data-open").count(), 2, "the one cut off by another and the one at the end: {html}");
    }

    #[test]
    fn a_line_has_its_number_time_and_words() {
        let html = window(&["2026-11-21T21:00:00.1230000Z ##[error]<no>"]);
        assert!(html.contains("class=\"l le\" id=\"s2-1\""), "{html}");
        assert!(html.contains("data-t=\"21:00:00.123\">Error: &lt;no&gt;"), "{html}");
    }
}
