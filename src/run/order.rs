//! The self-contained description of one job that a runner executes. A runner never asks back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::id::{JobId, RepositoryName, RunId};
use crate::workflow::model::{CallSecrets, Permissions, RunDefaults, Step};
use crate::workflow::token::Token;

/// One job, ready to run: what GitHub's service sends its runner. Values of secrets are not in it; the shell adds
/// them from the vault when it dispatches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub run: RunId,
    /// Counts the runs of one workflow from 1.
    pub run_number: u64,
    /// 1 for the first attempt.
    pub attempt: u32,
    pub job: JobId,
    /// `GITHUB_JOB`: the id of the job in its own file.
    pub job_id: String,
    /// The name shown, unique in the run: `caller / job (a, b)`.
    pub name: String,
    pub repository: RepositoryName,
    /// The `github` context as far as it is known before a host is chosen.
    pub github: Map<String, Json>,
    pub inputs: Map<String, Json>,
    pub needs: Map<String, Json>,
    pub strategy: Map<String, Json>,
    /// `null` when the job has no matrix.
    pub matrix: Json,
    pub vars: Map<String, Json>,
    /// From the outermost call to the innermost; empty when the job is in the workflow that was triggered.
    pub secret_levels: Vec<SecretLevel>,
    /// Workflow `env`, then job `env`: each is evaluated on its own and cannot see itself (S2).
    pub env: Vec<Token>,
    /// `defaults.run` of workflow and job merged (S3).
    pub defaults: RunDefaults,
    /// Labels of `runs-on`, evaluated.
    pub runs_on: Vec<String>,
    pub container: Option<Token>,
    pub services: Option<Token>,
    pub steps: Vec<Step>,
    pub outputs: Option<Token>,
    pub timeout_minutes: f64,
    /// Time for `always()` and post steps after a cancel (S8).
    pub cancel_timeout_minutes: f64,
    pub continue_on_error: bool,
    pub permissions: Option<Permissions>,
    pub environment: Option<JobEnvironment>,
    /// Where the workflow file lives, for `$/path`: repository, commit.
    pub workflow_repository: RepositoryName,
    pub workflow_sha: String,
    /// The file's path in that repository, and `owner/name/path@ref` (X9).
    #[serde(default)]
    pub workflow_path: String,
    #[serde(default)]
    pub workflow_ref: String,
    /// `ACTIONS_STEP_DEBUG`, `ACTIONS_RUNNER_DEBUG` or a re-run with debug logging.
    pub debug: bool,
    /// How long it stays on its host when it failed.
    #[serde(default)]
    pub hold_minutes: u32,
}

impl Order {
    /// Whether the job is in a workflow that another one called.
    #[must_use]
    pub fn is_called(&self) -> bool {
        self.github.contains_key("job_workflow_sha")
    }

    /// Whether the code is that of a pull request from a fork: it gets no secrets, and only reads (T7).
    #[must_use]
    pub fn is_from_fork(&self) -> bool {
        self.github.get("secret_source").and_then(Json::as_str) == Some("None")
    }
}

/// One boundary that secrets cross on their way to a called workflow (R3, R4).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecretLevel {
    pub secrets: CallSecrets,
    /// Contexts the mapping may read besides `secrets`: github, inputs, vars, needs, strategy, matrix.
    pub contexts: BTreeMap<String, Json>,
}

/// The environment of a job (G1).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobEnvironment {
    pub name: String,
    /// Evaluated at the end of the job.
    pub url: Option<Token>,
    pub deployment: bool,
}
