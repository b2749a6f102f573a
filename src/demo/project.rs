//! The sample project: a greeting that is tested, linted, built and deployed.

use std::path::{Path, PathBuf};

use crate::git;

/// Its files.
const FILES: &[(&str, &str)] = &[
    (".github/workflows/ship.yml", include_str!("project/workflow.yml")),
    ("greet.sh", include_str!("project/greet.sh")),
    ("lint.sh", include_str!("project/lint.sh")),
    ("README.md", "# Greeting\n\nA project small enough to read while it is being shipped.\n"),
];

/// What the first commit says.
pub const MESSAGE: &str = "Greet the world";

/// Why the project could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot commit the sample project")]
    Commit { source: git::Error },
}

/// Writes the project into a directory and commits it on `main`. Gives the commit.
///
/// # Errors
/// When the directory cannot be written or git fails.
pub async fn create(directory: &Path) -> Result<String, Error> {
    for (name, text) in FILES {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, text));
        written.map_err(|source| Error::Write { path, source })?;
    }
    git::commit_directory(directory, "main", MESSAGE).await.map_err(|source| Error::Commit { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_project_is_committed() {
        let directory = tempfile::tempdir().unwrap();
        let commit = create(directory.path()).await.unwrap();
        let repository = git::Repository::discover(directory.path()).await.unwrap();
        assert_eq!(repository.resolve("refs/heads/main").await.unwrap(), Some(commit.clone()));
        let mut objects = repository.objects().unwrap();
        let files = objects.workflows(&commit, &[".github/workflows".to_owned()]).await.unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(objects.commit(&commit).await.unwrap().unwrap().message, MESSAGE);
        objects.close().await;
    }

    /// The advice must be there: the demo shows a step that fails and is allowed to.
    #[test]
    fn the_greeting_has_a_long_line() {
        let (_, greet) = FILES.iter().find(|(name, _)| *name == "greet.sh").unwrap();
        assert!(greet.lines().any(|line| line.chars().count() > 100));
    }
}
