//! What expressions of a job see: the contexts, built from the order, the host and what the job has done so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json, json};

use crate::expr::{Object, Value};
use crate::run::order::Order;
use crate::run::steps::{JobStatus, StepsContext};
use crate::transport::Facts;

use super::workspace::Workspace;

/// Variables by name, in the order they were set.
pub(crate) type Variables = IndexMap<String, String>;

/// The contexts that stay the same for the whole job.
#[derive(Clone)]
pub(crate) struct Fixed {
    /// `github`, with what only the host could tell; the keys of a composite action are laid over it per frame.
    pub(crate) github: Map<String, Json>,
    github_value: Object,
    runner: Value,
    others: Vec<(&'static str, Value)>,
    secrets: Value,
}

impl Fixed {
    pub(crate) fn new(
        order: &Order,
        secrets: &BTreeMap<String, SecretString>,
        facts: &Facts,
        host: &str,
        workspace: &Workspace,
        addresses: &[(&str, String)],
    ) -> Self {
        let token = secrets.iter().find(|(name, _)| is_token(name));
        let token = token.map_or(String::new(), |(_, value)| value.expose_secret().to_owned());
        // Both stand first in what GitHub shows of the context.
        let mut github = Map::new();
        github.insert("token".to_owned(), Json::String(token));
        github.insert("job".to_owned(), Json::from(order.job_id.as_str()));
        github.extend(
            order.github.iter().filter(|(key, _)| *key != "job").map(|(key, value)| (key.clone(), value.clone())),
        );
        for (key, value) in addresses {
            github.insert((*key).to_owned(), Json::from(value.as_str()));
        }
        github.insert("workspace".to_owned(), Json::from(workspace.path.as_str()));
        github.insert("event_path".to_owned(), Json::from(workspace.event.as_str()));
        // A step that is no action of a repository has both, and they are empty.
        github.insert("action_repository".to_owned(), Json::from(""));
        github.insert("action_ref".to_owned(), Json::from(""));
        let runner = runner(order, facts, host, workspace);
        // The token is `github_token` for whoever lists the names; they compare without case (G4).
        let secrets = secrets.iter().map(|(name, value)| {
            let name = if is_token(name) { "github_token" } else { name };
            (name.to_owned(), Json::from(value.expose_secret()))
        });
        let object = |map: &Map<String, Json>| Value::from_map(map);
        Self {
            github_value: match object(&github) {
                Value::Object(object) => (*object).clone(),
                _ => Object::default(),
            },
            github,
            runner: Value::from_json(&Json::Object(runner)),
            others: vec![
                ("needs", object(&order.needs)),
                ("strategy", object(&order.strategy)),
                ("matrix", Value::from_json(&order.matrix)),
                ("vars", object(&order.vars)),
            ],
            secrets: Value::from_json(&Json::Object(secrets.collect())),
        }
    }

    /// All contexts as one place sees them. Which of them a place may name was checked when the file was read.
    pub(crate) fn at(&self, job: &Json, frame: &Frame, env: &Variables, files: &[(&str, String)]) -> Object {
        let mut contexts = Object::default();
        let mut github = self.github_value.clone();
        for (key, path) in files {
            github.insert(*key, Value::string(path.as_str()));
        }
        for (key, value) in &frame.github {
            github.insert(key.as_str(), Value::from_json(value));
        }
        if let Some(action) = &frame.action {
            github.insert("action_status", Value::from_json(&json!(action.status.as_str())));
        }
        contexts.insert("github", Value::Object(Arc::new(github)));
        for (name, value) in &self.others {
            contexts.insert(*name, value.clone());
        }
        contexts.insert("secrets", self.secrets.clone());
        contexts.insert("runner", self.runner.clone());
        contexts.insert("job", Value::from_json(job));
        contexts.insert("inputs", Value::from_map(&frame.inputs));
        contexts.insert("steps", Value::from_json(&frame.steps.to_json()));
        let mut variables = Object::with_case();
        variables.extend(env.iter().map(|(name, value)| (name.as_str(), Value::string(value.as_str()))));
        contexts.insert("env", Value::object(variables));
        contexts
    }

    /// `github.token`; empty when there is none.
    pub(crate) fn token(&self) -> &str {
        self.github.get("token").and_then(Json::as_str).unwrap_or_default()
    }

    /// Puts another token in its place, wherever it is.
    pub(crate) fn set_token(&mut self, token: &str) {
        self.github.insert("token".to_owned(), Json::from(token));
        self.github_value.insert("token", Value::string(token));
        if let Value::Object(secrets) = &self.secrets {
            let mut secrets = (**secrets).clone();
            secrets.insert("GITHUB_TOKEN", Value::string(token));
            self.secrets = Value::Object(Arc::new(secrets));
        }
    }

    /// The `runner` context, for `RUNNER_*`.
    pub(crate) fn runner(&self) -> Json {
        self.runner.to_json()
    }
}

fn is_token(name: &str) -> bool {
    name.eq_ignore_ascii_case("GITHUB_TOKEN")
}

fn runner(order: &Order, facts: &Facts, host: &str, workspace: &Workspace) -> Map<String, Json> {
    let mut runner = Map::new();
    let known = [
        ("os", facts.os.as_str()),
        ("arch", &facts.arch),
        ("name", host),
        ("environment", "self-hosted"),
        ("tool_cache", &workspace.tools),
        ("temp", &workspace.temp),
        ("workspace", &workspace.parent),
    ];
    for (key, value) in known {
        runner.insert(key.to_owned(), Json::from(value));
    }
    if order.debug {
        runner.insert("debug".to_owned(), Json::from("1"));
    }
    runner
}

/// One list of steps being walked: the job's own, or those of a composite action.
#[derive(Clone)]
pub(crate) struct Frame {
    /// Prefix of the journal's keys: unique in the job and the same at every replay.
    pub(crate) key: String,
    /// The number of the job's step this belongs to.
    pub(crate) number: u32,
    pub(crate) steps: StepsContext,
    /// `inputs`: the workflow's, or the action's.
    pub(crate) inputs: Map<String, Json>,
    /// Keys of `github` that are the action's: `action`, `action_path`, `action_ref`, `action_repository`.
    pub(crate) github: Map<String, Json>,
    /// `None` for the job's own steps.
    pub(crate) action: Option<ActionFrame>,
    /// Composite actions around this one.
    pub(crate) depth: usize,
}

/// What a composite action adds to its steps.
#[derive(Clone)]
pub(crate) struct ActionFrame {
    pub(crate) status: JobStatus,
    /// `env` of the steps that led here, outermost first: above the job's variables, below a step's own.
    pub(crate) env: Variables,
    /// Where `$/path` leads: the repository and commit of the action's file. `None` for actions of the workspace.
    pub(crate) origin: Option<super::action::Origin>,
}

impl Frame {
    /// The frame of the job's own steps.
    pub(crate) fn of_job(order: &Order) -> Self {
        Self {
            key: String::new(),
            number: 0,
            steps: StepsContext::default(),
            inputs: order.inputs.clone(),
            github: Map::new(),
            action: None,
            depth: 0,
        }
    }
}
