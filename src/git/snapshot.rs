//! A working tree as a commit, without writing to the user's repository.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Error, Git, Repository};

/// A working tree as it stood.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// A bare repository that sees the user's objects through `alternates`; it has the user's branches and tags, and
    /// `refs/towline/snapshot`.
    pub repository: Repository,
    /// The tree as it stood: `HEAD` itself when nothing differs from it, else a commit on top of it.
    pub commit: String,
    /// `HEAD` of the working tree; `None` before the first commit.
    pub head: Option<String>,
    /// The ref `HEAD` names, full; `None` when it is detached.
    pub head_ref: Option<String>,
    /// The top of the working tree.
    pub top: PathBuf,
}

/// The ref under which a snapshot's commit can be fetched.
const SNAPSHOT_REF: &str = "refs/towline/snapshot";

/// Takes a snapshot of the working tree that `directory` lies in: tracked files as they are, and untracked ones that are
/// not ignored. `into` becomes the bare repository. The user's index, refs and objects are only read.
///
/// # Errors
/// [`Error::NotARepository`], or what git says.
pub async fn snapshot(directory: &Path, into: &Path) -> Result<Snapshot, Error> {
    let user = Repository::discover(directory).await?;
    let mut git = Git::new("rev-parse");
    git.directory(directory).args(["--path-format=absolute", "--show-toplevel", "--git-path", "objects"]);
    git.args(["--path-format=absolute", "--git-path", "index"]);
    let answer = git.text().await?;
    let mut lines = answer.lines();
    let (Some(top), Some(objects), Some(index)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(Error::NotARepository { path: directory.to_owned() });
    };
    let top = PathBuf::from(top);
    let head = user.resolve("HEAD").await?;
    let head_ref = user.head_branch().await?.map(|branch| format!("refs/heads/{branch}"));
    let branch = head_ref.as_deref().and_then(|name| name.strip_prefix("refs/heads/")).unwrap_or("main");
    Repository::init_bare(into, branch).await?;
    // Git works in another directory below, where a relative path would mean something else.
    let into = &absolute(into)?;
    let repository = Repository::at(into);
    write(&into.join("objects/info/alternates"), format!("{objects}\n"))?;
    let shallow = user.git_dir().join("shallow");
    if shallow.is_file() {
        copy(&shallow, &into.join("shallow"))?;
    }
    // A copy of the index saves reading every file: git sees by size and time what did not change.
    let copied = into.join("towline-index");
    if Path::new(index).is_file() {
        copy(Path::new(index), &copied)?;
    }
    let alternates = OsString::from(objects);
    let environment = |git: &mut Git| {
        git.directory(&top)
            .env("GIT_DIR", user.git_dir())
            .env("GIT_WORK_TREE", &top)
            .env("GIT_INDEX_FILE", &copied)
            .env("GIT_OBJECT_DIRECTORY", into.join("objects"))
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &alternates);
    };
    let mut add = Git::new("add");
    environment(&mut add);
    // Without the optional locks nothing of the user's is touched; the split index would be.
    add.setting("core.splitIndex", "false".to_owned().into());
    add.setting("core.untrackedCache", "false".to_owned().into());
    add.setting("advice.addEmbeddedRepo", "false".to_owned().into());
    add.args(["--all", "--", "."]);
    add.text().await?;
    let mut write_tree = Git::new("write-tree");
    environment(&mut write_tree);
    let tree = write_tree.text().await?.trim_end().to_owned();
    copy_refs(&user, into).await?;
    let commit = commit_tree(&repository, &tree, head.as_deref()).await?;
    repository.update_ref(SNAPSHOT_REF, &commit).await?;
    drop(std::fs::remove_file(&copied));
    Ok(Snapshot { repository, commit, head, head_ref, top })
}

/// Takes a snapshot of a directory that is in no repository. `into` becomes (or is, from last time) the bare repository;
/// its `main` gets a commit when something changed.
///
/// # Errors
/// What git says.
pub async fn snapshot_directory(directory: &Path, into: &Path) -> Result<Snapshot, Error> {
    Repository::init_bare(into, "main").await?;
    let into = &absolute(into)?;
    let repository = Repository::at(into);
    let top = absolute(directory)?;
    let index = into.join("towline-index");
    let environment = |git: &mut Git| {
        git.directory(&top).env("GIT_DIR", into.as_os_str()).env("GIT_WORK_TREE", &top).env("GIT_INDEX_FILE", &index);
    };
    let mut add = Git::new("add");
    environment(&mut add);
    add.args(["--all", "--", "."]);
    add.text().await?;
    let mut write_tree = Git::new("write-tree");
    environment(&mut write_tree);
    let tree = write_tree.text().await?.trim_end().to_owned();
    let head = repository.resolve("refs/heads/main").await?;
    let commit = commit_tree(&repository, &tree, head.as_deref()).await?;
    repository.update_ref("refs/heads/main", &commit).await?;
    repository.update_ref(SNAPSHOT_REF, &commit).await?;
    Ok(Snapshot { repository, commit, head, head_ref: Some("refs/heads/main".to_owned()), top })
}

/// A commit of the tree on top of the parent; the parent itself when it has that tree.
async fn commit_tree(repository: &Repository, tree: &str, parent: Option<&str>) -> Result<String, Error> {
    if let Some(parent) = parent {
        let mut git = repository.git("rev-parse");
        git.args(["--verify", "--quiet", "--end-of-options", &format!("{parent}^{{tree}}")]);
        if git.maybe().await?.is_some_and(|answer| answer.trim_end() == tree) {
            return Ok(parent.to_owned());
        }
    }
    let mut git = repository.git("commit-tree");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(&format!("GIT_{role}_NAME"), "Towline").env(&format!("GIT_{role}_EMAIL"), "towline@localhost");
    }
    git.arg(tree).args(["-m", "Working tree"]);
    if let Some(parent) = parent {
        git.args(["-p", parent]);
    }
    Ok(git.text().await?.trim_end().to_owned())
}

async fn copy_refs(user: &Repository, into: &Path) -> Result<(), Error> {
    let mut git = user.git("for-each-ref");
    git.args(["--format=%(objectname) %(refname)", "--", "refs/heads/", "refs/tags/", "refs/remotes/"]);
    let mut lines: Vec<(String, String)> = git
        .text()
        .await?
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(id, name)| (name.to_owned(), id.to_owned())))
        .collect();
    lines.sort();
    let mut packed = String::from("# pack-refs with: sorted \n");
    for (name, id) in lines {
        packed.push_str(&format!("{id} {name}\n"));
    }
    write(&into.join("packed-refs"), packed)
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::File { path: path.to_owned(), source })
}

fn write(path: &Path, text: String) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|source| Error::File { path: parent.to_owned(), source })?;
    }
    std::fs::write(path, text).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::copy(from, to).map(drop).map_err(|source| Error::File { path: from.to_owned(), source })
}
