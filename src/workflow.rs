//! Workflow and action files: text → typed model, with routes to spans for diagnostics.
//!
//! Text becomes a tree of numbered nodes (`yaml`), nodes become tokens and the model (`decode` and the files named
//! after what they decode), and numbers become places in the text again when there is something to say (`place`).
//! This room knows a file and the local files it calls; it knows nothing of events that happen or of hosts.
//!
//! Pure: no I/O, no clock, no async.

mod action;
mod call;
pub mod cron;
mod decode;
pub mod events;
mod expression;
mod file;
mod graph;
mod job;
mod lint;
pub mod model;
mod names;
mod place;
mod shape;
mod step;
#[cfg(test)]
mod tests;
pub mod token;
mod yaml;

pub use file::{LONGEST_GROUP, SCOPES};
pub use step::parse_reference;

use call::Loaded;
use decode::{Decoder, Problem};
use model::{Action, Permissions, Workflow};
use place::Places;
use yaml::{At, Fault, FaultKind, Node};

use crate::diagnostic::{Diagnostic, Span, codes};

/// What GitHub allows; its own tests vary these.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Collections of a file inside one another.
    pub depth: usize,
    /// Levels of called workflows below the first file (R6).
    pub nesting: usize,
    /// Called workflows of one run (R6).
    pub calls: usize,
    /// Jobs of one run, those of called workflows included.
    pub jobs: usize,
    /// What the token may do when the first file says nothing; `None` when that is not known.
    pub default_permissions: Option<Permissions>,
}

impl Limits {
    /// GitHub's own.
    pub const GITHUB: Limits = Limits { depth: 50, nesting: 9, calls: 50, jobs: usize::MAX, default_permissions: None };
}

/// Reads a workflow file. The model exists only if nothing in it is an error; warnings leave it whole.
#[must_use]
pub fn parse(path: &str, text: &str) -> (Option<Workflow>, Vec<Diagnostic>) {
    without_tree(decode_text(path, text, Limits::GITHUB.depth, file::workflow))
}

/// Reads an action file, as leniently as GitHub's runner does: what only the marketplace asks for is advice.
#[must_use]
pub fn parse_action(path: &str, text: &str) -> (Option<Action>, Vec<Diagnostic>) {
    without_tree(decode_text(path, text, Limits::GITHUB.depth, action::action))
}

/// Checks a workflow file together with the workflows it calls, or an action file (`action.yml`, or any other name if
/// the file has `runs` and no `jobs`).
///
/// `files` gives the text of a local workflow by its path from the root of the repository, and that of another
/// repository's by its whole reference; `None` when it is not at hand, and then nothing is said about it.
#[must_use]
pub fn check(path: &str, text: &str, files: &dyn Fn(&str) -> Option<String>) -> Vec<Diagnostic> {
    check_within(path, text, files, &Limits::GITHUB)
}

/// The same, within other limits than GitHub's.
#[must_use]
pub fn check_within(
    path: &str,
    text: &str,
    files: &dyn Fn(&str) -> Option<String>,
    limits: &Limits,
) -> Vec<Diagnostic> {
    let (decoded, mut diagnostics) = decode_text(path, text, limits.depth, |decoder, root| {
        if is_action_path(path) || (root.get("runs").is_some() && root.get("jobs").is_none()) {
            action::action(decoder, root);
            return None;
        }
        file::workflow(decoder, root)
    });
    if let Some((root, model)) = decoded {
        let calls = model.jobs.values().any(|job| matches!(job.body, model::JobBody::Call { .. }));
        if calls || limits.jobs != usize::MAX {
            let loaded = Loaded { path: path.to_owned(), text: text.to_owned(), root, model };
            diagnostics.extend(call::check(&loaded, files, limits));
        }
    }
    diagnostics
}

/// Whether a path is that of an action file.
#[must_use]
pub fn is_action_path(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name.eq_ignore_ascii_case("action.yml") || name.eq_ignore_ascii_case("action.yaml")
}

fn without_tree<T>((decoded, diagnostics): (Option<(Node, T)>, Vec<Diagnostic>)) -> (Option<T>, Vec<Diagnostic>) {
    (decoded.map(|(_, model)| model), diagnostics)
}

fn decode_text<T>(
    path: &str,
    text: &str,
    depth: usize,
    decode: impl FnOnce(&mut Decoder<'_>, &Node) -> Option<T>,
) -> (Option<(Node, T)>, Vec<Diagnostic>) {
    let Some(body) = text.strip_prefix('\u{feff}') else { return decode_body(path, text, depth, decode) };
    // A byte order mark is no part of the text: lines and columns do not count it, offsets do.
    let (decoded, mut diagnostics) = decode_body(path, body, depth, decode);
    for span in diagnostics.iter_mut().filter_map(|diagnostic| diagnostic.span.as_mut()) {
        span.start.offset += '\u{feff}'.len_utf8();
        span.end.offset += '\u{feff}'.len_utf8();
    }
    (decoded, diagnostics)
}

fn decode_body<T>(
    path: &str,
    text: &str,
    depth: usize,
    decode: impl FnOnce(&mut Decoder<'_>, &Node) -> Option<T>,
) -> (Option<(Node, T)>, Vec<Diagnostic>) {
    let places = Places::lazy(text);
    let root = match yaml::load(text, depth) {
        Ok(root) => root,
        Err(fault) => return (None, vec![located(fault_diagnostic(path, fault, text), text, &places)]),
    };
    let mut decoder = Decoder::new(path);
    let model = decode(&mut decoder, &root);
    let model = if decoder.has_errors() { None } else { model };
    let mut diagnostics: Vec<Diagnostic> =
        decoder.into_problems().into_iter().map(|problem| located(problem, text, &places)).collect();
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.map_or(0, |span| span.start.offset));
    (model.map(|model| (root, model)), diagnostics)
}

fn fault_diagnostic(path: &str, fault: Fault, text: &str) -> Problem {
    let (code, help) = match fault.kind {
        FaultKind::Syntax => (codes::YAML, syntax_help(&fault, text)),
        FaultKind::Tag => (codes::YAML_TAG, Some("remove the tag; quote the value if it must be text")),
        FaultKind::TooLarge => (codes::FILE_TOO_LARGE, Some("split the workflow, or call reusable ones")),
        FaultKind::TooDeep => (codes::TOO_DEEP, Some("at most 50 lists and mappings may be inside one another")),
    };
    let mut diagnostic = Diagnostic::error(code, path, fault.message);
    diagnostic.help = help.map(str::to_owned);
    Problem { diagnostic, at: fault.at }
}

/// How to mend what YAML's parser complains about most.
fn syntax_help(fault: &Fault, text: &str) -> Option<&'static str> {
    let near_tab = match fault.at {
        At::Byte(byte) => {
            let byte = text.floor_char_boundary(byte.min(text.len()));
            let start = text[..byte].trim_end().rfind('\n').map_or(0, |newline| newline + 1);
            text[start..].lines().take(2).any(|line| line.trim_start_matches(' ').starts_with('\t'))
        }
        _ => false,
    };
    let message = fault.message.as_str();
    if near_tab || message.contains("tab character") {
        Some("indent with spaces: YAML allows no tabs there")
    } else if message.contains("mapping values are not allowed") {
        Some("a value with `: ` in it must be quoted; otherwise check the indentation of the line")
    } else if message.contains("did not find expected key") || message.contains("block sequence entries") {
        Some("check the indentation: this line does not line up with the lines it belongs to")
    } else if message.contains("start any token") {
        Some("a value that begins with @, ` or % must be quoted")
    } else if message.contains("unknown anchor") {
        Some("an alias `*name` needs an anchor `&name` before it; a pattern that begins with * must be quoted")
    } else if message.contains("more than one document") {
        Some("a workflow is one document: remove the `---` in the middle")
    } else {
        None
    }
}

fn located(problem: Problem, text: &str, places: &Places<'_>) -> Diagnostic {
    let Problem { mut diagnostic, at } = problem;
    let range = match at {
        At::File => None,
        At::Byte(byte) => Some(byte..byte),
        At::Node(node) => places.range(node),
    };
    diagnostic.span = range.map(|range| Span::of_bytes(text, range));
    diagnostic
}
