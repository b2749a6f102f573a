//! What a person sees while jobs run: log lines behind the job's name, groups, times, a line of progress, a table.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use crate::engine::record::JobRecord;
use crate::id::JobId;
use crate::run::{Conclusion, JobPhase};
use crate::server::terminal::{self, Kind};
use crate::toolkit::stamp;

/// Whether standard error takes colours: a terminal, and nobody objects (<https://no-color.org>).
#[must_use]
pub(super) fn colors() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The live view on standard error.
pub(super) struct Screen {
    colors: bool,
    bar: ProgressBar,
    names: BTreeMap<JobId, String>,
    width: usize,
}

const PALETTE: [u8; 6] = [36, 35, 34, 33, 32, 96];

impl Screen {
    /// Shows progress only on a terminal.
    pub(super) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or(ProgressStyle::default_spinner()),
            );
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            ProgressBar::hidden()
        };
        Self { colors: colors(), bar, names: BTreeMap::new(), width: 0 }
    }

    /// Names a job's lines.
    pub(super) fn name(&mut self, job: JobId, name: &str) {
        self.width = self.width.max(name.chars().count()).min(28);
        self.names.insert(job, name.to_owned());
    }

    /// Whole log lines with their stamps.
    pub(super) fn log(&self, job: JobId, bytes: &[u8]) {
        let prefix = self.prefix(job);
        let mut text = String::new();
        for line in String::from_utf8_lossy(bytes).lines() {
            let line = line.get(stamp::LENGTH + 1..).unwrap_or_default();
            if line == "##[endgroup]" {
                continue;
            }
            text.push_str(&prefix);
            text.push_str(&self.line(line));
            text.push('\n');
        }
        self.write(&text);
    }

    /// A line of our own.
    pub(super) fn say(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// The line of progress.
    pub(super) fn progress(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Takes the line of progress away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A mark, a word and a colour for each end, the same everywhere.
    pub(super) fn conclusion(&self, conclusion: Option<Conclusion>, phase: JobPhase) -> String {
        let (mark, word, color) = match (conclusion, phase) {
            (Some(Conclusion::Success), _) => ("✓", "success", 32),
            (Some(Conclusion::Skipped), _) => ("-", "skipped", 90),
            (Some(Conclusion::Cancelled), _) => ("!", "cancelled", 33),
            (Some(other), _) => ("✗", other.as_str(), 31),
            (None, JobPhase::InProgress) => ("*", "running", 36),
            (None, _) => (".", "queued", 90),
        };
        self.paint(color, &format!("{mark} {word}"))
    }

    /// The summary: jobs with ends and times.
    pub(super) fn table<'a>(&self, jobs: impl Iterator<Item = &'a JobRecord>) {
        let jobs: Vec<_> = jobs.collect();
        let width = jobs.iter().map(|job| job.state.name.chars().count()).max().unwrap_or(0).max(3);
        let mut text = String::from("\n");
        for job in jobs {
            let state = &job.state;
            let time = match (state.started_at, state.completed_at) {
                (Some(from), Some(to)) => duration(from, to),
                _ => String::new(),
            };
            let host = state.host.as_ref().map_or("", |host| host.as_str());
            let name = format!("{:width$}", state.name);
            text.push_str(&format!("  {}  {name}  {time:>8}  {host}\n", self.padded(state.conclusion, state.phase)));
            for step in state.steps.iter().filter(|step| step.conclusion == Some(Conclusion::Failure)) {
                text.push_str(&format!("  {:13}  {}\n", "", self.paint(31, &format!("failed: {}", step.name))));
            }
            if let Some(reason) = &state.reason {
                text.push_str(&format!("  {:13}  {reason}\n", ""));
            }
        }
        self.write(&text);
    }

    fn padded(&self, conclusion: Option<Conclusion>, phase: JobPhase) -> String {
        let plain = Self { colors: false, bar: ProgressBar::hidden(), names: BTreeMap::new(), width: 0 };
        let length = plain.conclusion(conclusion, phase).chars().count();
        format!("{}{}", self.conclusion(conclusion, phase), " ".repeat(13_usize.saturating_sub(length)))
    }

    fn prefix(&self, job: JobId) -> String {
        let name = self.names.get(&job).map_or("job", String::as_str);
        let name: String = if name.chars().count() > self.width {
            name.chars().take(self.width.saturating_sub(1)).chain(['…']).collect()
        } else {
            name.to_owned()
        };
        let color = PALETTE[usize::try_from(job.0).unwrap_or(0) % PALETTE.len()];
        format!("{} ", self.paint(color, &format!("{name:<width$} │", width = self.width)))
    }

    fn line(&self, line: &str) -> String {
        let (kind, text) = terminal::marker(line);
        let text = self.clean(text);
        match kind {
            Kind::Group => self.paint(1, &format!("▸ {text}")),
            Kind::Error => self.paint(31, &format!("{}{text}", kind.word())),
            Kind::Warning => self.paint(33, &format!("{}{text}", kind.word())),
            Kind::Notice => self.paint(34, &format!("{}{text}", kind.word())),
            Kind::Debug => self.paint(90, &text),
            _ => text,
        }
    }

    /// Without colours the escape sequences of steps go too.
    fn clean(&self, line: &str) -> String {
        if self.colors {
            return line.to_owned();
        }
        let mut clean = String::with_capacity(line.len());
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            if character == '\x1b' {
                if characters.next() == Some('[') {
                    characters.by_ref().find(char::is_ascii_alphabetic);
                }
            } else {
                clean.push(character);
            }
        }
        clean
    }

    fn paint(&self, color: u8, text: &str) -> String {
        if self.colors { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn write(&self, text: &str) {
        self.bar.suspend(|| {
            // A closed standard error is no reason to stop a run.
            drop(std::io::stderr().write_all(text.as_bytes()));
        });
    }
}

/// `3.2s`, `4m 07s`.
pub(super) fn duration(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs_f64().max(0.0);
    if seconds < 60.0 {
        return format!("{seconds:.1}s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a duration of a run fits")]
    let whole = seconds as u64;
    format!("{}m {:02}s", whole / 60, whole % 60)
}
