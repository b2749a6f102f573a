//! The built-in `actions/checkout`: the same inputs and outputs, without node, without a network on the host.
//!
//! This machine packs the commit (with as much history as was asked for) into a git store of its own, the host unpacks
//! it as `.git` and checks out. A host without git gets the files alone, as the action itself does it there.

use serde_json::Value as Json;

use crate::git::{self, Repository};
use crate::id::RepositoryName;
use crate::run::conclusion::Conclusion;
use crate::workflow::model::Step;

use super::JobError;
use super::contexts::{Frame, Variables};
use super::job::Job;
use super::script::{StepRun, join};
use super::step::{StepEnd, StepError};
use super::workspace::{quote, run};

/// What is checked out, as inputs and event say.
struct Wanted {
    repository: RepositoryName,
    commit: String,
    /// The ref `HEAD` ends up on: a branch, or nothing (detached).
    branch: Option<String>,
    /// `refs/remotes/…` or `refs/tags/…` on the host.
    tracking: String,
    /// As shown.
    shown: String,
    /// 0: all history.
    depth: u32,
    tags: bool,
    clean: bool,
    directory: String,
    sparse: Vec<String>,
    cone: bool,
    own: bool,
}

impl Job<'_> {
    /// Checks a repository out on the host.
    pub(super) async fn check_out(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        with: &Variables,
        run_: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let key = format!("{}/checkout", run_.key);
        let done = match self.journal.recall::<Result<(String, String), String>>(&key)? {
            Some(done) => done,
            None => {
                let done = match self.check_out_now(with).await {
                    Ok(done) => Ok(done),
                    Err(StepError::Failed(message)) => Err(message),
                    Err(error) => return Err(error),
                };
                self.record(&key, &done)?;
                done
            }
        };
        let (reference, commit) = done.map_err(StepError::Failed)?;
        frame.steps.set_output(&step.id, "ref", &reference);
        frame.steps.set_output(&step.id, "commit", &commit);
        Ok(StepEnd::of(Conclusion::Success))
    }

    async fn check_out_now(&mut self, with: &Variables) -> Result<(String, String), StepError> {
        let wanted = self.wanted(with).await?;
        let source = self.repository(&wanted.repository).map_err(StepError::Failed)?;
        let repository = Repository::at(&source.git_dir);
        self.say_line(&format!("Syncing repository: {}", wanted.repository))?;
        let failed = |error: git::Error| StepError::Failed(full(&error));
        let directory = wanted.directory.clone();
        let has_git = !self.host.facts().git.is_empty();
        self.clear(&directory, wanted.clean, has_git).await?;
        let overlay = source.overlay.filter(|_| wanted.own);
        if has_git {
            let scratch = Scratch::new(&self.order.job.to_string()).map_err(|error| {
                StepError::Failed(format!("cannot make a temporary directory on the control machine: {error}"))
            })?;
            self.say_line("##[group]Fetching the repository")?;
            let name = if wanted.tracking.is_empty() { "refs/towline/checkout" } else { wanted.tracking.as_str() };
            let store = scratch.path.join("store");
            git::shallow_store(&repository, &wanted.commit, name, wanted.depth, &store).await.map_err(failed)?;
            let mut more = Vec::new();
            if wanted.depth == 0 {
                more.push("+refs/heads/*:refs/towline/heads/*".to_owned());
            }
            if wanted.depth == 0 || wanted.tags {
                more.push("+refs/tags/*:refs/tags/*".to_owned());
            }
            git::fetch_more(&repository, &store, &more, 0).await.map_err(failed)?;
            if let Some(overlay) = &overlay {
                git::fetch_more(&repository, &store, &[format!("+{overlay}:refs/towline/overlay")], 1)
                    .await
                    .map_err(failed)?;
            }
            let packed = pack(&store).await.map_err(|error| StepError::Failed(error.to_string()))?;
            self.host.put_tar(&mut packed.as_slice(), &format!("{directory}/.git")).await.map_err(JobError::from)?;
            self.say_line(&format!(" * {} -> {}", wanted.commit, name))?;
            self.say_line("##[endgroup]")?;
            let script = self.checkout_script(&wanted, overlay.as_deref());
            let output = self.host.exec(&script, b"").await.map_err(JobError::from)?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            self.say_line("##[group]Checking out the ref")?;
            for line in said.lines().filter(|line| !line.trim().is_empty()) {
                self.say_line(line)?;
            }
            self.say_line("##[endgroup]")?;
            if output.status != 0 {
                return Err(StepError::Failed(format!(
                    "The process '/usr/bin/git' failed with exit code {} on {}",
                    output.status, self.host_name
                )));
            }
        } else {
            self.say_line(
                "The repository will be copied without its history, because git is not installed on the host.",
            )?;
            let tree = overlay.as_deref().unwrap_or(&wanted.commit);
            let archive = git::archive(&repository, tree, Vec::new()).await.map_err(failed)?;
            self.host.put_tar(&mut archive.as_slice(), &directory).await.map_err(JobError::from)?;
        }
        self.say_line(&wanted.commit)?;
        Ok((wanted.shown, wanted.commit))
    }

    async fn wanted(&mut self, with: &Variables) -> Result<Wanted, StepError> {
        let input = |name: &str| {
            with.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
        };
        let flag = |name: &str, default: bool| match input(name).to_ascii_lowercase().as_str() {
            "" => default,
            text => text == "true",
        };
        let unsupported = ["submodules", "lfs", "ssh-key"].into_iter().find(|name| {
            let value = input(name);
            !value.is_empty() && !value.eq_ignore_ascii_case("false")
        });
        if let Some(name) = unsupported {
            self.warning(0, &format!("the input '{name}' of actions/checkout is not supported yet and was ignored"))?;
        }
        let github = |key: &str| self.order.github.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let repository = match input("repository") {
            "" => self.order.repository.clone(),
            name => RepositoryName(name.to_owned()),
        };
        let own = repository.0.eq_ignore_ascii_case(&self.order.repository.0);
        let depth = match input("fetch-depth") {
            "" => 1,
            text => {
                text.parse().map_err(|_| StepError::Failed(format!("fetch-depth must be a number, not '{text}'")))?
            }
        };
        let path = input("path");
        let directory = join(&self.workspace.path, path);
        if path.split('/').any(|part| part == "..")
            || (path.starts_with('/') && !directory.starts_with(&self.workspace.path))
        {
            return Err(StepError::Failed(format!(
                "Repository path '{directory}' is not under '{}'",
                self.workspace.path
            )));
        }
        let (mut reference, mut commit) = (input("ref").to_owned(), String::new());
        if reference.is_empty() && own {
            reference = github("ref");
            commit = github("sha");
        }
        let shown = reference.clone();
        if commit.is_empty() {
            let source = self.repository(&repository).map_err(StepError::Failed)?;
            let found = find(&Repository::at(&source.git_dir), &reference)
                .await
                .map_err(|error| StepError::Failed(full(&error)))?;
            (reference, commit) = found.ok_or_else(|| {
                StepError::Failed(format!(
                    "A branch or tag with the name '{reference}' could not be found in {repository}"
                ))
            })?;
        }
        let (branch, tracking) = match reference.strip_prefix("refs/heads/") {
            Some(branch) => (Some(branch.to_owned()), format!("refs/remotes/origin/{branch}")),
            None if reference.starts_with("refs/tags/") => (None, reference.clone()),
            None => match reference.strip_prefix("refs/pull/") {
                Some(pull) => (None, format!("refs/remotes/pull/{pull}")),
                None => (None, String::new()),
            },
        };
        Ok(Wanted {
            repository,
            commit,
            branch,
            tracking,
            shown,
            depth,
            tags: flag("fetch-tags", false),
            clean: flag("clean", true),
            directory,
            sparse: input("sparse-checkout").lines().map(str::to_owned).filter(|line| !line.is_empty()).collect(),
            cone: flag("sparse-checkout-cone-mode", true),
            own,
        })
    }

    /// Makes room: a checkout of before is cleaned and kept, anything else goes.
    async fn clear(&mut self, directory: &str, clean: bool, has_git: bool) -> Result<(), StepError> {
        let script = format!(
            "umask 022\nd={directory}\nmkdir -p \"$d\" && cd \"$d\" || exit 1\n\
             if [ -d .git ] && {keep}; then\n\
             rm -f .git/index.lock .git/shallow.lock .git/config.lock .git/HEAD.lock .git/shallow\n\
             {clean}\nelse\nfor f in * .[!.]* ..?*; do {{ [ -e \"$f\" ] || [ -L \"$f\" ]; }} && rm -rf -- \"$f\"; done; :\nfi\n",
            directory = quote(directory),
            keep = if has_git { "git -c safe.directory='*' rev-parse --git-dir >/dev/null 2>&1" } else { "false" },
            clean = if clean {
                "git -c safe.directory='*' clean -ffdxq || true\ngit -c safe.directory='*' reset -q --hard >/dev/null 2>&1 || true"
            } else {
                ":"
            },
        );
        run(&self.host, "preparing the checkout", &script, b"").await?;
        Ok(())
    }

    fn checkout_script(&self, wanted: &Wanted, overlay: Option<&str>) -> String {
        let server = super::services::git_url(&self.reached.variables);
        let server = server.as_deref().or_else(|| self.order.github.get("server_url").and_then(Json::as_str));
        let url = format!("{}/{}", server.unwrap_or("https://github.com"), wanted.repository);
        let mut script = format!(
            "umask 022\nexport GIT_TERMINAL_PROMPT=0 GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\n\
             cd {directory} || exit 1\ngit config core.bare false\ngit config --unset core.worktree\n\
             git config gc.auto 0\ngit config advice.detachedHead false\n\
             git remote remove origin >/dev/null 2>&1\ngit remote add origin {url}\n",
            directory = quote(&wanted.directory),
            url = quote(&url),
        );
        // Removing the remote takes its tracking refs along: they are set again below.
        if !wanted.tracking.is_empty() {
            script += &format!("git update-ref {} {}\n", quote(&wanted.tracking), wanted.commit);
        }
        if wanted.depth == 0 {
            script += "git for-each-ref --format='%(objectname) %(refname)' refs/towline/heads/ | while read -r id name; do\n\
                       git update-ref \"refs/remotes/origin/${name#refs/towline/heads/}\" \"$id\"; git update-ref -d \"$name\"; done\n";
        }
        if wanted.sparse.is_empty() {
            script += "git sparse-checkout disable >/dev/null 2>&1\n";
        } else {
            let patterns: Vec<_> = wanted.sparse.iter().map(|line| quote(line)).collect();
            let cone = if wanted.cone { "--cone" } else { "--no-cone" };
            script += &format!("git sparse-checkout set {cone} -- {} || exit 1\n", patterns.join(" "));
        }
        script += &match (&wanted.branch, wanted.tracking.as_str()) {
            (Some(branch), tracking) => {
                format!("git checkout --force -B {} {} || exit $?\n", quote(branch), quote(tracking))
            }
            (None, "") => format!("git checkout --force --detach {} || exit $?\n", wanted.commit),
            (None, tracking) => format!("git checkout --force {} || exit $?\n", quote(tracking)),
        };
        if let Some(overlay) = overlay {
            // The working tree as it stood, its differences uncommitted as they were.
            script += &format!(
                "git read-tree -m -u {commit} {overlay} || exit $?\ngit reset -q --mixed {commit} || exit $?\n",
                commit = wanted.commit
            );
        }
        script += "git update-ref -d refs/towline/checkout >/dev/null 2>&1\ngit update-ref -d refs/towline/overlay >/dev/null 2>&1\n:\n";
        script
    }
}

/// The full ref and commit that a branch, a tag or a commit id names; the default branch for nothing.
async fn find(repository: &Repository, name: &str) -> Result<Option<(String, String)>, git::Error> {
    if name.is_empty() {
        let Some(branch) = repository.head_branch().await? else { return Ok(None) };
        let full = format!("refs/heads/{branch}");
        return Ok(repository.resolve(&full).await?.map(|commit| (full, commit)));
    }
    let candidates = if name.starts_with("refs/") {
        vec![name.to_owned()]
    } else if git::is_object_id(name) {
        return Ok(repository.resolve(&format!("{name}^{{commit}}")).await?.map(|commit| (name.to_owned(), commit)));
    } else {
        vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")]
    };
    for full in candidates {
        if let Some(commit) = repository.resolve(&format!("{full}^{{commit}}")).await? {
            return Ok(Some((full, commit)));
        }
    }
    Ok(None)
}

/// Packs a git directory as a tar archive.
async fn pack(directory: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let directory = directory.to_owned();
    let work = move || {
        let mut archive = tar::Builder::new(Vec::new());
        archive.follow_symlinks(false);
        for name in ["objects", "refs", "packed-refs", "shallow", "HEAD", "config"] {
            let path = directory.join(name);
            if path.is_dir() {
                archive.append_dir_all(name, &path)?;
            } else if path.is_file() {
                archive.append_path_with_name(&path, name)?;
            }
        }
        archive.into_inner()
    };
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// An error with what caused it.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A directory on this machine that goes when it is dropped.
struct Scratch {
    path: std::path::PathBuf,
}

impl Scratch {
    fn new(job: &str) -> std::io::Result<Self> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("towline-checkout-{}-{job}-{count}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}
