//! `towline environment`: the protection rules of environments.

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::output::{Json, Refused, items, listed, say, table, text};
use super::remote::{Target, block, encode};

/// Arguments of `towline environment`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The repository; the only one there is, when absent.
    #[arg(short = 'R', long, value_name = "OWNER/NAME", global = true)]
    repo: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists environments with their rules.
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Sets the rules of an environment, in place of those it had.
    Set {
        name: String,
        /// Who may let a job through; one of them is enough. May be given several times.
        #[arg(long = "reviewer", value_name = "NAME")]
        reviewers: Vec<String>,
        /// Who started a run may not let it through.
        #[arg(long)]
        prevent_self_review: bool,
        /// Minutes that a job waits before it may start.
        #[arg(long, value_name = "MINUTES", default_value_t = 0)]
        wait: u32,
        /// Only branches and tags whose name matches: `main`, `releases/*`. May be given several times.
        #[arg(long = "branch", value_name = "PATTERN")]
        branches: Vec<String>,
    },
    /// Removes the rules of an environment; its secrets and variables stay.
    Delete { name: String },
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    block(execute(arguments))
}

async fn execute(arguments: Arguments) -> Result<u8> {
    let Arguments { target, repo, command } = arguments;
    let repository = target.repository(repo.as_ref()).await?;
    let path = |name: &str| {
        let query = format!("?repository={}", encode(&repository));
        if name.is_empty() {
            format!("/api/v3/towline/environments{query}")
        } else {
            format!("/api/v3/towline/environments/{}{query}", encode(name))
        }
    };
    match command {
        Command::List { json } => {
            let body = target.json(Method::GET, &path(""), None).await?;
            if json.is_wanted() {
                return json.print(&body["environments"]);
            }
            let cells = items(&body["environments"]).map(|one| {
                let words = |key: &str| items(&one[key]).map(text).collect::<Vec<_>>().join(" ");
                let wait = match one["wait_minutes"].as_u64() {
                    None | Some(0) => String::new(),
                    Some(minutes) => format!("{minutes} min"),
                };
                [text(&one["name"]), words("reviewers"), wait, words("branches")]
            });
            let rows = listed(["NAME", "REVIEWERS", "WAIT", "BRANCHES"], cells);
            say(&if rows.len() == 1 { format!("{repository} has no environments.\n") } else { table(&rows) })?;
        }
        Command::Set { name, reviewers, prevent_self_review, wait, branches } => {
            if name.is_empty() {
                return Err(Refused("the name is empty".to_owned()).into());
            }
            let rules = json!({
                "reviewers": reviewers, "prevent_self_review": prevent_self_review, "wait_minutes": wait,
                "branches": branches,
            });
            target.json(Method::PUT, &path(&name), Some(rules)).await?;
            say(&format!("The rules of {name} of {repository} are set.\n"))?;
        }
        Command::Delete { name } => {
            target.json(Method::DELETE, &path(&name), None).await?;
            say(&format!("The rules of {name} of {repository} are removed.\n"))?;
        }
    }
    Ok(super::SUCCESS)
}
