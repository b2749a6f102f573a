//! `uses:` steps: finding the action, its inputs, and the way it runs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::diagnostic::{Diagnostic, codes};
use crate::git::Repository;
use crate::id::RepositoryName;
use crate::toolkit::header;
use crate::transport::TransportError;
use crate::workflow;
use crate::workflow::model::{Action, ActionInput, ActionReference, ActionRuns, Step};
use crate::workflow::token::Token;

use super::container::{DockerAction, Stage};
use super::contexts::{Frame, Variables};
use super::javascript::Scripts;
use super::job::Job;
use super::script::{StepRun, join};
use super::step::{StepEnd, StepError, variables};
use super::workspace::{quote, run};
use super::{JobError, checkout};

/// Composite actions inside composite actions inside … (A3).
pub(super) const DEEPEST: usize = 9;

/// Said when actions are looked for, whether there are any or not.
pub(super) const PREPARING: &str = "Prepare all required actions";

/// The repository and commit a file came from: where its `$/path` leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) repository: RepositoryName,
    pub(crate) commit: String,
}

/// An action that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Found {
    /// Path of the manifest as shown in messages.
    pub(super) manifest: String,
    pub(super) text: String,
    /// Absolute directory on the host.
    pub(super) directory: String,
    pub(super) origin: Option<Origin>,
    /// `github.action_repository` and `github.action_ref`; empty for actions of the workspace.
    pub(super) repository: String,
    pub(super) reference: String,
}

impl Found {
    /// What an image that is no action has: nothing.
    pub(super) fn nothing() -> Self {
        let empty = String::new;
        Self {
            manifest: empty(),
            text: empty(),
            directory: empty(),
            origin: None,
            repository: empty(),
            reference: empty(),
        }
    }
}

/// One use of an action, ready to run.
pub(super) struct Use<'a> {
    pub(super) step: &'a Step,
    pub(super) found: &'a Found,
    pub(super) inputs: Map<String, Json>,
    /// `env` as the step sees it.
    pub(super) env: &'a Variables,
    /// What the step's own `env` says.
    pub(super) own_env: Variables,
}

impl Job {
    /// Runs the action of a step.
    pub(super) async fn run_action(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        uses: &ActionReference,
        with: Option<&Token>,
        env: &Variables,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let with = self.with_of(frame, with, env, run.key).await?;
        if self.is_built_in(uses, run.key) {
            let shown = checkout::shown_inputs(&with, self.order.repository.as_str(), self.fixed.token());
            self.say_uses(uses, pairs(&shown), frame, env)?;
            return self.check_out(frame, step, uses, &with, run).await;
        }
        let found = match self.found_before(run.key) {
            Some(found) => found,
            None => self.find_action(self.origin_of(frame).as_ref(), uses, run.key).await?,
        };
        if let ActionReference::Image(image) = uses {
            self.say_uses(uses, pairs(&with), frame, env)?;
            let inputs = with.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str()))).collect();
            let use_ = Use { step, found: &found, inputs, env, own_env: Variables::new() };
            return self.run_docker(frame, &use_, (&DockerAction::of_image(image), Stage::Main), run.key, run).await;
        }
        let (action, diagnostics) = workflow::parse_action(&found.manifest, &found.text);
        let refused = |diagnostic: &&Diagnostic| action.is_none() || diagnostic.code == codes::COMPOSITE_SHELL;
        for diagnostic in diagnostics.iter().filter(refused) {
            let message = match diagnostic.code {
                codes::COMPOSITE_SHELL => "Required property is missing: shell",
                _ => &diagnostic.message,
            };
            let place = diagnostic
                .span
                .map_or(String::new(), |span| format!(" (Line: {}, Col: {})", span.start.line, span.start.column));
            self.error(frame.number, &format!("{}{place}: {message}", found.manifest))?;
        }
        let Some(action) = action.filter(|_| diagnostics.iter().all(|found| found.code != codes::COMPOSITE_SHELL))
        else {
            return Err(StepError::Failed(format!("Failed to load {}", found.manifest)));
        };
        if let ActionReference::Workspace(path) = uses {
            match &action.runs {
                // What such an action uses can only be looked for now.
                ActionRuns::Composite { .. } => self.say_line(PREPARING)?,
                ActionRuns::JavaScript { pre: Some(_), .. } | ActionRuns::Docker { pre_entrypoint: Some(_), .. } => {
                    let ignored = format!("`pre` execution is not supported for local action from '{path}'");
                    self.warning(frame.number, &ignored)?;
                }
                _ => {}
            }
        }
        let inputs = self.inputs_of(frame, &found, (&action, &with), env, run, false).await?;
        let shown = inputs.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
        self.say_uses(uses, shown, frame, env)?;
        let own_env = match &step.env {
            Some(token) => {
                variables(&self.value(token, frame, env, &format!("{}/env", run.key)).await?).unwrap_or_default()
            }
            None => Variables::new(),
        };
        let use_ = Use { step, found: &found, inputs, env, own_env };
        match action.runs {
            ActionRuns::Composite { steps } => {
                if frame.depth >= DEEPEST {
                    return Err(StepError::Failed(format!(
                        "composite actions are nested too deeply: at most {DEEPEST} levels below a step"
                    )));
                }
                self.run_composite(frame, use_, &steps, &action.outputs, run).await
            }
            ActionRuns::JavaScript { using, main, post, post_if, .. } => {
                let post = post.as_deref().map(|post| (post, &post_if));
                self.run_javascript(frame, use_, &Scripts { using: &using, main: &main, post }, run).await
            }
            docker @ ActionRuns::Docker { .. } => {
                let docker = DockerAction::of_manifest(&docker).unwrap_or_default();
                self.run_docker(frame, &use_, (&docker, Stage::Main), run.key, run).await
            }
        }
    }

    /// Finds an action and brings it to the host. What was found stays found over a restart.
    /// `origin` is the repository and commit of the file that says `uses`; `None` for a file of the workspace.
    pub(super) async fn find_action(
        &mut self,
        origin: Option<&Origin>,
        uses: &ActionReference,
        key: &str,
    ) -> Result<Found, StepError> {
        let key = format!("{key}/action");
        if let Some(found) = self.journal.recall::<Result<Found, String>>(&key)? {
            return found.map_err(StepError::Failed);
        }
        let found = match self.look_for_action(origin, uses).await {
            Ok(found) => Ok(found),
            Err(StepError::Failed(message)) => Err(message),
            Err(error) => return Err(error),
        };
        self.record(&key, &found)?;
        found.map_err(StepError::Failed)
    }

    /// Whether the runner does itself what an action would. What was decided before a restart stays, whatever the configuration
    /// says by now.
    pub(super) fn is_built_in(&self, uses: &ActionReference, key: &str) -> bool {
        let is_action = self.found.contains_key(key)
            || if self.journal.is_live() {
                self.runner.stock_checkout
            } else {
                self.journal.knows(&format!("{key}/action"))
            };
        is_checkout(uses) && !is_action
    }

    /// Where `$/path` leads for the steps of a frame.
    fn origin_of(&self, frame: &Frame) -> Option<Origin> {
        match &frame.action {
            Some(action) => action.origin.clone(),
            None => Some(Origin {
                repository: self.order.workflow_repository.clone(),
                commit: self.order.workflow_sha.clone(),
            }),
        }
    }

    async fn look_for_action(&mut self, origin: Option<&Origin>, uses: &ActionReference) -> Result<Found, StepError> {
        match uses {
            ActionReference::Workspace(path) => {
                let directory = join(&self.workspace.path, path);
                let (manifest, text) =
                    self.manifest(&directory, &format!("./{}", path.trim_start_matches("./"))).await?;
                Ok(Found {
                    manifest,
                    text,
                    directory,
                    origin: None,
                    repository: String::new(),
                    reference: String::new(),
                })
            }
            ActionReference::SameRepository(path) => {
                let origin = origin.ok_or_else(|| {
                    StepError::Failed(format!("$/{path}: the file that says this is in the workspace; say ./{path}"))
                })?;
                self.action_of_repository(origin, path, "").await
            }
            ActionReference::Repository { owner, name, path, reference } => {
                let all = Arc::clone(&self.runner.sources);
                let Some(sources) = &all.actions else {
                    return Err(StepError::Failed(format!(
                        "Unable to resolve action `{owner}/{name}@{reference}`: no source of actions is configured; \
                         set `[actions]` mirror or url in towline.toml, or --actions DIR with exec"
                    )));
                };
                // A repository of this machine serves actions too: to whoever may check it out.
                let own = self.within_reach(&RepositoryName(format!("{owner}/{name}"))).ok();
                let own = own.map(|source| Repository::at(source.git_dir));
                let resolved = sources.resolve_among(uses, own.as_ref()).await.map_err(|error| {
                    StepError::Failed(format!("Unable to resolve action `{owner}/{name}@{reference}`: {error}"))
                })?;
                let origin =
                    Origin { repository: RepositoryName(format!("{owner}/{name}")), commit: resolved.commit.clone() };
                let root = format!("{}/{owner}/{name}/{}", self.workspace.actions, resolved.commit);
                let present = run(
                    &self.host,
                    "looking for the action",
                    &format!("[ -d {} ] && echo yes; exit 0\n", quote(&root)),
                    b"",
                )
                .await?;
                if present.is_empty() {
                    let archive =
                        sources.archive(&resolved).await.map_err(|error| StepError::Failed(error.to_string()))?;
                    let archive = tokio::fs::read(&archive).await.map_err(JobError::Log)?;
                    self.push_tree(&archive, &root).await?;
                }
                let directory = if path.is_empty() { root } else { format!("{root}/{path}") };
                let (manifest, text) = self.manifest(&directory, &reference_text(uses)).await?;
                Ok(Found {
                    manifest,
                    text,
                    directory,
                    origin: Some(origin),
                    repository: format!("{owner}/{name}"),
                    reference: reference.clone(),
                })
            }
            // There is nothing to find: the engine pulls it.
            ActionReference::Image(image) => Ok(Found {
                manifest: format!("docker://{image}"),
                text: String::new(),
                directory: String::new(),
                origin: None,
                repository: String::new(),
                reference: String::new(),
            }),
        }
    }

    /// An action of a repository that this machine has, at a commit.
    async fn action_of_repository(&mut self, origin: &Origin, path: &str, reference: &str) -> Result<Found, StepError> {
        let source = self.repository(&origin.repository).map_err(StepError::Failed)?;
        let root = format!("{}/{}/{}", self.workspace.actions, origin.repository, origin.commit);
        let archive = crate::git::archive(&crate::git::Repository::at(&source.git_dir), &origin.commit, Vec::new())
            .await
            .map_err(|error| StepError::Failed(error.to_string()))?;
        self.push_tree(&archive, &root).await?;
        let directory = join(&root, path);
        let (manifest, text) = self.manifest(&directory, &format!("$/{path}")).await?;
        Ok(Found {
            manifest,
            text,
            directory,
            origin: Some(origin.clone()),
            repository: origin.repository.to_string(),
            reference: reference.to_owned(),
        })
    }

    /// Unpacks a tree on the host under a name that appears only when it is complete.
    pub(super) async fn push_tree(&mut self, archive: &[u8], directory: &str) -> Result<(), JobError> {
        let partial = format!("{directory}.partial-{}", self.mark());
        self.put_tar(archive, &partial).await?;
        let script = format!(
            "if [ -d {to} ]; then rm -rf {from}; else mv {from} {to}; fi\n",
            from = quote(&partial),
            to = quote(directory)
        );
        run(&self.host, "storing the action", &script, b"").await.map(drop)
    }

    /// Unpacks an archive on the host; a link that breaks meanwhile is waited for, and all of it is sent again.
    pub(super) async fn put_tar(&mut self, archive: &[u8], directory: &str) -> Result<(), JobError> {
        loop {
            match self.host.put_tar(&mut &*archive, directory).await {
                Err(error) if error.is_transient() => {
                    // The next small command waits until the host is there again, or the job is over.
                    run(&self.host, "sending files again", ":\n", b"").await?;
                }
                result => return result.map_err(JobError::from),
            }
        }
    }

    /// Reads `action.yml`, else `action.yaml`, else takes a `Dockerfile` (A5).
    async fn manifest(&mut self, directory: &str, shown: &str) -> Result<(String, String), StepError> {
        for name in ["action.yml", "action.yaml"] {
            match self.host.read_file(&format!("{directory}/{name}"), 1 << 20).await {
                Ok(Some(bytes)) => {
                    return Ok((format!("{shown}/{name}"), String::from_utf8_lossy(&bytes).into_owned()));
                }
                Ok(None) => {}
                // A directory of that name, or too long a file: the action's fault, not the machine's.
                Err(TransportError::Failed { reason, .. }) => {
                    return Err(StepError::Failed(format!("Failed to load {shown}/{name}: {reason}")));
                }
                Err(error) => return Err(JobError::from(error).into()),
            }
        }
        let script = format!(
            "for f in Dockerfile dockerfile; do [ -e {}/$f ] && echo $f && exit 0; done; exit 0\n",
            quote(directory)
        );
        let found = run(&self.host, "looking for a Dockerfile", &script, b"").await?;
        let name = String::from_utf8_lossy(&found).trim().to_owned();
        if !name.is_empty() {
            // An action that is a Dockerfile alone (A5).
            let manifest = format!("name: Dockerfile\nruns:\n  using: docker\n  image: {name}\n");
            return Ok((format!("{shown}/{name}"), manifest));
        }
        Err(StepError::Failed(format!(
            "Can't find 'action.yml', 'action.yaml' or 'Dockerfile' under '{directory}'. \
             Did you forget to run actions/checkout before running your local action?"
        )))
    }

    /// What the log of a step with an action begins with.
    fn say_uses<'a>(
        &mut self,
        uses: &ActionReference,
        inputs: impl IntoIterator<Item = (&'a str, &'a str)>,
        frame: &Frame,
        env: &Variables,
    ) -> Result<(), JobError> {
        let shown = self.shown_env(frame, env);
        self.say(&header::uses(&reference_text(uses), inputs, pairs_of(&shown)))
    }

    /// The inputs of an action. Their defaults see whose action it is.
    pub(super) async fn inputs_of(
        &mut self,
        frame: &mut Frame,
        found: &Found,
        (action, with): (&Action, &Variables),
        env: &Variables,
        run: &StepRun<'_>,
        quiet: bool,
    ) -> Result<Map<String, Json>, StepError> {
        let outer = frame.github.clone();
        frame.github.insert("action_repository".to_owned(), Json::from(found.repository.as_str()));
        frame.github.insert("action_ref".to_owned(), Json::from(found.reference.as_str()));
        let inputs = self.action_inputs(frame, action, with, env, run, quiet).await;
        frame.github = outer;
        inputs
    }

    async fn action_inputs(
        &mut self,
        frame: &Frame,
        action: &Action,
        with: &Variables,
        env: &Variables,
        run: &StepRun<'_>,
        quiet: bool,
    ) -> Result<Map<String, Json>, StepError> {
        // Docker actions take these two without declaring them (S13).
        let own: &[&str] = if matches!(action.runs, ActionRuns::Docker { .. }) { &["entryPoint", "args"] } else { &[] };
        let mut inputs = Map::new();
        let mut unknown = Vec::new();
        for (name, value) in with {
            let known = action.inputs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            match known {
                Some((_, ActionInput { deprecation_message: Some(message), .. })) if !quiet => {
                    self.warning(frame.number, &format!("Input '{name}' has been deprecated with message: {message}"))?;
                }
                None if !own.iter().any(|own| own.eq_ignore_ascii_case(name)) => unknown.push(format!("'{name}'")),
                _ => {}
            }
            let name = known.map_or(name, |(declared, _)| declared).clone();
            inputs.insert(name, Json::from(value.as_str()));
        }
        if !unknown.is_empty() && !quiet {
            let valid = own.iter().copied().chain(action.inputs.keys().map(String::as_str));
            let valid: Vec<_> = valid.map(|name| format!("'{name}'")).collect();
            self.warning(
                frame.number,
                &format!("Unexpected input(s) {}, valid inputs are [{}]", unknown.join(", "), valid.join(", ")),
            )?;
        }
        for (name, input) in &action.inputs {
            if inputs.contains_key(name) {
                continue;
            }
            let value = match &input.default {
                Some(token) => self.text(token, frame, env, &format!("{}/input/{name}", run.key)).await?,
                None => String::new(),
            };
            inputs.insert(name.clone(), Json::from(value));
        }
        Ok(inputs)
    }
}

fn pairs_of(variables: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

fn pairs(variables: &Variables) -> impl Iterator<Item = (&str, &str)> {
    variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

pub(super) fn is_checkout(uses: &ActionReference) -> bool {
    matches!(uses, ActionReference::Repository { owner, name, path, .. }
        if owner.eq_ignore_ascii_case("actions") && name.eq_ignore_ascii_case("checkout") && path.is_empty())
}

/// The reference as a workflow writes it.
pub(super) fn reference_text(uses: &ActionReference) -> String {
    match uses {
        ActionReference::Repository { owner, name, path, reference } if path.is_empty() => {
            format!("{owner}/{name}@{reference}")
        }
        ActionReference::Repository { owner, name, path, reference } => format!("{owner}/{name}/{path}@{reference}"),
        ActionReference::Workspace(path) => format!("./{}", path.trim_start_matches("./")),
        ActionReference::SameRepository(path) => format!("$/{path}"),
        ActionReference::Image(image) => format!("docker://{image}"),
    }
}
