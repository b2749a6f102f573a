//! From an event and a repository to the runs it starts: the one way for every trigger and for `towline exec`.

mod elsewhere;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

use crate::diagnostic::Diagnostic;
use crate::event::dispatch::check_inputs;
use crate::event::{ChangedFiles, Event, Selection, looks_at_files, select};
use crate::git::{self, Changes, Objects, PushedRef, Repository};
use crate::id::RunId;
use crate::plan::calls::{self, CalledWorkflow};
use crate::run::RunSpec;
use crate::workflow;

pub use elsewhere::Elsewhere;

/// More rounds of reading called workflows than calls may be deep (R6).
const MOST_ROUNDS: usize = 12;

/// How workflows of a repository are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Directories searched for workflows; the first that has any wins.
    pub directories: Vec<String>,
    /// The `vars` context of the repository.
    pub vars: Map<String, Json>,
    /// Authors whose pull requests from forks are not held.
    pub trusted: Vec<String>,
    /// Paths of workflows that were disabled by hand: no event starts them (U5).
    pub disabled: Vec<String>,
    /// How long failed jobs keep their host.
    pub hold_minutes: u32,
    /// Where called workflows of other repositories are found.
    pub elsewhere: Elsewhere,
}

/// A run to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Delivery and workflow; the engine starts no second run with it.
    pub key: Option<String>,
    /// From a fork whose author is not trusted: waits for approval (T7).
    pub held: bool,
    pub spec: Box<RunSpec>,
}

/// A workflow the event does not start.
#[derive(Clone, Debug)]
pub struct Passed {
    pub path: String,
    pub selection: Selection,
}

/// What an event does.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    pub starts: Vec<Start>,
    pub passed: Vec<Passed>,
    /// What is wrong with the workflow files that were read. A file with errors is among the starts all the same when a
    /// push brought it: its run ends with `startup_failure`, as on GitHub (S17).
    pub diagnostics: Vec<Diagnostic>,
}

/// A workflow file and the commit it is from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub path: &'a str,
    pub text: &'a str,
    /// The commit that files it calls are read from.
    pub commit: &'a str,
}

/// The runs an event starts, from the workflows of its commit (T9).
///
/// # Errors
/// The repository cannot be read.
pub async fn starts(event: Event, repository: &Repository, reading: &Reading) -> Result<Starts, git::Error> {
    let mut objects = repository.objects()?;
    let starts = starts_from(event, repository, &mut objects, reading).await?;
    objects.close().await;
    Ok(starts)
}

/// The same with a reader of the repository that is open.
///
/// # Errors
/// As [`starts`].
pub(super) async fn starts_from(
    event: Event,
    repository: &Repository,
    objects: &mut Objects,
    reading: &Reading,
) -> Result<Starts, git::Error> {
    let mut event = located(event, repository).await?;
    let mut result = Starts::default();
    if event.sha.is_empty() {
        return Ok(result);
    }
    let mut files = objects.workflows(&event.sha, &reading.directories).await?;
    // A dispatch or schedule is for one file, named by its path or its file name.
    files.retain(|file| event.workflow.as_deref().is_none_or(|wanted| is_named(&file.path, wanted)));
    let models: Vec<_> = files.iter().map(|file| workflow::parse(&file.path, &file.text)).collect();
    if event.changed_files == ChangedFiles::Unknown
        && models.iter().any(|(model, _)| model.as_ref().is_some_and(|model| looks_at_files(model, &event)))
    {
        event.changed_files = changed_files(&event, repository).await;
    }
    for (file, parsed) in files.iter().zip(models) {
        let source = Source { path: &file.path, text: &file.text, commit: &event.sha };
        add(&mut result, &event, source, parsed, objects, reading).await?;
    }
    Ok(result)
}

/// The run of one workflow text, for `towline exec`. Selection is not asked: who names a workflow means it.
///
/// # Errors
/// The repository cannot be read.
pub async fn one(
    event: &Event,
    source: Source<'_>,
    repository: &Repository,
    reading: &Reading,
) -> Result<(Option<Start>, Vec<Diagnostic>), git::Error> {
    let (model, mut diagnostics) = workflow::parse(source.path, source.text);
    let Some(model) = model else { return Ok((None, diagnostics)) };
    let mut objects = repository.objects()?;
    let called = called(source, &mut objects, reading, &mut diagnostics).await?;
    objects.close().await;
    Ok((Some(start(event, source, Some(&model), called, reading)), diagnostics))
}

async fn add(
    result: &mut Starts,
    event: &Event,
    source: Source<'_>,
    (model, diagnostics): (Option<workflow::model::Workflow>, Vec<Diagnostic>),
    objects: &mut Objects,
    reading: &Reading,
) -> Result<(), git::Error> {
    if reading.disabled.iter().any(|path| path == source.path) {
        let reason = "the workflow is disabled".to_owned();
        let selection = Selection { selected: false, reason, trace: Vec::new() };
        result.passed.push(Passed { path: source.path.to_owned(), selection });
        return Ok(());
    }
    result.diagnostics.extend(diagnostics);
    match &model {
        Some(model) => {
            let selection = select(model, event);
            if !selection.selected {
                result.passed.push(Passed { path: source.path.to_owned(), selection });
                return Ok(());
            }
        }
        // Nobody knows what a broken file listens to: GitHub shows it with the push, and with a dispatch of it.
        None if event.name == "push" && !event.is_deletion() || event.workflow.is_some() => {}
        None => return Ok(()),
    }
    let called = match &model {
        Some(_) => called(source, objects, reading, &mut result.diagnostics).await?,
        None => BTreeMap::new(),
    };
    result.starts.push(start(event, source, model.as_ref(), called, reading));
    Ok(())
}

fn start(
    event: &Event,
    source: Source<'_>,
    model: Option<&workflow::model::Workflow>,
    called: BTreeMap<String, CalledWorkflow>,
    reading: &Reading,
) -> Start {
    let trusted = |author: &str| reading.trusted.iter().any(|trusted| trusted.eq_ignore_ascii_case(author));
    let author = event.payload.pointer("/pull_request/user/login").and_then(Json::as_str).unwrap_or(&event.actor);
    Start {
        key: event.delivery.as_ref().map(|delivery| format!("{delivery} {}", source.path)),
        held: event.is_from_fork() && !trusted(author),
        spec: Box::new(RunSpec {
            run: RunId(0),
            run_number: 0,
            attempt: 1,
            event: event.clone(),
            workflow_path: source.path.to_owned(),
            workflow_text: source.text.to_owned(),
            workflow_sha: source.commit.to_owned(),
            called,
            inputs: model.map(|model| inputs(model, event)).unwrap_or_default(),
            vars: reading.vars.clone(),
            triggering_actor: event.actor.clone(),
            debug: false,
            hold_minutes: reading.hold_minutes,
            only: None,
        }),
    }
}

/// The typed inputs of a dispatch (T11). They were checked before the event was made.
fn inputs(model: &workflow::model::Workflow, event: &Event) -> Map<String, Json> {
    let Some(dispatch) = model.on.dispatch.as_ref().filter(|_| event.name == "workflow_dispatch") else {
        return Map::new();
    };
    let given: IndexMap<String, Json> = match event.payload.get("inputs").and_then(Json::as_object) {
        Some(given) => given.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        None => IndexMap::new(),
    };
    check_inputs(dispatch, &given).map(|inputs| inputs.typed).unwrap_or_default()
}

/// The texts of all workflows that a workflow calls, directly or through others. What cannot be found is left out; the
/// run says so when it starts.
pub(super) async fn called(
    source: Source<'_>,
    objects: &mut Objects,
    reading: &Reading,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<BTreeMap<String, CalledWorkflow>, git::Error> {
    let mut called: BTreeMap<String, CalledWorkflow> = BTreeMap::new();
    let mut absent: Vec<String> = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let missing = calls::missing(source.path, source.text, &called);
        let missing: Vec<_> = missing.into_iter().filter(|target| !absent.contains(&target.key())).collect();
        if missing.is_empty() {
            break;
        }
        for target in missing {
            let found = match &target.elsewhere {
                None => objects.file(source.commit, &target.path).await?.map(|bytes| CalledWorkflow {
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                    repository: reading.elsewhere.own.clone(),
                    sha: source.commit.to_owned(),
                }),
                Some((repository, reference)) => {
                    match reading.elsewhere.read(repository, reference, &target.path).await {
                        Ok(found) => found,
                        Err(error) => {
                            let message = format!("cannot read the called workflow {}: {error}", target.key());
                            let code = crate::diagnostic::codes::CALLED_FILE;
                            diagnostics.push(Diagnostic::warning(code, source.path, message));
                            None
                        }
                    }
                }
            };
            match found {
                Some(found) => {
                    called.insert(target.key(), found);
                }
                None => absent.push(target.key()),
            }
        }
    }
    Ok(called)
}

/// Whether a workflow is meant by its path or its file name.
pub(super) fn is_named(path: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_start_matches("./");
    path == wanted || path.rsplit('/').next() == Some(wanted)
}

/// Fills in what a payload alone does not tell: the commit, and the message of a pull request's.
async fn located(mut event: Event, repository: &Repository) -> Result<Event, git::Error> {
    if event.sha.is_empty() {
        let head = event.payload.pointer("/pull_request/head/sha").and_then(Json::as_str).map(str::to_owned);
        let found = match repository.resolve(&event.git_ref).await? {
            Some(commit) => Some(commit),
            None if event.name == "pull_request" => head,
            None => repository.resolve(&format!("refs/heads/{}", event.default_branch)).await?,
        };
        event.sha = found.unwrap_or_default();
    }
    if event.name == "pull_request" && event.head_message.is_none() {
        event.head_message = head_message(&event, repository).await?;
    }
    Ok(event)
}

/// The message of a pull request's head commit, when the commit is at hand.
async fn head_message(event: &Event, repository: &Repository) -> Result<Option<String>, git::Error> {
    let head = event.payload.pointer("/pull_request/head/sha").and_then(Json::as_str);
    let Some(head) = head.filter(|head| git::is_object_id(head)) else { return Ok(None) };
    let mut objects = repository.objects()?;
    let commit = objects.commit(head).await?;
    objects.close().await;
    Ok(commit.map(|commit| commit.message))
}

/// The files that an event changed (T4). `Unknown` when the commits are not at hand: path filters let the event through then, as when GitHub's diff times out.
async fn changed_files(event: &Event, repository: &Repository) -> ChangedFiles {
    let text = |pointer: &str| event.payload.pointer(pointer).and_then(Json::as_str).unwrap_or_default().to_owned();
    let changes = match event.name.as_str() {
        "push" => {
            let pushed = PushedRef { old: text("/before"), new: text("/after"), name: event.git_ref.clone() };
            if pushed.old.is_empty() || pushed.new.is_empty() {
                return ChangedFiles::Unknown;
            }
            repository.changes_of_push(&pushed, &[]).await
        }
        "pull_request" | "pull_request_target" => {
            let (base, head) = (text("/pull_request/base/sha"), text("/pull_request/head/sha"));
            if base.is_empty() || head.is_empty() {
                return ChangedFiles::Unknown;
            }
            repository.changes_of_pull_request(&base, &head).await
        }
        _ => return ChangedFiles::Unknown,
    };
    match changes {
        Ok(Changes::Files(files)) => ChangedFiles::Known(files),
        Ok(Changes::TooMany) => ChangedFiles::Unknown,
        Err(error) => {
            log::warn!("{}: changed files are unknown, path filters let the event through: {error}", event.repository);
            ChangedFiles::Unknown
        }
    }
}
