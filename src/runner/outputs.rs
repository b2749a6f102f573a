//! What a job gives when its steps are over: its outputs, and the address of its environment.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::JobError;
use super::contexts::Frame;
use super::job::Job;
use super::step::{StepError, variables};
use crate::run::conclusion::Conclusion;

impl Job {
    /// Outputs of the job: those that hold a secret stay here, empty ones do not count (N6).
    pub(super) async fn outputs(&mut self, frame: &Frame) -> Result<Map<String, Json>, JobError> {
        let mut outputs = Map::new();
        let Some(token) = self.order.outputs.clone() else { return Ok(outputs) };
        self.say_line("Evaluate and set job outputs")?;
        let env = self.env.clone();
        let value = match self.value(&token, frame, &env, "outputs").await {
            Ok(value) => value,
            Err(StepError::Job(error)) => return Err(error),
            Err(StepError::Failed(message)) => {
                self.error(frame.number, "Fail to evaluate job outputs")?;
                self.error(frame.number, &message)?;
                self.status.record(Conclusion::Failure);
                return Ok(outputs);
            }
        };
        for (name, value) in variables(&value).unwrap_or_default() {
            if value.is_empty() {
                self.say_debug(&[format!("Skip output '{name}' since it's empty")])?;
                continue;
            }
            if self.masks.hits(value.as_bytes()) {
                self.warning(frame.number, &format!("Skip output '{name}' since it may contain secret."))?;
                continue;
            }
            self.say_line(&format!("Set output '{name}'"))?;
            outputs.insert(name, Json::from(value));
        }
        Ok(outputs)
    }

    /// The address of the job's environment: one that holds a secret is none (G1, K2).
    pub(super) async fn environment_url(&mut self, frame: &Frame) -> Result<Option<String>, JobError> {
        let order = Arc::clone(&self.order);
        let Some((environment, token)) =
            order.environment.as_ref().and_then(|environment| Some((environment, environment.url.as_ref()?)))
        else {
            return Ok(None);
        };
        self.say_line("Evaluate and set environment url")?;
        let env = self.env.clone();
        match self.text(token, frame, &env, "environment/url").await {
            Ok(text) if self.masks.hits(text.as_bytes()) => {
                let name = &environment.name;
                let skipped = format!("Skip setting environment url as environment '{name}' may contain secret.");
                self.warning(frame.number, &skipped)?;
                Ok(None)
            }
            Ok(text) => {
                self.say_line(&format!("Evaluated environment url: {text}"))?;
                Ok(Some(text).filter(|url| !url.is_empty()))
            }
            Err(StepError::Failed(message)) => {
                self.error(frame.number, "Failed to evaluate environment url")?;
                self.error(frame.number, &message)?;
                self.status.record(Conclusion::Failure);
                Ok(None)
            }
            Err(StepError::Job(error)) => Err(error),
        }
    }
}
