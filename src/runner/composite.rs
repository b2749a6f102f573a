//! Composite actions: steps of their own, with their own `steps`, `inputs` and status (A3, I3).

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

use crate::run::steps::{JobStatus, StepsContext};
use crate::workflow::model::Step;
use crate::workflow::token::Token;

use super::action::Use;
use super::contexts::{ActionFrame, Frame};
use super::job::Job;
use super::script::StepRun;
use super::step::{StepEnd, StepError};

impl Job {
    /// Runs the steps of a composite action and hands its outputs to the step that uses it.
    pub(super) async fn run_composite(
        &mut self,
        frame: &mut Frame,
        use_: Use<'_>,
        steps: &[Step],
        outputs: &IndexMap<String, Option<Token>>,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let step = use_.step;
        let mut inner = self.composite_frame(frame, use_, run.key);
        // The whole action is bounded by the time-out of its step.
        let outer = self.narrow_deadline(run.key, run.timeout)?;
        self.run_steps(&mut inner, steps).await?;
        self.step_deadline = outer;
        let env = self.env_of(&inner);
        for (name, token) in outputs {
            if let Some(token) = token {
                let value = self.text(token, &inner, &env, &format!("{}/output/{name}", run.key)).await?;
                frame.steps.set_output(&step.id, name, &value);
            }
        }
        let status = inner.action.map(|action| action.status).unwrap_or_default();
        Ok(StepEnd::of(status.conclusion()))
    }

    /// What the steps of a composite action see around them.
    pub(super) fn composite_frame(&self, frame: &Frame, use_: Use<'_>, key: &str) -> Frame {
        // `env` of the step that uses the action is seen by all steps inside, never by those after it.
        let mut env = frame.action.as_ref().map(|action| action.env.clone()).unwrap_or_default();
        env.extend(use_.own_env.clone());
        let mut github = Map::new();
        let known = [
            ("action", format!("__{}", use_.step.id.trim_start_matches("__"))),
            ("action_path", use_.found.directory.clone()),
            ("action_repository", use_.found.repository.clone()),
            ("action_ref", use_.found.reference.clone()),
        ];
        for (key, value) in known {
            github.insert(key.to_owned(), Json::from(value));
        }
        Frame {
            key: format!("{key}."),
            number: frame.number,
            steps: StepsContext::default(),
            inputs: use_.inputs,
            github,
            action: Some(ActionFrame { status: JobStatus::default(), env, origin: use_.found.origin.clone() }),
            depth: frame.depth + 1,
        }
    }
}
