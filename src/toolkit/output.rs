//! One step's output: raw bytes, cut anywhere, become log lines and effects.
//!
//! Every line is looked at in GitHub's order: is it a command, does a problem matcher take it, else it is printed. All
//! that reaches the log or an effect that is shown has been masked. The lines and effects depend on the bytes only, not
//! on how they were cut, so a step can be followed again from any earlier state.
//!
//! Pure: no I/O, no clock, no async.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::run::report::{Annotation, AnnotationLevel};

use super::annotation::{self, LONGEST_MESSAGE};
use super::command::{self, Rules, Said, Settings};
use super::mask::Masks;
use super::matcher::{Found, Matchers, MatchersFile, without_colours};
use super::stamp::Lines;

/// A line longer than this is printed in pieces: a step may write for a minute without a line end.
pub const LONGEST_LINE: usize = 1024 * 1024;

/// A command may be longer: outputs are.
pub const LONGEST_COMMAND: usize = 16 * 1024 * 1024;

/// Annotations of one level that a step may make; further ones are only printed (W6).
pub const MOST_ANNOTATIONS: u32 = 10;

/// What a step asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    SetOutput {
        name: String,
        value: String,
    },
    SaveState {
        name: String,
        value: String,
    },
    /// As a write to `GITHUB_ENV`.
    SetEnv {
        name: String,
        value: String,
    },
    /// As a write to `GITHUB_PATH`.
    AddPath(String),
    /// The job's masks have grown: a checkpoint must have them.
    MaskAdded,
    Annotation {
        annotation: Annotation,
        /// Set for a problem matcher's finding: the file on the host. GitHub keeps `annotation.file` only if it exists.
        file_on_host: Option<String>,
    },
    /// Matchers in a file on the host: read it, then call [`StepOutput::add_matchers`] (and add them for later steps).
    AddMatchers {
        file: String,
    },
    /// Matchers named in a file on the host: read it, then call [`StepOutput::remove_matchers`] with its owners.
    RemoveMatchersOf {
        file: String,
    },
    /// Matchers were removed from this step's output; later steps of the job do not have them either.
    RemoveMatchers {
        owners: Vec<String>,
    },
    /// A command went wrong: the step fails, whatever its exit code.
    FailStep,
}

impl Effect {
    /// Whether the lines that follow depend on what the caller does now.
    fn pauses(&self) -> bool {
        matches!(self, Self::AddMatchers { .. } | Self::RemoveMatchersOf { .. })
    }
}

/// The state of one step's output. Serialises; see [`StepOutput::held`] for what to do with bytes held back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepOutput {
    settings: Settings,
    rules: Rules,
    matchers: Matchers,
    /// Annotations so far: notices, warnings, errors.
    annotations: [u32; 3],
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// Inside of a line whose beginning was printed because of its length.
    in_piece: bool,
    /// The beginning of a line whose end has not come.
    #[serde(skip)]
    partial: Vec<u8>,
}

impl StepOutput {
    /// For a new step, with the matchers that the job has now.
    #[must_use]
    pub fn new(settings: Settings, matchers: &Matchers) -> Self {
        Self {
            rules: Rules::new(&settings),
            matchers: matchers.fresh(),
            settings,
            annotations: [0; 3],
            after_return: false,
            in_piece: false,
            partial: Vec::new(),
        }
    }

    /// How many of the bytes taken are held back because their line has not ended. They are not part of the serialised
    /// state: whoever restores it feeds the stream again from `taken - held`.
    #[must_use]
    pub fn held(&self) -> usize {
        self.partial.len()
    }

    /// The matchers in force.
    #[must_use]
    pub fn matchers(&self) -> &Matchers {
        &self.matchers
    }

    /// Takes bytes of the stream; lines that end in them are appended to `log`, what they ask for to `effects`.
    ///
    /// Returns how many bytes were taken. That is less than all when the last effect must be performed first
    /// ([`Effect::AddMatchers`], [`Effect::RemoveMatchersOf`]); then call again with the rest.
    pub fn feed(&mut self, bytes: &[u8], masks: &mut Masks, log: &mut Lines, effects: &mut Vec<Effect>) -> usize {
        let mut rest = bytes;
        // Where special lines are frequent, looking for plain blocks costs more than it saves.
        let (mut singly, mut patience) = (0_u32, 1);
        while !rest.is_empty() {
            if self.after_return {
                self.after_return = false;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            if singly > 0 {
                singly -= 1;
            } else if self.partial.is_empty() && !self.in_piece {
                let plain = self.plain_lines(rest, masks);
                if plain > 0 {
                    log.push_all(&rest[..plain]);
                    rest = &rest[plain..];
                    patience = 1;
                    continue;
                }
                singly = patience;
                patience = (patience * 2).min(64);
            }
            let room = self.room(rest);
            let within = &rest[..rest.len().min(room)];
            match memchr::memchr2(b'\n', b'\r', within) {
                Some(end) => {
                    self.after_return = rest[end] == b'\r';
                    let before = effects.len();
                    if self.partial.is_empty() {
                        self.line(&rest[..end], masks, log, effects);
                    } else {
                        self.partial.extend_from_slice(&rest[..end]);
                        let line = std::mem::take(&mut self.partial);
                        self.line(&line, masks, log, effects);
                        // Keeps the memory, unless a single line made it large.
                        if line.capacity() <= LONGEST_LINE {
                            self.partial = line;
                            self.partial.clear();
                        }
                    }
                    rest = &rest[end + 1..];
                    if effects[before..].iter().any(Effect::pauses) {
                        break;
                    }
                }
                None if within.len() == room => {
                    self.partial.extend_from_slice(within);
                    rest = &rest[room..];
                    self.piece(masks, log);
                }
                None => {
                    self.partial.extend_from_slice(within);
                    rest = &[];
                }
            }
        }
        bytes.len() - rest.len()
    }

    /// The stream has ended: a last line without an end is a line.
    pub fn finish(&mut self, masks: &mut Masks, log: &mut Lines, effects: &mut Vec<Effect>) {
        let line = std::mem::take(&mut self.partial);
        if !line.is_empty() {
            self.line(&line, masks, log, effects);
        }
        self.after_return = false;
        self.in_piece = false;
    }

    /// Adds the matchers of a file that an effect asked for; a file that is not valid fails the step, as at GitHub.
    pub fn add_matchers(
        &mut self,
        file: &str,
        content: Result<MatchersFile, String>,
        masks: &Masks,
        log: &mut Lines,
        effects: &mut Vec<Effect>,
    ) {
        if let Err(reason) = content.and_then(|content| self.matchers.add(content)) {
            let failed = format!("Unable to process command '::add-matcher::{file}' successfully.");
            for message in [failed, reason] {
                self.issue(annotation::plain(AnnotationLevel::Failure, message), None, None, masks, log, effects);
            }
            effects.push(Effect::FailStep);
        }
    }

    /// Removes matchers by their owners.
    pub fn remove_matchers<'a>(&mut self, owners: impl IntoIterator<Item = &'a str>) {
        for owner in owners {
            self.matchers.remove(owner);
        }
    }

    /// Prints a line of the runner's own, masked.
    pub fn print(&self, line: &str, masks: &Masks, log: &mut Lines) {
        log.push(masks.apply(line).as_bytes());
    }

    /// Prints and annotates an error of the runner's own, like `Process completed with exit code 1.`
    pub fn error(&mut self, message: &str, masks: &Masks, log: &mut Lines, effects: &mut Vec<Effect>) {
        let error = annotation::plain(AnnotationLevel::Failure, message.to_owned());
        self.issue(error, None, None, masks, log, effects);
    }

    /// Prints and annotates a warning of the runner's own.
    pub fn warning(&mut self, message: &str, masks: &Masks, log: &mut Lines, effects: &mut Vec<Effect>) {
        let warning = annotation::plain(AnnotationLevel::Warning, message.to_owned());
        self.issue(warning, None, None, masks, log, effects);
    }

    /// Prints lines of the debug log, if it is on.
    pub fn debug(&self, text: &str, masks: &Masks, log: &mut Lines) {
        if self.settings.debug {
            for line in text.split('\n') {
                self.print(&format!("##[debug]{}", line.strip_suffix('\r').unwrap_or(line)), masks, log);
            }
        }
    }

    /// The length of the lines at the beginning of `bytes` that can be printed as they are. Blocks, not lines, are
    /// looked at: this is what makes plain output fast.
    fn plain_lines(&self, bytes: &[u8], masks: &Masks) -> usize {
        const BLOCK: usize = 16 * 1024;
        if !self.matchers.is_empty() {
            return 0;
        }
        // Everything before the line in which something special begins is plain.
        let mut block = &bytes[..bytes.len().min(BLOCK)];
        for mark in [b"::".as_slice(), b"##[", b"\r"] {
            block = &block[..memchr::memmem::find(block, mark).unwrap_or(block.len())];
        }
        let whole_lines = |block: &[u8]| memchr::memrchr(b'\n', block).map_or(0, |end| end + 1);
        block = &block[..whole_lines(block)];
        if std::str::from_utf8(block).is_err() {
            return 0;
        }
        match masks.first(block) {
            Some(secret) => whole_lines(&block[..secret]),
            None => block.len(),
        }
    }

    /// How many bytes the line may still grow by before it is cut. Depends on what came of the line so far, but not on
    /// where the stream was cut: the mark of a command is at the beginning.
    fn room(&self, rest: &[u8]) -> usize {
        let limit =
            if !self.in_piece && begins_as_command(&self.partial, rest) { LONGEST_COMMAND } else { LONGEST_LINE };
        limit.saturating_sub(self.partial.len()).max(1)
    }

    /// Prints what is held of a line that is too long, but keeps what may be the beginning of a secret or of a character.
    fn piece(&mut self, masks: &Masks, log: &mut Lines) {
        let hold = masks.longest().saturating_sub(1).min(LONGEST_LINE / 2);
        let mut cut = self.partial.len() - hold;
        for range in masks.ranges(&self.partial) {
            if range.start < cut && cut < range.end {
                cut = if range.start > 0 { range.start } else { range.end };
            }
        }
        while cut > 1 && cut < self.partial.len() && self.partial[cut] & 0b1100_0000 == 0b1000_0000 {
            cut -= 1;
        }
        let rest = self.partial.split_off(cut);
        let piece = std::mem::replace(&mut self.partial, rest);
        log.push(masks.apply(&String::from_utf8_lossy(&piece)).as_bytes());
        self.in_piece = true;
    }

    fn line(&mut self, line: &[u8], masks: &mut Masks, log: &mut Lines, effects: &mut Vec<Effect>) {
        let text = String::from_utf8_lossy(line);
        if std::mem::take(&mut self.in_piece) {
            // The rest of a line that was cut is neither command nor finding.
            self.print(&text, masks, log);
            return;
        }
        if command::may_be_command(line) && self.command(&text, masks, log, effects) {
            return;
        }
        if !self.matchers.is_empty() && self.matched(&text, masks, log, effects) {
            return;
        }
        self.print(&text, masks, log);
    }

    fn command(&mut self, line: &str, masks: &mut Masks, log: &mut Lines, effects: &mut Vec<Effect>) -> bool {
        let mut said = Vec::new();
        if !self.rules.obey(line, &self.settings, masks, &mut said) {
            return false;
        }
        for said in said {
            match said {
                Said::Line(line) => self.print(&line, masks, log),
                Said::Debug(text) => self.debug(&text, masks, log),
                Said::Issue(annotation) => self.issue(annotation, None, None, masks, log, effects),
                Said::Effect(effect) => {
                    if let Effect::RemoveMatchers { owners } = &effect {
                        self.remove_matchers(owners.iter().map(String::as_str));
                    }
                    effects.push(effect);
                }
            }
        }
        true
    }

    fn matched(&mut self, line: &str, masks: &Masks, log: &mut Lines, effects: &mut Vec<Effect>) -> bool {
        let stripped = without_colours(line);
        let mut debug = Vec::new();
        let mut removed = Vec::new();
        let settings = &self.settings;
        let issue = self.matchers.feed(&stripped, &mut removed, |found| finding(&found, settings, &mut debug));
        for text in debug {
            self.debug(&text, masks, log);
        }
        for owner in &removed {
            let message = format!(
                "Removing issue matcher '{owner}'. Matcher failed 3 times. Error: the expression took too many steps"
            );
            self.warning(&message, masks, log, effects);
        }
        if !removed.is_empty() {
            effects.push(Effect::RemoveMatchers { owners: removed });
        }
        let Some((annotation, file)) = issue else { return false };
        self.issue(annotation, file, Some(&stripped), masks, log, effects);
        true
    }

    /// Prints an issue and, up to the limit, reports it. `shown` replaces the message in the log.
    fn issue(
        &mut self,
        mut annotation: Annotation,
        file_on_host: Option<String>,
        shown: Option<&str>,
        masks: &Masks,
        log: &mut Lines,
        effects: &mut Vec<Effect>,
    ) {
        let tag = annotation::tag(annotation.level);
        self.print(&format!("{tag}{}", shown.unwrap_or(&annotation.message)), masks, log);
        let count = &mut self.annotations[match annotation.level {
            AnnotationLevel::Notice => 0,
            AnnotationLevel::Warning => 1,
            AnnotationLevel::Failure => 2,
        }];
        if *count >= MOST_ANNOTATIONS {
            return;
        }
        *count += 1;
        annotation.message = shortened(&masks.apply(&annotation.message));
        for text in [&mut annotation.title, &mut annotation.file].into_iter().flatten() {
            *text = masks.apply(text).into_owned();
        }
        annotation.step = self.settings.step_number;
        effects.push(Effect::Annotation { annotation, file_on_host });
    }
}

/// What a matcher found, as an annotation; nothing if it has no message or a severity nobody knows.
fn finding(found: &Found, settings: &Settings, debug: &mut Vec<String>) -> Option<(Annotation, Option<String>)> {
    let message = found.message.as_deref().unwrap_or_default();
    if message.trim().is_empty() {
        debug.push("Skipping logging an issue for the matched line because the message is empty.".to_owned());
        return None;
    }
    let severity = found.severity.as_deref().unwrap_or_default();
    let level = match severity.to_ascii_lowercase().as_str() {
        "" | "error" => AnnotationLevel::Failure,
        "warning" => AnnotationLevel::Warning,
        "notice" => AnnotationLevel::Notice,
        _ => {
            debug.push(format!(
                "Skipped logging an issue for the matched line because the severity '{severity}' is not supported."
            ));
            return None;
        }
    };
    let mut number = |what: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty())?;
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i32>().ok()).flatten();
        if number.is_none() {
            debug.push(format!("Unable to parse {what} number '{text}'"));
        }
        number.and_then(|number| u64::try_from(number).ok())
    };
    let mut annotation = annotation::plain(level, message.to_owned());
    annotation.line = number("line", &found.line);
    annotation.column = number("column", &found.column);
    let mut on_host = None;
    if let Some(file) = found.file.as_deref().filter(|file| !file.trim().is_empty()) {
        let path = settings.paths.found(file, found.from_path.as_deref());
        annotation.file = settings.paths.in_repository(&path);
        if annotation.file.is_none() {
            debug.push(format!("Dropping file value '{path}'. Path is not under the workflow repo."));
        }
        on_host = Some(path);
    }
    Some((annotation, on_host))
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => message[..end].to_owned(),
        None => message.to_owned(),
    }
}

/// Whether a line of which `held` and then `rest` are known begins with `::`, after space. Only so much space is looked
/// at: a line of nothing else may come byte by byte.
fn begins_as_command(held: &[u8], rest: &[u8]) -> bool {
    const SPACE: usize = 1024;
    let start = held.iter().chain(rest).take(SPACE);
    start.skip_while(|byte| byte.is_ascii_whitespace() && **byte != b'\n').take(2).eq(b"::")
}
