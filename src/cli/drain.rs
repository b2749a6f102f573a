//! `towline drain`: no new jobs, and wait politely until none runs.

use std::time::Duration;

use anyhow::Result;
use http::Method;

use super::output::{say, text};
use super::remote::{Target, block};

const PAUSE: &str = "/api/v3/towline/queue/pause";
/// Between two looks at what still runs.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `towline drain`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Lets jobs start again.
    #[arg(long, conflicts_with_all = ["no_wait", "timeout"])]
    undo: bool,
    /// Does not wait for jobs that run.
    #[arg(long)]
    no_wait: bool,
    /// Waits this many seconds at most; exit code 1 if jobs still run then.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    block(async move {
        if arguments.undo {
            arguments.target.json(Method::DELETE, PAUSE, None).await?;
            say("Jobs start again.\n")?;
            return Ok(super::SUCCESS);
        }
        arguments.target.json(Method::PUT, PAUSE, None).await?;
        say("No new job starts until `towline drain --undo`.\n")?;
        if arguments.no_wait {
            return Ok(super::SUCCESS);
        }
        let wait = drained(&arguments.target);
        match arguments.timeout {
            None => wait.await?,
            Some(seconds) => match tokio::time::timeout(Duration::from_secs(seconds), wait).await {
                Ok(done) => done?,
                Err(_) => {
                    say("Jobs still run.\n")?;
                    return Ok(super::FAILED);
                }
            },
        }
        say("Nothing runs any more.\n")?;
        Ok(super::SUCCESS)
    })
}

async fn drained(target: &Target) -> Result<()> {
    let mut shown = Vec::new();
    loop {
        let body = target.json(Method::GET, "/api/v3/towline/hosts", None).await?;
        let hosts = || body["hosts"].as_array().into_iter().flatten();
        if hosts().all(|host| host["slots_used"].as_u64() == Some(0)) {
            return Ok(());
        }
        let running: Vec<String> = hosts()
            .flat_map(|host| host["jobs"].as_array().into_iter().flatten().map(move |job| (host, job)))
            .map(|(host, job)| {
                format!("{} of {} on {}", text(&job["name"]), text(&job["repository"]), text(&host["name"]))
            })
            .collect();
        if running != shown {
            say(&format!("waiting for {}\n", running.join(", ")))?;
            shown = running;
        }
        tokio::time::sleep(LOOK).await;
    }
}
