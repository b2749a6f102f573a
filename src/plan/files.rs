//! Workflow files that were read: runs of the same text share one model, however many there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Refused, parse};
use crate::workflow::model::Workflow;

/// Files nobody uses that are kept for the next run of them.
const IDLE: usize = 64;

/// Models by path and text. Clones share them; what is asked for twice is read once, and comes out the same.
#[derive(Clone, Debug, Default)]
pub struct Files {
    known: Arc<Mutex<Known>>,
}

/// By path and text.
type Known = HashMap<(String, String), Arc<Workflow>>;

impl Files {
    /// Reads a file, unless it was read before.
    ///
    /// # Errors
    /// Its diagnostics.
    pub fn read(&self, path: &str, text: &str) -> Result<Arc<Workflow>, Refused> {
        let key = (path.to_owned(), text.to_owned());
        if let Some(workflow) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(workflow));
        }
        let workflow = Arc::new(parse(path, text)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= IDLE {
            let mut idle = 0;
            known.retain(|_, workflow| {
                let used = Arc::strong_count(workflow) > 1;
                idle += usize::from(!used);
                used || idle <= IDLE / 2
            });
        }
        known.insert(key, Arc::clone(&workflow));
        Ok(workflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_read_once_and_memory_is_bounded() {
        let files = Files::default();
        let text =
            |number: usize| format!("name: n{number}\non: push\njobs: {{a: {{runs-on: x, steps: [{{run: y}}]}}}}\n");
        let first = files.read("a.yml", &text(0)).expect("it is a workflow");
        assert!(Arc::ptr_eq(&first, &files.clone().read("a.yml", &text(0)).expect("it is a workflow")));
        assert!(!Arc::ptr_eq(&first, &files.read("b.yml", &text(0)).expect("it is a workflow")));
        for number in 1..500 {
            let name = format!("n{number}");
            assert_eq!(
                files.read("a.yml", &text(number)).expect("it is a workflow").name.as_deref(),
                Some(name.as_str())
            );
        }
        assert!(files.known.lock().expect("nobody panicked").len() <= IDLE);
        assert!(Arc::ptr_eq(&first, &files.read("a.yml", &text(0)).expect("it is a workflow")), "it is still in use");
        assert!(files.read("a.yml", "nonsense").is_err());
    }
}
