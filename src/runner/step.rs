//! One step: its condition, its environment, its body, and what its end means.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use crate::expr::{EvaluationError, Scope, Value};
use crate::run::conclusion::Conclusion;
use crate::run::report::StepKind;
use crate::run::steps::{StepFunctions, conclude, should_run, should_run_traced};
use crate::workflow::model::{Step, StepBody};
use crate::workflow::token::Token;

use super::contexts::{Frame, Variables};
use super::job::Job;
use super::script::StepRun;
use super::{Cancel, JobError};

/// How the body of a step ended.
#[derive(Clone, Debug)]
pub(super) struct StepEnd {
    pub(super) outcome: Conclusion,
    pub(super) exit_code: Option<i32>,
    /// It goes on in the background.
    pub(super) running: bool,
}

impl StepEnd {
    pub(super) fn of(outcome: Conclusion) -> Self {
        Self { outcome, exit_code: None, running: false }
    }

    pub(super) fn running() -> Self {
        Self { outcome: Conclusion::Success, exit_code: None, running: true }
    }
}

/// Why a step's body did not end by itself.
#[derive(Debug)]
pub(super) enum StepError {
    /// The step fails with this message.
    Failed(String),
    /// The job cannot go on.
    Job(JobError),
}

impl Job {
    /// Walks a list of steps to its end. Steps after a failure are still evaluated: their conditions decide (I5).
    pub(super) fn run_steps<'a>(
        &'a mut self,
        frame: &'a mut Frame,
        steps: &'a [Step],
    ) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            for (index, step) in steps.iter().enumerate() {
                if frame.depth == 0 {
                    frame.number += 1;
                }
                let key = format!("{}{}", frame.key, index + 1);
                if self.is_stopped(&key)? {
                    // What was cancelled by name begins nothing any more (S14).
                    if let Some(action) = &mut frame.action {
                        action.status.cancel();
                    }
                    break;
                }
                self.run_step(frame, step, &key).await?;
            }
            Ok(())
        })
    }

    /// Runs one step of any kind.
    async fn run_step(&mut self, frame: &mut Frame, step: &Step, key: &str) -> Result<(), JobError> {
        match &step.body {
            StepBody::Wait(ids) => return self.wait_for(frame, step, Some(ids), key).await,
            StepBody::WaitAll => return self.wait_for(frame, step, None, key).await,
            StepBody::Cancel(id) => return self.cancel_background(frame, step, id, key).await,
            StepBody::Parallel(steps) => return self.run_parallel(frame, step, steps, key).await,
            StepBody::Run { .. } | StepBody::Uses { .. } => {}
        }
        self.run_one(frame, step, key).await
    }

    /// Runs a `run` or `uses` step, or skips it.
    pub(super) async fn run_one(&mut self, frame: &mut Frame, step: &Step, key: &str) -> Result<(), JobError> {
        let top = frame.action.is_none();
        if top {
            frame.github.insert("action".to_owned(), Json::from(step.id.as_str()));
        }
        self.renew_token().await;
        let name = self.step_name(frame, step, key).await?;
        let env = self.step_env(frame, step, key).await?;
        // The condition is evaluated with the step's own env; what was decided before a restart stays decided.
        let decided = match &env {
            Ok(env) => self.decide(frame, step, env, (key, &name)).await?,
            Err(message) => Decided::failed(message),
        };
        if decided.result == Ok(false) {
            frame.steps.finish(&step.id, Conclusion::Skipped, Conclusion::Skipped);
            if top {
                self.step_skipped(frame.number, &name).await?;
            }
            return self.say_debug(&decided.trace);
        }
        if top {
            self.step_started(frame.number, &name, StepKind::Main, key).await?;
            if step.background {
                // Its log is a part of the job's once it was waited for.
                self.set_section(frame.number, None).await;
            }
        }
        self.say_debug(&decided.trace)?;
        // What runs beside the others says nothing here.
        let runs = decided.result.is_ok() && !step.background;
        if runs {
            self.say_debug(&[format!("Starting: {name}")])?;
        }
        let end = match (decided.result, env) {
            (Err(message), _) | (_, Err(message)) => Err(StepError::Failed(message)),
            (Ok(_), Ok(env)) => self.run_body(frame, step, &env, &name, key).await,
        };
        let end = match end {
            Ok(end) => end,
            Err(StepError::Job(error)) => return Err(error),
            Err(StepError::Failed(message)) => {
                self.error(frame.number, &message)?;
                StepEnd::of(Conclusion::Failure)
            }
        };
        if end.running {
            return Ok(());
        }
        if runs {
            // GitHub's runner has another word inside of composite actions.
            let word = if top { "Finishing" } else { "Finished" };
            self.say_debug(&[format!("{word}: {name}")])?;
        }
        self.finish_step(frame, step, end, key).await
    }

    /// Concludes a step, and makes its conclusion that of what it is a step of (S9, I6).
    async fn finish_step(&mut self, frame: &mut Frame, step: &Step, end: StepEnd, key: &str) -> Result<(), JobError> {
        let conclusion = self.conclude_step(frame, step, end, key).await?;
        match &mut frame.action {
            Some(action) => action.status.record(conclusion),
            None => self.status.record(conclusion),
        }
        Ok(())
    }

    /// Concludes a step: continue-on-error, the contexts, what the page shows.
    pub(super) async fn conclude_step(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        end: StepEnd,
        key: &str,
    ) -> Result<Conclusion, JobError> {
        let mut tolerated = false;
        if let (Conclusion::Failure, Some(token)) = (end.outcome, &step.continue_on_error) {
            let env = self.step_env(frame, step, &format!("{key}/coe")).await?.unwrap_or_default();
            match self.value(token, frame, &env, &format!("{key}/coe")).await {
                Ok(value) => tolerated = value.is_truthy(),
                Err(StepError::Job(error)) => return Err(error),
                Err(StepError::Failed(message)) => self.error(frame.number, &message)?,
            }
        }
        let conclusion = conclude(end.outcome, tolerated);
        frame.steps.finish(&step.id, end.outcome, conclusion);
        if frame.action.is_none() {
            self.step_finished(frame.number, end.outcome, conclusion, end.exit_code, key).await?;
        }
        Ok(conclusion)
    }

    async fn run_body(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        env: &Variables,
        name: &str,
        key: &str,
    ) -> Result<StepEnd, StepError> {
        let timeout = match &step.timeout_minutes {
            Some(token) => {
                let minutes = self.value(token, frame, env, key).await?.to_number();
                if minutes.is_nan() {
                    return Err(StepError::Failed(format!("timeout-minutes of '{name}' is not a number")));
                }
                (minutes > 0.0).then(|| Duration::from_secs_f64((minutes * 60.0).min(30.0 * 86_400.0)))
            }
            None => None,
        };
        let run = StepRun { key, name, timeout, on_host: false };
        if step.background {
            self.start_background(frame, step, env, &run).await?;
            return Ok(StepEnd::running());
        }
        self.run_kind(frame, step, env, &run).await
    }

    /// Runs what a step consists of, here and now.
    pub(super) async fn run_kind(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        env: &Variables,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        match &step.body {
            StepBody::Run { script, shell, working_directory } => {
                let parts = (script, shell.as_ref(), working_directory.as_ref());
                self.run_script(frame, step, parts, env, run).await
            }
            StepBody::Uses { uses, with } => self.run_action(frame, step, uses, with.as_ref(), env, run).await,
            StepBody::Wait(_) | StepBody::WaitAll | StepBody::Cancel(_) | StepBody::Parallel(_) => {
                Ok(StepEnd::of(Conclusion::Success))
            }
        }
    }

    /// Whether a step runs. `Err` when its condition raises: the step fails (I4).
    pub(super) async fn decide(
        &mut self,
        frame: &Frame,
        step: &Step,
        env: &Variables,
        (key, name): (&str, &str),
    ) -> Result<Decided, JobError> {
        let record = format!("{key}/if");
        if let Some(decided) = self.journal.recall::<Decided>(&record)? {
            if decided.cancelled {
                self.status.cancel();
            }
            return Ok(decided);
        }
        let wanted = self.told.borrow().cancel;
        self.observe_cancel(wanted);
        let mut hashes = BTreeMap::new();
        let mut trace = Vec::new();
        let result = loop {
            let outcome = if self.order.debug {
                let (contexts, functions) = (self.contexts(frame, env), self.functions(frame, &hashes));
                let (outcome, lines) = should_run_traced(&step.condition, &contexts, &functions);
                trace = [format!("Evaluating condition for step: '{name}'")].into_iter().chain(lines).collect();
                outcome
            } else {
                self.condition(step, frame, env, &hashes)
            };
            match outcome {
                Ok(result) => break Ok(result),
                Err(EvaluationError::Failed(message)) => break Err(message),
                Err(EvaluationError::HashFiles(patterns)) => match self.hash(&patterns, key).await? {
                    Ok(hash) => drop(hashes.insert(patterns, hash)),
                    Err(message) => break Err(message),
                },
            }
        };
        let cancelled = self.status.is_cancelled();
        let decided = Decided { result, cancelled, trace };
        self.record(&record, &decided)?;
        Ok(decided)
    }

    /// Lines that only debug logs have.
    pub(super) fn say_debug(&mut self, lines: &[String]) -> Result<(), JobError> {
        if !self.order.debug {
            return Ok(());
        }
        let lines: Vec<String> =
            lines.iter().flat_map(|text| text.lines()).map(|line| format!("##[debug]{line}")).collect();
        self.say(&lines)
    }

    /// Whether the running step is left alone by a cancel: its condition holds for cancelled jobs too (Z1).
    pub(super) fn outlives_cancel(&self, frame: &Frame, step: &Step, env: &Variables) -> bool {
        self.condition(step, frame, env, &BTreeMap::new()).unwrap_or(false)
    }

    fn condition(
        &self,
        step: &Step,
        frame: &Frame,
        env: &Variables,
        hashes: &BTreeMap<Vec<String>, String>,
    ) -> Result<bool, EvaluationError> {
        should_run(&step.condition, &self.contexts(frame, env), &self.functions(frame, hashes))
    }

    pub(super) fn functions<'b>(&self, frame: &Frame, hashes: &'b BTreeMap<Vec<String>, String>) -> StepFunctions<'b> {
        StepFunctions { job: self.status, action: frame.action.as_ref().map(|action| action.status), hashes }
    }

    /// The variables a step's expressions see as `env`: the job's, those of the actions around it, its own.
    pub(super) async fn step_env(
        &mut self,
        frame: &Frame,
        step: &Step,
        key: &str,
    ) -> Result<Result<Variables, String>, JobError> {
        let mut env = self.env_of(frame);
        let Some(token) = &step.env else { return Ok(Ok(env)) };
        match self.value(token, frame, &env, &format!("{key}/env")).await {
            Ok(value) => match variables(&value) {
                Ok(own) => {
                    env.extend(own);
                    Ok(Ok(env))
                }
                Err(message) => Ok(Err(message)),
            },
            Err(StepError::Failed(message)) => Ok(Err(message)),
            Err(StepError::Job(error)) => Err(error),
        }
    }

    /// Evaluates to a value, computing hashes of files on the host where needed.
    pub(super) async fn value(
        &mut self,
        token: &Token,
        frame: &Frame,
        env: &Variables,
        key: &str,
    ) -> Result<Value, StepError> {
        let mut hashes = BTreeMap::new();
        loop {
            match self.evaluate(token, frame, env, &hashes) {
                Ok(value) => return Ok(value),
                Err(EvaluationError::Failed(message)) => return Err(StepError::Failed(message)),
                Err(EvaluationError::HashFiles(patterns)) => {
                    let hash = self.hash(&patterns, key).await?.map_err(StepError::Failed)?;
                    hashes.insert(patterns, hash);
                }
            }
        }
    }

    fn evaluate(
        &self,
        token: &Token,
        frame: &Frame,
        env: &Variables,
        hashes: &BTreeMap<Vec<String>, String>,
    ) -> Result<Value, EvaluationError> {
        let contexts = self.contexts(frame, env);
        token.evaluate(&Scope { contexts: &contexts, functions: &self.functions(frame, hashes) })
    }

    /// Evaluates to text.
    pub(super) async fn text(
        &mut self,
        token: &Token,
        frame: &Frame,
        env: &Variables,
        key: &str,
    ) -> Result<String, StepError> {
        Ok(self.value(token, frame, env, key).await?.to_display_string())
    }

    pub(super) async fn step_name(&mut self, frame: &Frame, step: &Step, key: &str) -> Result<String, JobError> {
        let env = self.env_of(frame);
        if let Some(token) = &step.name {
            match self.text(token, frame, &env, &format!("{key}/name")).await {
                Ok(name) if !name.trim().is_empty() => return Ok(name),
                Err(StepError::Job(error)) => return Err(error),
                _ => {}
            }
        }
        // The default name holds the text as evaluated where it can be evaluated already (S12).
        let script = match &step.body {
            StepBody::Run { script, .. } => match self.text(script, frame, &env, &format!("{key}/name")).await {
                Ok(script) => Some(script),
                Err(StepError::Job(error)) => return Err(error),
                Err(StepError::Failed(_)) => None,
            },
            _ => None,
        };
        Ok(step.default_name(script.as_deref()))
    }

    /// Takes note of a cancel that has arrived.
    pub(super) fn observe_cancel(&mut self, cancel: Cancel) {
        if cancel != Cancel::No && self.journal.is_live() {
            self.status.cancel();
        }
    }
}

/// A condition as it was decided.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Decided {
    pub(super) result: Result<bool, String>,
    cancelled: bool,
    /// How it came about, in the lines of a debug log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) trace: Vec<String>,
}

impl Decided {
    fn failed(message: &str) -> Self {
        Self { result: Err(message.to_owned()), cancelled: false, trace: Vec::new() }
    }
}

/// The pairs of an evaluated `env`.
pub(super) fn variables(value: &Value) -> Result<Variables, String> {
    match value {
        Value::Null => Ok(Variables::new()),
        Value::Object(object) => {
            Ok(object.iter().map(|(name, value)| (name.to_owned(), value.to_display_string())).collect())
        }
        other => Err(format!("env must be a mapping of names to values, not {}", other.kind())),
    }
}
