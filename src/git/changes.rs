//! What a push or pull request changed (T4).

use std::collections::BTreeSet;

use super::objects::{CommitInfo, parse_person};
use super::{Error, NULL_ID, Repository};

/// Path filters look at the first so many changed files only (T4).
pub const TESTED_FILES: usize = 300;
/// With more commits than this the filters let the push through (T4).
const MOST_COMMITS: usize = 1000;

/// One ref of a push, as `post-receive` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedRef {
    /// [`NULL_ID`] when the ref is new.
    pub old: String,
    /// [`NULL_ID`] when the ref was deleted.
    pub new: String,
    /// Full.
    pub name: String,
}

impl PushedRef {
    /// Whether the ref did not exist before.
    #[must_use]
    pub fn is_created(&self) -> bool {
        is_null(&self.old)
    }

    /// Whether the ref exists no more.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        is_null(&self.new)
    }
}

fn is_null(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte == b'0')
}

/// The paths that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// More commits than GitHub looks at: path filters let the event through.
    TooMany,
    /// At most [`TESTED_FILES`], in git's order.
    Files(Vec<String>),
}

/// A commit of a push, with what it did to files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushedCommit {
    pub commit: CommitInfo,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub modified: Vec<String>,
}

impl Repository {
    /// What a pushed ref changed. An existing branch: two-dot from old to new. A new one: two-dot from the parent of the
    /// deepest commit that the push brought. `others` are the refs of the same push: what they point at now was not
    /// there before either.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn changes_of_push(&self, pushed: &PushedRef, others: &[PushedRef]) -> Result<Changes, Error> {
        if pushed.is_deleted() {
            return Ok(Changes::Files(Vec::new()));
        }
        let commits = self.commits_of_push(pushed, others, MOST_COMMITS + 1);
        if !pushed.is_created() {
            let (commits, changes) = tokio::join!(commits, self.changes_between(Some(&pushed.old), &pushed.new));
            return if commits?.len() > MOST_COMMITS { Ok(Changes::TooMany) } else { changes };
        }
        let commits = commits.await?;
        if commits.len() > MOST_COMMITS {
            return Ok(Changes::TooMany);
        }
        // In topological order from the oldest: the first is the deepest.
        let Some(deepest) = commits.first() else { return Ok(Changes::Files(Vec::new())) };
        let base = self.resolve(&format!("{deepest}^")).await?;
        self.changes_between(base.as_deref(), &pushed.new).await
    }

    /// What a pull request changed: three-dot, from where the branches parted to the head.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn changes_of_pull_request(&self, base: &str, head: &str) -> Result<Changes, Error> {
        let mut git = self.git("rev-list");
        let range = format!("{base}..{head}");
        git.args(["--count", &format!("--max-count={}", MOST_COMMITS + 1), "--end-of-options", &range]);
        if git.text().await?.trim().parse::<usize>().is_ok_and(|count| count > MOST_COMMITS) {
            return Ok(Changes::TooMany);
        }
        let parted = self.merge_base(base, head).await?;
        self.changes_between(parted.as_deref().or(Some(base)), head).await
    }

    /// The first [`TESTED_FILES`] paths that differ between two commits. Without a base everything in `new` is new.
    /// A renamed file counts under both names; of a submodule its directory counts.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn changes_between(&self, old: Option<&str>, new: &str) -> Result<Changes, Error> {
        let mut git = match old {
            Some(old) => {
                let mut git = self.git("diff-tree");
                git.args(["-r", "-z", "--name-only", "--no-renames", "--end-of-options", old, new]);
                git
            }
            None => {
                let mut git = self.git("ls-tree");
                git.args(["-r", "-z", "--name-only", "--full-tree", "--end-of-options", new]);
                git
            }
        };
        git.timeout = std::time::Duration::from_secs(30);
        match git.bytes().await {
            Ok(bytes) => Ok(Changes::Files(split(&bytes).take(TESTED_FILES).collect())),
            // GitHub lets the event through when the diff takes too long (T4).
            Err(Error::Timeout { .. } | Error::TooLong { .. }) => Ok(Changes::TooMany),
            Err(error) => Err(error),
        }
    }

    /// The commits that a pushed ref brought, oldest first, at most `limit` of the newest.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn commits_of_push(
        &self,
        pushed: &PushedRef,
        others: &[PushedRef],
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        if pushed.is_deleted() {
            return Ok(Vec::new());
        }
        let mut git = self.git("rev-list");
        git.args(["--topo-order", "--reverse", &format!("--max-count={limit}"), "--stdin"]);
        git.input = self.range_of_push(pushed, others).await?.into_bytes();
        Ok(git.text().await?.lines().map(str::to_owned).collect())
    }

    /// Like [`Repository::commits_of_push`], with messages, people and paths: what a push payload tells.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn log_of_push(
        &self,
        pushed: &PushedRef,
        others: &[PushedRef],
        limit: usize,
    ) -> Result<Vec<PushedCommit>, Error> {
        if pushed.is_deleted() {
            return Ok(Vec::new());
        }
        let mut git = self.git("log");
        git.args(["--topo-order", "--reverse", &format!("--max-count={limit}"), "--name-status", "-z", "--no-renames"]);
        // Fields end with a byte that no message holds; the paths follow behind the last.
        git.args([
            "--no-show-signature",
            "--format=%x01%H%x02%T%x02%P%x02%an <%ae> %at +0000%x02%cn <%ce> %ct +0000%x02%B%x02",
        ]);
        git.arg("--stdin");
        git.input = self.range_of_push(pushed, others).await?.into_bytes();
        let answer = git.bytes().await?;
        Ok(String::from_utf8_lossy(&answer).split('\x01').filter_map(parse_logged).collect())
    }

    /// What `--stdin` of `rev-list` reads.
    async fn range_of_push(&self, pushed: &PushedRef, others: &[PushedRef]) -> Result<String, Error> {
        let mut range = format!("{}\n", pushed.new);
        if !pushed.is_created() {
            range.push_str(&format!("^{}\n", pushed.old));
            return Ok(range);
        }
        let moved: BTreeSet<&str> = others.iter().chain([pushed]).map(|other| other.name.as_str()).collect();
        for other in self.refs("refs/").await? {
            if !moved.contains(other.name.as_str()) {
                range.push_str(&format!("^{}\n", other.id));
            }
        }
        for other in others.iter().filter(|other| !other.is_created() && other.name != pushed.name) {
            range.push_str(&format!("^{}\n", other.old));
        }
        Ok(range)
    }
}

fn split(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes
        .split(|&byte| byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| String::from_utf8_lossy(path).into_owned())
}

fn parse_logged(text: &str) -> Option<PushedCommit> {
    let mut fields = text.splitn(7, '\x02');
    let mut field = || fields.next();
    let (id, tree, parents, author, committer, message) = (field()?, field()?, field()?, field()?, field()?, field()?);
    let mut pushed = PushedCommit {
        commit: CommitInfo {
            id: id.to_owned(),
            tree: tree.to_owned(),
            parents: parents.split_whitespace().map(str::to_owned).collect(),
            author: parse_person(author),
            committer: parse_person(committer),
            message: message.trim_end().to_owned(),
        },
        ..PushedCommit::default()
    };
    let mut words = field().unwrap_or("").split('\0').map(|word| word.trim_start_matches('\n'));
    while let Some(status) = words.next() {
        if status.is_empty() {
            continue;
        }
        let Some(path) = words.next() else { break };
        match status {
            "A" => pushed.added.push(path.to_owned()),
            "D" => pushed.removed.push(path.to_owned()),
            _ => pushed.modified.push(path.to_owned()),
        }
    }
    Some(pushed)
}

/// Whether a text is a full object name that is not [`NULL_ID`].
#[must_use]
pub fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text != NULL_ID
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
