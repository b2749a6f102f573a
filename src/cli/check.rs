//! `towline check`: checks workflow and action files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use super::output::complain;
use super::{ENVIRONMENT, FAILED, INVALID, SUCCESS};
use crate::diagnostic::{Diagnostic, Span, codes, explain, github, json_report, nearest, text};
use crate::workflow::{self, events};

/// More than GitHub reads (1 MiB): enough to see that a file is too large.
const MOST_BYTES: u64 = (1 << 20) + 1;

/// Nearly all workflow files are smaller.
const USUAL_BYTES: usize = 16 << 10;

/// Arguments of `towline check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Files, or directories: of a repository, its workflows and actions; of another directory, all YAML files.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,

    /// How to print what is found.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Only workflows that listen to this event.
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,

    /// Explains a diagnostic code instead of checking anything.
    #[arg(long, value_name = "CODE", conflicts_with_all = ["paths", "event"])]
    explain: Option<String>,
}

/// The same as a program of its own, without help.
#[derive(Debug, clap::Parser)]
#[command(name = "towline check", disable_help_flag = true)]
pub(super) struct Alone {
    #[command(flatten)]
    pub(super) arguments: Arguments,
}

/// How diagnostics are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people, with the lines in question.
    Text,
    /// One object, for programs.
    Json,
    /// Workflow commands, which show the diagnostics beside the lines on GitHub.
    Github,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    if let Some(code) = &arguments.explain {
        return explanation(code);
    }
    if let Some(event) = &arguments.event
        && events::event_shape(event).is_none()
    {
        let near = nearest(event, events::EVENTS.iter().map(|event| event.name));
        let mend = near.map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"));
        complain(&format!("there is no event '{event}'{mend}"));
        return INVALID;
    }
    let report = Report::of(&arguments.paths, arguments.event.as_deref());
    report.faults.iter().for_each(|fault| complain(fault));
    match report.print(arguments.format) {
        Ok(()) => report.exit_code(),
        Err(_) => ENVIRONMENT,
    }
}

fn explanation(code: &str) -> u8 {
    let Some(entry) = explain(code) else {
        complain(&format!("there is no code '{code}'; codes are TL and three digits, as in TL105"));
        return INVALID;
    };
    match writeln!(io::stdout().lock(), "{}: {}\n\n{}", entry.id, entry.title, entry.explanation) {
        Ok(()) => SUCCESS,
        Err(_) => ENVIRONMENT,
    }
}

/// What was found, by file.
#[derive(Default)]
struct Report {
    /// Files in the order they were given; with their texts, where there is something to show in them.
    files: Vec<(String, String, Vec<Diagnostic>)>,
    /// What could not be read.
    faults: Vec<String>,
    unreadable: bool,
    /// What files are read into.
    buffer: Vec<u8>,
}

/// Fewer files are checked faster than a thread starts.
const FILES_PER_THREAD: usize = 32;

impl Report {
    fn of(paths: &[PathBuf], event: Option<&str>) -> Self {
        let mut report = Self::default();
        let mut found = Vec::new();
        for path in paths {
            report.expand(path, &mut found);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(found.len() / FILES_PER_THREAD).max(1);
        // The parts stay in order, so the report does not depend on the number of threads.
        let parts = found.chunks(found.len().div_ceil(threads).max(1)).map(|files| {
            move || {
                let mut part = Self::default();
                files.iter().for_each(|path| part.file(path, event));
                part
            }
        });
        std::thread::scope(|scope| {
            let mut parts = parts.rev();
            let last = parts.next();
            let others: Vec<_> = parts.rev().map(|part| scope.spawn(part)).collect();
            let last = last.map(|part| part());
            for part in others {
                report.absorb(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            last.into_iter().for_each(|part| report.absorb(part));
        });
        report
    }

    fn absorb(&mut self, part: Self) {
        self.files.extend(part.files);
        self.faults.extend(part.faults);
        self.unreadable |= part.unreadable;
    }

    /// The files that a path stands for.
    fn expand(&mut self, path: &Path, files: &mut Vec<PathBuf>) {
        if !path.is_dir() {
            files.push(path.to_owned());
            return;
        }
        let mut found = Vec::new();
        if let Err(error) = yaml_files(path, is_repository(path), &mut found) {
            self.faults.push(format!("cannot read the directory {}: {error}", path.display()));
            self.unreadable = true;
        }
        found.sort();
        if found.is_empty() {
            self.faults.push(format!("there are no workflow or action files in {}", path.display()));
        }
        files.extend(found);
    }

    fn file(&mut self, path: &Path, event: Option<&str>) {
        let name = path.to_string_lossy().into_owned();
        let bytes = match read(path, &mut self.buffer) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.faults.push(format!("cannot read {name}: {error}"));
                self.unreadable = true;
                return;
            }
        };
        let source = match String::from_utf8(bytes) {
            Ok(source) => source,
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let source = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let diagnostic = Diagnostic::error(codes::YAML, &name, "the file is not UTF-8")
                    .at(Span::of_bytes(&source, at..at))
                    .help("save the file as UTF-8");
                self.files.push((name, source, vec![diagnostic]));
                return;
            }
        };
        if let Some(event) = event
            && let (Some(workflow), _) = workflow::parse(&name, &source)
            && !workflow.on.events.contains_key(event)
        {
            return;
        }
        let others = RefCell::new(BTreeMap::new());
        let files = |wanted: &str| {
            let text = called_file(path, wanted)?;
            others.borrow_mut().insert(wanted.to_owned(), text.clone());
            Some(text)
        };
        let (own, called): (Vec<Diagnostic>, Vec<Diagnostic>) =
            workflow::check(&name, &source, &files).into_iter().partition(|diagnostic| diagnostic.path == name);
        let source = if own.is_empty() { String::new() } else { source };
        self.files.push((name, source, own));
        let others = others.into_inner();
        for diagnostic in called {
            let source = others.get(&diagnostic.path).cloned().unwrap_or_default();
            self.files.push((diagnostic.path.clone(), source, vec![diagnostic]));
        }
    }

    fn print(&self, format: Format) -> io::Result<()> {
        let mut output = io::stdout().lock();
        match format {
            Format::Json => {
                let files = self.files.iter().map(|(path, _, found)| (path.as_str(), found.as_slice()));
                writeln!(output, "{}", json_report(files))
            }
            Format::Github => {
                for diagnostic in self.diagnostics() {
                    writeln!(output, "{}", github(diagnostic))?;
                }
                Ok(())
            }
            Format::Text => {
                let colour = output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                for (_, source, found) in &self.files {
                    for diagnostic in found {
                        writeln!(output, "{}", text(diagnostic, Some(source), colour))?;
                    }
                }
                writeln!(output, "{}", self.summary())
            }
        }
    }

    fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.files.iter().flat_map(|(.., found)| found)
    }

    fn errors(&self) -> usize {
        self.diagnostics().filter(|diagnostic| diagnostic.is_error()).count()
    }

    fn summary(&self) -> String {
        let errors = self.errors();
        let warnings = self.diagnostics().count() - errors;
        format!(
            "{} checked: {}, {}",
            counted(self.files.len(), "file"),
            counted(errors, "error"),
            counted(warnings, "warning")
        )
    }

    fn exit_code(&self) -> u8 {
        match (self.unreadable, self.errors()) {
            (true, _) => ENVIRONMENT,
            (false, 0) => SUCCESS,
            (false, _) => FAILED,
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Reads a file; the buffer serves many.
fn read(path: &Path, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    // One read takes the whole of most files, and a second one sees the end.
    buffer.resize(USUAL_BYTES, 0);
    let first = file.read(buffer)?;
    let mut bytes = buffer[..first].to_vec();
    file.take(MOST_BYTES - first as u64).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == MOST_BYTES {
        // The cut may have split a character, which would hide that the file is too large.
        while std::str::from_utf8(&bytes).is_err_and(|error| error.error_len().is_none()) {
            bytes.pop();
        }
        bytes.resize(usize::try_from(MOST_BYTES).unwrap_or(usize::MAX), b' ');
    }
    Ok(bytes)
}

/// A called workflow: looked for from every directory above the calling file, the nearest one first, because nothing
/// says where the root of the repository is.
fn called_file(caller: &Path, wanted: &str) -> Option<String> {
    if wanted.contains('@') || Path::new(wanted).components().any(|part| part == std::path::Component::ParentDir) {
        return None;
    }
    let caller = std::path::absolute(caller).ok()?;
    let found = caller.ancestors().skip(1).map(|root| root.join(wanted)).find(|path| path.is_file())?;
    String::from_utf8(read(&found, &mut Vec::new()).ok()?).ok()
}

/// Whether a directory has workflows where GitHub and Towline look for them.
fn is_repository(path: &Path) -> bool {
    [".github", ".towline"].iter().any(|folder| path.join(folder).join("workflows").is_dir())
}

fn yaml_files(directory: &Path, repository: bool, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !matches!(name.to_str(), Some(".git" | "node_modules" | "target")) {
                yaml_files(&path, repository, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            let workflow = path
                .parent()
                .is_some_and(|parent| parent.ends_with(".github/workflows") || parent.ends_with(".towline/workflows"));
            if !repository || workflow || workflow::is_action_path(&name.to_string_lossy()) {
                found.push(path);
            }
        }
    }
    Ok(())
}
