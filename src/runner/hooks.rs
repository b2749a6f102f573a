//! Job hooks (H9): scripts of the host's owner that run before and after every job of it. They are named in the host's
//! environment, as for GitHub's runner, and always run on the host itself, never in a container.

use crate::expr::condition;
use crate::run::conclusion::Conclusion;
use crate::run::report::StepKind;
use crate::toolkit::{header, shell};
use crate::transport::{Spool, StepRequest};
use crate::workflow::model::{Step, StepBody};
use crate::workflow::token::Token;

use super::JobError;
use super::contexts::Frame;
use super::javascript::ACCEPTED;
use super::job::Job;
use super::script::StepRun;
use super::step::{StepEnd, StepError};

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Started,
    Completed,
}

impl Hook {
    fn variable(self) -> &'static str {
        match self {
            Self::Started => "ACTIONS_RUNNER_HOOK_JOB_STARTED",
            Self::Completed => "ACTIONS_RUNNER_HOOK_JOB_COMPLETED",
        }
    }

    fn step_name(self) -> &'static str {
        match self {
            Self::Started => "Set up runner",
            Self::Completed => "Complete runner",
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Started => "job started hook",
            Self::Completed => "job completed hook",
        }
    }
}

impl Job {
    /// Runs a hook if the host has one; says whether the job may go on. A hook that fails is a failure of the job.
    pub(super) async fn run_hook(&mut self, frame: &mut Frame, hook: Hook) -> Result<bool, JobError> {
        let (name, key) = (hook.step_name(), hook.variable());
        let record = format!("{key}/path");
        let named = self.machine.get(key).filter(|path| !path.trim().is_empty()).cloned();
        // As it was when the job first came here, whatever the host says by now.
        let path = match self.journal.recall::<String>(&record)? {
            Some(path) => path,
            None if !self.journal.is_live() && !self.journal.knows(&format!("{key}/begin")) => return Ok(true),
            None => {
                let Some(path) = named else { return Ok(true) };
                if self.journal.is_live() {
                    self.record(&record, &path)?;
                }
                path
            }
        };
        let kind = match hook {
            Hook::Started => StepKind::SetUp,
            Hook::Completed => StepKind::Post,
        };
        frame.number = match hook {
            Hook::Started => self.insert_set_up_step(name).await,
            Hook::Completed => self.append_step(name, kind).await,
        };
        self.step_started(frame.number, name, kind, key).await?;
        self.say_line(&format!("A {} has been configured by the self-hosted runner administrator", hook.described()))?;
        let run = StepRun { key, name, timeout: None, on_host: true };
        let end = match self.run_hook_script(frame, &path, &run).await {
            Ok(end) => end,
            Err(StepError::Job(error)) => return Err(error),
            Err(StepError::Failed(message)) => {
                self.error(frame.number, &message)?;
                StepEnd::of(Conclusion::Failure)
            }
        };
        self.status.record(end.outcome);
        self.step_finished(frame.number, end.outcome, end.outcome, end.exit_code, key).await?;
        Ok(end.outcome == Conclusion::Success)
    }

    async fn run_hook_script(
        &mut self,
        frame: &mut Frame,
        path: &str,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let Some((argv, shown)) = self.script_of_host(path).await? else {
            let message =
                format!("{path} is not a valid path to a script. Make sure it ends in '.sh', '.ps1' or '.js'.");
            return Err(StepError::Failed(message));
        };
        let step = Step {
            id: String::new(),
            explicit_id: false,
            name: None,
            condition: condition::always(),
            env: None,
            continue_on_error: None,
            timeout_minutes: None,
            background: false,
            body: StepBody::Run { script: Token::String(path.to_owned()), shell: None, working_directory: None },
        };
        let env = self.env_of(frame);
        let number = self.next_number();
        let variables = self.shown_env(frame, &env);
        let pairs = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.say(&header::run(&format!("'{path}'"), &shown, pairs))?;
        let machine = self.machine.clone();
        let paths = self.paths.clone();
        let request = StepRequest {
            number,
            argv,
            env: self.process_env_over((&machine, &paths), frame, &step, &env, number, None),
            cwd: self.workspace.path.clone(),
            files: Vec::new(),
            timeout: None,
            spool: Spool::Main,
            contained: None,
        };
        let ended = self.follow(frame, &step, request, run).await?;
        self.conclude_process(frame, &step, &ended)
    }

    /// The words that run a script of the host's owner, by its extension, and how the log has them.
    pub(super) async fn script_of_host(&mut self, path: &str) -> Result<Option<(Vec<String>, String)>, StepError> {
        Ok(Some(match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("sh") if self.host.facts().bash.is_empty() => in_shell("sh", path)?,
            Some("sh") => in_shell("bash", path)?,
            Some("ps1") => in_shell("pwsh", path)?,
            Some("js") => {
                let node = self.node_of_host(ACCEPTED).await?;
                let shown = format!("{node} {{0}}");
                (vec![node, path.to_owned()], shown)
            }
            _ => return Ok(None),
        }))
    }
}

/// The words that run a script in one of the shells, and how the log has them.
fn in_shell(name: &str, path: &str) -> Result<(Vec<String>, String), StepError> {
    let shell = shell::resolve(Some(name), true).map_err(|error| StepError::Failed(error.to_string()))?;
    Ok((shell.argv(path), shell.shown(None)))
}
