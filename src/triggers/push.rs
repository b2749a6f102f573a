//! Plain `git push`: what a hook tells becomes events, and what the pusher reads in return.

use jiff::Timestamp;

use super::hook::HookPush;
use crate::engine::Answer;
use crate::event::{self, ChangedFiles, Event};
use crate::git::{self, Changes, NULL_ID, PushedCommit, PushedRef, Repository};
use crate::id::RepositoryName;

use super::{Reading, Start, Starter, start};

/// Commits listed in a payload; reading more would hold the pusher up.
const COMMITS_TOLD: usize = 250;
/// GitHub makes no event of a tag when more of them are pushed at once (T19).
const MOST_TAGS: usize = 3;
/// Branches of one push that become events. A mirror push of thousands is bookkeeping, not work.
const MOST_BRANCHES: usize = 200;

/// Where a pushed repository stands.
#[derive(Clone, Debug)]
pub struct Place {
    pub repository: RepositoryName,
    /// The daemon's address.
    pub server_url: String,
    pub clone_url: String,
}

/// What became of a push.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    pub runs: Vec<StartedRun>,
    /// What the pusher should know besides: faulty files, why nothing started.
    pub notes: Vec<String>,
}

/// A run that a push started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedRun {
    pub run: u64,
    pub run_number: u64,
    pub workflow: String,
    pub held: bool,
    /// It was started by the same push before.
    pub repeated: bool,
}

/// The events of a push: one per branch or tag, in the order git gave them; and what the pusher is told of refs that become
/// none. Refs of other kinds start nothing.
async fn events(
    now: Timestamp,
    place: &Place,
    repository: &Repository,
    push: &HookPush,
) -> Result<(Vec<Event>, Vec<String>), git::Error> {
    let all: Vec<PushedRef> = push
        .refs
        .iter()
        .map(|one| PushedRef { old: one.old.clone(), new: one.new.clone(), name: one.name.clone() })
        .filter(is_sound)
        .collect();
    let (default_branch, head) = default_branch(repository, &all).await?;
    let default_sha = match head {
        Some(head) => head,
        None => repository.resolve(&format!("refs/heads/{default_branch}")).await?.unwrap_or_default(),
    };
    let mut events = Vec::new();
    let (taken, notes) = taken(&all);
    for pushed in taken {
        let is_branch = pushed.name.starts_with("refs/heads/");
        let tip = match pushed {
            deleted if deleted.is_deleted() => None,
            // A branch is at a commit, always.
            branch if is_branch => Some(branch.new.clone()),
            tag => repository.resolve(&tag.new).await?,
        };
        if tip.is_none() && !pushed.is_deleted() {
            // A tag of a file or a tree.
            continue;
        }
        let mut commits = match repository.log_of_push(pushed, &all, COMMITS_TOLD).await {
            Ok(commits) => commits,
            // A push of long ago whose commits are gone.
            Err(_) if is_branch && repository.resolve(&pushed.new).await?.is_none() => continue,
            Err(error) => return Err(error),
        };
        let brought = commits.len();
        let one_after_the_other = is_chain(pushed, &commits);
        let changed_files = match changed_by_one(&commits).filter(|_| one_after_the_other) {
            Some(files) => ChangedFiles::Known(files),
            None => match repository.changes_of_push(pushed, &all).await? {
                Changes::Files(files) => ChangedFiles::Known(files),
                Changes::TooMany => ChangedFiles::Unknown,
            },
        };
        if let (Some(tip), true) = (&tip, commits.is_empty()) {
            // Nothing new, yet the payload names the head commit.
            let mut objects = repository.objects()?;
            if let Some(commit) = objects.commit(tip).await? {
                commits.push(PushedCommit { commit, ..PushedCommit::default() });
            }
            objects.close().await;
        }
        let forced = !one_after_the_other
            && !pushed.is_created()
            && !pushed.is_deleted()
            && !repository.is_ancestor(&pushed.old, &pushed.new).await.unwrap_or(false);
        let mut event = event::push::push(
            now,
            event::push::Push {
                repository: place.repository.clone(),
                git_ref: pushed.name.clone(),
                before: pushed.old.clone(),
                after: tip.unwrap_or_else(|| NULL_ID.to_owned()),
                forced,
                commits: commits.iter().map(told).collect(),
                changed_files,
                pusher: push.pusher.clone(),
                pusher_email: None,
                default_branch: default_branch.clone(),
                default_sha: default_sha.clone(),
                server_url: place.server_url.clone(),
                clone_url: place.clone_url.clone(),
            },
        );
        if brought == 0
            && let Some(listed) = event.payload.get_mut("commits")
        {
            *listed = serde_json::Value::Array(Vec::new());
        }
        event.delivery = Some(format!("{} {}", push.id, pushed.name));
        events.push(event);
    }
    Ok((events, notes))
}

/// Starts everything a push starts.
///
/// # Errors
/// The repository cannot be read, or the daemon is stopping: the push must be kept.
pub async fn accept(
    now: Timestamp,
    place: &Place,
    repository: &Repository,
    reading: &Reading,
    push: &HookPush,
    starter: &Starter,
) -> Result<Accepted, Error> {
    // Its process starts while the commits are listed.
    let mut objects = repository.objects()?;
    let (events, notes) = events(now, place, repository, push).await?;
    let mut accepted = Accepted { notes, ..Accepted::default() };
    for event in events {
        let name = event.ref_name().to_owned();
        let found = start::starts_from(event, repository, &mut objects, reading).await?;
        for diagnostic in found.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
            let line = diagnostic.span.map_or(String::new(), |span| format!(":{}", span.start.line));
            accepted.notes.push(format!("{}{line}: {}", diagnostic.path, diagnostic.message));
        }
        if found.starts.is_empty() {
            let why = match found.passed.first() {
                None => "there are no workflows at this commit".to_owned(),
                Some(passed) => format!("{}: {}", passed.path, passed.selection.reason),
            };
            accepted.notes.push(format!("nothing to run for {name}: {why}"));
        }
        for start in found.starts {
            let (workflow, held) = (title(&start), start.held);
            match starter.start(start).await.map_err(|_| Error::Stopping)? {
                Answer::Run { run, run_number, repeated, .. } => {
                    accepted.runs.push(StartedRun { run: run.0, run_number, workflow, held, repeated });
                }
                Answer::Unknown(reason) | Answer::Refused(reason) => {
                    accepted.notes.push(format!("{workflow}: {reason}"));
                }
                Answer::Done => {}
            }
        }
    }
    objects.close().await;
    Ok(accepted)
}

/// What the pusher reads: one line per run, with its address.
#[must_use]
pub fn lines(place: &Place, accepted: &Accepted) -> Vec<String> {
    let server = place.server_url.trim_end_matches('/');
    let mut lines: Vec<String> = accepted
        .runs
        .iter()
        .map(|run| {
            let state = if run.held { ", waits for approval" } else { "" };
            format!(
                "{} #{}{state}  {server}/{}/actions/runs/{}",
                run.workflow,
                run.run_number,
                full(&place.repository),
                run.run
            )
        })
        .collect();
    lines.extend(accepted.notes.iter().cloned());
    lines
}

/// Why a push could not be taken up now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error("the daemon is stopping")]
    Stopping,
}

fn title(start: &Start) -> String {
    let (model, _) = crate::workflow::parse(&start.spec.workflow_path, &start.spec.workflow_text);
    model.map_or_else(|| start.spec.workflow_path.clone(), |model| model.display_name().to_owned())
}

fn full(repository: &RepositoryName) -> String {
    format!("{}/{}", repository.owner(), repository.name())
}

/// What a hook says is believed only where git could have said it.
fn is_sound(pushed: &PushedRef) -> bool {
    let id = |id: &str| git::is_object_id(id) || matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte == b'0');
    id(&pushed.old) && id(&pushed.new) && pushed.name.starts_with("refs/") && !pushed.name.contains(['\n', '\0', ' '])
}

/// The refs that become events, and what is said of branches and tags that do not.
fn taken(all: &[PushedRef]) -> (Vec<&PushedRef>, Vec<String>) {
    let is_branch = |one: &PushedRef| one.name.starts_with("refs/heads/");
    let is_tag = |one: &PushedRef| one.name.starts_with("refs/tags/");
    let (branches, tags) =
        (all.iter().filter(|one| is_branch(one)).count(), all.iter().filter(|one| is_tag(one)).count());
    let mut notes = Vec::new();
    if tags > MOST_TAGS {
        notes.push(format!(
            "nothing to run for {tags} tags: more than {MOST_TAGS} in one push start nothing, as on GitHub"
        ));
    }
    if branches > MOST_BRANCHES {
        notes.push(format!(
            "only the first {MOST_BRANCHES} of {branches} branches start something; push others by themselves"
        ));
    }
    let mut room = MOST_BRANCHES;
    let taken = all.iter().filter(|one| {
        if !is_branch(one) {
            return is_tag(one) && tags <= MOST_TAGS;
        }
        let fits = room > 0;
        room = room.saturating_sub(1);
        fits
    });
    (taken.collect(), notes)
}

/// The branch `HEAD` names, and its commit. In a new repository whose first push brings another branch, that one from
/// then on.
async fn default_branch(repository: &Repository, pushed: &[PushedRef]) -> Result<(String, Option<String>), git::Error> {
    let branch = repository.head_branch().await?.unwrap_or_else(|| "main".to_owned());
    // Most pushes are to it: then git need not be asked where it is.
    let told =
        pushed.iter().find(|one| !one.is_deleted() && one.name.strip_prefix("refs/heads/") == Some(branch.as_str()));
    if let Some(told) = told {
        return Ok((branch, Some(told.new.clone())));
    }
    let head = repository.resolve("HEAD").await?;
    if head.is_some() {
        return Ok((branch, head));
    }
    let first = pushed
        .iter()
        .filter(|one| !one.is_deleted())
        .find_map(|one| one.name.strip_prefix("refs/heads/"))
        .filter(|first| *first != branch);
    let Some(first) = first else { return Ok((branch, None)) };
    repository.set_head_branch(first).await?;
    Ok((first.to_owned(), None))
}

/// Whether a ref went from its old commit to its new one through just these commits: then nothing was forced, and git need
/// not be asked.
fn is_chain(pushed: &PushedRef, commits: &[PushedCommit]) -> bool {
    let mut at = pushed.old.as_str();
    for commit in commits {
        if commit.commit.parents != [at] {
            return false;
        }
        at = &commit.commit.id;
    }
    !commits.is_empty() && at == pushed.new
}

/// What a push of a single commit changed: its own paths are the difference (T4).
fn changed_by_one(commits: &[PushedCommit]) -> Option<Vec<String>> {
    let [one] = commits else { return None };
    let mut files: Vec<String> = [&one.added, &one.removed, &one.modified].into_iter().flatten().cloned().collect();
    files.sort_unstable();
    (files.len() <= git::TESTED_FILES).then_some(files)
}

fn told(pushed: &PushedCommit) -> event::push::Commit {
    let person = |person: &git::Person| event::push::Person { name: person.name.clone(), email: person.email.clone() };
    event::push::Commit {
        id: pushed.commit.id.clone(),
        tree: pushed.commit.tree.clone(),
        message: pushed.commit.message.clone(),
        timestamp: pushed.commit.committer.at.to_string(),
        author: person(&pushed.commit.author),
        committer: person(&pushed.commit.committer),
        added: pushed.added.clone(),
        removed: pushed.removed.clone(),
        modified: pushed.modified.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t19_many_tags_start_nothing_and_of_many_branches_the_first_do() {
        let pushed = |kind: &str, count: usize| -> Vec<PushedRef> {
            let one = |number| PushedRef {
                old: NULL_ID.to_owned(),
                new: "1".repeat(40),
                name: format!("refs/{kind}/{number}"),
            };
            (0..count).map(one).collect()
        };
        for (branches, tags, expected, notes) in
            [(1, 3, 4, 0), (2, 4, 2, 1), (200, 0, 200, 0), (201, 1, 201, 1), (500, 9, 200, 2)]
        {
            let all = [pushed("heads", branches), pushed("tags", tags), pushed("notes", 2)].concat();
            let (taken, told) = taken(&all);
            assert_eq!((taken.len(), told.len()), (expected, notes), "{branches} branches, {tags} tags: {told:?}");
        }
    }
}
