//! The environment a step is started with (V1–V6).
//!
//! Pure: no I/O, no clock, no async.

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

/// Variables in the order they are set.
pub type Variables = IndexMap<String, String>;

/// Keys of the `github` context that every step sees as `GITHUB_…` (V4).
const GITHUB: &[&str] = &[
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "actor",
    "actor_id",
    "api_url",
    "artifacts",
    "artifacts_list",
    "base_ref",
    "env",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "output",
    "path",
    "ref",
    "ref_name",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "server_url",
    "sha",
    "state",
    "step_summary",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
];

/// What a step's environment is made of, from the weakest to the strongest (V1).
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The machine's own environment, if the step is to have all of it. `PATH` and `HOME` are looked for here in any case.
    pub machine: &'a Variables,
    /// Workflow `env`, job `env`, what `GITHUB_ENV` was given, step `env`; inside of a composite action, its steps' too.
    pub levels: &'a [&'a Variables],
    /// Directories of `GITHUB_PATH`, in the order they were added (V3).
    pub path: &'a [String],
    /// `with` of an action with its defaults; empty for `run` steps and composite actions (V2).
    pub inputs: &'a Variables,
    /// `STATE_…` of an action's earlier stages: names without the prefix.
    pub state: &'a Variables,
    /// The `github` context.
    pub github: &'a Map<String, Json>,
    /// The `runner` context.
    pub runner: &'a Map<String, Json>,
    /// `ACTIONS_…`: the services' addresses and tokens, for actions only, and the OIDC ones for every step (V5).
    pub services: &'a Variables,
}

/// The environment, in which each name is once.
#[must_use]
pub fn build(parts: &Parts<'_>) -> Variables {
    let mut variables = parts.machine.clone();
    let mut given_ci = false;
    for level in parts.levels {
        for (name, value) in *level {
            given_ci |= name == "CI";
            set(&mut variables, name.clone(), value.clone());
        }
    }
    for (name, value) in parts.inputs {
        set(&mut variables, input_name(name), value.clone());
    }
    for (name, value) in parts.state {
        set(&mut variables, format!("STATE_{name}"), value.clone());
    }
    for (name, value) in parts.services {
        set(&mut variables, name.clone(), value.clone());
    }
    if !given_ci {
        set(&mut variables, "CI".to_owned(), "true".to_owned());
    }
    set(&mut variables, "GITHUB_ACTIONS".to_owned(), "true".to_owned());
    for (key, value) in parts.github {
        if GITHUB.contains(&key.as_str())
            && let Some(text) = text(value)
        {
            set(&mut variables, format!("GITHUB_{}", key.to_ascii_uppercase()), text);
        }
    }
    for (key, value) in parts.runner {
        if let Some(text) = text(value) {
            set(&mut variables, format!("RUNNER_{}", key.to_ascii_uppercase()), text);
        }
    }
    if !parts.path.is_empty() {
        let path = prepend(parts.path, variables.get("PATH").map_or("", String::as_str));
        set(&mut variables, "PATH".to_owned(), path);
    }
    variables
}

/// `INPUT_…` of an input: upper case, spaces to `_`, dashes kept (V2).
#[must_use]
pub fn input_name(input: &str) -> String {
    format!("INPUT_{}", input.replace(' ', "_").to_uppercase())
}

/// `PATH` with the directories a job added in front, the newest first (V3).
#[must_use]
pub fn prepend(added: &[String], path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for directory in added.iter().rev() {
        if !parts.contains(&directory.as_str()) {
            parts.push(directory);
        }
    }
    if !path.is_empty() {
        parts.push(path);
    }
    parts.join(":")
}

/// Adds a directory to those of `GITHUB_PATH`: one that is there already moves to the end, so that it is found first.
pub fn add_path(added: &mut Vec<String>, directory: String) {
    added.retain(|known| *known != directory);
    added.push(directory);
}

fn set(variables: &mut Variables, name: String, value: String) {
    variables.insert(name, value);
}

/// The text of a context's value; a value that is null or has parts is no variable.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Number(number) => Some(number.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn stronger_parts_win() {
        let machine = variables(&[("PATH", "/bin"), ("A", "machine"), ("LANG", "C")]);
        let job = variables(&[("A", "job"), ("GITHUB_SHA", "forged"), ("CI", "no")]);
        let written = variables(&[("A", "written"), ("B", "written")]);
        let step = variables(&[("B", "step")]);
        let github =
            json!({"sha": "abc", "head_ref": "", "event": {}, "token": "t", "ref_protected": false, "run_id": "7"});
        let runner = json!({"os": "Linux", "temp": "/t"});
        let built = build(&Parts {
            machine: &machine,
            levels: &[&job, &written, &step],
            path: &["/a".to_owned(), "/b".to_owned(), "/a".to_owned()],
            inputs: &variables(&[("my input-x", "1")]),
            state: &variables(&[("pid", "4")]),
            github: github.as_object().unwrap(),
            runner: runner.as_object().unwrap(),
            services: &variables(&[("ACTIONS_RUNTIME_URL", "http://x")]),
        });
        let expect = variables(&[
            ("PATH", "/a:/b:/bin"),
            ("A", "written"),
            ("LANG", "C"),
            ("GITHUB_SHA", "abc"),
            ("CI", "no"),
            ("B", "step"),
            ("INPUT_MY_INPUT-X", "1"),
            ("STATE_pid", "4"),
            ("ACTIONS_RUNTIME_URL", "http://x"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_HEAD_REF", ""),
            ("GITHUB_REF_PROTECTED", "false"),
            ("GITHUB_RUN_ID", "7"),
            ("RUNNER_OS", "Linux"),
            ("RUNNER_TEMP", "/t"),
        ]);
        assert_eq!(built, expect);
    }

    #[test]
    fn a_directory_added_again_is_found_first() {
        let mut added = vec!["/a".to_owned(), "/b".to_owned()];
        add_path(&mut added, "/a".to_owned());
        assert_eq!(prepend(&added, "/bin"), "/a:/b:/bin");
        assert_eq!(prepend(&added, ""), "/a:/b");
    }
}
