//! What `plan` and `why` look at: a workflow file, the workflows it calls, an event.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::super::given::{Given, Unusable, path_below};
use super::super::output;
use super::Arguments;
use crate::clock::Clock;
use crate::diagnostic::Diagnostic;
use crate::event::context::RunFacts;
use crate::event::{ChangedFiles, Event, Selection, github, select};
use crate::git::Repository;
use crate::id::RepositoryName;
use crate::plan::calls::{self, CalledWorkflow};
use crate::plan::{Files, Material, Plan};
use crate::triggers::local::{self, WorkingTree};
use crate::workflow;

/// A workflow, an event, and what follows.
pub(in crate::cli) struct Planned {
    pub(in crate::cli) selection: Selection,
    pub(in crate::cli) event: Event,
    pub(in crate::cli) inputs: Map<String, Json>,
    pub(in crate::cli) plan: Plan,
}

/// Why there is no answer.
pub(in crate::cli) enum Refusal {
    /// The files are refused.
    Diagnostics(Vec<(Diagnostic, String)>),
    /// The command line, the payload or the inputs cannot be used.
    Invalid(Vec<String>),
    /// A file cannot be read.
    Environment(String),
}

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Invalid(message) => Self::Invalid(vec![message]),
            Unusable::Unreadable(message) => Self::Environment(message),
        }
    }
}

/// Reads everything and asks the planner.
pub(in crate::cli) fn prepare(arguments: &Arguments) -> Result<Planned, Refusal> {
    let file = arguments.given.file()?;
    let text = Given::text(&file)?;
    let top = top_of(&file);
    let path = path_below(&file, &top);
    let called = called(&path, &text, &top);
    let (parsed, diagnostics) = workflow::parse(&path, &text);
    let Some(workflow) = parsed else {
        return Err(Refusal::Diagnostics(diagnostics.into_iter().map(|fault| (fault, text.clone())).collect()));
    };
    let tree = working_tree(&top)?;
    let (event, inputs) = event(&arguments.given, &workflow, &tree)?;
    let selection = select(&workflow, &event);
    let plan = Plan::new(&Material {
        event: &event,
        facts: RunFacts {
            run_id: 1,
            run_number: 1,
            run_attempt: 1,
            workflow: "",
            workflow_path: &path,
            workflow_sha: &event.sha,
            triggering_actor: &event.actor,
            retention_days: 90,
        },
        workflow_path: &path,
        workflow_text: &text,
        called: &called,
        inputs: &inputs,
        vars: &arguments.given.vars()?,
        only: None,
        partial: true,
        files: &Files::default(),
    });
    match plan {
        Ok(plan) => Ok(Planned { selection, event, inputs, plan }),
        Err(refused) if refused.diagnostics.is_empty() => Err(Refusal::Invalid(vec![refused.message])),
        Err(refused) => {
            let text_of = |name: &str| {
                let known = called.iter().find(|(key, _)| key.trim_start_matches("./") == name);
                known.map_or_else(|| text.clone(), |(_, file)| file.text.clone())
            };
            let faults = refused.diagnostics.into_iter().map(|fault| {
                let text = text_of(&fault.path);
                (fault, text)
            });
            Err(Refusal::Diagnostics(faults.collect()))
        }
    }
}

/// The top of the repository that the file lies in, else the directory above `.github`, else the current directory.
fn top_of(file: &Path) -> PathBuf {
    let absolute = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let above = |name: &str| absolute.ancestors().skip(1).find(|above| above.join(name).exists()).map(Path::to_owned);
    above(".git").or_else(|| above(".github")).unwrap_or_else(|| std::env::current_dir().unwrap_or_default())
}

/// The called workflows of the same repository, as they stand in the working tree.
fn called(path: &str, text: &str, top: &Path) -> BTreeMap<String, CalledWorkflow> {
    let mut called = BTreeMap::new();
    loop {
        let before = called.len();
        for target in calls::missing(path, text, &called) {
            let file = top.join(&target.path);
            let inside = file.canonicalize().is_ok_and(|file| file.starts_with(top.canonicalize().unwrap_or_default()));
            if target.elsewhere.is_none()
                && inside
                && let Ok(text) = std::fs::read_to_string(&file)
            {
                let repository = RepositoryName(String::new());
                called.insert(target.key(), CalledWorkflow { text, repository, sha: String::new() });
            }
        }
        if called.len() == before {
            return called;
        }
    }
}

/// The event that was asked for, and the typed inputs that come with it.
fn event(
    given: &Given,
    workflow: &crate::workflow::model::Workflow,
    tree: &WorkingTree,
) -> Result<(Event, Map<String, Json>), Refusal> {
    let wish = given.wish()?;
    let now = Clock::System.now();
    let delivered = local::deliver(now, tree, workflow, &wish).map_err(Refusal::Invalid)?;
    delivered.warnings.iter().for_each(|warning| output::warn(warning));
    let mut event = delivered.event;
    // A payload that says all that a delivery says is taken as the forge's own.
    if let Some(payload) = wish.payload
        && let Ok(whole) = github::from_payload(now, &event.name, payload)
    {
        let chosen = given.git_ref.as_ref().map(|_| event.git_ref.clone());
        event = Event { changed_files: event.changed_files, payload: event.payload, workflow: None, ..whole };
        event.git_ref = chosen.unwrap_or(event.git_ref);
        if event.sha.is_empty() {
            event.sha.clone_from(&tree.sha);
        }
    }
    if event.name == "push" && given.changed_files.is_empty() {
        event.changed_files = files_of_commits(&event.payload);
    }
    Ok((event, delivered.inputs))
}

/// The files that the commits of a push name; unknown when they name none.
fn files_of_commits(payload: &Json) -> ChangedFiles {
    let mut files: Vec<String> = Vec::new();
    for commit in payload.get("commits").and_then(Json::as_array).into_iter().flatten() {
        for kind in ["added", "modified", "removed"] {
            let names = commit.get(kind).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
            files.extend(names.map(str::to_owned));
        }
    }
    files.sort();
    files.dedup();
    if files.is_empty() { ChangedFiles::Unknown } else { ChangedFiles::Known(files) }
}

/// What the repository around the file says of itself; a stand-in when there is none.
fn working_tree(top: &Path) -> Result<WorkingTree, Refusal> {
    let name = top.file_name().map_or("repository".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut tree = WorkingTree {
        repository: RepositoryName(format!("local/{name}")),
        git_ref: "refs/heads/main".to_owned(),
        sha: "0".repeat(40),
        default_branch: "main".to_owned(),
        actor: std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "towline".to_owned()),
        server_url: "https://github.com".to_owned(),
        message: String::new(),
        author: (String::new(), String::new()),
        committed_at: String::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refusal::Environment(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        // A directory that is no repository, or a machine without git, is looked at all the same.
        let Ok(repository) = Repository::discover(top).await else { return };
        if let Ok(Some(branch)) = repository.head_branch().await {
            tree.git_ref = format!("refs/heads/{branch}");
            tree.default_branch = branch;
        }
        for candidate in ["main", "master"] {
            if matches!(repository.resolve(&format!("refs/heads/{candidate}")).await, Ok(Some(_))) {
                tree.default_branch = candidate.to_owned();
                break;
            }
        }
        let Ok(Some(head)) = repository.resolve("HEAD").await else { return };
        tree.sha.clone_from(&head);
        if let Ok(mut objects) = repository.objects()
            && let Ok(Some(commit)) = objects.commit(&head).await
        {
            tree.author = (commit.author.name, commit.author.email);
            tree.committed_at = commit.committer.at.to_string();
            tree.message = commit.message;
        }
    });
    Ok(tree)
}
