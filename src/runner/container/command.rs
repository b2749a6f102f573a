//! One command to the container engine, as a step of the host: started at most once, followed to its end.

use std::time::Duration;

use tokio::time::Instant;

use crate::expr::Expression;
use crate::transport::{Exit, Resume, StepFile, StepRequest};

use super::super::JobError;
use super::super::contexts::{Frame, Variables};
use super::super::follow::Happening;
use super::super::job::Job;
use super::super::step::StepError;
use super::super::told::heard;
use super::super::workspace::quote;
use super::{Said, own_step};

/// The most of a command's output that is kept for reading.
const KEPT: usize = 400;
/// The longest piece of output without a line break that is held back.
const LONGEST_LINE: usize = 64 * 1024;
/// Names of variables that an engine's client would take as its own.
const CLIENTS_OWN: [&str; 6] = ["PATH", "HOME", "TMPDIR", "USER", "GOMAXPROCS", "GODEBUG"];
const CLIENTS_OWN_PREFIXES: [&str; 7] = ["DOCKER_", "BUILDKIT_", "BUILDAH_", "CONTAINER", "XDG_", "LD_", "STORAGE_"];

/// A command to the engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Command {
    /// What follows the engine's name.
    pub(super) arguments: Vec<String>,
    /// As the log has it, without the engine's name; nothing: neither the command nor what it says is shown.
    pub(super) shown: Option<String>,
    /// For `-e NAME`: values that may be no arguments.
    pub(super) env: Variables,
    /// A file with this content is its standard input.
    pub(super) input: Option<Vec<u8>>,
}

impl Command {
    /// A command that is shown as it is.
    pub(super) fn new<const N: usize>(arguments: [&str; N]) -> Self {
        Self {
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            shown: Some(arguments.join(" ")),
            ..Self::default()
        }
    }

    /// With other words in the log.
    pub(super) fn shown(self, shown: impl Into<String>) -> Self {
        Self { shown: Some(shown.into()), ..self }
    }

    /// Without a word in the log.
    pub(super) fn silent(self) -> Self {
        Self { shown: None, ..self }
    }
}

/// A command of the runner's own.
#[derive(Default)]
pub(in super::super) struct OwnCommand {
    pub(in super::super) argv: Vec<String>,
    pub(in super::super) env: Vec<(String, String)>,
    pub(in super::super) files: Vec<StepFile>,
    pub(in super::super) shown: bool,
}

/// Adds `-e` for every variable: by name, so that values are no arguments, unless the client would take it as its own.
pub(super) fn pass_on(env: &Variables, arguments: &mut Vec<String>) {
    for (name, value) in env {
        if name.is_empty() || name.contains('=') {
            continue;
        }
        arguments.push("-e".to_owned());
        arguments.push(if is_clients_own(name) { format!("{name}={value}") } else { name.clone() });
    }
}

fn is_clients_own(name: &str) -> bool {
    CLIENTS_OWN.contains(&name) || CLIENTS_OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl Job {
    /// The environment of the engine's client: the machine's own, and those variables it is to pass on.
    pub(super) fn client_env(&self, env: &Variables) -> Vec<(String, String)> {
        let mut client: Variables = self.machine.clone();
        client.extend(
            env.iter().filter(|(name, _)| !is_clients_own(name)).map(|(name, value)| (name.clone(), value.clone())),
        );
        client.into_iter().collect()
    }

    /// Lines of `sh` that give a script of the host what the engine's client needs to find its engine.
    pub(super) fn client_exports(&self) -> String {
        let wanted = self.machine.iter().filter(|(name, _)| is_clients_own(name));
        wanted.map(|(name, value)| format!("export {name}={}\n", quote(value))).collect()
    }

    /// Runs a command to its end. What it says is shown, masked, and no command of the log is obeyed in it.
    pub(super) async fn engine_command(
        &mut self,
        frame: &Frame,
        key: &str,
        condition: Expression,
        command: Command,
    ) -> Result<Said, StepError> {
        let engine = self.find_engine()?;
        let number = self.next_number();
        if self.journal.knows(key) {
            return self.own_command(frame, (key, number), condition, OwnCommand::default()).await;
        }
        let shown = command.shown.is_some();
        if let Some(text) = &command.shown {
            self.say_line(&format!("##[command]{} {text}", engine.program))?;
        }
        let mut argv = vec![engine.program];
        argv.extend(command.arguments);
        let mut files = Vec::new();
        if let Some(content) = command.input {
            let path = format!("{}/steps/{number}.input", self.host.dir());
            let script = format!("exec \"$@\" <{}", quote(&path));
            argv.splice(0..0, ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]);
            files.push(StepFile { path, content, executable: false, temporary: true });
        }
        let env = self.client_env(&command.env);
        self.own_command(frame, (key, number), condition, OwnCommand { argv, env, files, shown }).await
    }

    /// Runs a command of the runner's own on the host, as step `number` of it. What it says is shown, masked, and no command of
    /// the log is obeyed in it.
    pub(in super::super) async fn own_command(
        &mut self,
        frame: &Frame,
        (key, number): (&str, u32),
        condition: Expression,
        command: OwnCommand,
    ) -> Result<Said, StepError> {
        if let Some(said) = self.journal.recall::<Said>(key)? {
            self.interrupt_again(self.number);
            return Ok(said);
        }
        // What led here must be known again after a crash, before anything is started because of it.
        self.log.settle_when_there_is_room().await.map_err(JobError::Log)?;
        self.journal.durable().await?;
        let left = self.time_left();
        let own = self.step_deadline.map(|(deadline, _)| deadline.saturating_duration_since(Instant::now()));
        let timeout = own.unwrap_or(Duration::MAX).max(Duration::from_millis(1)).min(left + Duration::from_secs(10));
        let request = StepRequest {
            number,
            argv: command.argv,
            env: command.env,
            cwd: "/".to_owned(),
            files: command.files,
            timeout: Some(timeout),
            spool: self.spool(),
            contained: None,
        };
        self.host.start_step(request).await.map_err(JobError::from)?;
        let step = own_step(condition);
        let none = Variables::new();
        let mut output = Output { shown: command.shown, pending: Vec::new(), lines: Vec::new() };
        let exit = loop {
            match self.next_event(frame, &step, &none, number).await? {
                Happening::Output { offset, bytes } => {
                    self.is_reread = false;
                    output.take(self, &bytes)?;
                    self.log.settle_when_there_is_room().await.map_err(JobError::Log)?;
                    self.resume.offset = offset;
                }
                Happening::Ended(ended) => {
                    self.resume = Resume { offset: ended.offset, ended: number };
                    break ended.exit;
                }
            }
        };
        self.is_reread = false;
        self.say_owed()?;
        output.end(self)?;
        let cancelled = matches!(exit, Exit::Cancelled(_) | Exit::TimedOut(_));
        let said = Said { code: exit.code(), cancelled, lines: output.lines };
        self.record(key, &said)?;
        Ok(said)
    }

    /// Waits, once in the job's life; less when the job is cancelled meanwhile or its time is over.
    pub(super) async fn pause(&mut self, key: &str, time: Duration) -> Result<(), JobError> {
        if self.journal.recall::<()>(key)?.is_some() {
            return Ok(());
        }
        let until = self.cancel_deadline.unwrap_or(self.deadline).min(Instant::now() + time);
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            // Whoever cancels is answered by the next command.
            () = heard(&mut self.told, |told| told.cancel != super::super::Cancel::No) => {}
        }
        self.record(key, &())
    }
}

/// Bytes of a command on their way to the log.
struct Output {
    shown: bool,
    pending: Vec<u8>,
    lines: Vec<String>,
}

impl Output {
    fn take(&mut self, job: &mut Job, bytes: &[u8]) -> Result<(), JobError> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.pending.extend_from_slice(part);
            if part.ends_with(b"\n") || self.pending.len() > LONGEST_LINE {
                self.end(job)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, job: &mut Job) -> Result<(), JobError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.pending);
        let line = text.trim_end_matches(['\n', '\r']).to_owned();
        drop(text);
        self.pending.clear();
        if self.shown {
            job.say_line(&line)?;
        }
        if self.lines.len() >= KEPT {
            self.lines.remove(0);
        }
        self.lines.push(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_no_arguments() {
        let env: Variables =
            [("A", "secret"), ("PATH", "/bin"), ("DOCKER_HOST", "x"), ("INPUT_A-B", "1"), ("", "x"), ("A=B", "x")]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
        let mut arguments = Vec::new();
        pass_on(&env, &mut arguments);
        assert_eq!(arguments.join(" "), "-e A -e PATH=/bin -e DOCKER_HOST=x -e INPUT_A-B");
    }
}
