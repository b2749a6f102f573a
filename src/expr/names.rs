//! Which contexts and functions may be named where (§7): the tables of GitHub's workflow and action schemas.

use std::sync::Arc;

use super::StatusFunction;
use super::ast::Function;
use super::fold::equal_ignoring_case;
use crate::diagnostic::nearest;

/// Which contexts and functions may be named at one place of a file. The functions that need no surroundings
/// (`contains`, `format`, …) are known everywhere.
#[derive(Clone, Debug)]
pub struct Names {
    contexts: Contexts,
    status: Status,
    hash_files: bool,
}

#[derive(Clone, Debug)]
enum Contexts {
    /// Whatever is named.
    Any,
    Fixed(&'static [&'static str]),
    Given(Arc<[String]>),
}

/// Whether the status functions are known, and with job ids as arguments or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Unknown,
    WithoutArguments,
    /// `success` and `failure` take any number of job ids (N5).
    WithJobs,
}

const MOST: usize = usize::MAX;

/// The functions that are known everywhere: name, least and most arguments.
const EVERYWHERE: [(&str, Function, usize, usize); 8] = [
    ("case", Function::Case, 3, 255),
    ("contains", Function::Contains, 2, 2),
    ("endsWith", Function::EndsWith, 2, 2),
    ("format", Function::Format, 1, 255),
    ("fromJSON", Function::FromJson, 1, 1),
    ("join", Function::Join, 1, 2),
    ("startsWith", Function::StartsWith, 2, 2),
    ("toJSON", Function::ToJson, 1, 1),
];

impl Function {
    /// As GitHub's documentation spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HashFiles => "hashFiles",
            Self::Status(function) => function.name(),
            known => EVERYWHERE.iter().find(|(_, function, ..)| *function == known).map_or("", |(name, ..)| name),
        }
    }
}

const STATUS: [StatusFunction; 4] =
    [StatusFunction::Success, StatusFunction::Failure, StatusFunction::Always, StatusFunction::Cancelled];

/// All contexts that GitHub knows anywhere, to tell "unknown" from "not here".
const ALL_CONTEXTS: [&str; 12] =
    ["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "jobs", "runner", "env"];

impl Names {
    /// Everything the language knows, and every context whatever its name: for text that was checked before.
    pub const ANY: Names = Names { contexts: Contexts::Any, status: Status::WithJobs, hash_files: true };

    /// No context at all.
    pub const NONE: Names = plain(&[]);

    // Workflow files.

    /// `run-name`, workflow `concurrency`, defaults of call inputs (X1).
    pub const RUN: Names = plain(&["github", "inputs", "vars"]);
    /// Workflow `env` (X1).
    pub const WORKFLOW_ENV: Names = plain(&["github", "inputs", "vars", "secrets"]);
    /// `on.workflow_call.outputs.*.value` (X6).
    pub const CALL_OUTPUT: Names = plain(&["github", "inputs", "vars", "jobs"]);
    /// `jobs.*.if` (X2).
    pub const JOB_IF: Names = Names {
        contexts: Contexts::Fixed(&["github", "inputs", "vars", "needs"]),
        status: Status::WithJobs,
        hash_files: false,
    };
    /// `strategy` (X3), and other keys that are read before a job is expanded.
    pub const STRATEGY: Names = plain(&["github", "inputs", "vars", "needs"]);
    /// Job `name`, `runs-on`, `timeout-minutes`, `continue-on-error`, `environment`, `concurrency`, `container`,
    /// `services`, and `with` of a call (X3, X6).
    pub const JOB: Names = plain(&["github", "inputs", "vars", "needs", "strategy", "matrix"]);
    /// Job `env`, and `secrets` of a call (X3, X6).
    pub const JOB_ENV: Names = plain(&["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets"]);
    /// `jobs.*.defaults.run` (X4).
    pub const JOB_DEFAULTS: Names = plain(&["github", "inputs", "vars", "strategy", "matrix", "needs", "env"]);
    /// `env` of containers and services, and job outputs (X4, X6).
    pub const JOB_RUNNING: Names =
        plain(&["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "runner", "env"]);
    /// `environment.url` (X6).
    pub const ENVIRONMENT_URL: Names =
        plain(&["github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env"]);
    /// `credentials` of containers and services (X4).
    pub const CREDENTIALS: Names = plain(&["github", "inputs", "vars", "secrets", "env"]);
    /// `if` of a step (X5).
    pub const STEP_IF: Names = Names {
        contexts: Contexts::Fixed(&[
            "github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env",
        ]),
        status: Status::WithoutArguments,
        hash_files: true,
    };
    /// All other keys of a step (X5).
    pub const STEP: Names = Names {
        contexts: Contexts::Fixed(&[
            "github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "runner", "env",
        ]),
        status: Status::Unknown,
        hash_files: true,
    };

    // Action files.

    /// Defaults of an action's inputs (A7).
    pub const ACTION_INPUT: Names = Names {
        contexts: Contexts::Fixed(&["github", "strategy", "matrix", "job", "runner"]),
        status: Status::Unknown,
        hash_files: true,
    };
    /// Values of a composite action's outputs.
    pub const ACTION_OUTPUT: Names =
        plain(&["github", "strategy", "matrix", "steps", "inputs", "job", "runner", "env"]);
    /// `args` and `env` of a container action.
    pub const ACTION_CONTAINER: Names = plain(&["inputs"]);
    /// `pre-if` and `post-if`.
    pub const ACTION_IF: Names = Names {
        contexts: Contexts::Fixed(&["runner", "github", "job", "strategy", "matrix", "env", "inputs"]),
        status: Status::WithoutArguments,
        hash_files: true,
    };
    /// `if` of a composite action's step (X7).
    pub const COMPOSITE_IF: Names = Names { status: Status::WithoutArguments, ..Self::COMPOSITE };
    /// All other keys of a composite action's step (X7).
    pub const COMPOSITE: Names = Names {
        contexts: Contexts::Fixed(&["github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env"]),
        status: Status::Unknown,
        hash_files: true,
    };

    /// Exactly these contexts, and all functions.
    #[must_use]
    pub fn given<S: Into<String>>(contexts: impl IntoIterator<Item = S>) -> Self {
        let contexts = contexts.into_iter().map(Into::into).collect();
        Self { contexts: Contexts::Given(contexts), status: Status::WithJobs, hash_files: true }
    }

    /// Whether a context may be named. Names compare without case.
    #[must_use]
    pub fn has_context(&self, name: &str) -> bool {
        matches!(self.contexts, Contexts::Any) || self.contexts().any(|known| equal_ignoring_case(known, name))
    }

    /// Whether `success()` and its like may be called.
    #[must_use]
    pub fn has_status_functions(&self) -> bool {
        self.status != Status::Unknown
    }

    /// A function by its name, with the least and most arguments it takes here.
    pub(super) fn function(&self, name: &str) -> Option<(Function, usize, usize)> {
        if let Some((_, function, least, most)) = EVERYWHERE.iter().find(|entry| entry.0.eq_ignore_ascii_case(name)) {
            return Some((*function, *least, *most));
        }
        if self.hash_files && name.eq_ignore_ascii_case("hashFiles") {
            return Some((Function::HashFiles, 1, 255));
        }
        let status = STATUS.into_iter().find(|status| status.name().eq_ignore_ascii_case(name))?;
        let most = match self.status {
            Status::Unknown => return None,
            Status::WithJobs if matches!(status, StatusFunction::Success | StatusFunction::Failure) => MOST,
            Status::WithJobs | Status::WithoutArguments => 0,
        };
        Some((Function::Status(status), 0, most))
    }

    fn contexts(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.contexts {
            Contexts::Any => Box::new(ALL_CONTEXTS.into_iter()),
            Contexts::Fixed(names) => Box::new(names.iter().copied()),
            Contexts::Given(names) => Box::new(names.iter().map(String::as_str)),
        }
    }

    pub(super) fn help_with_context(&self, name: &str) -> Option<String> {
        let elsewhere = !matches!(self.contexts, Contexts::Given(_))
            && ALL_CONTEXTS.iter().any(|known| equal_ignoring_case(known, name));
        if let Some(near) = nearest(name, self.contexts()).filter(|_| !elsewhere) {
            return Some(format!("did you mean `{near}`?"));
        }
        if self.function(name).is_some() {
            return Some(format!("`{name}` is a function: write `{name}()`"));
        }
        let known: Vec<&str> = self.contexts().take(ALL_CONTEXTS.len()).collect();
        Some(match (elsewhere, known.is_empty()) {
            (_, true) => "no context is available here".to_owned(),
            (true, false) => format!("`{name}` is not available here; available are: {}", known.join(", ")),
            (false, false) => format!("available here are: {}; strings stand in single quotes", known.join(", ")),
        })
    }

    pub(super) fn help_with_function(&self, name: &str) -> Option<String> {
        if let Some((function, ..)) = Self::ANY.function(name) {
            return Some(match function {
                Function::HashFiles => "hashFiles() is known in the keys of steps only".to_owned(),
                _ => format!("{name}() is known in `if` only"),
            });
        }
        let known = EVERYWHERE.iter().map(|entry| entry.0);
        let status = STATUS.iter().map(|status| status.name()).filter(|name| self.function(name).is_some());
        let hash_files = self.hash_files.then_some("hashFiles");
        nearest(name, known.chain(status).chain(hash_files)).map(|near| format!("did you mean `{near}`?"))
    }
}

const fn plain(contexts: &'static [&'static str]) -> Names {
    Names { contexts: Contexts::Fixed(contexts), status: Status::Unknown, hash_files: false }
}
