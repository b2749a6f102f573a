//! JavaScript actions: `node` on the host, with inputs, state, and what runs before and after the steps (A1, A2).

use serde_json::{Map, Value as Json};

use crate::actions::Platform;
use crate::expr::Expression;
use crate::transport::{Spool, StepRequest};

use super::JobError;
use super::action::{Found, Use};
use super::contexts::{Frame, Variables};
use super::follow::Ended;
use super::job::Job;
use super::post::{Post, PostBody};
use super::script::StepRun;
use super::step::{StepEnd, StepError};
use super::workspace::{quote, run as run_on};

/// The newest node that actions ask for.
const NEWEST: u32 = 24;
/// The oldest that runs what asks for newer ones: GitHub has moved all actions from it to the next.
pub(super) const ACCEPTED: u32 = 20;

/// The scripts of an action.
pub(super) struct Scripts<'a> {
    pub(super) using: &'a str,
    pub(super) main: &'a str,
    pub(super) post: Option<(&'a str, &'a Expression)>,
}

impl Job {
    /// Runs `main` of a JavaScript action; its `post` waits for the end of the job.
    pub(super) async fn run_javascript(
        &mut self,
        frame: &mut Frame,
        use_: Use<'_>,
        scripts: &Scripts<'_>,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let outer = frame.github.clone();
        frame.github.extend(github_of(use_.found));
        let end = self.run_main(frame, &use_, scripts, run).await;
        frame.github = outer;
        end
    }

    async fn run_main(
        &mut self,
        frame: &mut Frame,
        use_: &Use<'_>,
        scripts: &Scripts<'_>,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let node = self.node(scripts.using).await?;
        // Reached is enough: the post step runs also when main fails.
        self.keep_post(frame, use_, scripts, &node, run.key, run.name);
        let state = self.states.get(run.key).cloned().unwrap_or_default();
        let mut request = self.script_request(frame, use_, &node, scripts.main, &state);
        request.timeout = run.timeout;
        let ended = self.follow(frame, use_.step, request, run).await?;
        self.keep_state(run.key, &ended);
        self.conclude_action(frame, use_.step, &ended)
    }

    /// Runs `pre` of a JavaScript action. `key` is the action's; what runs now has one of its own.
    pub(super) async fn run_pre_script(
        &mut self,
        frame: &mut Frame,
        use_: &Use<'_>,
        scripts: &Scripts<'_>,
        pre: &str,
        key: &str,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let outer = frame.github.clone();
        frame.github.extend(github_of(use_.found));
        let end = async {
            let node = self.node(scripts.using).await?;
            let name = run.name.strip_prefix("Pre ").unwrap_or(run.name);
            self.keep_post(frame, use_, scripts, &node, key, name);
            let state = self.states.get(key).cloned().unwrap_or_default();
            let request = self.script_request(frame, use_, &node, pre, &state);
            let ended = self.follow(frame, use_.step, request, run).await?;
            self.keep_state(key, &ended);
            self.conclude_action(frame, use_.step, &ended)
        }
        .await;
        frame.github = outer;
        end
    }

    fn script_request(
        &mut self,
        frame: &Frame,
        use_: &Use<'_>,
        node: &str,
        script: &str,
        state: &Variables,
    ) -> StepRequest {
        let number = self.next_number();
        StepRequest {
            number,
            argv: vec![node.to_owned(), format!("{}/{script}", use_.found.directory)],
            env: self.process_env(frame, use_.step, use_.env, number, Some((&use_.inputs, state))),
            cwd: self.workspace.path.clone(),
            files: Vec::new(),
            timeout: None,
            spool: Spool::Main,
            contained: None,
        }
    }

    /// Puts the post step on the job's stack; a stage after the first only renews what it will see.
    fn keep_post(&mut self, frame: &Frame, use_: &Use<'_>, scripts: &Scripts<'_>, node: &str, key: &str, name: &str) {
        let Some((script, condition)) = scripts.post else { return };
        let post = Post {
            number: frame.number,
            key: format!("{key}/post"),
            of: key.to_owned(),
            name: format!("Post {name}"),
            condition: condition.clone(),
            step: use_.step.clone(),
            body: PostBody::Program(vec![node.to_owned(), format!("{}/{script}", use_.found.directory)]),
            inputs: use_.inputs.clone(),
            env: use_.env.clone(),
            github: frame.github.clone(),
        };
        self.stack_post(post);
    }

    /// A post step is on the stack once, however many stages of its action ran.
    pub(super) fn stack_post(&mut self, post: Post) {
        match self.posts.iter_mut().find(|known| known.key == post.key) {
            Some(known) => *known = Post { number: known.number, ..post },
            None => self.posts.push(post),
        }
    }

    /// What a stage saved is there for all stages after it.
    pub(super) fn keep_state(&mut self, key: &str, ended: &Ended) {
        let saved = ended.state();
        if !saved.is_empty() {
            self.states.entry(key.to_owned()).or_default().extend(saved);
        }
    }

    /// The node that runs an action: the host's own if its version fits, else one that is brought there (A1).
    async fn node(&mut self, using: &str) -> Result<String, StepError> {
        let wanted: u32 = match using.to_ascii_lowercase().as_str() {
            // GitHub runs what asks for older versions with a newer one.
            "node12" | "node16" | "node20" => ACCEPTED,
            "node24" => NEWEST,
            other => return Err(StepError::Failed(format!("'runs.using: {other}' is not known; use node{NEWEST}"))),
        };
        if let Some(node) = self.nodes.get(&wanted) {
            return Ok(node.clone());
        }
        if self.containers.has_job() {
            let node = self.node_in_container(wanted).await?;
            self.nodes.insert(wanted, node.clone());
            return Ok(node);
        }
        let node = self.node_of_host(wanted).await?;
        self.nodes.insert(wanted, node.clone());
        Ok(node)
    }

    /// The node for what runs on the host itself.
    pub(super) async fn node_of_host(&mut self, wanted: u32) -> Result<String, StepError> {
        let facts = self.host.facts();
        let own = facts.node.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
        let (own_path, platform) = (facts.node_path.clone(), Platform::of_host(&facts.os, &facts.arch, &facts.libc));
        if own.is_some_and(|major| major >= wanted) {
            Ok(own_path)
        } else if let Some(brought) = self.bring_node(wanted, &platform).await? {
            Ok(brought)
        } else if own.is_some_and(|major| major >= ACCEPTED) {
            Ok(own_path)
        } else {
            let has = own.map_or("no node".to_owned(), |major| format!("node {major}"));
            Err(StepError::Failed(format!(
                "this wants node {wanted}, and {} has {has}: install node {NEWEST} there, or give it one from here with \
                 `towline runtime add node{NEWEST} PATH|URL` (for {platform})",
                self.order_host()
            )))
        }
    }

    /// Brings a node that was added here to the host, unless it is there.
    pub(super) async fn bring_node(&mut self, wanted: u32, platform: &Platform) -> Result<Option<String>, StepError> {
        let Some(runtimes) = &self.runner.sources.runtimes else { return Ok(None) };
        let majors = (wanted..=NEWEST).rev();
        let found = majors.map(|major| format!("node{major}")).find_map(|name| runtimes.find(&name, platform));
        let Some(runtime) = found else { return Ok(None) };
        let directory = format!("{}/{}", self.workspace.runtimes, runtime.directory());
        let program = format!("{directory}/bin/node");
        let look = format!("[ -x {} ] && echo yes; exit 0\n", quote(&program));
        if run_on(&self.host, "looking for node", &look, b"").await?.is_empty() {
            let path = runtime.path.clone();
            let archive = tokio::task::spawn_blocking(move || {
                let mut archive = tar::Builder::new(Vec::new());
                archive.append_path_with_name(&path, "bin/node")?;
                archive.into_inner()
            })
            .await
            .map_err(std::io::Error::other)
            .and_then(|result| result)
            .map_err(JobError::Log)?;
            self.push_tree(&archive, &directory).await?;
        }
        Ok(Some(program))
    }
}

/// What `github` says of the action to its own process.
pub(super) fn github_of(found: &Found) -> Map<String, Json> {
    let known =
        [("action_path", &found.directory), ("action_repository", &found.repository), ("action_ref", &found.reference)];
    known.into_iter().map(|(key, value)| (key.to_owned(), Json::from(value.as_str()))).collect()
}
