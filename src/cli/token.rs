//! `towline token`: makes, lists and revokes API tokens of a daemon.

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::remote::{Target, block, encode, say, table, text};

/// Arguments of `towline token`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
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
        #[arg(long)]
        json: bool,
    },
    /// Revokes a token; sessions opened with it end.
    Revoke { name: String },
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    block(execute(arguments.target, arguments.command))
}

async fn execute(target: Target, command: Command) -> Result<u8> {
    let path = "/api/v3/towline/tokens";
    match command {
        Command::Create { name, role, repo, expires } => {
            let body = json!({"name": name, "role": role, "repositories": repo, "expires_at": expires});
            let answer = target.json(Method::POST, path, Some(body)).await?;
            say(&format!("{}\n", text(&answer["token"])))?;
        }
        Command::List { json } => {
            let body = target.json(Method::GET, path, None).await?;
            if json {
                say(&format!("{:#}\n", body["tokens"]))?;
            } else {
                let mut rows = vec![["NAME", "ROLE", "REPOSITORIES", "CREATED", "EXPIRES"].map(str::to_owned).to_vec()];
                for one in body["tokens"].as_array().into_iter().flatten() {
                    let repositories: Vec<String> =
                        one["repositories"].as_array().into_iter().flatten().map(text).collect();
                    let repositories = if repositories.is_empty() { "all".to_owned() } else { repositories.join(" ") };
                    rows.push(vec![
                        text(&one["name"]),
                        text(&one["role"]),
                        repositories,
                        text(&one["created_at"]),
                        text(&one["expires_at"]),
                    ]);
                }
                say(&table(&rows))?;
            }
        }
        Command::Revoke { name } => {
            target.json(Method::DELETE, &format!("{path}/{}", encode(&name)), None).await?;
            say(&format!("{name} is revoked.\n"))?;
        }
    }
    Ok(super::SUCCESS)
}
