//! JavaScript actions: `node` on the host, with inputs, state and the post step (A1, A2).

use crate::expr::Expression;
use crate::transport::{Spool, StepRequest};

use super::action::Use;
use super::contexts::{Frame, Variables};
use super::follow::Ended;
use super::job::{Job, Post};
use super::script::StepRun;
use super::step::{StepEnd, StepError};

impl Job<'_> {
    /// Runs `main` of a JavaScript action, and keeps its `post` for the end of the job.
    pub(super) async fn run_javascript(
        &mut self,
        frame: &mut Frame,
        use_: Use<'_>,
        using: &str,
        main: &str,
        post: Option<(String, Expression)>,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let node = self.node(using)?;
        let number = self.next_number();
        let mut github = frame.github.clone();
        for (key, value) in [
            ("action_path", &use_.found.directory),
            ("action_repository", &use_.found.repository),
            ("action_ref", &use_.found.reference),
        ] {
            github.insert(key.to_owned(), value.as_str().into());
        }
        let outer = std::mem::replace(&mut frame.github, github);
        let env = self.process_env(frame, use_.step, use_.env, number, Some((&use_.inputs, &Variables::new())));
        let request = StepRequest {
            number,
            argv: vec![node.clone(), format!("{}/{main}", use_.found.directory)],
            env,
            cwd: self.workspace.path.clone(),
            files: Vec::new(),
            timeout: run.timeout,
            spool: Spool::Main,
        };
        let ended = self.follow(frame, use_.step, request, run).await;
        if let Some((script, condition)) = post {
            // Reached is enough: the post step runs also when main failed (A2).
            let state = ended.as_ref().map(Ended::state).unwrap_or_default();
            self.posts.push(Post {
                key: format!("{}/post", run.key),
                name: format!("Post {}", run.name),
                condition,
                step: use_.step.clone(),
                argv: vec![node, format!("{}/{script}", use_.found.directory)],
                inputs: use_.inputs.clone(),
                env: use_.env.clone(),
                github: frame.github.clone(),
                state,
            });
        }
        frame.github = outer;
        self.conclude_process(frame, use_.step, &ended?)
    }

    /// The node that runs an action: the host's own if its version fits (A1).
    fn node(&self, using: &str) -> Result<String, StepError> {
        let wanted: u32 = match using.to_ascii_lowercase().as_str() {
            // GitHub runs what asks for older versions with a newer one.
            "node12" | "node16" | "node20" => 20,
            "node24" => 24,
            other => return Err(StepError::Failed(format!("'runs.using: {other}' is not known; use node24"))),
        };
        let facts = self.host.facts();
        let version = facts.node.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
        match version {
            Some(have) if have >= wanted || (have >= 20 && wanted == 24) => Ok(facts.node_path.clone()),
            Some(have) => Err(StepError::Failed(format!(
                "this action wants node {wanted}, and {} has node {have}: install a newer node there",
                self.order_host()
            ))),
            None => Err(StepError::Failed(format!(
                "this action wants node {wanted}, and {} has no node: install one there, or choose a host that has it",
                self.order_host()
            ))),
        }
    }
}
