//! The typed model of a workflow file: what the planner and the runner read. Public fields, little behaviour.
//!
//! Values that GitHub evaluates later stay [`Token`]s. Every rule that needs no run-time value (unknown keys, ids,
//! needs graph, availability of contexts, …) has been checked when a model exists.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::token::Token;
use crate::expr::Expression;

/// A workflow file.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Path in the repository, for example `.github/workflows/ci.yml`.
    pub path: String,
    /// `name`; the path when absent (S1) — use [`Workflow::display_name`].
    pub name: Option<String>,
    pub description: Option<String>,
    pub run_name: Option<Token>,
    pub on: Triggers,
    pub permissions: Option<Permissions>,
    pub env: Option<Token>,
    pub defaults: RunDefaults,
    pub concurrency: Option<Token>,
    /// In file order, keyed by id as written. Ids compare without case (N2).
    pub jobs: IndexMap<String, Job>,
}

impl Workflow {
    /// The name shown: `name`, else the path.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.path)
    }
}

/// `on`: one entry per event name.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    pub events: IndexMap<String, EventTrigger>,
    pub schedules: Vec<Schedule>,
    pub dispatch: Option<Dispatch>,
    pub call: Option<CallInterface>,
}

/// Filters of one event under `on`. Absent filters are `None`; an empty list is an empty list.
#[derive(Clone, Debug, Default)]
pub struct EventTrigger {
    pub types: Option<Vec<String>>,
    pub branches: Option<Vec<String>>,
    pub branches_ignore: Option<Vec<String>>,
    pub tags: Option<Vec<String>>,
    pub tags_ignore: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub paths_ignore: Option<Vec<String>>,
    /// `workflow_run.workflows`.
    pub workflows: Option<Vec<String>>,
    /// `image_version`'s names and versions, and the paths of the extension event `towline`.
    pub names: Option<Vec<String>>,
    pub versions: Option<Vec<String>>,
}

/// One entry of `on.schedule`.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub cron: String,
    /// IANA name; UTC when absent.
    pub timezone: Option<String>,
}

/// `on.workflow_dispatch`.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    pub inputs: IndexMap<String, Input>,
}

/// `on.workflow_call`.
#[derive(Clone, Debug, Default)]
pub struct CallInterface {
    pub inputs: IndexMap<String, Input>,
    pub secrets: IndexMap<String, CallSecret>,
    pub outputs: IndexMap<String, CallOutput>,
}

/// A typed input of a dispatch or a call.
#[derive(Clone, Debug)]
pub struct Input {
    pub kind: InputKind,
    pub description: Option<String>,
    pub deprecation_message: Option<String>,
    pub required: bool,
    pub default: Option<Token>,
    /// The choices of [`InputKind::Choice`].
    pub options: Vec<String>,
}

/// The type of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    String,
    Boolean,
    Number,
    Choice,
    Environment,
}

/// A secret that a called workflow declares.
#[derive(Clone, Debug, Default)]
pub struct CallSecret {
    pub description: Option<String>,
    pub required: bool,
}

/// An output that a called workflow hands out (R5).
#[derive(Clone, Debug)]
pub struct CallOutput {
    pub description: Option<String>,
    pub value: Token,
}

/// `defaults.run`, unevaluated.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunDefaults {
    pub shell: Option<Token>,
    pub working_directory: Option<Token>,
}

/// `permissions` (S4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permissions {
    ReadAll,
    WriteAll,
    /// Scope → level; what is not named is `None`.
    Scopes(IndexMap<String, Permission>),
}

/// The level of one permission scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    None,
    Read,
    Write,
}

/// A job of a workflow file.
#[derive(Clone, Debug)]
pub struct Job {
    /// As written.
    pub id: String,
    pub name: Option<Token>,
    /// Ids of jobs of the same file, spelled as those jobs spell them.
    pub needs: Vec<String>,
    /// The condition, never empty: `success()` when absent, `success() && (cond)` when it calls no status function (I1).
    pub condition: Expression,
    pub permissions: Option<Permissions>,
    /// String, or mapping of name, url, deployment.
    pub environment: Option<Token>,
    /// String, or mapping of group, cancel-in-progress, queue.
    pub concurrency: Option<Token>,
    pub strategy: Option<Token>,
    pub env: Option<Token>,
    pub defaults: RunDefaults,
    pub continue_on_error: Option<Token>,
    pub timeout_minutes: Option<Token>,
    pub cancel_timeout_minutes: Option<Token>,
    pub outputs: Option<Token>,
    pub body: JobBody,
}

/// What a job does.
#[derive(Clone, Debug)]
pub enum JobBody {
    Steps {
        /// String, sequence, or mapping of group and labels; or an expression giving one of these.
        runs_on: Token,
        container: Option<Token>,
        services: Option<Token>,
        steps: Vec<Step>,
    },
    /// A call of a reusable workflow.
    Call {
        /// `./path`, `$/path` or `owner/repo/path@ref`.
        uses: String,
        with: Option<Token>,
        secrets: CallSecrets,
    },
}

/// `secrets` of a call job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CallSecrets {
    /// Absent: none are passed.
    None,
    Inherit,
    /// Mapping of names to values.
    Map(Token),
}

/// A step of a job or of a composite action.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// As written, else generated: `__run`, `__run_2`, `__actions_checkout`, …
    pub id: String,
    /// Whether `id` was written in the file; generated ids are reserved names of the `steps` context.
    pub explicit_id: bool,
    pub name: Option<Token>,
    /// Never empty; see [`Job::condition`].
    pub condition: Expression,
    pub env: Option<Token>,
    pub continue_on_error: Option<Token>,
    pub timeout_minutes: Option<Token>,
    /// 2026 syntax: runs beside the following steps until waited for.
    pub background: bool,
    pub body: StepBody,
}

impl Step {
    /// The name shown when `name` is absent (S12): `Run ` and the first line of the script, `Run owner/repo@ref`, or
    /// what the control steps are called. `script` is the evaluated script, if it has been evaluated.
    #[must_use]
    pub fn default_name(&self, script: Option<&str>) -> String {
        match &self.body {
            StepBody::Run { script: written, .. } => {
                let text = match (script, written) {
                    (Some(script), _) => script.to_owned(),
                    (None, Token::Expression(expression)) => format!("${{{{ {} }}}}", expression.source()),
                    (None, written) => written.plain_text().unwrap_or_default(),
                };
                format!("Run {}", text.trim().lines().next().unwrap_or("").trim_end())
            }
            StepBody::Uses { uses, .. } => format!("Run {uses}"),
            StepBody::Wait(_) => "Wait".to_owned(),
            StepBody::WaitAll => "Wait for all".to_owned(),
            StepBody::Cancel(_) => "Cancel".to_owned(),
            StepBody::Parallel(_) => "Parallel".to_owned(),
        }
    }
}

/// What a step does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StepBody {
    Run {
        script: Token,
        shell: Option<Token>,
        working_directory: Option<Token>,
    },
    Uses {
        uses: ActionReference,
        with: Option<Token>,
    },
    /// `wait: id | [ids]`.
    Wait(Vec<String>),
    /// `wait-all:`.
    WaitAll,
    /// `cancel: id`.
    Cancel(String),
    /// `parallel: [steps]`.
    Parallel(Vec<Step>),
}

/// Where an action comes from (S18).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionReference {
    /// `owner/repo[/path]@ref`; `path` has no leading slash and may be empty.
    Repository { owner: String, name: String, path: String, reference: String },
    /// `./path` under the workspace.
    Workspace(String),
    /// `$/path`: the repository of the file that says it, at the running commit.
    SameRepository(String),
    /// `docker://image`.
    Image(String),
}

impl std::fmt::Display for ActionReference {
    /// As `uses` spells it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repository { owner, name, path, reference } if path.is_empty() => {
                write!(f, "{owner}/{name}@{reference}")
            }
            Self::Repository { owner, name, path, reference } => write!(f, "{owner}/{name}/{path}@{reference}"),
            Self::Workspace(path) => f.write_str(path),
            Self::SameRepository(path) => write!(f, "$/{path}"),
            Self::Image(image) => write!(f, "docker://{image}"),
        }
    }
}

/// An `action.yml`.
#[derive(Clone, Debug)]
pub struct Action {
    pub name: Option<String>,
    pub description: Option<String>,
    pub inputs: IndexMap<String, ActionInput>,
    /// Values of composite outputs are tokens; other kinds set outputs by command file.
    pub outputs: IndexMap<String, Option<Token>>,
    pub runs: ActionRuns,
}

/// An input of an action.
#[derive(Clone, Debug, Default)]
pub struct ActionInput {
    pub description: Option<String>,
    pub deprecation_message: Option<String>,
    pub required: bool,
    pub default: Option<Token>,
}

/// How an action runs.
#[derive(Clone, Debug)]
pub enum ActionRuns {
    Composite {
        steps: Vec<Step>,
    },
    JavaScript {
        /// `node20`, `node24`, … as written.
        using: String,
        main: String,
        pre: Option<String>,
        pre_if: Expression,
        post: Option<String>,
        post_if: Expression,
    },
    Docker {
        /// `Dockerfile`, a path, or `docker://image`.
        image: String,
        args: Option<Token>,
        env: Option<Token>,
        entrypoint: Option<String>,
        pre_entrypoint: Option<String>,
        pre_if: Expression,
        post_entrypoint: Option<String>,
        post_if: Expression,
    },
}
