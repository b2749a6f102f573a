//! Reusable workflows: what a call names, and which texts must be fetched before a run can start (R6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::RepositoryName;

/// The text of a reusable workflow, fetched before the run starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledWorkflow {
    pub text: String,
    /// The repository and the commit it was read from.
    pub repository: RepositoryName,
    pub sha: String,
}

/// A file that is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallTarget {
    /// `owner/name` and the ref; `None` when the file lies in the run's own repository at its own commit.
    pub elsewhere: Option<(String, String)>,
    /// Path in that repository.
    pub path: String,
}

impl CallTarget {
    /// The key of [`crate::run::RunSpec::called`]: `./path` or `owner/name/path@ref`.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.elsewhere {
            None => format!("./{}", self.path),
            Some((repository, reference)) => format!("{repository}/{}@{reference}", self.path),
        }
    }
}

/// The files that a workflow calls, directly or through others, whose texts are not in `called` yet. Fetch them and ask
/// again until none is missing. Targets that are refused (too deep, too many) are not asked for.
#[must_use]
pub fn missing(workflow_path: &str, workflow_text: &str, called: &BTreeMap<String, CalledWorkflow>) -> Vec<CallTarget> {
    let _ = (workflow_path, workflow_text, called);
    unimplemented!()
}
