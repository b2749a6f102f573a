//! `towline schedule`: schedules and when they start something next.

use anyhow::Result;
use http::Method;

use super::output::{Json, items, listed, say, table, text};
use super::remote::Target;

/// What `towline schedule` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists schedules with their next times.
    List {
        #[command(flatten)]
        json: Json,
    },
}

/// Does it and says the exit code.
pub(super) async fn execute(target: Target, command: Command) -> Result<u8> {
    let Command::List { json } = command;
    let body = target.json(Method::GET, "/api/v3/towline/schedules", None).await?;
    if json.is_wanted() {
        return json.print(&body["schedules"]);
    }
    let cells = items(&body["schedules"]).map(|one| {
        let [repository, workflow, cron, timezone] =
            ["repository", "workflow", "cron", "timezone"].map(|key| text(&one[key]));
        [repository, workflow, cron, timezone, text(&one["next"][0])]
    });
    let rows = listed(["REPOSITORY", "WORKFLOW", "CRON", "TIME ZONE", "NEXT"], cells);
    say(&if rows.len() == 1 { "There are no schedules.\n".to_owned() } else { table(&rows) })?;
    Ok(super::SUCCESS)
}
