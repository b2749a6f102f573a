//! `towline queue`: what waits and why; stops and resumes giving jobs to hosts.

use anyhow::Result;
use http::Method;

use super::output::{Json, items, listed, say, table, text};
use super::remote::Target;

/// What `towline queue` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists waiting jobs, each with its reason.
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Starts no jobs until the queue is resumed; what runs goes on.
    Pause,
    /// Starts jobs again.
    Resume,
}

/// Does it and says the exit code.
pub(super) async fn execute(target: Target, command: Command) -> Result<u8> {
    let pause = "/api/v3/towline/queue/pause";
    match command {
        Command::List { json } => {
            let body = target.json(Method::GET, "/api/v3/towline/queue", None).await?;
            if json.is_wanted() {
                return json.print(&body["jobs"]);
            }
            if body["paused"] == true {
                say("The queue is paused: `towline queue resume`.\n")?;
            }
            let keys = ["job_id", "run_id", "repository", "name", "since", "reason"];
            let cells = items(&body["jobs"]).map(|one| keys.map(|key| text(&one[key])));
            let rows = listed(["JOB", "RUN", "REPOSITORY", "NAME", "SINCE", "WHY"], cells);
            say(&if rows.len() == 1 { "Nothing waits.\n".to_owned() } else { table(&rows) })?;
        }
        Command::Pause => {
            target.json(Method::PUT, pause, None).await?;
            say("The queue is paused.\n")?;
        }
        Command::Resume => {
            target.json(Method::DELETE, pause, None).await?;
            say("The queue goes on.\n")?;
        }
    }
    Ok(super::SUCCESS)
}
