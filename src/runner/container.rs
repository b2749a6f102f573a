//! Containers of a job: what `container:` and `services:` say, and what of it runs (D1, D2).
//!
//! Every command to the engine is a step of the host (`command`): started once, followed to its end, found again after a
//! restart. Names and labels come from the job, so whoever cleans up finds what belongs to it (`leftovers`).

mod action;
mod command;
mod hook;
mod image;
pub(super) mod leftovers;
mod lifecycle;
mod place;
mod relay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::expr::Value;
use crate::toolkit::container::PortMapping;
use crate::workflow::model::{Step, StepBody};

use super::contexts::{Frame, Variables};
use super::job::Job;
use super::step::{StepError, variables};

pub(super) use action::{DockerAction, DockerStage, Stage};
pub(super) use command::OwnCommand;
pub(super) use hook::{Answer, FAILED as HOOK_FAILED};

/// What a job asks for and what of it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Containers {
    /// `container:`, evaluated.
    job_definition: Option<Definition>,
    /// `services:` with an image, evaluated, by name.
    service_definitions: Vec<(String, Definition)>,
    /// The host's own program, in the place of an engine.
    hook: Option<hook::Hook>,
    /// Known once something was asked of it.
    engine: Option<Engine>,
    network: Option<String>,
    job: Option<Running>,
    services: Vec<Running>,
    /// The way from containers to the services for actions.
    relay: relay::Relay,
    /// Paths inside of the container that a docker action runs in, and on the host; while it runs.
    action_mounts: Option<Vec<(String, String)>>,
    /// Images that were pulled or built for actions of this job.
    images: Vec<String>,
    /// Images that are to be pulled or built before the first step.
    wanted: Vec<WantedImage>,
    /// Something was made that has to go at the end; also by what runs beside the job.
    used: Arc<AtomicBool>,
}

/// A container as a workflow describes it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Definition {
    image: String,
    credentials: Option<(String, String)>,
    env: Variables,
    ports: Vec<String>,
    volumes: Vec<String>,
    options: String,
    entrypoint: String,
    command: String,
}

/// A container that was started.
#[derive(Clone, Debug)]
struct Running {
    /// The name of the service; empty for the job's container.
    alias: String,
    name: String,
    id: String,
    image: String,
    ports: Vec<PortMapping>,
    /// `PATH` of the image.
    path: String,
    /// What is in the container.
    inside: Inside,
    /// Its logs were shown when it failed.
    failed: bool,
}

/// What a job container has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Inside {
    sh: bool,
    /// `v20.1.0`, or empty, and its path.
    node: String,
    node_path: String,
    musl: bool,
    /// What could run a small program there besides node: `python3`, `perl`, or empty.
    #[serde(default)]
    relay: String,
    /// `PATH` as its processes have it.
    path: String,
}

/// The last lines of a command's output, and how it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) code: i32,
    /// By a cancel or a time limit.
    pub(super) cancelled: bool,
    pub(super) lines: Vec<String>,
}

/// An image of an action, known before the first step: the name of the step that gets it.
#[derive(Clone, Debug)]
struct WantedImage {
    name: String,
    found: Option<super::action::Found>,
    image: String,
}

impl Containers {
    /// Notes an image of an action; each is got once.
    pub(super) fn wanted(&mut self, name: String, found: Option<super::action::Found>, image: String) {
        if !self.wanted.iter().any(|known| known.name == name) {
            self.wanted.push(WantedImage { name, found, image });
        }
    }

    /// Whether steps run in a container.
    pub(super) fn has_job(&self) -> bool {
        self.job_definition.is_some()
    }

    /// Whether the host's own program runs the steps of the job.
    pub(super) fn are_hooked(&self) -> bool {
        self.hook.is_some() && self.has_job()
    }

    /// The same for a step that runs beside the job.
    pub(super) fn split_off(&self) -> Self {
        let mut own = self.clone();
        if let Some(hook) = &mut own.hook {
            hook.split_off();
        }
        own
    }

    /// Whether something may still be there that was made for the job.
    pub(super) fn are_left(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    fn uses(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    fn are_gone(&self) {
        self.used.store(false, Ordering::Relaxed);
    }

    /// Takes note of images that a background step got.
    pub(super) fn join(&mut self, other: &Self) {
        if let (Some(hook), Some(other)) = (&mut self.hook, &other.hook) {
            hook.join(other);
        }
        for image in &other.images {
            if !self.images.contains(image) {
                self.images.push(image.clone());
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.job_definition.is_none() && self.service_definitions.is_empty()
    }

    /// `job.container` and `job.services`.
    pub(super) fn contexts(&self) -> (Json, Json) {
        if let Some(hook) = &self.hook {
            return hook.contexts();
        }
        let mut container = Map::new();
        if let Some(network) = &self.network {
            container.insert("network".to_owned(), json!(network));
        }
        if let Some(job) = &self.job {
            container.insert("id".to_owned(), json!(job.id));
        }
        let mut services = Map::new();
        for service in &self.services {
            let ports: Map<String, Json> =
                service.ports.iter().map(|port| (port.container.clone(), json!(port.host))).collect();
            let known = json!({ "id": service.id, "network": self.network, "ports": ports });
            services.insert(service.alias.clone(), known);
        }
        (Json::Object(container), Json::Object(services))
    }
}

impl Job {
    /// Evaluates `container:` and `services:`. A service or a container without an image is none.
    pub(super) async fn define_containers(&mut self, frame: &Frame) -> Result<(), StepError> {
        let env = self.env.clone();
        let order = Arc::clone(&self.order);
        if let Some(token) = &order.container {
            let value = self.value(token, frame, &env, "container").await?;
            self.containers.job_definition = definition(&value).map_err(StepError::Failed)?;
        }
        if let Some(token) = &order.services {
            let value = self.value(token, frame, &env, "services").await?;
            for (name, value) in value.as_object().into_iter().flat_map(crate::expr::Object::iter) {
                match definition(value).map_err(|fault| StepError::Failed(format!("service '{name}': {fault}")))? {
                    Some(definition) => self.containers.service_definitions.push((name.to_owned(), definition)),
                    None => self.say_line(&format!(
                        "The service '{name}' will not be started because the container definition has an empty image."
                    ))?,
                }
            }
        }
        let definitions = self.containers.service_definitions.iter().map(|(_, definition)| definition);
        for definition in definitions.chain(&self.containers.job_definition) {
            if let Some((_, password)) = &definition.credentials {
                self.masks.add(password);
            }
        }
        self.find_hook()
    }

    /// The containers' engine and the way to call it. What was found first stays so for the job.
    fn find_engine(&mut self) -> Result<Engine, StepError> {
        if let Some(engine) = &self.containers.engine {
            return Ok(engine.clone());
        }
        let found = match self.journal.recall::<Result<Engine, String>>("containers/engine")? {
            Some(found) => found,
            None => {
                let found = self.look_for_engine();
                self.record("containers/engine", &found)?;
                found
            }
        };
        let engine = found.map_err(StepError::Failed)?;
        self.containers.engine = Some(engine.clone());
        Ok(engine)
    }

    fn look_for_engine(&self) -> Result<Engine, String> {
        let facts = self.host.facts();
        if facts.os != "Linux" {
            return Err("Container operations are only supported on Linux runners".to_owned());
        }
        if facts.container_engine.is_empty() {
            return Err(format!(
                "this job needs containers, and on the host '{host}' the user '{user}' can use neither docker nor podman: install \
                 one there (and let the user into the group docker), or choose a host that has it with \
                 `runs-on: [self-hosted, docker]`",
                host = self.host_name,
                user = facts.user
            ));
        }
        let program = match facts.container_engine_path.as_str() {
            "" => facts.container_engine.clone(),
            path => path.to_owned(),
        };
        Ok(Engine { program, is_docker: facts.container_engine == "docker" })
    }

    /// The stem of all names that belong to this job: the same after a restart, and of no other job.
    fn container_stem(&self) -> String {
        self.host.tracking_id().trim_start_matches("github_").replace('-', "")
    }

    /// The labels by which everything of this job is found.
    fn container_labels(&self) -> Vec<String> {
        vec![
            "--label".to_owned(),
            format!("towline.job={}", self.runner.job_key(&self.order)),
            "--label".to_owned(),
            format!("towline.root={}", self.host.root()),
        ]
    }
}

/// `docker` or `podman` on the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Engine {
    program: String,
    is_docker: bool,
}

/// A step that stands for work of the runner's own, where a step is asked for.
fn own_step(condition: crate::expr::Expression) -> Step {
    Step {
        id: "__containers".to_owned(),
        explicit_id: false,
        name: None,
        condition,
        env: None,
        continue_on_error: None,
        timeout_minutes: None,
        background: false,
        body: StepBody::WaitAll,
    }
}

/// Reads the evaluated text or mapping of one container. `None` when the image is empty.
fn definition(value: &Value) -> Result<Option<Definition>, String> {
    let image = match value {
        Value::Null => return Ok(None),
        Value::Object(_) => value.get("image").map(Value::to_display_string).unwrap_or_default(),
        other => other.to_display_string(),
    };
    let image = image.trim();
    let plain = image.get(..9).filter(|start| start.eq_ignore_ascii_case("docker://")).map_or(image, |_| &image[9..]);
    if plain.is_empty() {
        return Ok(None);
    }
    let text = |key: &str| value.get(key).map(Value::to_display_string).unwrap_or_default();
    let list = |key: &str| -> Vec<String> {
        let items = value.get(key).and_then(Value::as_array).unwrap_or_default();
        items.iter().map(Value::to_display_string).filter(|item| !item.is_empty()).collect()
    };
    let credentials = value.get("credentials").filter(|credentials| credentials.as_object().is_some());
    let credentials = credentials.map(|credentials| {
        let part = |key: &str| credentials.get(key).map(Value::to_display_string).unwrap_or_default();
        (part("username"), part("password"))
    });
    Ok(Some(Definition {
        image: plain.to_owned(),
        credentials: credentials.filter(|(user, password)| !user.is_empty() && !password.is_empty()),
        env: value.get("env").map(variables).transpose()?.unwrap_or_default(),
        ports: list("ports"),
        volumes: list("volumes"),
        options: text("options"),
        entrypoint: text("entrypoint"),
        command: text("command"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_read_in_every_form() {
        let check = |json: Json, expect: Option<Definition>| {
            assert_eq!(definition(&Value::from_json(&json)).unwrap(), expect, "{json}");
        };
        let image = |image: &str| Definition { image: image.to_owned(), ..Definition::default() };
        check(json!(null), None);
        check(json!(""), None);
        check(json!("docker://"), None);
        check(json!("node:20"), Some(image("node:20")));
        check(json!("Docker://node:20"), Some(image("node:20")));
        check(json!({ "image": "", "env": { "A": 1 } }), None);
        check(json!({ "image": "a", "credentials": { "username": "u", "password": "" } }), Some(image("a")));
        let env = [("A".to_owned(), "1".to_owned())].into_iter().collect();
        let full = Definition {
            credentials: Some(("u".to_owned(), "p".to_owned())),
            env,
            ports: vec!["80".to_owned(), "8080:80".to_owned()],
            options: "--cpus 1".to_owned(),
            ..image("a")
        };
        check(
            json!({ "image": "a", "credentials": { "username": "u", "password": "p" }, "env": { "A": 1 },
                    "ports": [80, "8080:80"], "options": "--cpus 1" }),
            Some(full),
        );
    }
}
