//! Finding what a client asks for. What it may not see does not exist for it.

use crate::id::{JobId, RepositoryName, RunId};
use crate::vault::Level;

use super::app::{App, Caller, Fault};
use super::auth::{Role, Via};
use super::view::{JobView, RunView, WorkflowView};

/// Owner and name, as a path has them.
pub(super) type OwnerName = (String, String);

/// The name in a path, as written there.
pub(super) fn name((owner, name): OwnerName) -> RepositoryName {
    RepositoryName(format!("{owner}/{name}"))
}

fn same(a: &RepositoryName, b: &RepositoryName) -> bool {
    a.as_str().eq_ignore_ascii_case(b.as_str())
}

/// The repository as it is known here: names compare without case.
pub(super) async fn repository(app: &App, caller: &Caller, path: OwnerName) -> Result<RepositoryName, Fault> {
    let wanted = name(path);
    caller.see(&wanted)?;
    let all = app.source.repositories().await?;
    all.into_iter().find(|one| same(one, &wanted)).ok_or(Fault::NotFound)
}

/// Who has a share link may look at that run; others at those of repositories they see.
fn may_look(caller: &Caller, wanted: &RepositoryName, run: RunId) -> Result<(), Fault> {
    if caller.client.via == Via::Share(run) { Ok(()) } else { caller.see(wanted) }
}

/// A run of this repository, in its latest attempt; of another one it does not exist.
pub(super) async fn run(app: &App, caller: &Caller, path: OwnerName, id: u64) -> Result<RunView, Fault> {
    let wanted = name(path);
    may_look(caller, &wanted, RunId(id))?;
    app.source.run(RunId(id)).await?.filter(|run| same(&run.repository, &wanted)).ok_or(Fault::NotFound)
}

/// A run as one of its attempts was.
pub(super) async fn attempt(
    app: &App,
    caller: &Caller,
    path: OwnerName,
    id: u64,
    attempt: u32,
) -> Result<RunView, Fault> {
    let wanted = name(path);
    may_look(caller, &wanted, RunId(id))?;
    let run = app.source.attempt(RunId(id), attempt).await?;
    run.filter(|run| same(&run.repository, &wanted)).ok_or(Fault::NotFound)
}

/// A job of this repository, with its run as it was in that attempt.
pub(super) async fn job(app: &App, caller: &Caller, path: OwnerName, id: u64) -> Result<(RunView, JobView), Fault> {
    let wanted = name(path);
    if !matches!(caller.client.via, Via::Share(_)) {
        caller.see(&wanted)?;
    }
    let found = app.source.job(JobId(id)).await?;
    let (run, job) = found.filter(|(run, _)| same(&run.repository, &wanted)).ok_or(Fault::NotFound)?;
    may_look(caller, &wanted, run.id)?;
    Ok((run, job))
}

/// A workflow of a repository by id, file name or path.
pub(super) async fn workflow(
    app: &App,
    repository: &RepositoryName,
    wanted: &str,
    recent: usize,
) -> Result<WorkflowView, Fault> {
    let all = app.source.workflows(repository, recent).await?;
    let found = all.into_iter().find(|one| {
        let name = &one.workflow;
        name.id.to_string() == wanted || name.file() == wanted || name.path == wanted
    });
    found.ok_or(Fault::NotFound)
}

/// Names of secrets, and variables, are for those who work with the repository. What is for all repositories only an
/// admin of all changes.
pub(super) fn values(caller: &Caller, level: &Level, change: bool) -> Result<(), Fault> {
    caller.not_a_job()?;
    match level {
        Level::Repository(repository) | Level::Environment(repository, _) if change => {
            caller.change(repository, Role::Operator)
        }
        Level::Repository(repository) | Level::Environment(repository, _) => {
            caller.see(repository)?;
            caller.at_least(Role::Operator)
        }
        Level::Global if change => caller.change_whole(Role::Admin),
        Level::Global => caller.whole(Role::Operator),
    }
}
