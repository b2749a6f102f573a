//! `towline queue`: what waits and why; stops and resumes giving jobs to hosts.

use anyhow::Result;
use http::Method;

use super::remote::{Target, block, say, table, text};

/// Arguments of `towline queue`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists waiting jobs, each with its reason.
    List {
        #[arg(long)]
        json: bool,
    },
    /// Starts no jobs until the queue is resumed; what runs goes on.
    Pause,
    /// Starts jobs again.
    Resume,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    block(execute(arguments.target, arguments.command))
}

async fn execute(target: Target, command: Command) -> Result<u8> {
    let pause = "/api/v3/towline/queue/pause";
    match command {
        Command::List { json } => {
            let body = target.json(Method::GET, "/api/v3/towline/queue", None).await?;
            if json {
                say(&format!("{body:#}\n"))?;
                return Ok(super::SUCCESS);
            }
            if body["paused"] == true {
                say("The queue is paused: `towline queue resume`.\n")?;
            }
            let mut rows = vec![["JOB", "RUN", "REPOSITORY", "NAME", "SINCE", "WHY"].map(str::to_owned).to_vec()];
            for one in body["jobs"].as_array().into_iter().flatten() {
                let keys = ["job_id", "run_id", "repository", "name", "since", "reason"];
                rows.push(keys.map(|key| text(&one[key])).to_vec());
            }
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
