//! Docker actions: an image from a Dockerfile or a registry, run once per stage with GitHub's mounts (A4).

use serde_json::{Map, Value as Json};

use crate::expr::{Expression, Value};
use crate::run::conclusion::Conclusion;
use crate::run::report::StepKind;
use crate::services::ALIAS;
use crate::toolkit::container::{is_dockerfile, plain_name, words};
use crate::transport::{Contained, Spool, StepRequest};
use crate::workflow::model::{ActionRuns, Step};
use crate::workflow::token::Token;

use super::super::JobError;
use super::super::action::{Found, Use};
use super::super::contexts::{Frame, Variables};
use super::super::javascript::github_of;
use super::super::job::Job;
use super::super::post::{Post, PostBody};
use super::super::script::{StepRun, join};
use super::super::step::{StepEnd, StepError, variables};
use super::super::workspace::{quote, run};
use super::lifecycle::Line;
use super::place::Mapping;

/// What a manifest, or a `docker://` step, says about the container of an action.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct DockerAction {
    /// `docker://image`, or the path of a Dockerfile.
    image: String,
    args: Option<Token>,
    env: Option<Token>,
    entrypoint: Option<String>,
    pre: Option<String>,
    post: Option<(String, Expression)>,
}

/// Which of its entry points an action is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Stage {
    Pre,
    Main,
}

/// A stage of a docker action that is ready to run: the same image for each.
#[derive(Clone, Debug)]
pub(in super::super) struct DockerStage {
    image: String,
    entrypoint: Option<String>,
    arguments: Vec<String>,
    /// What the manifest adds to the environment.
    env: Variables,
}

impl DockerStage {
    /// What it is made from, its entry point and the arguments.
    pub(super) fn parts(&self) -> (&str, Option<&str>, &[String]) {
        (&self.image, self.entrypoint.as_deref(), &self.arguments)
    }
}

impl DockerAction {
    /// The container of a `docker://` step.
    pub(in super::super) fn of_image(image: &str) -> Self {
        Self { image: format!("docker://{image}"), ..Self::default() }
    }

    /// What a manifest says; `None` of an action of another kind.
    pub(in super::super) fn of_manifest(runs: &ActionRuns) -> Option<Self> {
        let ActionRuns::Docker { image, args, env, entrypoint, pre_entrypoint, post_entrypoint, post_if, .. } = runs
        else {
            return None;
        };
        Some(Self {
            image: image.clone(),
            args: args.clone(),
            env: env.clone(),
            entrypoint: entrypoint.clone(),
            pre: pre_entrypoint.clone(),
            post: post_entrypoint.clone().map(|post| (post, post_if.clone())),
        })
    }
}

impl Job {
    /// Runs one stage of a docker action, and keeps its `post-entrypoint` for the end of the job. `key` is the action's, the
    /// same for all stages.
    pub(in super::super) async fn run_docker(
        &mut self,
        frame: &mut Frame,
        use_: &Use<'_>,
        (action, stage): (&DockerAction, Stage),
        key: &str,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let outer_deadline = self.narrow_deadline(run.key, run.timeout)?;
        let ready = self.docker_stage(frame, use_, (action, stage), run).await;
        self.step_deadline = outer_deadline;
        let ready = match ready {
            Ok(ready) => ready,
            Err(StepError::Failed(message)) if message.is_empty() => return Ok(StepEnd::of(Conclusion::Cancelled)),
            Err(error) => return Err(error),
        };
        let outer = frame.github.clone();
        frame.github.extend(github_of(use_.found));
        // Reached is enough: the post step runs also when main fails.
        if let Some((entrypoint, condition)) = &action.post {
            let name = run.name.strip_prefix("Pre ").filter(|_| stage == Stage::Pre).unwrap_or(run.name);
            self.stack_post(Post {
                number: frame.number,
                key: format!("{key}/post"),
                of: key.to_owned(),
                name: format!("Post {name}"),
                condition: condition.clone(),
                step: use_.step.clone(),
                body: PostBody::Docker(DockerStage { entrypoint: Some(entrypoint.clone()), ..ready.clone() }),
                inputs: use_.inputs.clone(),
                env: use_.env.clone(),
                github: frame.github.clone(),
            });
        }
        let end = self.run_docker_stage(frame, use_, &ready, key, run).await;
        frame.github = outer;
        end
    }

    async fn run_docker_stage(
        &mut self,
        frame: &mut Frame,
        use_: &Use<'_>,
        ready: &DockerStage,
        key: &str,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let state = self.states.get(key).cloned().unwrap_or_default();
        let request = self.docker_request(frame, use_.step, use_.env, (&use_.inputs, &state), ready, run).await?;
        let ended = self.follow_docker(frame, use_.step, request, run).await?;
        self.keep_state(key, &ended);
        self.conclude_action(frame, use_.step, &ended)
    }

    /// Pulls and builds the images of actions, a step each before the first one: first all that are pulled, as on GitHub. Actions
    /// of the workspace are not there yet and come when they are used.
    pub(in super::super) async fn get_images(&mut self, frame: &mut Frame) -> Result<(), JobError> {
        let mut wanted = std::mem::take(&mut self.containers.wanted);
        wanted.sort_by_key(|image| image.name.starts_with("Build "));
        // A host without an engine says so when a step really needs it. A hook gets the image with the step.
        if wanted.is_empty() || self.containers.hook.is_some() || self.find_engine().is_err() {
            return Ok(());
        }
        for (index, image) in wanted.into_iter().enumerate() {
            let key = format!("images/{index}");
            // A job that was begun by an earlier version gets them when they are used.
            if !self.journal.is_live() && !self.journal.knows(&format!("{key}/begin")) {
                return Ok(());
            }
            frame.number = self.insert_set_up_step(&image.name).await;
            self.step_started(frame.number, &image.name, StepKind::SetUp, &key).await?;
            let found = image.found.unwrap_or_else(Found::nothing);
            self.containers.uses();
            let outcome = match self.docker_image(frame, &found, &image.image, &key, true).await.map(drop) {
                Ok(()) => Conclusion::Success,
                Err(StepError::Job(error)) => return Err(error),
                Err(StepError::Failed(message)) if message.is_empty() => Conclusion::Cancelled,
                Err(StepError::Failed(message)) => {
                    self.error(frame.number, &message)?;
                    Conclusion::Failure
                }
            };
            self.status.record(outcome);
            self.step_finished(frame.number, outcome, outcome, None, &key).await?;
            if outcome != Conclusion::Success {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gets the image, and evaluates what the manifest says with the action's inputs.
    async fn docker_stage(
        &mut self,
        frame: &mut Frame,
        use_: &Use<'_>,
        (action, stage): (&DockerAction, Stage),
        run: &StepRun<'_>,
    ) -> Result<DockerStage, StepError> {
        if self.containers.hook.is_none() {
            self.find_engine()?;
            self.containers.uses();
        }
        let image = self.docker_image(frame, use_.found, &action.image, run.key, false).await?;
        let outer = std::mem::replace(&mut frame.inputs, use_.inputs.clone());
        let args = match &action.args {
            Some(token) => Some(self.value(token, frame, use_.env, &format!("{}/args", run.key)).await),
            None => None,
        };
        let env = match &action.env {
            Some(token) => Some(self.value(token, frame, use_.env, &format!("{}/action-env", run.key)).await),
            None => None,
        };
        frame.inputs = outer;
        let input = |name: &str| {
            let found = use_.inputs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.and_then(|(_, value)| value.as_str()).map(str::to_owned).unwrap_or_default()
        };
        let arguments = match args.transpose()? {
            Some(value) => value.as_array().unwrap_or_default().iter().map(Value::to_display_string).collect(),
            None => words(&input("args")),
        };
        let env =
            env.transpose()?.map(|value| variables(&value)).transpose().map_err(StepError::Failed)?.unwrap_or_default();
        let entrypoint = match stage {
            Stage::Pre => action.pre.clone(),
            Stage::Main => {
                let own = action.entrypoint.clone().filter(|entrypoint| !entrypoint.is_empty());
                own.or_else(|| Some(input("entrypoint"))).filter(|entrypoint| !entrypoint.is_empty())
            }
        };
        Ok(DockerStage { image, entrypoint, arguments, env })
    }

    /// Pulls or builds the image, once in a job.
    async fn docker_image(
        &mut self,
        frame: &Frame,
        found: &Found,
        image: &str,
        key: &str,
        early: bool,
    ) -> Result<String, StepError> {
        let lower = image.to_ascii_lowercase();
        if lower.starts_with("docker://") {
            let image = &image["docker://".len()..];
            if self.containers.hook.is_none() && !self.containers.images.iter().any(|known| known == image) {
                self.say_line(&format!("##[group]Pull down action image '{image}'"))?;
                self.pull(frame, key, image, None).await?;
                self.say_line("##[endgroup]")?;
                self.containers.images.push(image.to_owned());
            }
            return Ok(image.to_owned());
        }
        if !is_dockerfile(image) {
            return Err(StepError::Failed(format!(
                "'{image}' should be either '[path]/Dockerfile' or 'docker://image[:tag]'."
            )));
        }
        let dockerfile = join(&found.directory, image);
        if self.containers.hook.is_some() {
            return Ok(dockerfile);
        }
        let digest = |text: &str| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let (tag, kept) = match &found.origin {
            // A commit never changes: the image is built once on a host.
            Some(origin) => {
                (format!("towline-action-{}:{}", digest(&dockerfile), origin.commit.to_ascii_lowercase()), true)
            }
            None => (format!("towline-action-{}:{}", digest(&dockerfile), self.container_stem()), false),
        };
        if !kept || !self.containers.images.contains(&tag) {
            self.build(frame, key, &dockerfile, (&tag, kept), early).await?;
            self.containers.images.push(tag.clone());
        }
        Ok(tag)
    }

    /// The step that runs one stage of a docker action.
    pub(in super::super) async fn docker_request(
        &mut self,
        frame: &Frame,
        step: &Step,
        env: &Variables,
        (inputs, state): (&Map<String, Json>, &Variables),
        stage: &DockerStage,
        step_run: &StepRun<'_>,
    ) -> Result<StepRequest, StepError> {
        let engine = if self.containers.hook.is_some() { None } else { Some(self.find_engine()?) };
        // Commands of its own come before the step: steps are numbered as they begin.
        let services = match engine {
            Some(_) => self.relay_for_action(frame, step_run.key).await?,
            None => None,
        };
        let number = self.next_number();
        let temp = self.workspace.temp.clone();
        let files = self.command_files();
        let home = format!("{temp}/_github_home");
        let prepared = format!("{}/docker", step_run.key);
        if self.journal.recall::<()>(&prepared)?.is_none() {
            let script = format!(
                "umask 022\nmkdir -p {home} {files} || exit 1\nchmod 777 {home} {files}\n",
                home = quote(&home),
                files = quote(&files)
            );
            run(&self.host, "preparing directories for an action", &script, b"").await?;
            self.record(&prepared, &())?;
        }
        let mounts = [
            (home.clone(), "/github/home"),
            (format!("{temp}/_github_workflow"), "/github/workflow"),
            (files.clone(), "/github/file_commands"),
            (temp, "/github/runner_temp"),
            (self.workspace.path.clone(), "/github/workspace"),
        ];
        let mut mapping = Mapping(mounts.iter().map(|(host, inside)| (host.clone(), (*inside).to_owned())).collect());
        mapping.0.push((format!("{}/steps", self.host.dir()), "/github/file_commands".to_owned()));
        let base = (&Variables::new(), &[][..]);
        let mut variables: Variables =
            self.process_env_over(base, frame, step, env, number, Some((inputs, state))).into_iter().collect();
        for (name, value) in &stage.env {
            variables.entry(name.clone()).or_insert_with(|| value.clone());
        }
        variables.insert("HOME".to_owned(), home);
        let base = self.reached.variables.base.clone();
        let told = services.as_ref().map(|_| base.replacen("127.0.0.1", ALIAS, 1));
        for value in variables.values_mut() {
            *value = mapping.inside(value);
            if let Some(told) = told.as_ref().filter(|_| value.starts_with(&base)) {
                *value = value.replacen(&base, told, 1);
            }
        }
        self.containers.action_mounts = Some(mapping.outwards());
        let Some(engine) = engine else {
            return self.container_step(frame, number, stage, &variables, &mounts, step_run).await;
        };
        let name = format!("{}_{}_{:06x}", self.container_stem(), plain_name(&stage.image), 0x0010_0000 + number);
        let mut line = Line::new(["run", "--name", &name]);
        line.words(self.container_labels());
        line.words(["--workdir", "/github/workspace", "--rm"].map(str::to_owned));
        line.variable_names(&variables);
        if let Some(entrypoint) = &stage.entrypoint {
            line.entrypoint(entrypoint);
        }
        if let Some(network) = &self.containers.network {
            line.words(["--network".to_owned(), network.clone()]);
        }
        if let Some(address) = &services {
            line.words(self.alias_at(address));
        }
        if let Some(socket) = self.engine_socket(&format!("{}/socket", step_run.key)).await? {
            line.volume(&socket, "/var/run/docker.sock", false);
        }
        for (host, inside) in &mounts {
            line.volume(host, inside, false);
        }
        line.words([stage.image.clone()]);
        line.quoted(stage.arguments.iter().map(String::as_str));
        let (arguments, shown) = line.parts();
        self.say_line(&format!("##[command]{} {shown}", engine.program))?;
        let program = quote(&engine.program);
        let signal = format!(
            "{}case $1 in\nKILL) exec {program} rm --force --volumes {name} ;;\n\
             0) [ -n \"$({program} ps --quiet --filter name={name})\" ]; exit ;;\nesac\nexec {program} kill --signal \"$1\" {name}\n",
            self.client_exports()
        );
        let argv = [engine.program].into_iter().chain(arguments).collect();
        Ok(StepRequest {
            number,
            argv,
            env: self.client_env(&variables),
            cwd: "/".to_owned(),
            files: Vec::new(),
            timeout: step_run.timeout,
            spool: Spool::Main,
            contained: Some(Contained { files, signal: Some(signal) }),
        })
    }

    /// Follows a container to its end; files its messages name are found through its own mounts.
    pub(in super::super) async fn follow_docker(
        &mut self,
        frame: &Frame,
        step: &Step,
        request: StepRequest,
        run: &StepRun<'_>,
    ) -> Result<super::super::follow::Ended, StepError> {
        let ended = self.follow(frame, step, request, run).await;
        self.containers.action_mounts = None;
        ended
    }
}
