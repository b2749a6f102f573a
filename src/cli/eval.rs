//! `towline eval`: evaluates expressions.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use super::{ENVIRONMENT, FAILED, INVALID, SUCCESS};
use crate::diagnostic::{Diagnostic, Span, text};
use crate::expr::template::{self, Template};
use crate::expr::{
    EvaluationError, Expression, Functions, MAX_MEMORY_ALONE, Names, Object, Scope, StatusFunction, SyntaxError,
    SyntaxErrorKind, Value,
};
use crate::toolkit::hash_files::{self, Entry, EntryKind, Globs};

/// Arguments of `towline eval`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The expression, with or without `${{ }}`.
    #[arg(required_unless_present = "stdin", conflicts_with = "stdin")]
    expression: Option<String>,

    /// A JSON file with the contexts: an object whose keys are the only names known. `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    contexts: Option<PathBuf>,

    /// Evaluates one JSON object per line, `{"expr": …, "contexts": {…}}`, and answers each with one line.
    #[arg(long)]
    stdin: bool,

    /// The directory in which hashFiles() looks.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    workspace: PathBuf,
}

/// One line of standard input.
#[derive(Deserialize)]
struct Request {
    expr: String,
    #[serde(default)]
    contexts: Option<Object>,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    if arguments.stdin {
        return run_lines(&arguments.workspace).unwrap_or(ENVIRONMENT);
    }
    let contexts = match arguments.contexts.as_deref().map(read_contexts).transpose() {
        Ok(contexts) => contexts.unwrap_or_default(),
        Err((code, message)) => {
            complain(&message);
            return code;
        }
    };
    let source = arguments.expression.unwrap_or_default();
    let (answer, code) = match evaluate(&source, &contexts, &arguments.workspace) {
        Ok(value) => (answer(&value), SUCCESS),
        Err(fault) => {
            if let Fault::Syntax(error) = &fault {
                complain(&explained(&source, error));
            }
            (fault.answer(), fault.exit_code())
        }
    };
    match writeln!(io::stdout().lock(), "{answer}") {
        Ok(()) => code,
        Err(_) => ENVIRONMENT,
    }
}

fn run_lines(workspace: &Path) -> io::Result<u8> {
    let mut code = SUCCESS;
    let mut output = io::stdout().lock();
    let mut line = Vec::new();
    let mut input = io::stdin().lock();
    while input.read_until(b'\n', &mut line)? > 0 {
        if !line.trim_ascii().is_empty() {
            let answer = match serde_json::from_slice::<Request>(&line) {
                Ok(request) => match evaluate(&request.expr, &request.contexts.unwrap_or_default(), workspace) {
                    Ok(value) => answer(&value),
                    Err(fault) => fault.answer(),
                },
                Err(error) => {
                    code = INVALID;
                    json!({"error": {"kind": "request", "message": error.to_string(), "offset": null}})
                }
            };
            writeln!(output, "{answer}")?;
            output.flush()?;
        }
        line.clear();
    }
    Ok(code)
}

fn read_contexts(path: &Path) -> Result<Object, (u8, String)> {
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut text).map(drop)
    } else {
        std::fs::read(path).map(|bytes| text = bytes)
    };
    read.map_err(|error| (ENVIRONMENT, format!("error: cannot read {}: {error}", path.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| (INVALID, format!("error: {} holds no contexts: {error}", path.display())))
}

enum Fault {
    Syntax(SyntaxError),
    Evaluation(String),
}

impl Fault {
    fn answer(&self) -> serde_json::Value {
        let (kind, message, offset) = match self {
            Self::Syntax(error) => {
                let kind = match error.kind {
                    SyntaxErrorKind::Lexing => "lexing",
                    SyntaxErrorKind::Parsing => "parsing",
                };
                (kind, &error.message, Some(error.offset))
            }
            Self::Evaluation(message) => ("evaluation", message, None),
        };
        json!({"error": {"kind": kind, "message": message, "offset": offset}})
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Syntax(_) => INVALID,
            Self::Evaluation(_) => FAILED,
        }
    }
}

fn answer(value: &Value) -> serde_json::Value {
    json!({"kind": value.kind(), "value": value.to_json()})
}

fn evaluate(source: &str, contexts: &Object, workspace: &Path) -> Result<Value, Fault> {
    let names = Names::given(contexts.keys());
    let expression = match parse(source, &names).map_err(Fault::Syntax)? {
        Template::Expression(expression) => expression,
        Template::Text(text) => return Ok(Value::string(text)),
        Template::Insert => {
            return Err(Fault::Evaluation("`${{ insert }}` has a meaning only as a key of a mapping".to_owned()));
        }
    };
    let scope = Scope { contexts, functions: &Surroundings { contexts, workspace } };
    expression.evaluate_within(&scope, MAX_MEMORY_ALONE).map_err(|error| Fault::Evaluation(error.to_string()))
}

/// The text counts as a template when it begins with `${{`, or when it is no expression but has `${{` in it; a plain
/// expression may hold `${{` in a string.
fn parse(source: &str, names: &Names) -> Result<Template, SyntaxError> {
    if source.trim_start().starts_with("${{") {
        return template::parse(source, names);
    }
    match Expression::parse(source, names) {
        Ok(expression) => Ok(Template::Expression(expression)),
        Err(error) if template::has_expression(source) => template::parse(source, names).map_err(|_| error),
        Err(error) => Err(error),
    }
}

/// A step as the contexts describe it: `job.status`, and `github.action_status` inside a composite action (I3), decide
/// the status functions. Without them nothing has failed yet.
struct Surroundings<'a> {
    contexts: &'a Object,
    workspace: &'a Path,
}

impl Functions for Surroundings<'_> {
    fn status(&self, function: StatusFunction, _: &[String]) -> Result<bool, EvaluationError> {
        let read = |context: &str, key: &str| {
            let status = self.contexts.get(context)?.get(key)?.to_display_string();
            (!status.is_empty()).then(|| status.to_ascii_lowercase())
        };
        let job = read("job", "status");
        let own = read("github", "action_status").or_else(|| job.clone());
        Ok(match function {
            StatusFunction::Always => true,
            StatusFunction::Cancelled => job.as_deref() == Some("cancelled"),
            StatusFunction::Failure => own.as_deref() == Some("failure"),
            StatusFunction::Success => own.is_none_or(|status| status == "success"),
        })
    }

    fn hash_files(&self, patterns: &[String]) -> Result<String, EvaluationError> {
        hash_files(patterns, self.workspace).map_err(EvaluationError::Failed)
    }
}

fn hash_files(patterns: &[String], workspace: &Path) -> Result<String, String> {
    let workspace = workspace.canonicalize().map_err(|error| format!("{}: {error}", workspace.display()))?;
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    let globs = Globs::parse(patterns, &workspace.to_string_lossy(), &home).map_err(|error| error.to_string())?;
    let mut listing = Vec::new();
    for path in globs.search_paths() {
        list(Path::new(&path), globs.follow_links(), &mut BTreeSet::new(), &mut listing)
            .map_err(|error| format!("{path}: {error}"))?;
    }
    let mut digests = Vec::new();
    for file in globs.select(&listing).map_err(|error| error.to_string())? {
        let contents = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
        digests.push(hash_files::digest(&contents));
    }
    hash_files::combine(&digests).map_err(|error| error.to_string())
}

/// Lists what is at and below a path. `ancestors` are the directories entered, against cycles of links.
fn list(path: &Path, follow: bool, ancestors: &mut BTreeSet<PathBuf>, listing: &mut Vec<Entry>) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        // A path that leads through a file is a fault, one that is not there is nothing to find.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(error),
        Err(_) => return Ok(()),
    };
    let target = if metadata.is_symlink() { path.metadata().ok() } else { Some(metadata.clone()) };
    let kind = match &target {
        None => EntryKind::BrokenLink,
        Some(target) if target.is_dir() => {
            let entered = path.canonicalize()?;
            if metadata.is_symlink() && !follow || !ancestors.insert(entered.clone()) {
                return Ok(());
            }
            for child in std::fs::read_dir(path)? {
                list(&child?.path(), follow, ancestors, listing)?;
            }
            ancestors.remove(&entered);
            return Ok(());
        }
        Some(target) if target.is_file() => EntryKind::File,
        // Sockets, pipes and devices have no contents to hash.
        Some(_) => return Ok(()),
    };
    listing.push(Entry { path: path.to_string_lossy().into_owned(), kind });
    Ok(())
}

/// The fault with the place marked, for people.
fn explained(source: &str, error: &SyntaxError) -> String {
    let diagnostic = Diagnostic {
        help: error.help.clone(),
        ..Diagnostic::error(error.code(), "expression", error.message.as_str())
            .at(Span::of_bytes(source, error.offset..error.offset + error.length))
    };
    text(&diagnostic, Some(source), false)
}

/// For people; that it could not be written changes nothing.
fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", message.trim_end());
}
