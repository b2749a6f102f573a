//! `towline audit`: who did what.

use anyhow::Result;
use http::Method;
use serde_json::Value;

use super::output::{Json, items, listed, say, table, text};
use super::remote::{Target, block};

/// The API's largest page.
const PAGE: usize = 100;

/// Arguments of `towline audit`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// How many at most.
    #[arg(short = 'L', long, default_value_t = 30)]
    limit: usize,
    #[command(flatten)]
    json: Json,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    block(execute(arguments))
}

async fn execute(arguments: Arguments) -> Result<u8> {
    let Arguments { target, limit, json } = arguments;
    let mut lines: Vec<Value> = Vec::new();
    for page in 1.. {
        let path = format!("/api/v3/towline/audit?per_page={PAGE}&page={page}");
        let body = target.json(Method::GET, &path, None).await?;
        let before = lines.len();
        lines.extend(items(&body["audit"]).cloned());
        if lines.len() >= limit || lines.len() - before < PAGE {
            break;
        }
    }
    lines.truncate(limit);
    if json.is_wanted() {
        return json.print(&Value::Array(lines));
    }
    let cells = lines.iter().map(|one| ["at", "actor", "action", "subject", "detail"].map(|key| text(&one[key])));
    say(&table(&listed(["AT", "WHO", "ACTION", "SUBJECT", "DETAIL"], cells)))?;
    Ok(super::SUCCESS)
}
