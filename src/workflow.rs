//! Workflow and action files: text → typed model, with routes to spans for diagnostics.
//!
//! Text becomes a tree of numbered nodes (`yaml`), nodes become tokens and the model (`decode` and the files named
//! after what they decode), and numbers become places in the text again when there is something to say (`place`).
//! This room knows a file and the local files it calls; it knows nothing of events that happen or of hosts.
//!
//! Pure: no I/O, no clock, no async.

mod action;
pub mod cron;
mod decode;
pub mod events;
mod expression;
mod file;
mod graph;
mod job;
pub mod model;
mod names;
mod place;
mod shape;
mod step;
pub mod token;
mod yaml;

pub use file::SCOPES;
pub use step::parse_reference;

use decode::{Decoder, Problem};
use model::{Action, Workflow};
use place::Places;
use yaml::{At, Fault, FaultKind, Node};

use crate::diagnostic::{Diagnostic, Span, codes};

/// How many collections of a file may be inside one another.
const MAX_DEPTH: usize = 50;

/// Reads a workflow file. The model exists only if nothing in it is an error; warnings leave it whole.
#[must_use]
pub fn parse(path: &str, text: &str) -> (Option<Workflow>, Vec<Diagnostic>) {
    read(path, text, MAX_DEPTH, file::workflow)
}

/// Reads an action file, as leniently as GitHub's runner does: what only the marketplace asks for is advice.
#[must_use]
pub fn parse_action(path: &str, text: &str) -> (Option<Action>, Vec<Diagnostic>) {
    read(path, text, MAX_DEPTH, action::action)
}

fn read<T>(
    path: &str,
    text: &str,
    depth: usize,
    decode: impl FnOnce(&mut Decoder<'_>, &Node) -> Option<T>,
) -> (Option<T>, Vec<Diagnostic>) {
    let places = Places::lazy(text);
    let root = match yaml::load(text, depth) {
        Ok(root) => root,
        Err(fault) => return (None, vec![located(fault_diagnostic(path, fault), text, &places)]),
    };
    let mut decoder = Decoder::new(path);
    let model = decode(&mut decoder, &root);
    let model = if decoder.has_errors() { None } else { model };
    let mut diagnostics: Vec<Diagnostic> =
        decoder.into_problems().into_iter().map(|problem| located(problem, text, &places)).collect();
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.map_or(0, |span| span.start.offset));
    (model, diagnostics)
}

fn fault_diagnostic(path: &str, fault: Fault) -> Problem {
    let (code, help) = match fault.kind {
        FaultKind::Syntax => (codes::YAML, None),
        FaultKind::Tag => (codes::YAML_TAG, Some("remove the tag; quote the value if it must be text")),
        FaultKind::TooLarge => (codes::FILE_TOO_LARGE, Some("split the workflow, or call reusable ones")),
        FaultKind::TooDeep => (codes::TOO_DEEP, Some("at most 50 lists and mappings may be inside one another")),
    };
    let mut diagnostic = Diagnostic::error(code, path, fault.message);
    diagnostic.help = help.map(str::to_owned);
    Problem { diagnostic, at: fault.at }
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
