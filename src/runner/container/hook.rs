//! Container hooks (D5): a program of the host's owner that makes the containers of jobs and runs their steps, in the place of
//! docker. The host's environment names it, as for GitHub's runner. A call is a step of the host like any other process: started
//! once, followed to its end, found again after a restart. It gets one document on its standard input and answers in a file.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::expr::{Expression, condition};
use crate::run::conclusion::Conclusion;
use crate::toolkit::container::{registry_of, volume, words};
use crate::toolkit::header;
use crate::transport::{Contained, Exit, Spool, StepFile, StepRequest, Target, TransportError};

use super::super::contexts::{Frame, Variables};
use super::super::follow::Ended;
use super::super::job::Job;
use super::super::script::StepRun;
use super::super::step::StepError;
use super::super::workspace::{quote, run};
use super::super::{JobError, Runner};
use super::leftovers::PATIENCE;
use super::{Definition, Inside, Running, own_step};

/// Names the program.
const HOOKS: &str = "ACTIONS_RUNNER_CONTAINER_HOOKS";
/// Jobs without `container:` are refused.
const REQUIRE: &str = "ACTIONS_RUNNER_REQUIRE_JOB_CONTAINER";
/// What a step says whose call failed, after the reason.
pub(in super::super) const FAILED: &str =
    "Executing the custom container implementation failed. Please contact your self hosted runner administrator.";
/// The most that an answer may have.
const LARGEST: u64 = 4 << 20;

const PREPARE: &str = "prepare_job";
const CLEAN_UP: &str = "cleanup_job";
const RUN_SCRIPT: &str = "run_script_step";
const RUN_CONTAINER: &str = "run_container_step";

/// The program and what it has said so far.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    path: String,
    /// Known once it was looked for.
    program: Option<Program>,
    /// What it wants to be given again.
    state: Json,
    /// `job.container` and `job.services`.
    contexts: (Json, Json),
    /// A step in the background, of which this is the copy, changed the state.
    changed: bool,
    /// It was told that the job is over.
    told_end: bool,
}

/// How the program is run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Program {
    argv: Vec<String>,
    /// As the log has it.
    shown: String,
}

/// What a call answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Answer {
    /// The document; nothing when the file is empty.
    said: Option<Map<String, Json>>,
    /// Why it cannot be read.
    pub(in super::super) fault: Option<String>,
}

impl Hook {
    fn new(path: String) -> Self {
        Self {
            path,
            program: None,
            state: json!({}),
            contexts: (json!({}), json!({})),
            changed: false,
            told_end: false,
        }
    }

    pub(super) fn contexts(&self) -> (Json, Json) {
        self.contexts.clone()
    }

    /// The same for a step that runs beside the job.
    pub(super) fn join(&mut self, other: &Self) {
        if other.changed {
            self.state.clone_from(&other.state);
        }
    }

    pub(super) fn split_off(&mut self) {
        self.changed = false;
    }

    fn document(&self, command: &str, response: Option<&str>, args: &Json) -> Vec<u8> {
        let document = json!({ "command": command, "responseFile": response, "args": args, "state": self.state });
        document.to_string().into_bytes()
    }
}

/// One call.
struct Call<'a> {
    command: &'a str,
    number: u32,
    args: Json,
    files: Vec<StepFile>,
    timeout: Option<Duration>,
}

impl Job {
    /// Takes note of the host's own program for containers, and of its wish that jobs have one.
    pub(super) fn find_hook(&mut self) -> Result<(), StepError> {
        self.containers.hook = self.noted("containers/hook", HOOKS)?.map(Hook::new);
        let required = if self.containers.has_job() { None } else { self.noted("containers/required", REQUIRE)? };
        let is_set = |value: String| ["1", "true", "$true"].contains(&value.trim().to_ascii_lowercase().as_str());
        if required.is_some_and(is_set) {
            return Err(StepError::Failed(
                "Jobs without a job container are forbidden on this runner, please add a 'container:' to your job or contact your \
                 self-hosted runner administrator."
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// A variable of the host as it was when the job began.
    fn noted(&mut self, key: &str, variable: &str) -> Result<Option<String>, JobError> {
        if let Some(known) = self.journal.recall::<String>(key)? {
            return Ok(Some(known));
        }
        let value = self.machine.get(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        // What was begun without it goes on without it.
        let value = value.filter(|_| self.journal.is_live());
        if let Some(value) = &value {
            self.record(key, value)?;
        }
        Ok(value)
    }

    /// Has the containers of the job made.
    pub(super) async fn prepare_job(&mut self, frame: &mut Frame) -> Result<(), StepError> {
        self.containers.uses();
        if self.journal.recall::<()>("containers/prepared")?.is_none() {
            self.prepare_directories().await?;
            self.record("containers/prepared", &())?;
        }
        let job = self.containers.job_definition.clone();
        let container = match &job {
            Some(definition) => {
                let mut container = self.hook_container(definition);
                container.insert("entryPoint".to_owned(), json!("tail"));
                container.insert("entryPointArgs".to_owned(), json!(["-f", "/dev/null"]));
                let directory = self.job_mapping().inside(&self.workspace.path);
                container.insert("workingDirectory".to_owned(), json!(directory));
                let mounts = self.job_mounts();
                let mounts =
                    mounts.iter().map(|(host, inside, read_only)| (host.as_str(), inside.as_str(), *read_only));
                let mounts = self.mounts_with_socket("containers/socket", mounts.collect()).await?;
                container.insert("systemMountVolumes".to_owned(), mounts);
                Json::Object(container)
            }
            None => Json::Null,
        };
        let services = self.containers.service_definitions.clone();
        let services = services.iter().map(|(name, definition)| {
            let mut service = self.hook_container(definition);
            service.insert("contextName".to_owned(), json!(name));
            Json::Object(service)
        });
        let args = json!({ "container": container, "services": services.collect::<Vec<_>>() });
        let said = self.call(frame, (PREPARE, "containers/prepare_job", condition::success()), args).await?;
        let Some(definition) = job else {
            if let Some(said) = said {
                self.take_contexts(&said);
            }
            return Ok(());
        };
        let path = self.containers.hook.as_ref().map(|hook| hook.path.clone()).unwrap_or_default();
        let fault = match &said {
            None => format!(
                "Response file is required but not found for the hook script at '{path}' running command '{PREPARE}'"
            ),
            Some(said) => match is_alpine(said) {
                Some(musl) => {
                    self.take_contexts(said);
                    self.take_job(&definition, musl);
                    return Ok(());
                }
                None => "The property 'isAlpine' is required but was not found in the response file.".to_owned(),
            },
        };
        self.error(frame.number, &fault)?;
        Err(StepError::Failed(FAILED.to_owned()))
    }

    fn take_contexts(&mut self, said: &Map<String, Json>) {
        let names: Vec<&str> = self.containers.service_definitions.iter().map(|(name, _)| name.as_str()).collect();
        let contexts = contexts(said, &names);
        if let Some(hook) = &mut self.containers.hook {
            hook.contexts = contexts;
        }
    }

    fn take_job(&mut self, definition: &Definition, musl: bool) {
        let id = self.containers.hook.as_ref().and_then(|hook| hook.contexts.0.get("id")).and_then(Json::as_str);
        let id = id.unwrap_or_default().to_owned();
        self.containers.job = Some(Running {
            alias: String::new(),
            name: id.clone(),
            id,
            image: definition.image.clone(),
            ports: Vec::new(),
            path: String::new(),
            inside: Inside { sh: true, musl, ..Inside::default() },
            failed: false,
        });
    }

    /// Has all of it removed.
    pub(super) async fn clean_up_job(&mut self, frame: &mut Frame) -> Result<(), StepError> {
        if let Some(hook) = &mut self.containers.hook {
            hook.told_end = true;
        }
        self.call(frame, (CLEAN_UP, "stop/cleanup_job", condition::always()), json!({})).await.map(drop)
    }

    /// Calls the program for the job as a whole.
    async fn call(
        &mut self,
        frame: &mut Frame,
        (command, key, condition): (&str, &str, Expression),
        args: Json,
    ) -> Result<Option<Map<String, Json>>, StepError> {
        let step = own_step(condition);
        let number = self.next_number();
        let call = Call { command, number, args, files: Vec::new(), timeout: None };
        let request = self.hook_request(frame, call).await?;
        let run = StepRun { key, name: command, timeout: None, on_host: true };
        let ended = self.follow(frame, &step, request, &run).await?;
        let end = self.conclude_process(frame, &step, &ended)?;
        match end.outcome {
            Conclusion::Success => Ok(ended.hook.and_then(|answer| answer.said)),
            // It has said so.
            _ => Err(StepError::Failed(String::new())),
        }
    }

    /// The request that runs a step's process in the job's container.
    pub(super) async fn script_step(&mut self, frame: &Frame, request: StepRequest) -> Result<StepRequest, StepError> {
        let mapping = self.job_mapping();
        let mut words = request.argv.iter().map(|word| mapping.inside(word));
        let program = words.next().unwrap_or_default();
        let env: Map<String, Json> =
            request.env.iter().map(|(name, value)| (name.clone(), json!(mapping.inside(value)))).collect();
        let args = json!({
            "entryPoint": program,
            "entryPointArgs": words.collect::<Vec<_>>(),
            "environmentVariables": env,
            "prependPath": self.prepended(),
            "workingDirectory": mapping.inside(&request.cwd),
        });
        let (number, files, timeout) = (request.number, request.files, request.timeout);
        self.hook_request(frame, Call { command: RUN_SCRIPT, number, args, files, timeout }).await
    }

    /// The request that runs a stage of a docker action: an image, or the absolute path of a Dockerfile.
    pub(super) async fn container_step(
        &mut self,
        frame: &Frame,
        number: u32,
        stage: &super::DockerStage,
        variables: &Variables,
        mounts: &[(String, &str)],
        run: &StepRun<'_>,
    ) -> Result<StepRequest, StepError> {
        let (image, entrypoint, arguments) = stage.parts();
        let file = Some(image).filter(|image| image.starts_with('/'));
        let image = Some(image).filter(|_| file.is_none());
        let registry = image.and_then(|image| self.registry(image, None));
        let mounts = mounts.iter().map(|(host, inside)| (host.as_str(), *inside, false)).collect();
        let mounts = self.mounts_with_socket(&format!("{}/socket", run.key), mounts).await?;
        let args = json!({
            "image": image,
            "dockerfile": file,
            "entryPoint": entrypoint,
            "entryPointArgs": arguments,
            "workingDirectory": "/github/workspace",
            "createOptions": null,
            "environmentVariables": variables,
            "prependPath": self.prepended(),
            "userMountVolumes": [],
            "systemMountVolumes": mounts,
            "registry": registry,
            "portMappings": [],
        });
        let call = Call { command: RUN_CONTAINER, number, args, files: Vec::new(), timeout: run.timeout };
        self.hook_request(frame, call).await
    }

    /// Directories from `GITHUB_PATH`, the last one first.
    fn prepended(&self) -> Vec<String> {
        let mapping = self.job_mapping();
        self.paths.iter().rev().map(|path| mapping.inside(path)).collect()
    }

    fn hook_container(&self, definition: &Definition) -> Map<String, Json> {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let volumes = definition.volumes.iter().map(|text| {
            let volume = volume(text);
            mount(&volume.source, &volume.target, volume.read_only)
        });
        let container = json!({
            "image": definition.image,
            "dockerfile": null,
            "entryPoint": text(&definition.entrypoint),
            "entryPointArgs": words(&definition.command),
            "workingDirectory": null,
            "createOptions": text(&definition.options),
            "environmentVariables": definition.env,
            "userMountVolumes": volumes.collect::<Vec<_>>(),
            "systemMountVolumes": [],
            "registry": self.registry(&definition.image, definition.credentials.clone()),
            "portMappings": definition.ports,
        });
        match container {
            Json::Object(container) => container,
            _ => Map::new(),
        }
    }

    fn registry(&self, image: &str, credentials: Option<(String, String)>) -> Option<Json> {
        let (user, password) = credentials.or_else(|| self.own_credentials(image))?;
        let server = match registry_of(image) {
            "" => "https://index.docker.io/v1",
            server => server,
        };
        Some(json!({ "username": user, "password": password, "serverUrl": server }))
    }

    async fn mounts_with_socket(&mut self, key: &str, mounts: Vec<(&str, &str, bool)>) -> Result<Json, JobError> {
        let socket = self.engine_socket(key).await?.map(|socket| mount(&socket, "/var/run/docker.sock", false));
        let mounts = mounts.into_iter().map(|(host, inside, read_only)| mount(host, inside, read_only));
        Ok(Json::Array(socket.into_iter().chain(mounts).collect()))
    }

    /// A call as a step of the host.
    async fn hook_request(&mut self, frame: &Frame, call: Call<'_>) -> Result<StepRequest, StepError> {
        let program = self.hook_program().await?;
        let Some(hook) = &self.containers.hook else {
            return Err(StepError::Failed("the host's container hook is not known".to_owned()));
        };
        let number = call.number;
        let (input, response) = (format!("{}/steps/{number}.input", self.host.dir()), self.response_file(number));
        let document = hook.document(call.command, Some(&response), &call.args);
        let shown = header::run(&format!("'{}'", hook.path), &program.shown, []);
        let file =
            |path: &str, content, temporary| StepFile { path: path.to_owned(), content, executable: false, temporary };
        let mut files = call.files;
        files.extend([file(&input, document, true), file(&response, Vec::new(), false)]);
        let script = format!("exec \"$@\" <{}", quote(&input));
        let argv =
            ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()].into_iter().chain(program.argv).collect();
        self.say(&shown)?;
        Ok(StepRequest {
            number,
            argv,
            env: self.hook_env(frame, number),
            cwd: self.workspace.path.clone(),
            files,
            timeout: call.timeout,
            spool: Spool::Main,
            contained: Some(Contained { files: self.command_files(), signal: None }),
        })
    }

    fn hook_env(&self, frame: &Frame, number: u32) -> Vec<(String, String)> {
        let base = (&self.machine, &[][..]);
        let step = own_step(condition::always());
        let mut env = self.process_env_over(base, frame, &step, &Variables::new(), number, None);
        // Hooks tell by the name whose containers are left from before: each slot of a host is a runner.
        env.retain(|(name, _)| name != "RUNNER_NAME");
        env.push(("RUNNER_NAME".to_owned(), format!("{}-{}", self.host_name, self.workspace.slot_name())));
        env
    }

    fn response_file(&self, number: u32) -> String {
        format!("{}/steps/{number}.response", self.host.dir())
    }

    /// How the program is run: looked for once in a job.
    async fn hook_program(&mut self) -> Result<Program, StepError> {
        const KEY: &str = "containers/hook/program";
        let Some(hook) = &self.containers.hook else { return Err(StepError::Failed(String::new())) };
        if let Some(program) = &hook.program {
            return Ok(program.clone());
        }
        let path = hook.path.clone();
        let found = match self.journal.recall::<Result<Program, String>>(KEY)? {
            Some(found) => found,
            None => {
                let found = match self.look_for_hook(&path).await {
                    Ok(program) => Ok(program),
                    Err(StepError::Failed(message)) => Err(message),
                    Err(error) => return Err(error),
                };
                self.record(KEY, &found)?;
                found
            }
        };
        let program = found.map_err(|message| StepError::Failed(format!("{FAILED} {message}")))?;
        if let Some(hook) = &mut self.containers.hook {
            hook.program = Some(program.clone());
        }
        Ok(program)
    }

    async fn look_for_hook(&mut self, path: &str) -> Result<Program, StepError> {
        let look = format!("[ -f {} ] && echo yes; exit 0\n", quote(path));
        if run(&self.host, "looking for the container hook", &look, b"").await?.is_empty() {
            let message = format!("File not found at '{path}'. Set {HOOKS} to the path of an existing file.");
            return Err(StepError::Failed(message));
        }
        match self.script_of_host(path).await? {
            Some((argv, shown)) => Ok(Program { argv, shown }),
            None => Err(StepError::Failed(format!(
                "Invalid file extension at '{path}'. {HOOKS} must be a path to a file with one of the following extensions: .js, .sh, .ps1"
            ))),
        }
    }

    /// What the call of step `number` answered. The file is there until the job is recorded as over.
    pub(in super::super) async fn hook_answer(&mut self, number: u32, exit: Exit) -> Result<Answer, JobError> {
        let path = self.response_file(number);
        let read = match self.host.read_file(&path, LARGEST).await {
            Ok(content) => answer(&content.unwrap_or_default()),
            // A directory, or too much.
            Err(TransportError::Failed { reason, .. }) => Err(reason),
            Err(error) => return Err(error.into()),
        };
        Ok(match read {
            Ok(said) => Answer { said, fault: None },
            // Who failed need not have answered.
            Err(_) if exit != Exit::Code(0) => Answer { said: None, fault: None },
            Err(fault) => {
                let hook = self.containers.hook.as_ref().map(|hook| hook.path.clone()).unwrap_or_default();
                let fault = format!("The response file of the hook script at '{hook}' cannot be read: {fault}");
                Answer { said: None, fault: Some(fault) }
            }
        })
    }

    /// The state that an ended call wants to be given again.
    pub(in super::super) fn keep_hook_state(&mut self, ended: &Ended) {
        let said = ended.hook.as_ref().and_then(|answer| answer.said.as_ref());
        let state = said.and_then(|said| said.get("state")).filter(|state| !state.is_null());
        if let (Some(hook), Some(state)) = (&mut self.containers.hook, state) {
            hook.state.clone_from(state);
            hook.changed = true;
        }
    }

    /// Has the containers of a job removed that can no longer do so itself; whether that is a hook's work.
    pub(in super::super) async fn clean_up_at_last(&mut self, runner: &Runner, target: &Target) -> bool {
        let Some(hook) = &self.containers.hook else { return false };
        let (Some(program), false) = (&hook.program, hook.told_end) else { return true };
        let frame = Frame::of_job(&self.order);
        let exports = self.hook_env(&frame, 0).into_iter().filter(|(name, _)| is_name(name));
        let mut script: String = exports.map(|(name, value)| format!("export {name}={}\n", quote(&value))).collect();
        let words: Vec<String> = program.argv.iter().map(|word| quote(word)).collect();
        script += &format!("exec {} >/dev/null 2>&1\n", words.join(" "));
        let document = hook.document(CLEAN_UP, None, &json!({}));
        match tokio::time::timeout(PATIENCE, runner.hosts.exec(target, &script, &document)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                log::warn!(job = self.order.job.0, host:% = target.name; "containers of the job may be left: {error}");
            }
            Err(_) => {
                log::warn!(job = self.order.job.0, host:% = target.name; "containers of the job may be left: no answer");
            }
        }
        true
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn mount(source: &str, target: &str, read_only: bool) -> Json {
    json!({ "sourceVolumePath": source, "targetVolumePath": target, "readOnly": read_only })
}

/// Reads what a call wrote: an object, or nothing.
fn answer(content: &[u8]) -> Result<Option<Map<String, Json>>, String> {
    if content.trim_ascii().is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(content) {
        Ok(Json::Object(said)) => Ok(Some(said)),
        Ok(Json::Null) => Ok(None),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

/// `isAlpine`: the runner reads it beside `context`, GitHub's manual has it inside.
fn is_alpine(said: &Map<String, Json>) -> Option<bool> {
    let inside = said.get("context").and_then(|context| context.get("isAlpine"));
    said.get("isAlpine").and_then(Json::as_bool).or_else(|| inside.and_then(Json::as_bool))
}

/// `job.container` and `job.services` from an answer. Services are a list in the order they were given, or have their names.
fn contexts(said: &Map<String, Json>, names: &[&str]) -> (Json, Json) {
    let context = said.get("context");
    let container = context.and_then(|context| context.get("container")).map(one_context).unwrap_or_default();
    let services: Map<String, Json> = match context.and_then(|context| context.get("services")) {
        Some(Json::Array(services)) => {
            let named = services.iter().enumerate().filter_map(|(index, service)| {
                let own = service.get("contextName").and_then(Json::as_str).filter(|name| names.contains(name));
                let name = own.or_else(|| names.get(index).copied())?;
                Some((name.to_owned(), Json::Object(one_context(service))))
            });
            named.collect()
        }
        Some(Json::Object(services)) => services
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(name, service)| (name.clone(), Json::Object(one_context(service))))
            .collect(),
        _ => Map::new(),
    };
    (Json::Object(container), Json::Object(services))
}

fn one_context(said: &Json) -> Map<String, Json> {
    let text = |value: &Json| match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut context = Map::new();
    for key in ["id", "network"] {
        if let Some(value) = said.get(key).and_then(text) {
            context.insert(key.to_owned(), Json::from(value));
        }
    }
    if let Some(Json::Object(ports)) = said.get("ports") {
        let ports = ports.iter().filter_map(|(port, value)| Some((port.clone(), Json::from(text(value)?))));
        context.insert("ports".to_owned(), Json::Object(ports.collect()));
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_every_form() {
        assert_eq!(answer(b" \n"), Ok(None));
        assert_eq!(answer(b"null"), Ok(None));
        assert!(answer(b"[1]").unwrap_err().contains("no JSON object"));
        assert!(answer(b"{\"state\":").unwrap_err().starts_with("it is no JSON: "));
        let said = |text: &str| answer(text.as_bytes()).unwrap().unwrap();
        assert_eq!(is_alpine(&said(r#"{"isAlpine":true}"#)), Some(true));
        assert_eq!(is_alpine(&said(r#"{"context":{"isAlpine":false}}"#)), Some(false));
        assert_eq!(is_alpine(&said(r#"{"isAlpine":"yes"}"#)), None);
    }

    #[test]
    fn contexts_come_from_lists_and_from_names() {
        let check = |context: Json, container: Json, services: Json| {
            let said = json!({ "context": context });
            assert_eq!(contexts(said.as_object().unwrap(), &["db", "web"]), (container, services));
        };
        check(Json::Null, json!({}), json!({}));
        check(
            json!({ "container": { "id": "c", "network": 7, "more": 1 },
                    "services": [{ "id": "d", "ports": { "80": 8080, "x": null } }, { "contextName": "web", "id": "w" }, {}] }),
            json!({ "id": "c", "network": "7" }),
            json!({ "db": { "id": "d", "ports": { "80": "8080" } }, "web": { "id": "w" } }),
        );
        check(
            json!({ "services": { "web": { "network": "n" }, "other": {} } }),
            json!({}),
            json!({ "web": { "network": "n" } }),
        );
    }
}
