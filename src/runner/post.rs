//! Post steps: what actions have to do when all steps have ended (A2).

use serde_json::{Map, Value as Json};

use crate::expr::Expression;
use crate::run::conclusion::Conclusion;
use crate::run::report::{Report, StepKind, StepState};
use crate::toolkit::header;
use crate::transport::{Spool, StepFile, StepRequest};
use crate::workflow::model::Step;

use super::JobError;
use super::container::{DockerStage, OwnCommand};
use super::contexts::{Frame, Variables};
use super::job::Job;
use super::script::StepRun;
use super::step::{Decided, StepEnd, StepError};

/// A post step that is due at the end of the job.
pub(super) struct Post {
    /// The job's number of the step that reached it first.
    pub(super) number: u32,
    pub(super) key: String,
    /// The key of the action, under which its state is kept.
    pub(super) of: String,
    pub(super) name: String,
    pub(super) condition: Expression,
    pub(super) step: Step,
    pub(super) body: PostBody,
    pub(super) inputs: Map<String, Json>,
    pub(super) env: Variables,
    pub(super) github: Map<String, Json>,
}

/// What a post step runs.
pub(super) enum PostBody {
    /// A program where the job's steps run.
    Program(Vec<String>),
    Docker(DockerStage),
    /// A script of the runner's own, on the host.
    Own(String),
}

impl Job {
    /// Post steps, the last one first; each by its own condition (A2).
    pub(super) async fn run_posts(&mut self, frame: &mut Frame) -> Result<(), JobError> {
        frame.number = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        // Those of background steps came when they were waited for.
        self.posts.sort_by_key(|post| post.number);
        while let Some(post) = self.posts.pop() {
            frame.number += 1;
            self.steps.push(StepState::new(frame.number, post.name.clone(), StepKind::Post));
            self.report(Report::Steps { steps: self.steps.clone() }).await;
            self.run_post(frame, post).await?;
        }
        Ok(())
    }

    /// Runs a post step.
    async fn run_post(&mut self, frame: &mut Frame, post: Post) -> Result<(), JobError> {
        self.renew_token().await;
        let mut step = post.step;
        step.condition = post.condition;
        step.timeout_minutes = None;
        let outer = std::mem::replace(&mut frame.github, post.github);
        let Decided { result: decided, trace, .. } =
            self.decide(frame, &step, &post.env, (&post.key, &post.name)).await?;
        if decided == Ok(false) {
            self.step_skipped(frame.number, &post.name).await?;
            frame.github = outer;
            return self.say_debug(&trace);
        }
        self.step_started(frame.number, &post.name, StepKind::Post, &post.key).await?;
        self.say_debug(&trace)?;
        self.say_line(header::POST)?;
        let run = StepRun { key: &post.key, name: &post.name, timeout: None, on_host: false };
        let saved = self.states.get(&post.of).cloned().unwrap_or_default();
        let request = match post.body {
            PostBody::Own(script) if decided.is_ok() => {
                frame.github = outer;
                let end = self.run_own_post(frame, script, &post.key).await?;
                self.status.record(end);
                return self.step_finished(frame.number, end, end, None, &post.key).await;
            }
            PostBody::Own(_) => Err(StepError::Failed(String::new())),
            PostBody::Docker(stage) => {
                self.docker_request(frame, &step, &post.env, (&post.inputs, &saved), &stage, &run).await
            }
            PostBody::Program(argv) => {
                let number = self.next_number();
                Ok(StepRequest {
                    number,
                    argv,
                    env: self.process_env(frame, &step, &post.env, number, Some((&post.inputs, &saved))),
                    cwd: self.workspace.path.clone(),
                    files: Vec::new(),
                    timeout: None,
                    spool: Spool::Main,
                    contained: None,
                })
            }
        };
        let end = match (decided, request) {
            (Err(message), _) => Err(StepError::Failed(message)),
            (_, Err(error)) => Err(error),
            (Ok(_), Ok(request)) => match self.follow_docker(frame, &step, request, &run).await {
                Ok(ended) => self.conclude_action(frame, &step, &ended),
                Err(error) => Err(error),
            },
        };
        frame.github = outer;
        let end = match end {
            Ok(end) => end,
            Err(StepError::Job(error)) => return Err(error),
            Err(StepError::Failed(message)) => {
                self.error(frame.number, &message)?;
                StepEnd::of(Conclusion::Failure)
            }
        };
        self.status.record(end.outcome);
        self.step_finished(frame.number, end.outcome, end.outcome, end.exit_code, &post.key).await
    }

    async fn run_own_post(&mut self, frame: &Frame, script: String, key: &str) -> Result<Conclusion, JobError> {
        let number = self.next_number();
        let path = format!("{}/steps/{number}.sh", self.host.dir());
        let argv = vec!["/bin/sh".to_owned(), path.clone()];
        let env = self.machine.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let files = vec![StepFile { path, content: script.into_bytes(), executable: false, temporary: true }];
        let command = OwnCommand { argv, env, files, shown: true };
        let condition = crate::expr::condition::always();
        match self.own_command(frame, (&format!("{key}/end"), number), condition, command).await {
            Ok(said) if said.code == 0 => Ok(Conclusion::Success),
            Ok(said) if said.cancelled => Ok(Conclusion::Cancelled),
            Ok(_) => Ok(Conclusion::Failure),
            Err(StepError::Job(error)) => Err(error),
            Err(StepError::Failed(message)) => {
                self.error(frame.number, &message)?;
                Ok(Conclusion::Failure)
            }
        }
    }
}
