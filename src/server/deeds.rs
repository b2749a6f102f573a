//! What clients do: each deed is checked, written to the audit log, then sent on. The API and the pages share them; that
//! the client may do it was asked before.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::engine::Input;
use crate::engine::record::EnvironmentRules;
use crate::event::{ChangedFiles, Event};
use crate::id::{HostName, RepositoryName, RunId};
use crate::run::{Rerun, RunSpec, Which};
use crate::store;
use crate::transport::{Enrolled, Facts, NewHost};
use crate::vault::{Kind, Level};

use super::app::{App, Caller, Fault, answered};
use super::auth::{Client, Role};
use super::source::{DispatchRequest, LetterDeed, SentEvent};
use super::view::{JobView, LetterView, RunView, Status, WorkflowView};

fn subject(run: &RunView) -> String {
    format!("{}#{}", run.repository, run.id)
}

/// Cancels a run.
pub(super) async fn cancel(app: &App, caller: &Caller, run: &RunView, force: bool) -> Result<(), Fault> {
    if run.state().is_final() {
        return Err(Fault::Conflict("Cannot cancel a workflow run that is completed.".to_owned()));
    }
    let action = if force { "run.force-cancel" } else { "run.cancel" };
    app.audit(&caller.client, action, &subject(run), "").await?;
    answered(app.source.engine.send(Input::Cancel { run: run.id, force, actor: caller.client.name.clone() }).await?)?;
    Ok(())
}

/// The longest that a failed job may be held: a week.
const LONGEST_HOLD: u32 = 7 * 24 * 60;

/// How a run is to run again.
pub(super) struct Again {
    pub(super) which: Which,
    pub(super) debug: bool,
    /// How long failed jobs keep their host; 0: as before.
    pub(super) hold_minutes: u32,
}

/// Starts the next attempt of a run.
pub(super) async fn rerun(app: &App, caller: &Caller, run: &RunView, again: &Again) -> Result<(), Fault> {
    let Again { which, debug, hold_minutes } = *again;
    if hold_minutes > LONGEST_HOLD {
        return Err(Fault::Invalid("A failed job may be held for a week at most.".to_owned()));
    }
    if !run.state().is_final() {
        return Err(Fault::Forbidden("This workflow run is still running and cannot be re-run.".to_owned()));
    }
    app.audit(&caller.client, "run.rerun", &subject(run), &format!("{which:?}")).await?;
    let called = (app.source.outside.called_again)(run.id, which).await.map_err(Fault::Unavailable)?;
    let wish = Rerun { which, actor: caller.client.name.clone(), debug, hold_minutes, called };
    answered(app.source.engine.rerun(run.id, wish).await?)?;
    Ok(())
}

/// Lets a job end that failed and is held for somebody to look at it.
pub(super) async fn release_job(app: &App, caller: &Caller, run: &RunView, job: &JobView) -> Result<(), Fault> {
    if job.held_until.is_none() {
        return Err(Fault::Conflict("This job is not held.".to_owned()));
    }
    app.audit(&caller.client, "job.release", &subject(run), &job.name).await?;
    answered(app.source.engine.send(Input::ReleaseJob { job: job.id }).await?)?;
    Ok(())
}

/// Forgets a run that has ended.
pub(super) async fn delete(app: &App, caller: &Caller, run: &RunView) -> Result<(), Fault> {
    if !run.state().is_final() {
        return Err(Fault::Forbidden("A run can be deleted when it has ended.".to_owned()));
    }
    app.audit(&caller.client, "run.delete", &subject(run), &run.title).await?;
    answered(app.source.engine.send(Input::Delete { run: run.id }).await?)?;
    Ok(())
}

/// Lets a held run go: it came from a fork.
pub(super) async fn release(app: &App, caller: &Caller, run: &RunView) -> Result<(), Fault> {
    caller.not_a_job()?;
    if run.status != Status::Waiting {
        return Err(Fault::Forbidden("This run is not waiting for an approval.".to_owned()));
    }
    app.audit(&caller.client, "run.approve", &subject(run), "").await?;
    answered(app.source.engine.send(Input::ReleaseRun { run: run.id, actor: caller.client.name.clone() }).await?)?;
    Ok(())
}

/// Whether a client may speak about an environment. Admins may without being listed.
pub(super) fn may_review(client: &Client, rules: &EnvironmentRules, run: &RunView) -> bool {
    let listed = rules.reviewers.iter().any(|one| one.eq_ignore_ascii_case(&client.name));
    let own = run.triggering_actor.eq_ignore_ascii_case(&client.name);
    client.role == Role::Admin || client.role >= Role::Operator && listed && !(rules.prevent_self_review && own)
}

/// A reviewer's word on what waits for an environment. Admins may speak without being listed.
pub(super) async fn review(
    app: &App,
    caller: &Caller,
    run: &RunView,
    environment: &str,
    approved: bool,
    comment: &str,
) -> Result<(), Fault> {
    caller.not_a_job()?;
    let action = if approved { "run.approve" } else { "run.reject" };
    app.audit(&caller.client, action, &format!("{} {environment}", subject(run)), comment).await?;
    let review = Input::Review {
        run: run.id,
        environment: environment.to_owned(),
        approved,
        reviewer: caller.client.name.clone(),
        bypass: caller.client.role == Role::Admin,
        comment: comment.to_owned(),
    };
    answered(app.source.engine.send(review).await?)?;
    Ok(())
}

/// Sends a `repository_dispatch` (T12).
pub(super) async fn send_event(
    app: &App,
    caller: &Caller,
    repository: &RepositoryName,
    event_type: &str,
    client_payload: serde_json::Value,
) -> Result<(), Fault> {
    app.audit(&caller.client, "repository.dispatch", repository.as_str(), event_type).await?;
    let sent = SentEvent {
        repository: repository.clone(),
        event_type: event_type.to_owned(),
        client_payload,
        actor: caller.client.name.clone(),
    };
    (app.source.outside.send_event)(sent).await.map_err(Fault::Invalid)
}

/// Starts a workflow.
pub(super) async fn dispatch(
    app: &App,
    caller: &Caller,
    view: &WorkflowView,
    git_ref: &str,
    inputs: Map<String, Value>,
) -> Result<RunId, Fault> {
    if !view.enabled {
        return Err(Fault::Invalid("Cannot trigger a 'workflow_dispatch' on a disabled workflow".to_owned()));
    }
    let subject = format!("{} {}", view.repository, view.workflow.path);
    app.audit(&caller.client, "workflow.dispatch", &subject, git_ref).await?;
    let request = DispatchRequest {
        repository: view.repository.clone(),
        workflow_path: view.workflow.path.clone(),
        git_ref: git_ref.to_owned(),
        inputs,
        actor: caller.client.name.clone(),
    };
    (app.source.outside.dispatch)(request).await.map_err(Fault::Invalid)
}

/// Enables or disables a workflow.
pub(super) async fn switch(app: &App, caller: &Caller, view: &WorkflowView, on: bool) -> Result<(), Fault> {
    let action = if on { "workflow.enable" } else { "workflow.disable" };
    app.audit(&caller.client, action, &format!("{} {}", view.repository, view.workflow.path), "").await?;
    Ok(app.source.store.set_workflow_disabled(&view.repository, &view.workflow.path, !on).await?)
}

/// Sends an input about hosts, the queue or the pause of a run.
pub(super) async fn tell(app: &App, caller: &Caller, action: &str, subject: &str, input: Input) -> Result<(), Fault> {
    app.audit(&caller.client, action, subject, "").await?;
    answered(app.source.engine.send(input).await?)?;
    Ok(())
}

/// What may be done to a host by its name.
#[derive(Clone, Copy, Debug)]
pub(super) enum HostDeed {
    /// Ends what runs, takes nothing new.
    Drain,
    Pause,
    /// Takes jobs again.
    Resume,
}

/// Drains, pauses or resumes a host.
pub(super) async fn host(app: &App, caller: &Caller, host: &str, deed: HostDeed) -> Result<(), Fault> {
    let name = HostName(host.to_owned());
    if app.source.engine.summary().borrow().hosts.iter().all(|one| one.name != name) {
        return Err(Fault::NotFound);
    }
    match deed {
        HostDeed::Drain => tell(app, caller, "host.drain", host, Input::Drain { host: name, draining: true }).await,
        HostDeed::Pause => tell(app, caller, "host.pause", host, Input::PauseHost { host: name, paused: true }).await,
        HostDeed::Resume => {
            tell(app, caller, "host.resume", host, Input::Drain { host: name.clone(), draining: false }).await?;
            answered(app.source.engine.send(Input::PauseHost { host: name, paused: false }).await?)?;
            Ok(())
        }
    }
}

/// Connects to a new host; with its key accepted it becomes one of ours. Why not is for the one who asked.
pub(super) async fn add_host(app: &App, caller: &Caller, new: NewHost) -> Result<Result<Enrolled, String>, Fault> {
    let detail = new.accept.clone().unwrap_or_else(|| "its key is asked for".to_owned());
    app.audit(&caller.client, "host.add", &super::format::cut(&new.destination, 300), &detail).await?;
    Ok((app.source.outside.add_host)(new).await)
}

/// Looks at a host now.
pub(super) async fn check_host(app: &App, caller: &Caller, host: &str) -> Result<Result<Facts, String>, Fault> {
    let name = HostName(host.to_owned());
    if app.source.hosts(caller.now).await?.iter().all(|one| one.name != name) {
        return Err(Fault::NotFound);
    }
    app.audit(&caller.client, "host.test", host, "").await?;
    Ok((app.source.outside.check_host)(name).await)
}

/// Handles a delivery once more.
pub(super) async fn replay(app: &App, caller: &Caller, number: u64) -> Result<(u64, Vec<RunId>), Fault> {
    caller.not_a_job()?;
    app.audit(&caller.client, "delivery.replay", &number.to_string(), "").await?;
    (app.source.outside.replay)(number).await.map_err(Fault::Invalid)
}

/// Sends a letter again that nobody took, or throws it away.
pub(super) async fn change_letter(
    app: &App,
    caller: &Caller,
    letter: &LetterView,
    deed: LetterDeed,
) -> Result<(), Fault> {
    caller.not_a_job()?;
    let action = match deed {
        LetterDeed::Retry => "outbox.retry",
        LetterDeed::Forget => "outbox.forget",
    };
    app.audit(&caller.client, action, &letter.subject, "").await?;
    let found = (app.source.outside.change_letter)(letter.id.clone(), deed).await?;
    if found { Ok(()) } else { Err(Fault::NotFound) }
}

fn value_subject(level: &Level, name: &str) -> String {
    let name = super::format::cut(name, 200);
    match level {
        Level::Global => name,
        Level::Repository(repository) => format!("{repository} {name}"),
        Level::Environment(repository, environment) => format!("{repository} {environment} {name}"),
    }
}

/// Sets a secret or a variable; says whether it is new.
pub(super) async fn set_value(
    app: &App,
    caller: &Caller,
    kind: Kind,
    level: &Level,
    name: &str,
    value: &str,
) -> Result<bool, Fault> {
    let known = app.vault.list(kind, level)?.iter().any(|entry| entry.name.eq_ignore_ascii_case(name));
    app.audit(&caller.client, &format!("{}.set", kind.word()), &value_subject(level, name), "").await?;
    app.vault.set(caller.now, kind, level, name, value).await?;
    Ok(!known)
}

/// Removes a secret or a variable.
pub(super) async fn remove_value(
    app: &App,
    caller: &Caller,
    kind: Kind,
    level: &Level,
    name: &str,
) -> Result<(), Fault> {
    app.audit(&caller.client, &format!("{}.delete", kind.word()), &value_subject(level, name), "").await?;
    if app.vault.remove(kind, level, name).await? { Ok(()) } else { Err(Fault::NotFound) }
}

/// The longest wait timer of an environment, in minutes: 30 days (G2).
const LONGEST_WAIT: u32 = 43_200;
/// The most reviewers of an environment (G2).
const MOST_REVIEWERS: usize = 6;

/// Sets or removes the rules of an environment.
pub(super) async fn set_environment(
    app: &App,
    caller: &Caller,
    repository: &RepositoryName,
    name: &str,
    rules: Option<EnvironmentRules>,
) -> Result<(), Fault> {
    if name.is_empty() || name.chars().count() > 255 || name.contains(':') || name.chars().any(char::is_control) {
        return Err(Fault::Invalid(
            "the name of an environment has 1 to 255 characters, no `:` and no control characters".to_owned(),
        ));
    }
    if let Some(rules) = &rules {
        if rules.reviewers.len() > MOST_REVIEWERS {
            return Err(Fault::Invalid(format!("an environment has at most {MOST_REVIEWERS} reviewers")));
        }
        if rules.wait_minutes > LONGEST_WAIT {
            return Err(Fault::Invalid(format!("the wait must be 0 to {LONGEST_WAIT} minutes")));
        }
    }
    let action = if rules.is_some() { "environment.set" } else { "environment.delete" };
    let detail = rules.as_ref().map(|rules| format!("{rules:?}")).unwrap_or_default();
    app.audit(&caller.client, action, &format!("{repository} {name}"), &detail).await?;
    let input = Input::SetEnvironment { repository: repository.clone(), name: name.to_owned(), rules };
    answered(app.source.engine.send(input).await?)?;
    Ok(())
}

/// Makes a token and gives its value, which is shown this once.
pub(super) async fn create_token(
    app: &App,
    caller: &Caller,
    name: &str,
    role: store::Role,
    repositories: Vec<RepositoryName>,
    expires_at: Option<Timestamp>,
) -> Result<String, Fault> {
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return Err(Fault::Invalid("A token's name has 1 to 100 bytes and no control characters.".to_owned()));
    }
    app.audit(&caller.client, "token.create", name, Role::from(role).as_str()).await?;
    Ok(app.auth.create(caller.now, name, role, repositories, expires_at).await?)
}

/// Revokes a token; its sessions end.
pub(super) async fn revoke_token(app: &App, caller: &Caller, name: &str) -> Result<(), Fault> {
    app.audit(&caller.client, "token.revoke", name, "").await?;
    if app.auth.revoke(name).await? { Ok(()) } else { Err(Fault::NotFound) }
}

/// The longest time a share link may last.
const LONGEST_SHARE: SignedDuration = SignedDuration::from_hours(24 * 90);

/// A link that shows a run to whoever has it; a path on this server.
pub(super) async fn share(app: &App, caller: &Caller, run: &RunView, hours: i64) -> Result<String, Fault> {
    caller.not_a_job()?;
    let length = SignedDuration::from_hours(hours.clamp(1, LONGEST_SHARE.as_hours()));
    let until = caller.now + length;
    app.audit(&caller.client, "run.share", &subject(run), &format!("until {until}")).await?;
    Ok(format!("/share/{}", app.auth.share_key(run.id, until)))
}

/// The repository under which scripts are kept; no source has its name, so no event reaches it.
pub(super) const SCRIPTS: &str = "local/scripts";
const SCRIPT_FILE: &str = ".towline/script.yml";

/// Runs a script on hosts, each a job of one run, kept like any run.
pub(super) async fn script(
    app: &App,
    caller: &Caller,
    title: &str,
    shell: &str,
    script: &str,
    hosts: &[String],
) -> Result<RunId, Fault> {
    let known: Vec<String> =
        app.source.engine.summary().borrow().hosts.iter().map(|host| host.name.to_string()).collect();
    if hosts.is_empty() {
        return Err(Fault::Invalid("Choose at least one host.".to_owned()));
    }
    if let Some(unknown) = hosts.iter().find(|host| !known.contains(host)) {
        return Err(Fault::Invalid(format!("There is no host {}.", super::format::cut(unknown, 80))));
    }
    if script.trim().is_empty() || script.len() > 256 * 1024 {
        return Err(Fault::Invalid("A script has 1 byte to 256 KiB.".to_owned()));
    }
    if !["", "sh", "bash", "python", "pwsh"].contains(&shell) {
        return Err(Fault::Invalid("The shell is one of sh, bash, python and pwsh.".to_owned()));
    }
    let title = if title.trim().is_empty() { script.trim().lines().next().unwrap_or_default() } else { title.trim() };
    let title = super::format::cut(title, 120);
    let mut step = json!({"name": "Script", "run": script.replace("\r\n", "\n")});
    if !shell.is_empty() {
        step["shell"] = shell.into();
    }
    // JSON is YAML. The title is data: its braces must not be read as an expression.
    let workflow = json!({
        "name": "Script",
        "run-name": title.replace("${{", "${{ '${{' }}"),
        "on": "workflow_dispatch",
        "jobs": {"script": {
            "name": "${{ matrix.host }}",
            "strategy": {"fail-fast": false, "matrix": {"host": hosts}},
            "runs-on": "${{ matrix.host }}",
            "steps": [step],
        }},
    });
    app.audit(&caller.client, "script.run", &hosts.join(" "), &title).await?;
    let repository = RepositoryName::from(SCRIPTS);
    let sha = "0".repeat(40);
    let event = Event {
        name: "workflow_dispatch".to_owned(),
        action: None,
        payload: json!({"inputs": {}, "ref": "refs/heads/main", "head_commit": {"id": sha, "message": title}}),
        repository,
        git_ref: "refs/heads/main".to_owned(),
        sha: sha.clone(),
        head_ref: None,
        base_ref: None,
        actor: caller.client.name.clone(),
        default_branch: "main".to_owned(),
        changed_files: ChangedFiles::Unknown,
        head_message: None,
        received_at: caller.now,
        delivery: None,
        workflow: Some(SCRIPT_FILE.to_owned()),
        server_url: caller.base.0.clone(),
    };
    let spec = RunSpec {
        run: RunId(0),
        run_number: 0,
        attempt: 1,
        event,
        workflow_path: SCRIPT_FILE.to_owned(),
        workflow_text: workflow.to_string(),
        workflow_sha: sha,
        called: std::collections::BTreeMap::new(),
        inputs: Map::new(),
        vars: Map::new(),
        triggering_actor: caller.client.name.clone(),
        debug: false,
        hold_minutes: 0,
        only: None,
    };
    Ok(app.source.engine.start_run(None, false, spec).await?.run)
}
