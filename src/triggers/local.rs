//! Events that a person makes at the command line: `towline exec`, `plan` and `why` deliver them to a workflow of the
//! working tree. What the payload does not say is filled in from the repository.

use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use crate::event::dispatch::{DispatchInputs, Place, check_inputs};
use crate::event::push::{Commit, NO_COMMIT, Person, Push, push, repository_json, sender_json};
use crate::event::{ChangedFiles, Event, activity, dispatch, github};
use crate::id::RepositoryName;
use crate::workflow::model::{EventTrigger, Workflow};

/// What is known of the working tree.
#[derive(Clone, Debug)]
pub struct WorkingTree {
    pub repository: RepositoryName,
    /// Full ref of `HEAD`.
    pub git_ref: String,
    /// Commit of `HEAD`.
    pub sha: String,
    pub default_branch: String,
    pub actor: String,
    pub server_url: String,
    /// Subject and body of `HEAD`'s message.
    pub message: String,
    pub author: (String, String),
    /// RFC 3339.
    pub committed_at: String,
}

/// What the command line says of the event.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// `push`, …; chosen from what the workflow listens to when absent.
    pub event: Option<String>,
    pub payload: Option<Json>,
    /// `--input`, for `workflow_dispatch`.
    pub inputs: IndexMap<String, Json>,
    /// Full or short ref.
    pub git_ref: Option<String>,
    pub changed_files: Option<Vec<String>>,
}

/// An event and the typed inputs that come with it.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub event: Event,
    pub inputs: Map<String, Json>,
    pub warnings: Vec<String>,
}

/// Makes the event.
///
/// # Errors
/// Sentences: an unknown event, a payload that is none, inputs that the workflow does not take.
pub fn deliver(now: Timestamp, tree: &WorkingTree, workflow: &Workflow, wish: &Wish) -> Result<Delivered, Vec<String>> {
    let name = wish.event.clone().unwrap_or_else(|| choose(workflow, wish));
    if activity::kind(&name).is_none() && name != "towline" {
        return Err(vec![format!(
            "there is no event '{name}'; a workflow can listen to push, pull_request, schedule, workflow_dispatch, …"
        )]);
    }
    let git_ref = wish.git_ref.as_deref().map_or_else(|| tree.git_ref.clone(), full_ref);
    let place = Place {
        repository: tree.repository.clone(),
        git_ref: git_ref.clone(),
        sha: tree.sha.clone(),
        default_branch: tree.default_branch.clone(),
        actor: tree.actor.clone(),
        server_url: tree.server_url.clone(),
    };
    let mut inputs = Map::new();
    let mut warnings = Vec::new();
    let mut event = match name.as_str() {
        "workflow_dispatch" => {
            let checked = dispatch_inputs(workflow, wish)?;
            warnings.clone_from(&checked.warnings);
            inputs.clone_from(&checked.typed);
            dispatch::workflow_dispatch(now, &place, &workflow.path, &checked)
        }
        "schedule" => {
            let cron = workflow.on.schedules.first().map(|schedule| schedule.cron.clone()).unwrap_or_default();
            dispatch::schedule(now, &place, &workflow.path, &cron)
        }
        "push" => push(now, as_push(tree, git_ref.clone())),
        _ => {
            let payload = stand_in(&name, workflow.on.events.get(&name), tree, &git_ref);
            github::from_payload(now, &name, payload).map_err(|error| vec![error.to_string()])?
        }
    };
    if !wish.inputs.is_empty() && name != "workflow_dispatch" {
        warnings.push(format!("inputs are for workflow_dispatch; the event is {name}, which takes none"));
    }
    if let Some(given) = &wish.payload {
        overlay(now, &mut event, given, &name, tree)?;
    }
    if let Some(files) = &wish.changed_files {
        event.changed_files = ChangedFiles::Known(files.clone());
    }
    if event.sha.is_empty() {
        event.sha.clone_from(&tree.sha);
    }
    event.workflow = None;
    Ok(Delivered { event, inputs, warnings })
}

/// The event a workflow is most likely meant to be tried with; with inputs, the one that takes them.
fn choose(workflow: &Workflow, wish: &Wish) -> String {
    let known = |name: &str| {
        workflow.on.events.keys().any(|event| event == name)
            || (name == "workflow_dispatch" && workflow.on.dispatch.is_some())
            || (name == "schedule" && !workflow.on.schedules.is_empty())
    };
    if !wish.inputs.is_empty() && workflow.on.dispatch.is_some() {
        return "workflow_dispatch".to_owned();
    }
    let first = workflow.on.events.keys().find(|name| *name != "workflow_call").cloned();
    ["push", "workflow_dispatch", "pull_request", "schedule"]
        .into_iter()
        .find(|name| known(name))
        .map(str::to_owned)
        .or(first)
        .unwrap_or_else(|| "push".to_owned())
}

fn dispatch_inputs(workflow: &Workflow, wish: &Wish) -> Result<DispatchInputs, Vec<String>> {
    let mut given = wish.inputs.clone();
    let from_payload = wish.payload.as_ref().and_then(|payload| payload.get("inputs")?.as_object());
    for (name, value) in from_payload.into_iter().flatten() {
        given.entry(name.clone()).or_insert_with(|| value.clone());
    }
    check_inputs(&workflow.on.dispatch.clone().unwrap_or_default(), &given)
}

fn as_push(tree: &WorkingTree, git_ref: String) -> Push {
    let person = Person { name: tree.author.0.clone(), email: tree.author.1.clone() };
    Push {
        repository: tree.repository.clone(),
        git_ref,
        before: NO_COMMIT.to_owned(),
        after: tree.sha.clone(),
        forced: false,
        commits: vec![Commit {
            id: tree.sha.clone(),
            tree: String::new(),
            message: tree.message.clone(),
            timestamp: tree.committed_at.clone(),
            author: person.clone(),
            committer: person,
            added: Vec::new(),
            removed: Vec::new(),
            modified: Vec::new(),
        }],
        // What a person starts by hand is not held back by what changed.
        changed_files: ChangedFiles::Unknown,
        pusher: tree.actor.clone(),
        pusher_email: None,
        default_branch: tree.default_branch.clone(),
        default_sha: tree.sha.clone(),
        server_url: tree.server_url.clone(),
        clone_url: format!("{}/{}", tree.server_url, tree.repository),
    }
}

/// A payload with what most workflows read of it, and with which `trigger` listens if any payload of the event would do.
fn stand_in(name: &str, trigger: Option<&EventTrigger>, tree: &WorkingTree, git_ref: &str) -> Json {
    let mut payload = json!({
        "repository": repository(tree),
        "sender": sender_json(&tree.actor),
    });
    let set = payload.as_object_mut().expect("it was made as an object");
    let usual = activity::kind(name).and_then(|kind| kind.default_types.unwrap_or(kind.types).first().copied());
    let listed = trigger.and_then(|trigger| trigger.types.as_ref());
    let action = match listed {
        Some(listed) if !usual.is_some_and(|usual| listed.iter().any(|each| each == usual)) => {
            listed.first().map(String::as_str)
        }
        _ => usual,
    };
    if let Some(action) = action {
        set.insert("action".to_owned(), json!(action));
    }
    let short = git_ref.trim_start_matches("refs/heads/");
    let user = sender_json(&tree.actor);
    let title = tree.message.lines().next().unwrap_or_default();
    let mut add = |key: &str, value: Json| set.insert(key.to_owned(), value);
    match name {
        "release" => {
            let tag = git_ref.strip_prefix("refs/tags/").unwrap_or("v0.0.0");
            add(
                "release",
                json!({
                    "id": 1, "tag_name": tag, "name": tag, "body": tree.message, "draft": false, "prerelease": false,
                    "target_commitish": tree.default_branch, "author": user, "assets": [],
                }),
            );
        }
        "merge_group" => {
            let base = &tree.default_branch;
            let head = format!("refs/heads/gh-readonly-queue/{base}/pr-1-{}", tree.sha);
            let base = format!("refs/heads/{base}");
            add(
                "merge_group",
                json!({ "head_ref": head, "head_sha": tree.sha, "base_ref": base, "base_sha": tree.sha }),
            );
        }
        "deployment" | "deployment_status" => {
            let deployment = json!({
                "id": 1, "ref": short, "sha": tree.sha, "task": "deploy", "environment": "production", "payload": {},
            });
            add("deployment", deployment);
            add("deployment_status", json!({ "id": 1, "state": "success", "environment": "production" }));
        }
        "create" | "delete" => {
            let tag = git_ref.strip_prefix("refs/tags/");
            add("ref", json!(tag.unwrap_or(short)));
            add("ref_type", json!(if tag.is_some() { "tag" } else { "branch" }));
        }
        "workflow_run" => {
            let caused = trigger.and_then(|trigger| trigger.workflows.as_ref()?.first());
            add("workflow", json!({ "id": 1, "name": caused }));
            add(
                "workflow_run",
                json!({
                    "id": 1, "name": caused, "event": "push", "status": "completed", "conclusion": "success",
                    "head_branch": short, "head_sha": tree.sha, "run_number": 1, "run_attempt": 1, "actor": user,
                    "pull_requests": [],
                }),
            );
        }
        "issues" | "issue_comment" => {
            add(
                "issue",
                json!({
                    "number": 1, "title": title, "body": "", "state": "open", "user": user, "labels": [],
                    "assignees": [],
                }),
            );
            if name == "issue_comment" {
                add("comment", json!({ "id": 1, "body": "", "user": user }));
            }
        }
        _ if name.starts_with("pull_request") => {
            let side = |branch: &str| json!({ "ref": branch, "sha": tree.sha, "label": branch, "repo": repository(tree), "user": user });
            add("number", json!(1));
            add(
                "pull_request",
                json!({
                    "number": 1, "title": title, "state": "open", "draft": false, "merged": false, "user": user,
                    "labels": [], "head": side(short), "base": side(&tree.default_branch),
                }),
            );
        }
        _ => {
            add("ref", json!(git_ref));
        }
    }
    payload
}

fn repository(tree: &WorkingTree) -> Json {
    let clone = format!("{}/{}.git", tree.server_url, tree.repository);
    repository_json(&tree.repository, &tree.default_branch, &tree.server_url, &clone)
}

/// Takes the payload as given; what it does not say stays as it was made up.
fn overlay(now: Timestamp, event: &mut Event, given: &Json, name: &str, tree: &WorkingTree) -> Result<(), Vec<String>> {
    let Some(given) = given.as_object() else {
        return Err(vec!["the payload must be a JSON object".to_owned()]);
    };
    let mut whole = given.clone();
    if !whole.get("repository").is_some_and(Json::is_object) {
        whole.insert("repository".to_owned(), repository(tree));
    } else if let Some(repository) = whole.get_mut("repository").and_then(Json::as_object_mut) {
        repository.entry("full_name").or_insert_with(|| json!(tree.repository.as_str()));
    }
    let read = github::from_payload(now, name, Json::Object(whole));
    let said = |pointer: &str| Json::Object(given.clone()).pointer(pointer).is_some();
    if let Ok(read) = read {
        let place = ["/ref", "/pull_request", "/release", "/deployment", "/merge_group", "/workflow_run"];
        if place.iter().any(|pointer| said(pointer)) {
            event.git_ref = read.git_ref;
            event.head_ref = read.head_ref;
            event.base_ref = read.base_ref;
        }
        if said("/repository/full_name") {
            event.repository = read.repository;
        }
        if said("/repository/default_branch") {
            event.default_branch = read.default_branch;
        }
        if said("/sender/login") {
            event.actor = read.actor;
        }
        event.action = read.action.or(event.action.take());
    }
    let inputs = event.payload.get("inputs").cloned();
    event.payload = Json::Object(given.clone());
    if let (Some(payload), Some(inputs)) = (event.payload.as_object_mut(), inputs) {
        payload.insert("inputs".to_owned(), inputs);
    }
    Ok(())
}

fn full_ref(name: &str) -> String {
    if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") }
}
