//! "Initialize containers" and "Stop containers": the network, the services, the job's container, and their end (D1–D3).

use std::time::Duration;

use crate::expr::condition;
use crate::run::conclusion::Conclusion;
use crate::run::report::StepKind;
use crate::toolkit::container::{path_of, plain_name, ports, volume, words};

use super::super::JobError;
use super::super::contexts::Frame;
use super::super::job::Job;
use super::super::step::StepError;
use super::super::workspace::{quote, run};
use super::command::{Command, pass_on};
use super::{Definition, Inside, Running, Said, leftovers};

/// What asks a service whether it is healthy; nothing is said of one without a check.
const HEALTH: &str = "{{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}";
/// The first and the longest wait between two looks at a service.
const HEALTH_WAITS: (u64, u64) = (2, 32);

/// Says what a job's container has.
const LOOK_INSIDE: &str = "echo sh; echo \"path $PATH\"; n=$(command -v node) && echo \"node $n $(node --version 2>/dev/null)\"; \
    for r in node python3 perl; do command -v $r >/dev/null && echo \"relay $r\" && break; done; \
    for f in /etc/alpine-release /lib/ld-musl-*; do [ -e \"$f\" ] && echo musl; done; exit 0";

impl Job {
    /// Starts what the job's steps run in and beside. A failure is the job's; its steps are still evaluated.
    pub(in super::super) async fn start_containers(&mut self, frame: &mut Frame) -> Result<(), JobError> {
        if self.containers.is_empty() {
            return Ok(());
        }
        frame.number = self.insert_set_up_step("Initialize containers").await;
        self.step_started(frame.number, "Initialize containers", StepKind::SetUp, "containers").await?;
        let initialized = match self.containers.hook {
            Some(_) => self.prepare_job(frame).await,
            None => self.initialize_containers(frame).await,
        };
        let outcome = match initialized {
            Ok(()) => Conclusion::Success,
            Err(StepError::Job(error)) => return Err(error),
            Err(StepError::Failed(message)) => {
                if !message.is_empty() {
                    self.error(frame.number, &message)?;
                }
                if self.status.is_cancelled() { Conclusion::Cancelled } else { Conclusion::Failure }
            }
        };
        self.status.record(outcome);
        self.step_finished(frame.number, outcome, outcome, None, "containers").await
    }

    async fn initialize_containers(&mut self, frame: &Frame) -> Result<(), StepError> {
        let engine = self.find_engine()?;
        self.containers.uses();
        self.say_line("##[group]Checking docker version")?;
        for (side, name) in [("Server", "daemon"), ("Client", "client")] {
            if side == "Server" && !engine.is_docker {
                continue;
            }
            let format = format!("'{{{{.{side}.APIVersion}}}}'");
            let said = self
                .engine_ok(frame, &format!("containers/version/{name}"), Command::new(["version", "--format", &format]))
                .await?;
            let version = said.lines.last().map(String::as_str).unwrap_or_default();
            self.say_line(&format!("Docker {name} API version: {version}"))?;
        }
        self.say_line("##[endgroup]")?;
        self.say_line("##[group]Clean up resources from previous jobs")?;
        if self.journal.recall::<()>("containers/prepared")?.is_none() {
            let script = leftovers::sweep(&engine.program, self.host.root());
            let swept = run(&self.host, "sweeping containers of earlier jobs", &script, b"").await?;
            for line in String::from_utf8_lossy(&swept).lines() {
                self.say_line(line)?;
            }
            self.prepare_directories().await?;
            self.record("containers/prepared", &())?;
        }
        self.say_line("##[endgroup]")?;
        self.say_line("##[group]Create local container network")?;
        let network = format!("github_network_{}", self.container_stem());
        let labels = self.container_labels();
        let mut create = Command::new(["network", "create"]);
        create.arguments.extend(labels);
        create.arguments.push(network.clone());
        let shown = create.arguments.join(" ");
        self.engine_wants(frame, "containers/network", create.shown(shown), "Docker network create failed").await?;
        self.containers.network = Some(network);
        self.say_line("##[endgroup]")?;
        for (index, (alias, definition)) in self.containers.service_definitions.clone().into_iter().enumerate() {
            let running = self.start_container(frame, index + 1, &alias, &definition).await?;
            self.containers.services.push(running);
        }
        if let Some(definition) = self.containers.job_definition.clone() {
            let running = self.start_container(frame, 0, "", &definition).await?;
            let (id, inside) = (running.id.clone(), running.inside.clone());
            self.containers.job = Some(running);
            self.relay_into_job(frame, &id, &inside).await?;
        }
        self.wait_for_services(frame).await
    }

    /// What the job's container mounts must be there, or the engine would make it as root.
    pub(super) async fn prepare_directories(&mut self) -> Result<(), JobError> {
        let temp = &self.workspace.temp;
        let home = quote(&format!("{temp}/_github_home"));
        let mounts: Vec<String> = self.job_mounts().iter().map(|(host, _, _)| quote(host)).collect();
        // The workspace belongs to the SSH user, and git in the container runs as another.
        let script = format!(
            "umask 022\nmkdir -p {} {files} {home} || exit 1\nchmod 777 {home} {files}\n\
             [ -e {home}/.gitconfig ] || printf '[safe]\\n\\tdirectory = *\\n' >{home}/.gitconfig\nchmod 666 {home}/.gitconfig\n",
            mounts.join(" "),
            files = quote(&self.command_files()),
        );
        run(&self.host, "preparing directories for containers", &script, b"").await.map(drop)
    }

    /// Pulls, creates and starts one container; `alias` is empty for the job's own.
    async fn start_container(
        &mut self,
        frame: &Frame,
        index: usize,
        alias: &str,
        definition: &Definition,
    ) -> Result<Running, StepError> {
        let key = if alias.is_empty() { "containers/job".to_owned() } else { format!("containers/service/{alias}") };
        self.say_line(&match alias {
            "" => "##[group]Starting job container".to_owned(),
            alias => format!("##[group]Starting {alias} service container"),
        })?;
        for text in &definition.volumes {
            if volume(text).source == "/" {
                self.warning(
                    frame.number,
                    &format!(
                        "Volume mount {text} is going to mount '/' into the container which may cause file ownership change in \
                         the entire file system and cause Actions Runner to lose permission to access the disk."
                    ),
                )?;
            }
        }
        self.pull(frame, &key, &definition.image, definition.credentials.as_ref()).await?;
        let name = format!("{}_{}_{index:06x}", self.container_stem(), plain_name(&definition.image));
        let create = self.creation(&name, alias, definition).await?;
        let said = self.engine_ok(frame, &format!("{key}/create"), create).await?;
        let id = said.lines.iter().rev().map(|line| line.trim()).find(|line| is_id(line)).unwrap_or(&name).to_owned();
        let start = Command::new(["start", &id]);
        self.engine_wants(frame, &format!("{key}/start"), start, "Docker start fail").await?;
        let filter = format!("id={id}");
        let all = [
            "ps",
            "--all",
            "--filter",
            &filter,
            "--filter",
            "status=running",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Status}}",
        ];
        let look = Command::new(all).shown(format!(
            "ps --all --filter id={id} --filter status=running --no-trunc --format \"{{{{.ID}}}} {{{{.Status}}}}\""
        ));
        let seen = self.engine_command(frame, &format!("{key}/ps"), condition::success(), look).await?;
        if !self.heed(&seen)?.lines.iter().any(|line| line.starts_with(&id)) {
            let logs = Command::new(["logs", "--details", &id]);
            self.engine_command(frame, &format!("{key}/logs"), condition::success(), logs).await?;
            self.warning(frame.number, &format!("Docker container {id} is not in running state."))?;
        }
        let mut running = Running {
            alias: alias.to_owned(),
            name,
            id: id.clone(),
            image: definition.image.clone(),
            ports: Vec::new(),
            path: String::new(),
            inside: Inside::default(),
            failed: false,
        };
        if alias.is_empty() {
            let format = "{{range .Config.Env}}{{println .}}{{end}}";
            let inspect =
                Command::new(["inspect", "--format", format, &id]).shown(format!("inspect --format \"{format}\" {id}"));
            let said = self.engine_ok(frame, &format!("{key}/env"), inspect).await?;
            running.path = path_of(said.lines.iter().map(String::as_str)).to_owned();
            let look = Command::new(["exec", &id, "sh", "-c", LOOK_INSIDE]).silent();
            let said = self.engine_command(frame, &format!("{key}/inside"), condition::success(), look).await?;
            running.inside = inside(self.heed(&said)?);
            if running.path.is_empty() {
                // The engine's own default is no part of the image.
                running.path.clone_from(&running.inside.path);
            }
        } else {
            let said = self
                .engine_command(frame, &format!("{key}/port"), condition::success(), Command::new(["port", &id]))
                .await?;
            running.ports = ports(self.heed(&said)?.lines.iter().map(String::as_str));
        }
        self.say_line("##[endgroup]")?;
        Ok(running)
    }

    /// The command that creates a container.
    async fn creation(&mut self, name: &str, alias: &str, definition: &Definition) -> Result<Command, StepError> {
        let mut line = Line::new(["create", "--name", name]);
        line.words(self.container_labels());
        let mut env = definition.env.clone();
        if alias.is_empty() {
            let directory = self.job_mapping().inside(&self.workspace.path);
            line.words(["--workdir".to_owned(), directory]);
            env.insert("HOME".to_owned(), "/github/home".to_owned());
        }
        let options = words(&definition.options);
        // Who names a network in the options wants that one: an engine takes one of the two kinds only.
        let is_network = |word: &String| ["--network", "--net"].contains(&word.split('=').next().unwrap_or_default());
        let options_name_network = options.iter().any(is_network);
        if let Some(network) = &self.containers.network
            && !options_name_network
        {
            line.words(["--network".to_owned(), network.clone()]);
            if !alias.is_empty() {
                line.words(["--network-alias".to_owned(), alias.to_owned()]);
            }
        }
        for port in &definition.ports {
            line.words(["-p".to_owned(), port.clone()]);
        }
        line.words(options);
        line.variables(&env);
        line.words(["-e".to_owned(), "GITHUB_ACTIONS=true".to_owned()]);
        if !env.contains_key("CI") {
            line.words(["-e".to_owned(), "CI=true".to_owned()]);
        }
        if alias.is_empty() {
            if !options_name_network {
                line.words(self.alias_at("127.0.0.1"));
            }
            if let Some(socket) = self.engine_socket("containers/socket").await? {
                line.volume(&socket, "/var/run/docker.sock", false);
            }
            for (host, inside, read_only) in self.job_mounts() {
                line.volume(&host, &inside, read_only);
            }
        }
        for volume in &definition.volumes {
            line.words(["-v".to_owned(), volume.clone()]);
        }
        if alias.is_empty() {
            line.entrypoint("tail");
            line.words([definition.image.clone()]);
            line.quoted(["-f", "/dev/null"]);
        } else {
            if !definition.entrypoint.trim().is_empty() {
                line.entrypoint(definition.entrypoint.trim());
            }
            line.words([definition.image.clone()]);
            line.words(words(&definition.command));
        }
        Ok(line.command(env))
    }

    /// The engine's socket on the host, for those who talk to the engine from inside.
    pub(super) async fn engine_socket(&mut self, key: &str) -> Result<Option<String>, JobError> {
        if let Some(known) = self.journal.recall(key)? {
            return Ok(known);
        }
        let path = self.machine.get("DOCKER_HOST").and_then(|address| address.strip_prefix("unix://"));
        let path = path.unwrap_or("/var/run/docker.sock").to_owned();
        let script = format!("[ -S {} ] && echo yes; exit 0\n", quote(&path));
        let found = run(&self.host, "looking for the engine's socket", &script, b"").await?;
        let socket = Some(path).filter(|_| !found.is_empty());
        self.record(key, &socket)?;
        Ok(socket)
    }

    /// Waits until no service is starting any more.
    async fn wait_for_services(&mut self, frame: &Frame) -> Result<(), StepError> {
        self.say_line("##[group]Waiting for all services to be ready")?;
        let mut failed = Vec::new();
        for index in 0..self.containers.services.len() {
            let (alias, id) = {
                let service = &self.containers.services[index];
                (service.alias.clone(), service.id.clone())
            };
            let mut wait = HEALTH_WAITS.0;
            let mut attempt = 0;
            let health = loop {
                attempt += 1;
                let look = Command::new(["inspect", "--format", HEALTH, &id])
                    .shown(format!("inspect --format=\"{HEALTH}\" {id}"));
                let key = format!("containers/service/{alias}/health/{attempt}");
                let said = self.engine_ok(frame, &key, look).await?;
                let health = said
                    .lines
                    .iter()
                    .map(|line| line.trim())
                    .find(|line| !line.is_empty())
                    .unwrap_or_default()
                    .to_owned();
                if !health.eq_ignore_ascii_case("starting") {
                    break health;
                }
                self.say_line(&format!("{alias} service is starting, waiting {wait} seconds before checking again."))?;
                self.pause(&format!("{key}/wait"), Duration::from_secs(wait)).await?;
                wait = (wait * 2).min(HEALTH_WAITS.1);
            };
            match health.as_str() {
                "" => {}
                "healthy" => self.say_line(&format!("{alias} service is healthy."))?,
                _ => failed.push(index),
            }
        }
        self.say_line("##[endgroup]")?;
        if failed.is_empty() {
            return Ok(());
        }
        for index in failed {
            let service = &mut self.containers.services[index];
            service.failed = true;
            let (alias, id, image) = (service.alias.clone(), service.id.clone(), service.image.clone());
            self.say_line(&format!("##[group]Service container {alias} failed."))?;
            let logs = Command::new(["logs", "--details", &id]);
            self.engine_command(frame, &format!("containers/service/{alias}/failed"), condition::success(), logs)
                .await?;
            self.error(frame.number, &format!("Failed to initialize container {image}"))?;
            self.say_line("##[endgroup]")?;
        }
        Err(StepError::Failed("One or more containers failed to start.".to_owned()))
    }

    /// The end of all containers, whatever happened before.
    pub(in super::super) async fn stop_containers(&mut self, frame: &mut Frame) -> Result<(), JobError> {
        if !self.containers.are_left() {
            return Ok(());
        }
        let hooked = self.containers.hook.is_some();
        if !self.containers.is_empty() {
            frame.number = self.append_step("Stop containers", StepKind::Post).await;
            self.step_started(frame.number, "Stop containers", StepKind::Post, "stop").await?;
            let removed = if hooked { self.clean_up_job(frame).await } else { self.remove_containers(frame).await };
            let outcome = match removed {
                Ok(()) => Conclusion::Success,
                Err(StepError::Job(error)) => return Err(error),
                Err(StepError::Failed(message)) if hooked => {
                    if !message.is_empty() {
                        self.error(frame.number, &message)?;
                    }
                    self.status.record(Conclusion::Failure);
                    Conclusion::Failure
                }
                Err(StepError::Failed(message)) => {
                    self.warning(frame.number, &message)?;
                    Conclusion::Success
                }
            };
            self.step_finished(frame.number, outcome, outcome, None, "stop").await?;
        }
        // What was not named above: half-made containers, those of actions that were killed, images of one job.
        if !hooked && self.journal.recall::<()>("containers/removed")?.is_none() {
            match self.close_relay().await {
                Err(StepError::Job(error)) => return Err(error),
                Ok(()) | Err(StepError::Failed(_)) => {}
            }
            let script = leftovers::removal_at(self.host.root(), &self.runner.job_key(&self.order));
            self.host.exec(&format!("{}{script}", self.client_exports()), b"").await?;
            self.record("containers/removed", &())?;
        }
        self.containers.are_gone();
        Ok(())
    }

    async fn remove_containers(&mut self, frame: &Frame) -> Result<(), StepError> {
        let mut all: Vec<Running> = self.containers.job.take().into_iter().collect();
        all.append(&mut self.containers.services);
        for container in all {
            let key = format!("stop/{}", container.alias);
            if !container.alias.is_empty() && !container.failed {
                self.say_line(&format!("Print service container logs: {}", container.name))?;
                let logs = Command::new(["logs", "--details", &container.id]);
                let said = self.engine_command(frame, &format!("{key}/logs"), condition::always(), logs).await?;
                if said.code != 0 {
                    self.warning(frame.number, &format!("Docker logs fail with exit code {}", said.code))?;
                }
            }
            self.say_line(&format!("Stop and remove container: {}", container.name))?;
            let mut remove = Command::new(["rm", "--force", "--volumes", &container.id]);
            if !self.find_engine()?.is_docker {
                // podman would wait for ten seconds first, as docker never does.
                remove = Command::new(["rm", "--force", "--time", "0", "--volumes", &container.id]);
            }
            let said = self.engine_command(frame, &format!("{key}/rm"), condition::always(), remove).await?;
            if said.code != 0 {
                self.warning(frame.number, &format!("Docker rm fail with exit code {}", said.code))?;
            }
        }
        if let Some(network) = self.containers.network.take() {
            self.say_line(&format!("Remove container network: {network}"))?;
            let remove = Command::new(["network", "rm", &network]);
            let said = self.engine_command(frame, "stop/network", condition::always(), remove).await?;
            if said.code != 0 {
                self.warning(frame.number, &format!("Docker network rm failed with exit code {}", said.code))?;
            }
        }
        Ok(())
    }

    /// Runs a command that has to succeed.
    async fn engine_ok(&mut self, frame: &Frame, key: &str, command: Command) -> Result<Said, StepError> {
        let text = command.shown.clone().unwrap_or_default();
        let said = self.engine_command(frame, key, condition::success(), command).await?;
        match self.heed(&said)?.code {
            0 => Ok(said),
            code => Err(StepError::Failed(format!(
                "Exit code {code} returned from process: file name '{}', arguments '{text}'.",
                self.find_engine()?.program
            ))),
        }
    }

    /// Runs a command that has to succeed, with the words that say that it did not.
    async fn engine_wants(
        &mut self,
        frame: &Frame,
        key: &str,
        command: Command,
        failed: &str,
    ) -> Result<(), StepError> {
        let said = self.engine_command(frame, key, condition::success(), command).await?;
        match self.heed(&said)?.code {
            0 => Ok(()),
            code => Err(StepError::Failed(format!("{failed} with exit code {code}"))),
        }
    }
}

/// A command line for `create` and `run`: what is called, and what the log says.
pub(super) struct Line {
    arguments: Vec<String>,
    shown: Vec<String>,
}

impl Line {
    pub(super) fn new<const N: usize>(words: [&str; N]) -> Self {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Self { arguments: words.clone(), shown: words }
    }

    pub(super) fn words(&mut self, words: impl IntoIterator<Item = String>) {
        for word in words {
            self.shown.push(if word.is_empty() || word.contains(char::is_whitespace) {
                format!("\"{word}\"")
            } else {
                word.clone()
            });
            self.arguments.push(word);
        }
    }

    pub(super) fn quoted<'w>(&mut self, words: impl IntoIterator<Item = &'w str>) {
        for word in words {
            self.shown.push(format!("\"{}\"", word.replace('"', "\\\"")));
            self.arguments.push(word.to_owned());
        }
    }

    /// Variables with their values in the log, where secrets are masked.
    fn variables(&mut self, env: &super::Variables) {
        pass_on(env, &mut self.arguments);
        for (name, value) in env {
            let text = if value.is_empty() { name.clone() } else { format!("{name}={value}") };
            self.shown.push(format!("-e \"{}\"", text.replace('"', "\\\"")));
        }
    }

    /// Variables by name alone.
    pub(super) fn variable_names(&mut self, env: &super::Variables) {
        pass_on(env, &mut self.arguments);
        self.shown.extend(env.keys().map(|name| format!("-e \"{name}\"")));
    }

    pub(super) fn volume(&mut self, host: &str, inside: &str, read_only: bool) {
        let mode = if read_only { ":ro" } else { "" };
        self.arguments.extend(["-v".to_owned(), format!("{host}:{inside}{mode}")]);
        self.shown.push(format!("-v \"{host}\":\"{inside}\"{mode}"));
    }

    pub(super) fn entrypoint(&mut self, entrypoint: &str) {
        self.arguments.extend(["--entrypoint".to_owned(), entrypoint.to_owned()]);
        self.shown.push(format!("--entrypoint \"{entrypoint}\""));
    }

    /// Words, and what the log says.
    pub(super) fn parts(self) -> (Vec<String>, String) {
        (self.arguments, self.shown.join(" "))
    }

    fn command(self, env: super::Variables) -> Command {
        let (arguments, shown) = self.parts();
        Command { arguments, shown: Some(shown), env, input: None }
    }
}

fn is_id(line: &str) -> bool {
    line.len() >= 12 && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn inside(said: &Said) -> Inside {
    let mut inside = Inside::default();
    for line in &said.lines {
        let mut words = line.split(' ');
        match words.next() {
            Some("sh") => inside.sh = true,
            Some("musl") => inside.musl = true,
            Some("relay") => words.next().unwrap_or_default().clone_into(&mut inside.relay),
            Some("path") => inside.path = words.collect::<Vec<_>>().join(" "),
            Some("node") => {
                inside.node_path = words.next().unwrap_or_default().to_owned();
                inside.node = words.next().unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    inside
}
