//! `run` steps: the script in a shell of the host.

use crate::run::conclusion::Conclusion;
use crate::toolkit::{header, shell};
use crate::transport::{Spool, StepFile, StepRequest};
use crate::workflow::model::{RunDefaults, Step};
use crate::workflow::token::Token;

use super::JobError;
use super::container::HOOK_FAILED;
use super::contexts::{Frame, Variables};
use super::follow::Ended;
use super::job::Job;
use super::step::{StepEnd, StepError};

impl Job {
    /// Runs the script of a step to its end.
    pub(super) async fn run_script(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        (script, own_shell, own_directory): (&Token, Option<&Token>, Option<&Token>),
        step_env: &Variables,
        run: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        let script = self.text(script, frame, step_env, run.key).await?;
        // Defaults of the job never reach the steps of a composite action (S3).
        let defaults = if frame.action.is_none() { self.order.defaults.clone() } else { RunDefaults::default() };
        let shell = match own_shell.or(defaults.shell.as_ref()) {
            Some(token) => Some(self.text(token, frame, step_env, run.key).await?),
            None => None,
        };
        let directory = match own_directory.or(defaults.working_directory.as_ref()) {
            Some(token) => self.text(token, frame, step_env, run.key).await?,
            None => String::new(),
        };
        let cwd = join(&self.workspace.path, &directory);
        let number = self.next_number();
        let facts = self.host.facts();
        // A container always counts as having none (H1).
        let has_bash = !facts.bash.is_empty() && !self.containers.has_job();
        let template = shell::resolve(shell.as_deref().filter(|shell| !shell.trim().is_empty()), has_bash)
            .map_err(|error| StepError::Failed(error.to_string()))?;
        let path = format!(
            "{}/{}{}",
            self.workspace.temp,
            script_name(&self.order.job.to_string(), number),
            template.extension
        );
        let content = template.script(&script);
        let argv = template.argv(&self.seen(&path));
        let shown = self.shown_env(frame, step_env);
        let shell_line = template.shown(self.which(&template.program).as_deref());
        let pairs = shown.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.say(&header::run(&script, &shell_line, pairs))?;
        let env = self.process_env(frame, step, step_env, number, None);
        let request = StepRequest {
            number,
            argv,
            env,
            cwd,
            files: vec![StepFile { path, content: content.into_bytes(), executable: false, temporary: true }],
            timeout: run.timeout,
            spool: Spool::Main,
            contained: None,
        };
        let ended = self.follow(frame, step, request, run).await?;
        self.conclude_process(frame, step, &ended)
    }

    /// What the end of a process means for its step, and the line GitHub prints for it (H6).
    pub(super) fn conclude_process(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        ended: &Ended,
    ) -> Result<StepEnd, StepError> {
        self.conclude_ended(frame, step, ended, true)
    }

    /// The same for a JavaScript or docker action, which says itself what went wrong.
    pub(super) fn conclude_action(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        ended: &Ended,
    ) -> Result<StepEnd, StepError> {
        self.conclude_ended(frame, step, ended, false)
    }

    fn conclude_ended(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        ended: &Ended,
        says_code: bool,
    ) -> Result<StepEnd, StepError> {
        use crate::transport::Exit;
        let failed = self.apply_files(frame, step, ended)?;
        let code = ended.exit.code();
        let outcome = match ended.exit {
            Exit::Cancelled(_) => Conclusion::Cancelled,
            Exit::TimedOut(_) => {
                self.error(
                    frame.number,
                    &format!("The action '{}' has timed out after {} minutes.", ended.name, ended.minutes),
                )?;
                Conclusion::Failure
            }
            Exit::Code(0) if let Some(fault) = ended.hook.as_ref().and_then(|answer| answer.fault.as_ref()) => {
                self.error(frame.number, fault)?;
                self.error(frame.number, HOOK_FAILED)?;
                Conclusion::Failure
            }
            Exit::Code(0) if failed.is_none() => Conclusion::Success,
            Exit::Code(0) => Conclusion::Failure,
            Exit::Code(_) if !says_code && ended.hook.is_none() => Conclusion::Failure,
            Exit::Code(code) | Exit::NotStarted(code) => {
                // Why nothing could be started is in the log.
                if matches!(ended.exit, Exit::Code(_)) {
                    self.error(frame.number, &format!("Process completed with exit code {code}."))?;
                }
                if ended.hook.is_some() {
                    self.error(frame.number, HOOK_FAILED)?;
                }
                Conclusion::Failure
            }
        };
        // A command that went wrong has said so itself.
        if let Some(message) = failed.filter(|message| !message.is_empty()) {
            self.error(frame.number, &message)?;
        }
        Ok(StepEnd { outcome, exit_code: Some(code), running: false })
    }

    /// The absolute path of a program on the host, for the log.
    fn which(&self, program: &str) -> Option<String> {
        if self.containers.has_job() {
            return None;
        }
        let facts = self.host.facts();
        let path = match program {
            "bash" => &facts.bash,
            "python" => &facts.python,
            "pwsh" => &facts.pwsh,
            _ => return None,
        };
        Some(path.clone()).filter(|path| !path.is_empty())
    }
}

/// How a step is run this time.
pub(super) struct StepRun<'a> {
    /// Key in the journal, unique in the job.
    pub(super) key: &'a str,
    /// As shown.
    pub(super) name: &'a str,
    pub(super) timeout: Option<std::time::Duration>,
    /// On the host itself, whatever container the job has.
    pub(super) on_host: bool,
}

fn script_name(job: &str, number: u32) -> String {
    format!("{job}-{number}")
}

/// A directory relative to the workspace (H5).
pub(super) fn join(workspace: &str, directory: &str) -> String {
    match directory {
        "" | "." | "./" => workspace.to_owned(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => format!("{workspace}/{}", relative.trim_start_matches("./")),
    }
}

impl From<JobError> for StepError {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl From<std::io::Error> for StepError {
    fn from(error: std::io::Error) -> Self {
        Self::Job(JobError::Log(error))
    }
}
