//! What comes before the first step: actions of other repositories are found, all of them, and their `pre` scripts run
//! (A2, A6).

use futures_util::future::BoxFuture;

use crate::run::conclusion::Conclusion;
use crate::run::report::{Report, StepKind, StepState};
use crate::workflow;
use crate::workflow::model::{ActionReference, ActionRuns, Step, StepBody};
use crate::workflow::token::Token;

use super::JobError;
use super::action::{DEEPEST, Found, Origin, Use, reference_text};
use super::container::{DockerAction, Stage};
use super::contexts::Frame;
use super::javascript::Scripts;
use super::job::Job;
use super::script::StepRun;
use super::step::{StepEnd, StepError, variables};

impl Job {
    /// Finds the actions of all steps, those inside of composite actions too. As on GitHub, a job whose actions cannot be
    /// had runs none of its steps.
    pub(super) async fn find_actions(&mut self) -> Result<(), StepError> {
        let origin =
            Origin { repository: self.order.workflow_repository.clone(), commit: self.order.workflow_sha.clone() };
        let order = std::sync::Arc::clone(&self.order);
        let mut said = Vec::new();
        for (step, key) in keyed(&order.steps, "") {
            self.find_of_step(step, key, Some(origin.clone()), 0, &mut said).await?;
        }
        Ok(())
    }

    fn find_of_step<'a>(
        &'a mut self,
        step: &'a Step,
        key: String,
        origin: Option<Origin>,
        depth: usize,
        said: &'a mut Vec<String>,
    ) -> BoxFuture<'a, Result<bool, StepError>> {
        Box::pin(async move {
            let StepBody::Uses { uses, .. } = &step.body else { return Ok(false) };
            if let ActionReference::Image(image) = uses {
                let name = format!("Pull {image}");
                self.containers.wanted(name, None, format!("docker://{image}"));
            }
            let is_remote = match uses {
                ActionReference::Repository { .. } => {
                    // Without any source the step itself says so, if it is ever reached.
                    self.runner.sources.actions.is_some() && !self.is_built_in(uses, &key)
                }
                ActionReference::SameRepository(_) => origin.is_some(),
                ActionReference::Workspace(_) | ActionReference::Image(_) => false,
            };
            if !is_remote || depth > DEEPEST {
                return Ok(false);
            }
            let record = format!("{key}/action");
            // A job that was begun by an earlier version found its actions later.
            if !self.journal.is_live() && !self.journal.knows(&record) {
                return Ok(false);
            }
            let found = match self.find_action(origin.as_ref(), uses, &key).await {
                Ok(found) => found,
                Err(StepError::Failed(_)) if matches!(uses, ActionReference::SameRepository(_)) => return Ok(false),
                Err(error) => return Err(error),
            };
            if let (ActionReference::Repository { .. }, Some(origin)) = (uses, &found.origin) {
                if said.is_empty() {
                    self.say_line("Getting action download info")?;
                }
                let line = format!("Download action repository '{}' (SHA:{})", repository_text(uses), origin.commit);
                if !said.contains(&line) {
                    self.say_line(&line)?;
                    said.push(line);
                }
            }
            let (action, _) = workflow::parse_action(&found.manifest, &found.text);
            let mut has_pre = false;
            match action.map(|action| action.runs) {
                Some(ActionRuns::JavaScript { pre, .. }) => has_pre = pre.is_some(),
                Some(ActionRuns::Docker { pre_entrypoint, image, .. }) => {
                    has_pre = pre_entrypoint.is_some();
                    let name = match image.get(..9).filter(|start| start.eq_ignore_ascii_case("docker://")) {
                        Some(_) => format!("Pull {}", &image[9..]),
                        None => format!("Build {}", repository_text(uses)),
                    };
                    self.containers.wanted(name, Some(found.clone()), image);
                }
                Some(ActionRuns::Composite { steps }) => {
                    for (step, inner) in keyed(&steps, &format!("{key}.")) {
                        has_pre |= self.find_of_step(step, inner, found.origin.clone(), depth + 1, said).await?;
                    }
                }
                _ => {}
            }
            if has_pre {
                self.pres.insert(key.clone());
            }
            self.found.insert(key, found);
            Ok(has_pre)
        })
    }

    /// Runs the `pre` scripts, in the order of the steps. The steps of the job come after them in every list.
    pub(super) async fn run_pres(&mut self, frame: &mut Frame) -> Result<(), JobError> {
        let order = std::sync::Arc::clone(&self.order);
        let steps: Vec<(&Step, String)> =
            keyed(&order.steps, "").into_iter().filter(|(_, key)| self.pres.contains(key)).collect();
        if steps.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        // Behind "Set up job", and "Initialize containers" where there are some.
        let before = self.steps.iter().filter(|step| step.kind == StepKind::SetUp).count();
        for state in self.steps.iter_mut().skip(before) {
            state.number += count;
        }
        for (index, (step, _)) in steps.iter().enumerate() {
            let number = u32::try_from(before + index).unwrap_or(u32::MAX).saturating_add(1);
            let name = format!("Pre {}", step.default_name(None));
            self.steps.insert(before + index, StepState::new(number, name, StepKind::Pre));
        }
        self.report(Report::Steps { steps: self.steps.clone() }).await;
        for (step, key) in steps {
            frame.number += 1;
            let name = format!("Pre {}", self.step_name(frame, step, &format!("{key}/pre")).await?);
            let record = format!("{key}/pre");
            self.step_started(frame.number, &name, StepKind::Pre, &record).await?;
            let end = match self.run_pre(frame, step, &key, &name).await {
                Ok(end) => end,
                Err(StepError::Job(error)) => return Err(error),
                Err(StepError::Failed(message)) => {
                    self.error(frame.number, &message)?;
                    StepEnd::of(Conclusion::Failure)
                }
            };
            self.status.record(end.outcome);
            self.step_finished(frame.number, end.outcome, end.outcome, end.exit_code, &record).await?;
        }
        Ok(())
    }

    /// Runs what an action has to run before the steps: its own script, or those inside of it.
    fn run_pre<'a>(
        &'a mut self,
        frame: &'a mut Frame,
        step: &'a Step,
        key: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<StepEnd, StepError>> {
        Box::pin(async move {
            let (Some(found), StepBody::Uses { with, .. }) = (self.found.get(key).cloned(), &step.body) else {
                return Ok(StepEnd::of(Conclusion::Success));
            };
            let record = format!("{key}/pre");
            let run = StepRun { key: &record, name, timeout: None, on_host: false };
            let env = self.step_env(frame, step, &record).await?.map_err(StepError::Failed)?;
            let with = self.with_of(frame, with.as_ref(), &env, &record).await?;
            let (Some(action), _) = workflow::parse_action(&found.manifest, &found.text) else {
                return Ok(StepEnd::of(Conclusion::Success));
            };
            let inputs = self.inputs_of(frame, &found, (&action, &with), &env, &run, true).await?;
            let own_env = match &step.env {
                Some(token) => variables(&self.value(token, frame, &env, &record).await?).unwrap_or_default(),
                None => super::contexts::Variables::new(),
            };
            let use_ = Use { step, found: &found, inputs, env: &env, own_env };
            match &action.runs {
                ActionRuns::JavaScript { using, main, pre: Some(pre), pre_if, post, post_if } => {
                    let conditioned = Step { condition: pre_if.clone(), ..step.clone() };
                    let decided = self.decide(frame, &conditioned, &env, (&record, name)).await?;
                    self.say_debug(&decided.trace)?;
                    match decided.result {
                        Ok(true) => {}
                        Ok(false) => return Ok(StepEnd::of(Conclusion::Skipped)),
                        Err(message) => return Err(StepError::Failed(message)),
                    }
                    let scripts = Scripts { using, main, post: post.as_deref().map(|post| (post, post_if)) };
                    self.run_pre_script(frame, &use_, &scripts, pre, key, &run).await
                }
                ActionRuns::Docker { pre_entrypoint: Some(_), pre_if, .. } => {
                    let conditioned = Step { condition: pre_if.clone(), ..step.clone() };
                    let decided = self.decide(frame, &conditioned, &env, (&record, name)).await?;
                    self.say_debug(&decided.trace)?;
                    match decided.result {
                        Ok(true) => {}
                        Ok(false) => return Ok(StepEnd::of(Conclusion::Skipped)),
                        Err(message) => return Err(StepError::Failed(message)),
                    }
                    let docker = DockerAction::of_manifest(&action.runs).unwrap_or_default();
                    self.run_docker(frame, &use_, (&docker, Stage::Pre), key, &run).await
                }
                ActionRuns::Composite { steps } => {
                    let mut inner = self.composite_frame(frame, use_, key);
                    let mut outcome = Conclusion::Success;
                    for (step, key) in keyed(steps, &format!("{key}.")) {
                        if !self.pres.contains(&key) {
                            continue;
                        }
                        let end = self.run_pre(&mut inner, step, &key, name).await?;
                        if end.outcome.as_result() == "failure" {
                            outcome = Conclusion::Failure;
                        }
                    }
                    Ok(StepEnd::of(outcome))
                }
                _ => Ok(StepEnd::of(Conclusion::Success)),
            }
        })
    }

    /// `with` as the step gives it.
    pub(super) async fn with_of(
        &mut self,
        frame: &Frame,
        with: Option<&Token>,
        env: &super::contexts::Variables,
        key: &str,
    ) -> Result<super::contexts::Variables, StepError> {
        match with {
            Some(token) => variables(&self.value(token, frame, env, key).await?).map_err(StepError::Failed),
            None => Ok(super::contexts::Variables::new()),
        }
    }

    /// What was found before the steps began.
    pub(super) fn found_before(&self, key: &str) -> Option<Found> {
        self.found.get(key).cloned()
    }
}

/// Steps with the keys that running them gives them.
fn keyed<'a>(steps: &'a [Step], prefix: &str) -> Vec<(&'a Step, String)> {
    let mut all = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let key = format!("{prefix}{}", index + 1);
        match &step.body {
            StepBody::Parallel(steps) => {
                all.extend(steps.iter().enumerate().map(|(inner, step)| (step, format!("{key}/{}", inner + 1))));
            }
            _ => all.push((step, key)),
        }
    }
    all
}

/// `OWNER/NAME@REF`, without the path.
fn repository_text(uses: &ActionReference) -> String {
    match uses {
        ActionReference::Repository { owner, name, reference, .. } => format!("{owner}/{name}@{reference}"),
        other => reference_text(other),
    }
}
