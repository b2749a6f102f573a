//! What a further attempt of a run finds anew: called workflows of other repositories (R9).

use crate::git;
use crate::id::RunId;
use crate::plan::calls::{self, Called};
use crate::run::Which;

use super::service::{Error, Triggers};
use super::start::{self, Source};

impl Triggers {
    /// The files that a run calls as their branches and tags are now, if all of its jobs are to run again. A file at a commit,
    /// one of the run's own repository, and jobs that keep results of an earlier attempt have what they had.
    ///
    /// # Errors
    /// A repository cannot be reached.
    pub async fn called_again(&self, run: RunId, which: Which) -> Result<Option<Called>, Error> {
        if which != Which::All {
            return Ok(None);
        }
        // Who asks for a run that is not there is told so by the engine.
        let Some(stored) = self.store().stored_run(run)? else { return Ok(None) };
        let spec = stored.spec;
        if !spec.called.keys().any(|key| moves(key)) {
            return Ok(None);
        }
        // A source that is no longer configured has no way to what it called.
        let Ok(source) = self.source(spec.event.repository.as_str()) else { return Ok(None) };
        let mut objects = self.inventory().at_hand(&source).await?.objects()?;
        let file = Source { path: &spec.workflow_path, text: &spec.workflow_text, commit: &spec.workflow_sha };
        let mut faults = Vec::new();
        let called = start::called(file, &mut objects, &self.reading(&source), &mut faults).await;
        objects.close().await;
        let called = called?;
        if faults.is_empty() {
            Ok(Some(called))
        } else {
            // Not that there is no such file: nobody knows. The run would fail where it worked before.
            Err(Error::Refused(faults.into_iter().map(|fault| fault.message).collect()))
        }
    }
}

/// Whether what a key of a called file names can be another file today.
fn moves(key: &str) -> bool {
    calls::resolve(key, None)
        .ok()
        .and_then(|target| target.elsewhere)
        .is_some_and(|(_, reference)| !git::is_object_id(&reference))
}

#[cfg(test)]
mod tests {
    use super::moves;

    #[test]
    fn only_branches_and_tags_move() {
        assert!(moves("o/r/.github/workflows/a.yml@main"));
        assert!(moves("o/r/.github/workflows/a.yml@v1"));
        assert!(!moves("o/r/.github/workflows/a.yml@0123456789012345678901234567890123456789"));
        assert!(!moves("./.github/workflows/a.yml"));
    }
}
