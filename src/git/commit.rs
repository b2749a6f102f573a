//! Making commits and pushing them: what the demo and tests do in a person's place.

use std::path::Path;

use super::{Error, Git};

/// Who a commit is by.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    pub name: &'a str,
    pub email: &'a str,
}

const TOWLINE: Author<'static> = Author { name: "Towline", email: "towline@localhost" };

impl Author<'_> {
    fn apply(self, git: &mut Git) {
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(&format!("GIT_{role}_NAME"), self.name).env(&format!("GIT_{role}_EMAIL"), self.email);
        }
    }
}

/// Commits everything in a directory, making it a repository when it is none. Gives the commit.
///
/// # Errors
/// When the directory cannot be written, or there is nothing to commit.
pub async fn commit_directory(directory: &Path, branch: &str, message: &str) -> Result<String, Error> {
    if !directory.join(".git").exists() {
        let mut git = Git::new("init");
        git.directory(directory).args(["--quiet", "--template=", &format!("--initial-branch={branch}")]);
        git.text().await?;
    }
    let mut git = Git::new("add");
    git.directory(directory).args(["--all", "--", "."]);
    git.text().await?;
    let mut git = Git::new("commit");
    TOWLINE.apply(&mut git);
    git.setting("commit.gpgSign", "false".to_owned().into());
    git.directory(directory).args(["--quiet", "-m", message]);
    git.text().await?;
    let mut git = Git::new("rev-parse");
    git.directory(directory).args(["HEAD"]);
    Ok(git.text().await?.trim_end().to_owned())
}

/// Pushes from a working tree. Gives what git and the other side said, `remote:` lines included.
///
/// # Errors
/// When the push is refused.
pub async fn push(directory: &Path, to: &str, refspecs: &[&str], options: &[&str]) -> Result<String, Error> {
    let mut git = Git::new("push");
    git.directory(directory).args(options.iter().map(|option| format!("--push-option={option}")));
    git.args(["--end-of-options", to]).args(refspecs);
    git.told().await
}
