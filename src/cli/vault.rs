//! `towline secret` and `towline variable`: values of all repositories, of one, or of one of its environments.
//!
//! A value comes from standard input, a file or a prompt. A secret is never an argument: arguments are in the shell's
//! history and in the list of processes.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use http::Method;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use super::output::{Json, items, say, table, text};
use super::remote::{Target, encode};
use crate::vault::Kind;

/// What `towline secret` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum SecretCommand {
    /// Sets a secret; its value is read from standard input, a file, or a prompt.
    Set {
        name: String,
        #[command(flatten)]
        level: Level,
        #[command(flatten)]
        from: From,
    },
    /// Lists names, with the times of their last change.
    List {
        #[command(flatten)]
        level: Level,
        #[command(flatten)]
        json: Json,
    },
    /// Removes a secret.
    Delete {
        name: String,
        #[command(flatten)]
        level: Level,
    },
    /// Makes a new master key and seals everything under it.
    RotateKey,
}

/// What `towline variable` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum VariableCommand {
    /// Sets a variable; its value is given, or read from standard input, a file, or a prompt.
    Set {
        name: String,
        #[command(flatten)]
        level: Level,
        #[command(flatten)]
        from: From,
        /// The value.
        #[arg(short, long, conflicts_with = "body_file")]
        body: Option<String>,
    },
    /// Shows the value of a variable.
    Get {
        name: String,
        #[command(flatten)]
        level: Level,
    },
    /// Lists variables with their values.
    List {
        #[command(flatten)]
        level: Level,
        #[command(flatten)]
        json: Json,
    },
    /// Removes a variable.
    Delete {
        name: String,
        #[command(flatten)]
        level: Level,
    },
}

/// For whom a value is.
#[derive(Debug, clap::Args)]
pub(super) struct Level {
    /// For this repository; the only one there is, when absent.
    #[arg(short = 'R', long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// For jobs with this environment of the repository.
    #[arg(short, long, value_name = "NAME", conflicts_with = "global")]
    env: Option<String>,
    /// For all repositories.
    #[arg(short, long, conflicts_with = "repo")]
    global: bool,
}

/// Where a value comes from, when not from standard input.
#[derive(Debug, clap::Args)]
pub(super) struct From {
    /// The file that holds the value, as it is.
    #[arg(short = 'F', long, value_name = "FILE")]
    body_file: Option<PathBuf>,
}

/// Does what `towline secret` says, and says the exit code.
pub(super) async fn secret(target: Target, command: SecretCommand) -> Result<u8> {
    match command {
        SecretCommand::Set { name, level, from } => set(&target, Kind::Secret, &name, &level, &from, None).await,
        SecretCommand::List { level, json } => list(&target, Kind::Secret, &level, &json).await,
        SecretCommand::Delete { name, level } => delete(&target, Kind::Secret, &name, &level).await,
        SecretCommand::RotateKey => rotate(&target).await,
    }
}

/// Does what `towline variable` says, and says the exit code.
pub(super) async fn variable(target: Target, command: VariableCommand) -> Result<u8> {
    match command {
        VariableCommand::Set { name, level, from, body } => {
            set(&target, Kind::Variable, &name, &level, &from, body).await
        }
        VariableCommand::Get { name, level } => get(&target, &name, &level).await,
        VariableCommand::List { level, json } => list(&target, Kind::Variable, &level, &json).await,
        VariableCommand::Delete { name, level } => delete(&target, Kind::Variable, &name, &level).await,
    }
}

/// The query of a level, and how it is called.
async fn query(target: &Target, level: &Level) -> Result<(String, String)> {
    if level.global {
        return Ok((String::new(), "all repositories".to_owned()));
    }
    let repository = target.repository(level.repo.as_ref()).await?;
    Ok(match &level.env {
        Some(environment) => (
            format!("?repository={}&environment={}", encode(&repository), encode(environment)),
            format!("{environment} of {repository}"),
        ),
        None => (format!("?repository={}", encode(&repository)), repository),
    })
}

fn path(kind: Kind, name: &str, query: &str) -> String {
    format!("/api/v3/towline/{}s/{}{query}", kind.word(), encode(name))
}

async fn set(target: &Target, kind: Kind, name: &str, level: &Level, from: &From, body: Option<String>) -> Result<u8> {
    let (query, whom) = query(target, level).await?;
    let value = match body {
        Some(body) => body,
        None => read(kind, name, from)?,
    };
    target.json(Method::PUT, &path(kind, name, &query), Some(json!({"value": value}))).await?;
    say(&format!("The {} {} is set for {whom}.\n", kind.word(), name.to_uppercase()))?;
    Ok(super::SUCCESS)
}

async fn delete(target: &Target, kind: Kind, name: &str, level: &Level) -> Result<u8> {
    let (query, whom) = query(target, level).await?;
    target
        .json(Method::DELETE, &path(kind, name, &query), None)
        .await
        .map_err(|error| if error.to_string() == "Not Found" { absent(kind, name, &whom) } else { error })?;
    say(&format!("The {} {} of {whom} is removed.\n", kind.word(), name.to_uppercase()))?;
    Ok(super::SUCCESS)
}

fn absent(kind: Kind, name: &str, whom: &str) -> anyhow::Error {
    anyhow!("there is no {} {} for {whom}", kind.word(), name.to_uppercase())
}

async fn get(target: &Target, name: &str, level: &Level) -> Result<u8> {
    let (query, whom) = query(target, level).await?;
    let body = target.json(Method::GET, &format!("/api/v3/towline/variables{query}"), None).await?;
    let mut all = items(&body["variables"]);
    let found = all.find(|one| one["name"].as_str().is_some_and(|one| one.eq_ignore_ascii_case(name)));
    let value = found.and_then(|one| one["value"].as_str()).ok_or_else(|| absent(Kind::Variable, name, &whom))?;
    say(&format!("{value}\n"))?;
    Ok(super::SUCCESS)
}

async fn list(target: &Target, kind: Kind, level: &Level, json: &Json) -> Result<u8> {
    let (query, whom) = query(target, level).await?;
    let key = format!("{}s", kind.word());
    let body = target.json(Method::GET, &format!("/api/v3/towline/{key}{query}"), None).await?;
    if json.is_wanted() {
        return json.print(&body[&key]);
    }
    let all = body[&key].as_array().cloned().unwrap_or_default();
    if all.is_empty() {
        say(&format!("There are no {key} for {whom}.\n"))?;
        return Ok(super::SUCCESS);
    }
    let with_value = kind == Kind::Variable;
    let mut rows = vec![if with_value { vec!["NAME", "VALUE", "UPDATED"] } else { vec!["NAME", "UPDATED"] }];
    let cells: Vec<[String; 3]> =
        all.iter().map(|one| [text(&one["name"]), text(&one["value"]), text(&one["updated_at"])]).collect();
    for [name, value, updated] in &cells {
        rows.push(if with_value { vec![name, value, updated] } else { vec![name, updated] });
    }
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
    say(&table(&rows))?;
    Ok(super::SUCCESS)
}

async fn rotate(target: &Target) -> Result<u8> {
    let body = target.json(Method::POST, "/api/v3/towline/master-key/rotate", Some(json!({}))).await?;
    say(&format!("{} values are sealed under ", body["resealed"]))?;
    say(if body["key"] == "credential" {
        "the credential `towline-master-key`; `towline-master-key-old` can go once no job runs that began before.\n"
    } else {
        "a new master key. `master.key.old` in the state directory can go once no job runs that began before.\n"
    })?;
    Ok(super::SUCCESS)
}

/// Reads a value: a file as it is; standard input and a prompt without the end of the last line, as `gh` does.
fn read(kind: Kind, name: &str, from: &From) -> Result<String> {
    if let Some(path) = &from.body_file {
        return std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut value = String::new();
    let input = std::io::stdin();
    if input.is_terminal() {
        let hidden = Hidden::new(kind == Kind::Secret);
        write!(std::io::stderr(), "{} for {}: ", if kind == Kind::Secret { "Secret" } else { "Value" }, name)?;
        input.read_line(&mut value)?;
        drop(hidden);
        if kind == Kind::Secret {
            writeln!(std::io::stderr())?;
        }
    } else {
        input.lock().read_to_string(&mut value).context("standard input is not text")?;
    }
    let value = value.strip_suffix('\n').map_or(value.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if value.is_empty() {
        bail!("the value is empty");
    }
    Ok(value.to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Option<Termios>);

impl Hidden {
    fn new(wanted: bool) -> Self {
        let before = if wanted { tcgetattr(std::io::stdin()).ok() } else { None };
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            // What cannot be hidden is shown; the prompt still works.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent);
        }
        Self(before)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
