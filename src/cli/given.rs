//! What `plan`, `why` and `exec` are given alike: a workflow file, and the event that happens to it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::triggers::local::Wish;

/// A workflow file and an event.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Given {
    /// A workflow file, or the name of one in .towline/workflows or .github/workflows.
    #[arg(value_name = "WORKFLOW")]
    pub(super) workflow: PathBuf,

    /// The event that happens; by default the likeliest of those that the workflow listens to.
    #[arg(long, value_name = "EVENT")]
    pub(super) event: Option<String>,

    /// The event's payload, a JSON file as a webhook brings it; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,

    /// The branch or tag it happens to: `main`, `refs/tags/v1`; by default the current branch.
    #[arg(long = "ref", value_name = "REF")]
    pub(super) git_ref: Option<String>,

    /// A file that changed, for path filters; may be given many times.
    #[arg(long = "changed-file", value_name = "FILE")]
    pub(super) changed_files: Vec<String>,

    /// An input of `workflow_dispatch`.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,

    /// A value of the `vars` context.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    vars: Vec<String>,
}

/// Why it cannot be used.
pub(super) enum Unusable {
    /// The command line or the payload is wrong.
    Invalid(String),
    /// A file is not there or cannot be read.
    Unreadable(String),
}

impl Given {
    /// The workflow file itself, or a file of that name among the repository's workflows.
    pub(super) fn file(&self) -> Result<PathBuf, Unusable> {
        let given = &self.workflow;
        if given.is_file() {
            return Ok(given.clone());
        }
        if given.components().count() == 1 {
            for directory in [".towline/workflows", ".github/workflows"] {
                for ending in ["", ".yml", ".yaml"] {
                    let candidate = Path::new(directory).join(format!("{}{ending}", given.display()));
                    if candidate.is_file() {
                        return Ok(candidate);
                    }
                }
            }
        }
        Err(Unusable::Unreadable(format!(
            "there is no workflow {} here; give the path of a file, or the name of one in .github/workflows",
            given.display()
        )))
    }

    /// The text of the workflow file.
    pub(super) fn text(file: &Path) -> Result<String, Unusable> {
        let bytes = std::fs::read(file).map_err(|error| Unusable::unreadable(file, &error))?;
        String::from_utf8(bytes).map_err(|_| Unusable::Invalid(format!("{} is not UTF-8 text", file.display())))
    }

    /// The event that is wished for, with its payload and inputs.
    pub(super) fn wish(&self) -> Result<Wish, Unusable> {
        Ok(Wish {
            event: self.event.clone(),
            payload: self.payload()?,
            inputs: pairs(&self.inputs, "--input")?.into_iter().collect(),
            git_ref: self.git_ref.clone(),
            changed_files: (!self.changed_files.is_empty()).then(|| self.changed_files.clone()),
        })
    }

    /// The `vars` context.
    pub(super) fn vars(&self) -> Result<Map<String, Json>, Unusable> {
        pairs(&self.vars, "--var")
    }

    fn payload(&self) -> Result<Option<Json>, Unusable> {
        let Some(path) = &self.payload else { return Ok(None) };
        let text = if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(path)
        };
        let text = text.map_err(|error| Unusable::unreadable(path, &error))?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Unusable::Invalid(format!("{} is not JSON: {error}", path.display())))
    }
}

impl Unusable {
    fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self::Unreadable(format!("cannot read {}: {error}", path.display()))
    }
}

/// Splits `NAME=VALUE`.
pub(super) fn pair<'a>(text: &'a str, option: &str) -> Result<(&'a str, &'a str), Unusable> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => Err(Unusable::Invalid(format!("{option} wants NAME=VALUE, not '{text}'"))),
    }
}

/// A map of `NAME=VALUE`s.
pub(super) fn pairs(given: &[String], option: &str) -> Result<Map<String, Json>, Unusable> {
    given.iter().map(|text| pair(text, option).map(|(name, value)| (name.to_owned(), Json::from(value)))).collect()
}

/// Where a file lies below a directory, as the repository names it.
pub(super) fn path_below(file: &Path, top: &Path) -> String {
    let absolute = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let top = top.canonicalize().unwrap_or_else(|_| top.to_owned());
    absolute.strip_prefix(&top).unwrap_or(file).to_string_lossy().into_owned()
}
