//! What each command does (W5–W9), and when commands are not taken.
//!
//! Pure: no I/O, no clock, no async.

use serde::{Deserialize, Serialize};

use crate::run::report::{Annotation, AnnotationLevel};
use crate::toolkit::annotation::{self, Paths};
use crate::toolkit::mask::Masks;
use crate::toolkit::output::Effect;

use super::{COMMANDS, Command, STOP};

/// A stop token longer than this is masked: who reads the log must not be able to say it.
const LONGEST_PUBLIC_TOKEN: usize = 6;

/// Names that `set-env` and `GITHUB_ENV` may not set (V6): node would run what they say inside of every action.
const BLOCKED_VARIABLES: &[&str] = &["NODE_OPTIONS"];

/// Whether a step may not set this variable.
pub(in crate::toolkit) fn blocked_variable(name: &str) -> bool {
    BLOCKED_VARIABLES.iter().any(|blocked| blocked.eq_ignore_ascii_case(name))
}

/// What the rules depend on; the same for all of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `ACTIONS_ALLOW_UNSECURE_COMMANDS`, of the machine or of the `env` context, is `true` (W5).
    pub allow_unsecure_commands: bool,
    /// `ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS` likewise (W9).
    pub allow_unsecure_stop_tokens: bool,
    /// `ACTIONS_STEP_DEBUG` is `true`: `##[debug]` lines are in the log, and commands are echoed (H8).
    pub debug: bool,
    /// The step's id, for the debug log.
    pub step_id: String,
    /// The step's number, for its annotations.
    pub step_number: Option<u32>,
    pub paths: Paths,
}

/// One thing that a command leads to, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A line of the log.
    Line(String),
    /// Lines of the debug log.
    Debug(String),
    /// An annotation, which is a line of the log too.
    Issue(Annotation),
    Effect(Effect),
}

/// Where the taking of commands stands in a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// No command is taken until this is said (W9).
    stop_token: Option<String>,
    /// Commands are printed too (W7).
    echo: bool,
}

impl Rules {
    /// For a new step. Commands are echoed from the beginning when step debug is on.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { stop_token: None, echo: settings.debug }
    }

    /// Whether commands are printed.
    #[must_use]
    pub fn echo(&self) -> bool {
        self.echo
    }

    /// Obeys a line if it is a command that is taken now; `false` says that it is plain output.
    pub fn obey(&mut self, line: &str, settings: &Settings, masks: &mut Masks, say: &mut Vec<Said>) -> bool {
        let token = self.stop_token.as_deref();
        let known = |name: &str| {
            name.eq_ignore_ascii_case(STOP)
                || is_command(name)
                || token.is_some_and(|token| !token.is_empty() && name.eq_ignore_ascii_case(token))
        };
        let Some(command) = Command::parse(line, known) else { return false };

        if let Some(token) = &self.stop_token {
            if !command.name.eq_ignore_ascii_case(token) {
                return false;
            }
            say.push(Said::Line(line.to_owned()));
            say.push(Said::Debug("Resume processing commands".to_owned()));
            self.stop_token = None;
            return true;
        }
        if command.name.eq_ignore_ascii_case(STOP) {
            self.stop(line, command.data, settings, masks, say);
            return true;
        }
        let quiet = ["add-mask", "debug", "notice", "warning", "error"]
            .iter()
            .any(|name| command.name.eq_ignore_ascii_case(name));
        if self.echo && !quiet {
            say.push(Said::Line(line.to_owned()));
        }
        let shown = if quiet { command.name.to_ascii_lowercase() } else { line.to_owned() };
        if let Err(reason) = self.perform(command, settings, masks, say) {
            say.push(error(format!("Unable to process command '{shown}' successfully.")));
            say.push(error(reason));
            say.push(Said::Effect(Effect::FailStep));
        }
        true
    }

    fn stop(&mut self, line: &str, token: String, settings: &Settings, masks: &mut Masks, say: &mut Vec<Said>) {
        let invalid = token.is_empty()
            || token.eq_ignore_ascii_case("pause-logging")
            || token.eq_ignore_ascii_case(STOP)
            || is_command(&token);
        if invalid && !settings.allow_unsecure_stop_tokens {
            say.push(error(
                "You cannot use a endToken that is an empty string, the string 'pause-logging', or another workflow \
                 command. For more information see: https://docs.github.com/actions/learn-github-actions/\
                 workflow-commands-for-github-actions#example-stopping-and-starting-workflow-commands or opt into \
                 insecure command execution by setting the `ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS` environment \
                 variable to `true`."
                    .to_owned(),
            ));
            say.push(Said::Effect(Effect::FailStep));
            return;
        }
        if token.len() > LONGEST_PUBLIC_TOKEN {
            masks.add(&token);
        }
        say.push(Said::Line(line.to_owned()));
        say.push(Said::Debug(
            "Paused processing commands until the token you called ::stopCommands:: with is received".to_owned(),
        ));
        self.stop_token = Some(token);
    }

    fn perform(
        &mut self,
        mut command: Command,
        settings: &Settings,
        masks: &mut Masks,
        say: &mut Vec<Said>,
    ) -> Result<(), String> {
        let name = command.name.to_ascii_lowercase();
        match name.as_str() {
            "set-env" => {
                secure(&name, settings)?;
                let variable = required(&command, "name")?;
                if blocked_variable(&variable) {
                    say.push(error(format!("Can't update {variable} environment variable using ::set-env:: command.")));
                    return Ok(());
                }
                say.push(Said::Debug(format!("{variable}='{}'", command.data)));
                say.push(Said::Effect(Effect::SetEnv { name: variable, value: command.data }));
            }
            "add-path" => {
                secure(&name, settings)?;
                if command.data.is_empty() {
                    return Err("Value cannot be null or empty. (Parameter 'path')".to_owned());
                }
                say.push(Said::Effect(Effect::AddPath(command.data)));
            }
            "set-output" => {
                say.push(deprecated(&name));
                let output = required(&command, "name")?;
                say.push(Said::Debug(format!("steps.{}.outputs.{output}='{}'", settings.step_id, command.data)));
                say.push(Said::Effect(Effect::SetOutput { name: output, value: command.data }));
            }
            "save-state" => {
                say.push(deprecated(&name));
                let state = required(&command, "name")?;
                say.push(Said::Debug(format!("Save intra-action state {state} = {}", command.data)));
                say.push(Said::Effect(Effect::SaveState { name: state, value: command.data }));
            }
            "add-mask" if command.data.trim().is_empty() => say.push(warning(
                "Can't add secret mask for empty string in ##[add-mask] command.".to_owned(),
            )),
            "add-mask" => {
                if self.echo {
                    say.push(Said::Line("::add-mask::***".to_owned()));
                }
                masks.add(&command.data);
                say.push(Said::Effect(Effect::MaskAdded));
            }
            "debug" => say.push(Said::Debug(command.data)),
            "notice" | "warning" | "error" => {
                let level = match name.as_str() {
                    "notice" => AnnotationLevel::Notice,
                    "warning" => AnnotationLevel::Warning,
                    _ => AnnotationLevel::Failure,
                };
                say.extend(annotation::validate(&mut command).into_iter().map(Said::Debug));
                say.push(Said::Issue(annotation::from_command(&command, level, &settings.paths)));
            }
            "group" => say.push(Said::Line(format!("##[group]{}", command.data))),
            "endgroup" => say.push(Said::Line("##[endgroup]".to_owned())),
            "echo" => self.set_echo(&command.data, say)?,
            "add-matcher" if command.data.is_empty() => say.push(warning("File path must be specified.".to_owned())),
            "add-matcher" => say.push(Said::Effect(Effect::AddMatchers { file: host_path(&command.data, settings) })),
            "remove-matcher" => match (command.property("owner"), command.data.as_str()) {
                (Some(_), file) if !file.is_empty() => say.push(warning(
                    "Either specify an owner name or a file path in ##[remove-matcher] command. Both values cannot be set."
                        .to_owned(),
                )),
                (Some(owner), _) => say.push(Said::Effect(Effect::RemoveMatchers { owners: vec![owner.to_owned()] })),
                (None, "") => say.push(warning(
                    "Either an owner name or a file path must be specified in ##[remove-matcher] command.".to_owned(),
                )),
                (None, file) => say.push(Said::Effect(Effect::RemoveMatchersOf { file: host_path(file, settings) })),
            },
            _ => say.push(warning(format!("Can't find command extension for ##[{name}.command]."))),
        }
        Ok(())
    }

    fn set_echo(&mut self, value: &str, say: &mut Vec<Said>) -> Result<(), String> {
        self.echo = match value.trim().to_ascii_lowercase().as_str() {
            "on" => true,
            "off" => false,
            _ => {
                return Err(format!(
                    "Invalid echo command value. Possible values can be: 'on', 'off'. Current value is: '{value}'."
                ));
            }
        };
        let word = if self.echo { "on" } else { "off" };
        say.push(Said::Debug(format!("Setting echo command value to '{word}'")));
        Ok(())
    }
}

fn is_command(name: &str) -> bool {
    COMMANDS.iter().any(|command| command.eq_ignore_ascii_case(name))
}

/// A path said by a step, on the host: relative ones are below the workspace.
fn host_path(path: &str, settings: &Settings) -> String {
    let path = settings.paths.to_host(path);
    if path.starts_with('/') { path } else { format!("{}/{path}", settings.paths.workspace) }
}

fn required(command: &Command, property: &str) -> Result<String, String> {
    command
        .property(property)
        .map(str::to_owned)
        .ok_or_else(|| format!("Required field '{property}' is missing in ##[{}] command.", command.name))
}

fn secure(name: &str, settings: &Settings) -> Result<(), String> {
    if settings.allow_unsecure_commands {
        return Ok(());
    }
    Err(format!(
        "The `{name}` command is disabled. Please upgrade to using Environment Files or opt into unsecure command \
         execution by setting the `ACTIONS_ALLOW_UNSECURE_COMMANDS` environment variable to `true`. For more information \
         see: https://github.blog/changelog/2020-10-01-github-actions-deprecating-set-env-and-add-path-commands/"
    ))
}

fn deprecated(name: &str) -> Said {
    warning(format!(
        "The `{name}` command is deprecated and will be disabled soon. Please upgrade to using Environment Files. For more \
         information see: https://github.blog/changelog/2022-10-11-github-actions-deprecating-save-state-and-set-output-commands/"
    ))
}

fn warning(message: String) -> Said {
    Said::Issue(annotation::plain(AnnotationLevel::Warning, message))
}

fn error(message: String) -> Said {
    Said::Issue(annotation::plain(AnnotationLevel::Failure, message))
}
