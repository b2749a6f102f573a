//! `towline workflow`: lists, shows, starts, enables and disables workflows of a daemon.

use anyhow::Result;
use http::Method;
use serde_json::{Map, Value, json};

use super::output::{Json, Refused, items, listed, say, table, text};
use super::remote::{Target, block};

/// Arguments of `towline workflow`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The repository; the only one when absent.
    #[arg(short = 'R', long, value_name = "OWNER/NAME", global = true)]
    repo: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists workflows.
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Shows a workflow and its last runs.
    View {
        /// File name or id.
        workflow: String,
    },
    /// Starts a workflow by hand.
    Run {
        /// File name or id.
        workflow: String,
        /// Branch or tag; the default branch when absent.
        #[arg(short, long = "ref", value_name = "REF")]
        git_ref: Option<String>,
        /// An input as NAME=VALUE.
        #[arg(short = 'f', long = "field", value_name = "NAME=VALUE")]
        fields: Vec<String>,
    },
    /// Lets events start it again.
    Enable { workflow: String },
    /// Keeps events from starting it.
    Disable { workflow: String },
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    block(execute(arguments))
}

async fn execute(arguments: Arguments) -> Result<u8> {
    let target = arguments.target;
    let repository = target.repository(arguments.repo.as_ref()).await?;
    let base = format!("/api/v3/repos/{repository}/actions/workflows");
    match arguments.command {
        Command::List { json } => {
            let body = target.json(Method::GET, &format!("{base}?per_page=100"), None).await?;
            if json.is_wanted() {
                return json.print(&body["workflows"]);
            }
            let cells = items(&body["workflows"]).map(|one| ["name", "state", "path", "id"].map(|key| text(&one[key])));
            say(&table(&listed(["NAME", "STATE", "FILE", "ID"], cells)))?;
        }
        Command::View { workflow } => {
            let one = target.json(Method::GET, &format!("{base}/{workflow}"), None).await?;
            let runs = target.json(Method::GET, &format!("{base}/{workflow}/runs?per_page=10"), None).await?;
            let mut rows = Vec::new();
            for run in items(&runs["workflow_runs"]) {
                let conclusion = text(&run["conclusion"]);
                let state = if conclusion.is_empty() { text(&run["status"]) } else { conclusion };
                rows.push(vec![text(&run["id"]), state, text(&run["display_title"]), text(&run["head_branch"])]);
            }
            say(&format!(
                "{} ({})\n{}\n{}",
                text(&one["name"]),
                text(&one["path"]),
                text(&one["state"]),
                table(&rows)
            ))?;
        }
        Command::Run { workflow, git_ref, fields } => {
            let git_ref = match git_ref {
                Some(git_ref) => git_ref,
                None => {
                    let about = target.json(Method::GET, &format!("/api/v3/repos/{repository}"), None).await?;
                    text(&about["default_branch"])
                }
            };
            let mut inputs = Map::new();
            for field in fields {
                let (name, value) =
                    field.split_once('=').ok_or_else(|| Refused(format!("{field:?} is not NAME=VALUE")))?;
                inputs.insert(name.to_owned(), Value::from(value));
            }
            let body = json!({"ref": git_ref, "inputs": inputs, "return_run_details": true});
            let answer = target.json(Method::POST, &format!("{base}/{workflow}/dispatches"), Some(body)).await?;
            say(&format!("Run {} started: {}\n", answer["workflow_run_id"], text(&answer["html_url"])))?;
        }
        Command::Enable { workflow } => {
            target.json(Method::PUT, &format!("{base}/{workflow}/enable"), None).await?;
            say(&format!("{workflow} is enabled.\n"))?;
        }
        Command::Disable { workflow } => {
            target.json(Method::PUT, &format!("{base}/{workflow}/disable"), None).await?;
            say(&format!("{workflow} is disabled.\n"))?;
        }
    }
    Ok(super::SUCCESS)
}
