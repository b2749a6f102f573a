//! Lists that GitHub's API gives: trees, history, what changed between two commits.

use super::{Error, Person, Repository};

/// An entry of a tree, as `git ls-tree` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    pub path: String,
    pub mode: String,
    /// `blob`, `tree`, `commit`.
    pub kind: String,
    pub id: String,
    pub size: Option<u64>,
}

impl Repository {
    /// The entries of a tree; `deep`: those of the trees in it too.
    ///
    /// # Errors
    /// An unknown tree.
    pub async fn list_tree(&self, tree: &str, deep: bool) -> Result<Vec<TreeEntry>, Error> {
        let mut git = self.git("ls-tree");
        git.args(["-z", "-l", "--full-tree"]);
        if deep {
            git.args(["-r", "-t"]);
        }
        git.args(["--end-of-options", tree]);
        let listed = git.bytes().await?;
        let entry = |line: &[u8]| {
            let line = String::from_utf8_lossy(line).into_owned();
            let (head, path) = line.split_once('\t')?;
            let words: Vec<&str> = head.split_ascii_whitespace().collect();
            let [mode, kind, id, size] = words[..] else { return None };
            let text = str::to_owned;
            Some(TreeEntry {
                path: text(path),
                mode: text(mode),
                kind: text(kind),
                id: text(id),
                size: size.parse().ok(),
            })
        };
        Ok(listed.split(|&byte| byte == 0).filter_map(entry).collect())
    }

    /// Commits that the tips reach (`^ID`: not those), the newest first, some of them.
    ///
    /// # Errors
    /// An unknown commit.
    pub async fn history(&self, tips: &[String], skip: usize, most: usize) -> Result<Vec<String>, Error> {
        let mut git = self.git("rev-list");
        git.args([format!("--skip={skip}"), format!("--max-count={most}")]).args(tips).arg("--");
        Ok(git.text().await?.lines().map(str::to_owned).collect())
    }

    /// The files that differ between two commits: `A`, `D`, `M` or `T`, and the path.
    ///
    /// # Errors
    /// An unknown commit.
    pub async fn changed_between(&self, from: &str, to: &str) -> Result<Vec<(char, String)>, Error> {
        let mut git = self.git("diff-tree");
        git.args(["-r", "-z", "--no-renames", "--name-status", from, to, "--"]);
        let answer = git.bytes().await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let mut words = text.split('\0');
        let mut all = Vec::new();
        while let (Some(kind), Some(path)) = (words.next(), words.next()) {
            all.extend(kind.chars().next().map(|kind| (kind, path.to_owned())));
        }
        Ok(all)
    }

    /// Removes a ref.
    ///
    /// # Errors
    /// A bad name, or an unwritable repository.
    pub async fn delete_ref(&self, name: &str) -> Result<(), Error> {
        let mut git = self.git("update-ref");
        git.args(["-d", "--end-of-options", name]);
        git.text().await.map(drop)
    }
}

/// Reads `Name <email> seconds zone`.
#[must_use]
pub fn person(text: &str) -> Person {
    super::objects::parse_person(text)
}
