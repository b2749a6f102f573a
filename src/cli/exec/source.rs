//! What is run: the workflow file, a snapshot of the repository, the event.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::event::{Event, Selection, select};
use crate::git::{self, Repository, Snapshot};
use crate::id::{RepositoryName, RunId};
use crate::plan::calls::{self, CalledWorkflow};
use crate::run::RunSpec;
use crate::triggers::Elsewhere;
use crate::triggers::local::{self, WorkingTree};
use crate::workflow;

use super::super::given::{Given, pair, path_below};
use super::super::output;
use super::Refusal;
use super::arguments::Arguments;

/// Everything a run needs, or the reason why there is none.
pub(super) struct Prepared {
    pub(super) spec: RunSpec,
    /// Why the event does not start the workflow.
    pub(super) not_selected: Option<String>,
    pub(super) snapshot: Snapshot,
    /// State of this run on this machine; removed at the end.
    pub(super) scratch: Scratch,
    pub(super) workflow_name: String,
    /// The repository is also at a forge, whose API a token opens.
    pub(super) at_forge: bool,
}

/// Reads and checks everything. Nothing of the user's is written.
pub(super) async fn prepare(arguments: &Arguments, clock: &Clock) -> Result<Prepared, Refusal> {
    let file = arguments.given.file()?;
    let text = Given::text(&file)?;
    let scratch =
        Scratch::new().map_err(|error| Refusal::Environment(format!("cannot make a temporary directory: {error}")))?;
    let snapshot = snapshot(&scratch).await?;
    let path = path_below(&file, &snapshot.top);
    let (workflow, mut diagnostics) = workflow::parse(&path, &text);
    let called = match &workflow {
        Some(_) => called(&path, &text, &snapshot, &elsewhere(arguments, &scratch)).await?,
        None => BTreeMap::new(),
    };
    let files =
        |wanted: &str| called.get(&format!("./{}", wanted.trim_start_matches("./"))).map(|file| file.text.clone());
    if workflow.is_some() {
        diagnostics = workflow::check(&path, &text, &files);
    }
    let refused = diagnostics.iter().any(crate::diagnostic::Diagnostic::is_error);
    let Some(workflow) = workflow.filter(|_| !refused) else {
        return Err(Refusal::Diagnostics { text, diagnostics });
    };
    let (tree, at_forge) = working_tree(&snapshot, arguments).await?;
    let wish = arguments.given.wish()?;
    let now = clock.now();
    let delivered = local::deliver(now, &tree, &workflow, &wish).map_err(Refusal::Invalid)?;
    delivered.warnings.iter().for_each(|warning| output::warn(warning));
    let mut event = delivered.event;
    apply_github(&mut event, arguments)?;
    let not_selected = match select(&workflow, &event) {
        Selection { selected: true, .. } => None,
        Selection { reason, .. } => Some(reason),
    };
    let workflow_name = workflow.display_name().to_owned();
    let spec = RunSpec {
        run: RunId(0),
        run_number: 0,
        attempt: 1,
        triggering_actor: event.actor.clone(),
        workflow_path: path,
        workflow_text: text,
        workflow_sha: event.sha.clone(),
        called,
        inputs: delivered.inputs,
        vars: arguments.given.vars()?,
        debug: arguments.debug,
        hold_minutes: arguments.hold_on_failure.unwrap_or(0),
        only: arguments.job.clone(),
        event,
    };
    Ok(Prepared { spec, not_selected, snapshot, scratch, workflow_name, at_forge })
}

async fn snapshot(scratch: &Scratch) -> Result<Snapshot, Refusal> {
    let into = scratch.path.join("repository.git");
    let here = Path::new(".");
    let taken = match git::snapshot(here, &into).await {
        Err(git::Error::NotARepository { .. }) => git::snapshot_directory(here, &into).await,
        other => other,
    };
    taken.map_err(|error| Refusal::Environment(format!("cannot take a snapshot of the working tree: {error}")))
}

/// Workflows of other repositories come from where actions come from.
fn elsewhere(arguments: &Arguments, scratch: &Scratch) -> Elsewhere {
    let mut elsewhere = Elsewhere::nothing(&RepositoryName(String::new()));
    if let Some(mirror) = &arguments.actions {
        elsewhere.mirror = Some(mirror.clone());
        return elsewhere;
    }
    let paths = crate::config::Paths::from_environment();
    let files = crate::config::read(&paths.config).unwrap_or_default();
    let actions = crate::config::parse(&files).0.unwrap_or_default().actions;
    // What was fetched before serves here too.
    let kept = paths.mirrors();
    elsewhere.cache = if std::fs::create_dir_all(&kept).is_ok() { kept } else { scratch.path.join("mirrors") };
    (elsewhere.mirror, elsewhere.url) = (actions.mirror, actions.url);
    elsewhere
}

/// Texts of the reusable workflows: those of the repository as they stand in the working tree, those of others as they
/// are there. What cannot be found is left out; the run says so when it starts.
async fn called(
    path: &str,
    text: &str,
    snapshot: &Snapshot,
    elsewhere: &Elsewhere,
) -> Result<BTreeMap<String, CalledWorkflow>, Refusal> {
    let failed = |error: git::Error| Refusal::Environment(format!("cannot read the called workflows: {error}"));
    let mut called = BTreeMap::new();
    let mut absent = BTreeSet::new();
    let mut objects = snapshot.repository.objects().map_err(failed)?;
    loop {
        let missing = calls::missing(path, text, &called);
        let mut found = false;
        for target in missing.into_iter().filter(|target| !absent.contains(&target.key())).collect::<Vec<_>>() {
            if let Some((repository, reference)) = &target.elsewhere {
                let read = elsewhere.read(repository, reference, &target.path).await.unwrap_or_else(|error| {
                    output::warn(&format!("cannot read the called workflow {}: {error}", target.key()));
                    None
                });
                match read {
                    Some(file) => found |= called.insert(target.key(), file).is_none(),
                    None => found |= absent.insert(target.key()),
                }
                continue;
            }
            if let Some(bytes) = objects.file(&snapshot.commit, &target.path).await.map_err(failed)? {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let sha = snapshot.head.clone().unwrap_or_else(|| snapshot.commit.clone());
                let repository = RepositoryName(String::new());
                found |= called.insert(target.key(), CalledWorkflow { text, repository, sha }).is_none();
            }
        }
        if !found {
            objects.close().await;
            return Ok(called);
        }
    }
}

async fn working_tree(snapshot: &Snapshot, arguments: &Arguments) -> Result<(WorkingTree, bool), Refusal> {
    let failed = |error: git::Error| Refusal::Environment(format!("cannot read the repository: {error}"));
    let sha = snapshot.head.clone().unwrap_or_else(|| snapshot.commit.clone());
    let mut objects = snapshot.repository.objects().map_err(failed)?;
    let commit = objects.commit(&sha).await.map_err(failed)?;
    objects.close().await;
    let branch = snapshot.head_ref.clone().unwrap_or_else(|| "refs/heads/main".to_owned());
    let default_branch = default_branch(&snapshot.repository, &branch).await;
    let origin = match Repository::discover(&snapshot.top).await {
        Ok(user) => user.remote_url("origin").await.ok().flatten(),
        Err(_) => None,
    };
    let remote = origin.as_deref().and_then(address);
    let at_forge = remote.is_some();
    let (server_url, repository) = remote.unwrap_or_else(|| {
        let name = snapshot.top.file_name().map_or("repository".to_owned(), |name| name.to_string_lossy().into_owned());
        ("https://github.com".to_owned(), format!("local/{name}"))
    });
    let given =
        |key: &str| arguments.github.iter().find_map(|text| text.strip_prefix(&format!("{key}="))).map(str::to_owned);
    let author = commit.as_ref().map(|commit| (commit.author.name.clone(), commit.author.email.clone()));
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let tree = WorkingTree {
        repository: RepositoryName(given("repository").unwrap_or(repository)),
        git_ref: branch,
        sha,
        default_branch,
        actor: given("actor").or(user).unwrap_or_else(|| "towline".to_owned()),
        server_url: given("server_url").unwrap_or(server_url),
        message: commit.as_ref().map_or(String::new(), |commit| commit.message.clone()),
        committed_at: commit.as_ref().map_or(String::new(), |commit| commit.committer.at.to_string()),
        author: author.unwrap_or_default(),
    };
    Ok((tree, at_forge))
}

async fn default_branch(repository: &Repository, head: &str) -> String {
    for candidate in ["main", "master"] {
        if matches!(repository.resolve(&format!("refs/heads/{candidate}")).await, Ok(Some(_))) {
            return candidate.to_owned();
        }
    }
    head.trim_start_matches("refs/heads/").to_owned()
}

/// `https://server` and `owner/name` of a remote's address.
fn address(url: &str) -> Option<(String, String)> {
    let url = url.trim().trim_end_matches('/').trim_end_matches(".git");
    let (server, path) = match url.split_once("://") {
        Some(("https" | "http" | "ssh" | "git", rest)) => {
            let (server, path) = rest.split_once('/')?;
            (server.rsplit('@').next()?.split(':').next()?, path)
        }
        Some(_) => return None,
        None => {
            let (server, path) = url.split_once(':')?;
            (server.rsplit('@').next()?, path)
        }
    };
    let mut parts = path.rsplitn(3, '/');
    let (name, owner) = (parts.next()?, parts.next()?);
    (!name.is_empty() && !owner.is_empty() && !server.is_empty())
        .then(|| (format!("https://{server}"), format!("{owner}/{name}")))
}

/// Values of the `github` context that follow from the event.
fn apply_github(event: &mut Event, arguments: &Arguments) -> Result<(), Refusal> {
    for text in &arguments.github {
        let (key, value) = pair(text, "--github")?;
        let value = value.to_owned();
        match key {
            "ref" => event.git_ref = value,
            "sha" => event.sha = value,
            "head_ref" => event.head_ref = Some(value),
            "base_ref" => event.base_ref = Some(value),
            "actor" => event.actor = value,
            "repository" => event.repository = RepositoryName(value),
            "server_url" => event.server_url = value,
            // The others are laid over the context when a job is handed out.
            _ => {}
        }
    }
    Ok(())
}

/// A directory on this machine that goes when it is dropped.
pub(super) struct Scratch {
    pub(super) path: PathBuf,
}

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let nonce = crate::transport::JobSpec::new_nonce();
        let path = std::env::temp_dir().join(format!("towline-exec-{}", &nonce[..12]));
        std::fs::create_dir(&path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn remotes_name_server_and_repository() {
        let expect = |url: &str, server: &str, name: &str| {
            assert_eq!(address(url), Some((server.to_owned(), name.to_owned())), "{url}");
        };
        expect("https://github.com/o/r.git", "https://github.com", "o/r");
        expect("git@github.com:o/r.git", "https://github.com", "o/r");
        expect("ssh://git@forge.lan:2222/o/r", "https://forge.lan", "o/r");
        expect("https://user:token@gitlab.lan/g/s/r.git", "https://gitlab.lan", "s/r");
        assert_eq!(address("/srv/git/r.git"), None);
    }
}
