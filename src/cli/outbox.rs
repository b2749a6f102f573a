//! `towline outbox`: what forges and people are still to be told.

use anyhow::Result;
use http::Method;
use serde_json::Value;

use super::output::{Json, items, listed, say, table, text};
use super::remote::{Target, encode};

const PATH: &str = "/api/v3/towline/outbox";

/// What `towline outbox` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists reports, deployments and messages that nobody took, then those on their way.
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Sends one now.
    Retry {
        /// As `list` shows it.
        id: String,
    },
    /// Throws one away.
    Forget {
        /// As `list` shows it.
        id: String,
    },
}

/// Does it and says the exit code.
pub(super) async fn execute(target: Target, command: Command) -> Result<u8> {
    match command {
        Command::List { json } => {
            let body = target.json(Method::GET, PATH, None).await?;
            if json.is_wanted() {
                return json.print(&body["letters"]);
            }
            if items(&body["letters"]).next().is_none() {
                say("Everybody was told everything.\n")?;
                return Ok(super::SUCCESS);
            }
            let head = ["ID", "STATE", "SUBJECT", "ATTEMPTS", "AT", "REASON"];
            say(&table(&listed(head, items(&body["letters"]).map(row))))?;
        }
        Command::Retry { id } => {
            target.json(Method::POST, &format!("{PATH}/{}/retry", encode(&id)), None).await?;
            say(&format!("{id} is sent now.\n"))?;
        }
        Command::Forget { id } => {
            target.json(Method::DELETE, &format!("{PATH}/{}", encode(&id)), None).await?;
            say(&format!("{id} is thrown away.\n"))?;
        }
    }
    Ok(super::SUCCESS)
}

fn row(one: &Value) -> [String; 6] {
    let state = if one["dead"] == true { "dead" } else { "waiting" };
    let [id, subject, attempts, at, reason] = ["id", "subject", "attempts", "at", "reason"].map(|key| text(&one[key]));
    [id, state.to_owned(), subject, attempts, at, reason]
}
