//! Images: pulled with credentials that no argument and no log has, or built from an action's Dockerfile (D4, A4).

use std::time::Duration;

use crate::expr::condition;
use crate::toolkit::container::registry_of;

use super::super::JobError;
use super::super::contexts::Frame;
use super::super::job::Job;
use super::super::step::StepError;
use super::super::workspace::{quote, run};
use super::Said;
use super::command::Command;

/// The waits between attempts to pull or build.
const BACK_OFF: [u64; 2] = [3, 7];

impl Job {
    /// Pulls an image. When the registry cannot be had and the host has the image, that one is taken; it is not even asked
    /// for where the configuration says so.
    pub(super) async fn pull(
        &mut self,
        frame: &Frame,
        key: &str,
        image: &str,
        credentials: Option<&(String, String)>,
    ) -> Result<(), StepError> {
        let kept = format!("{key}/kept");
        // What was decided before a restart stays, whatever the configuration says by now.
        let asks = if self.journal.is_live() { self.runner.keeps_images } else { self.journal.knows(&kept) };
        if asks && self.has_image(frame, &kept, image).await? {
            self.say_line(&format!("The host has the image {image}: it is not pulled."))?;
            return Ok(());
        }
        let login = match credentials {
            Some(credentials) => Some(self.log_in(frame, key, image, credentials).await?),
            None => match self.own_credentials(image) {
                // A token that may not read packages is no reason not to try without.
                Some(own) => match self.log_in(frame, key, image, &own).await {
                    Ok(directory) => Some(directory),
                    Err(StepError::Failed(message)) if !message.is_empty() => {
                        self.warning(frame.number, &message)?;
                        None
                    }
                    Err(error) => return Err(error),
                },
                None => None,
            },
        };
        let pulled = self.pull_with(frame, key, image, login.as_deref()).await;
        if let Some(directory) = &login
            && self.journal.is_live()
        {
            run(&self.host, "removing the registry's credentials", &format!("rm -rf -- {}\n", quote(directory)), b"")
                .await?;
        }
        pulled
    }

    /// The job's own token opens GitHub's registry, where GitHub gave it (D4).
    pub(super) fn own_credentials(&self, image: &str) -> Option<(String, String)> {
        let text = |key: &str| self.order.github.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let token = self.token();
        let is_githubs =
            text("server_url").trim_end_matches('/') == "https://github.com" && !self.reached.variables.local;
        let known = ["ghcr.io", "containers.pkg.github.com"].contains(&registry_of(image));
        (is_githubs && known && !token.is_empty()).then(|| (text("actor").to_owned(), token))
    }

    async fn pull_with(
        &mut self,
        frame: &Frame,
        key: &str,
        image: &str,
        configuration: Option<&str>,
    ) -> Result<(), StepError> {
        let pull = match configuration {
            Some(directory) => Command::new(["--config", directory, "pull", image]),
            None => Command::new(["pull", image]),
        };
        let mut attempt = 1;
        loop {
            let said = self
                .engine_command(frame, &format!("{key}/pull/{attempt}"), condition::success(), pull.clone())
                .await?;
            let code = self.heed(&said)?.code;
            if code == 0 {
                return Ok(());
            }
            if attempt == 1 && self.has_image(frame, &format!("{key}/known"), image).await? {
                self.warning(
                    frame.number,
                    &format!("Docker pull failed with exit code {code}, using the image {image} that the host has."),
                )?;
                return Ok(());
            }
            let Some(wait) = BACK_OFF.get(attempt - 1) else {
                return Err(StepError::Failed(format!("Docker pull failed with exit code {code}")));
            };
            self.warning(
                frame.number,
                &format!("Docker pull failed with exit code {code}, back off {wait} seconds before retry."),
            )?;
            self.pause(&format!("{key}/pull/{attempt}/wait"), Duration::from_secs(*wait)).await?;
            attempt += 1;
        }
    }

    async fn has_image(&mut self, frame: &Frame, key: &str, image: &str) -> Result<bool, StepError> {
        let look = Command::new(["image", "inspect", "--format", "{{.Id}}", image]).silent();
        let said = self.engine_command(frame, key, condition::success(), look).await?;
        Ok(self.heed(&said)?.code == 0)
    }

    /// Logs in to the image's registry, into a directory of its own that goes after the pull. The password is read from
    /// a file that is removed with the step.
    async fn log_in(
        &mut self,
        frame: &Frame,
        key: &str,
        image: &str,
        (user, password): &(String, String),
    ) -> Result<String, StepError> {
        let number = self.next_number();
        let directory = format!("{}/.docker_{number}", self.workspace.temp);
        if self.journal.is_live() {
            run(
                &self.host,
                "making a directory for the registry's credentials",
                &format!("umask 077\nmkdir -p {}\n", quote(&directory)),
                b"",
            )
            .await?;
        }
        let registry = registry_of(image);
        let mut words = vec!["--config", &directory, "login"];
        words.extend(Some(registry).filter(|registry| !registry.is_empty()));
        words.extend(["-u", user, "--password-stdin"]);
        let command = Command {
            arguments: words.iter().map(|&word| word.to_owned()).collect(),
            shown: Some(words.join(" ")),
            input: Some(password.clone().into_bytes()),
            ..Command::default()
        };
        let said = self.engine_command(frame, &format!("{key}/login"), condition::success(), command).await?;
        match self.heed(&said)?.code {
            0 => Ok(directory),
            code => Err(StepError::Failed(format!("Docker login for '{registry}' failed with exit code {code}"))),
        }
    }

    /// Builds the image of an action. One that was built from the same commit before is taken as it is.
    pub(super) async fn build(
        &mut self,
        frame: &Frame,
        key: &str,
        dockerfile: &str,
        (tag, kept): (&str, bool),
        early: bool,
    ) -> Result<(), StepError> {
        if kept {
            let look = Command::new(["image", "inspect", "--format", "{{.Id}}", tag]).silent();
            let known = self.engine_command(frame, &format!("{key}/known"), condition::success(), look).await?;
            if self.heed(&known)?.code == 0 {
                return Ok(());
            }
        }
        let context = dockerfile.rsplit_once('/').map_or(".", |(directory, _)| directory);
        if early {
            self.say_line(&format!("##[group]Build container for action use: '{dockerfile}'."))?;
        } else {
            self.say_line("##[group]Building docker image")?;
            self.say_line(&format!("Dockerfile for action: '{dockerfile}'."))?;
        }
        let mut command = Command::new(["build", "-t", tag, "-f", dockerfile, context])
            .shown(format!("build -t {tag} -f \"{dockerfile}\" \"{context}\""));
        if !kept {
            // Nobody will ask for it again: it goes with the job.
            let labels = self.container_labels();
            command.arguments.splice(1..1, labels);
        }
        let said = self.engine_command(frame, &format!("{key}/build"), condition::success(), command).await?;
        self.say_line("##[endgroup]")?;
        match self.heed(&said)?.code {
            0 => Ok(()),
            code => Err(StepError::Failed(format!("Docker build failed with exit code {code}"))),
        }
    }

    /// What a command said, unless it was ended by a cancel: then nothing that follows makes sense.
    pub(super) fn heed<'s>(&mut self, said: &'s Said) -> Result<&'s Said, StepError> {
        if !said.cancelled {
            return Ok(said);
        }
        if self.step_deadline.is_none() {
            self.status.cancel();
        }
        Err(StepError::Failed(String::new()))
    }
}

impl From<crate::transport::TransportError> for StepError {
    fn from(error: crate::transport::TransportError) -> Self {
        Self::Job(JobError::Transport(error))
    }
}
