//! `towline token`: makes, lists and revokes API tokens of a daemon.

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::output::{Json, items, listed, say, table, text};
use super::remote::{Target, encode};

/// What `towline token` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Makes a token and prints it, this once.
    Create {
        name: String,
        /// viewer, operator or admin.
        #[arg(long, default_value = "viewer")]
        role: String,
        /// Only for these repositories.
        #[arg(short = 'R', long, value_name = "OWNER/NAME")]
        repo: Vec<String>,
        /// When it ends, for example 2027-01-01T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Lists tokens, without their values.
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Revokes a token; sessions opened with it end.
    Revoke { name: String },
}

/// Does it and says the exit code.
pub(super) async fn execute(target: Target, command: Command) -> Result<u8> {
    let path = "/api/v3/towline/tokens";
    match command {
        Command::Create { name, role, repo, expires } => {
            let body = json!({"name": name, "role": role, "repositories": repo, "expires_at": expires});
            let answer = target.json(Method::POST, path, Some(body)).await?;
            say(&format!("{}\n", text(&answer["token"])))?;
        }
        Command::List { json } => {
            let body = target.json(Method::GET, path, None).await?;
            if json.is_wanted() {
                return json.print(&body["tokens"]);
            }
            let cells = items(&body["tokens"]).map(|one| {
                let repositories: Vec<String> = items(&one["repositories"]).map(text).collect();
                let repositories = if repositories.is_empty() { "all".to_owned() } else { repositories.join(" ") };
                [
                    text(&one["name"]),
                    text(&one["role"]),
                    repositories,
                    text(&one["created_at"]),
                    text(&one["expires_at"]),
                ]
            });
            say(&table(&listed(["NAME", "ROLE", "REPOSITORIES", "CREATED", "EXPIRES"], cells)))?;
        }
        Command::Revoke { name } => {
            target.json(Method::DELETE, &format!("{path}/{}", encode(&name)), None).await?;
            say(&format!("{name} is revoked.\n"))?;
        }
    }
    Ok(super::SUCCESS)
}
