//! `towline delivery`: what came from outside, what became of it, and handling it once more.

use anyhow::Result;
use http::Method;
use serde_json::Value;

use super::output::{Json, items, listed, say, table, text};
use super::remote::Target;

const PATH: &str = "/api/v3/towline/deliveries";

/// What `towline delivery` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists deliveries, newest first.
    List {
        /// How many at most.
        #[arg(short = 'L', long, default_value_t = 30)]
        limit: usize,
        #[command(flatten)]
        json: Json,
    },
    /// Shows one delivery with what came.
    View {
        number: u64,
        #[command(flatten)]
        json: Json,
    },
    /// Handles a delivery once more: its runs start again.
    Replay {
        number: u64,
        #[command(flatten)]
        json: Json,
    },
}

/// Does it and says the exit code.
pub(super) async fn execute(target: Target, command: Command) -> Result<u8> {
    match command {
        Command::List { limit, json } => {
            let body = target.json(Method::GET, &format!("{PATH}?per_page={}", limit.clamp(1, 100)), None).await?;
            if json.is_wanted() {
                return json.print(&body["deliveries"]);
            }
            let head = ["NUMBER", "RECEIVED", "EVENT", "SOURCE", "RUNS", "OUTCOME"];
            say(&table(&listed(head, items(&body["deliveries"]).map(row))))?;
        }
        Command::View { number, json } => {
            let one = target.json(Method::GET, &format!("{PATH}/{number}"), None).await?;
            if json.is_wanted() {
                return json.print(&one);
            }
            let mut rows: Vec<Vec<String>> = Vec::new();
            for (title, value) in [
                ("Number", number.to_string()),
                ("Received", text(&one["received_at"])),
                ("Event", text(&one["event"])),
                ("Source", text(&one["source"])),
                ("Id", text(&one["id"])),
                ("Runs", runs(&one)),
                ("Replay of", text(&one["replay_of"])),
            ] {
                if !value.is_empty() {
                    rows.push(vec![format!("{title}:"), value]);
                }
            }
            for (name, value) in one["headers"].as_object().into_iter().flatten() {
                rows.push(vec![format!("{name}:"), text(value)]);
            }
            say(&table(&rows))?;
            say(&format!("{}\n", one["outcome"].as_str().unwrap_or_default()))?;
            if !one["body"].is_null() {
                say(&format!("\n{:#}\n", one["body"]))?;
            }
        }
        Command::Replay { number, json } => {
            let one = target.json(Method::POST, &format!("{PATH}/{number}/replay"), None).await?;
            if json.is_wanted() {
                return json.print(&one);
            }
            let runs = runs(&one);
            let runs = if runs.is_empty() { "no runs".to_owned() } else { format!("runs {runs}") };
            say(&format!("Delivery {number} was handled again as {}: {runs}.\n", text(&one["number"])))?;
        }
    }
    Ok(super::SUCCESS)
}

fn row(one: &Value) -> [String; 6] {
    let outcome = one["outcome"].as_str().unwrap_or_default();
    [
        text(&one["number"]),
        text(&one["received_at"]),
        text(&one["event"]),
        text(&one["source"]),
        runs(one),
        // The first line; the rest is in `view`.
        text(&Value::from(outcome.lines().next().unwrap_or_default())),
    ]
}

fn runs(one: &Value) -> String {
    let runs: Vec<String> = items(&one["run_ids"]).map(text).collect();
    runs.join(" ")
}
