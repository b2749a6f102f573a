//! `towline run`: lists, shows, watches, cancels, repeats and downloads runs of a daemon.

mod watch;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use http::Method;
use serde_json::Value;

use super::output::{Json, Refused, items, listed, say, table, text};
use super::remote::{Target, encode};
use super::screen;
use crate::clock::Clock;

/// What `towline run` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists runs, newest first.
    List {
        /// Of this repository only.
        #[arg(short = 'R', long, value_name = "OWNER/NAME")]
        repo: Option<String>,
        #[arg(short = 'L', long, default_value_t = 20)]
        limit: usize,
        /// queued, in_progress, completed, success, failure, …
        #[arg(short, long)]
        status: Option<String>,
        #[arg(short, long)]
        branch: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Shows a run with its jobs and steps.
    View {
        run: u64,
        /// The whole log of every job.
        #[arg(long)]
        log: bool,
        #[command(flatten)]
        json: Json,
        /// Exit code 1 if the run failed.
        #[arg(long)]
        exit_status: bool,
    },
    /// Shows a run until it ends.
    Watch {
        run: u64,
        /// Exit code 1 if the run failed.
        #[arg(long)]
        exit_status: bool,
    },
    /// Cancels a run.
    Cancel {
        run: u64,
        /// Does not wait for `always()` steps.
        #[arg(long)]
        force: bool,
    },
    /// Runs again: all jobs, the failed ones, or one.
    Rerun {
        run: u64,
        #[arg(long)]
        failed: bool,
        #[arg(short, long)]
        job: Option<u64>,
        /// With debug logging.
        #[arg(short, long)]
        debug: bool,
        /// A job that fails keeps its host and its workspace for so long (30m, 2h; an hour by default).
        #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1h", value_parser = super::job::hold_minutes)]
        hold_on_failure: Option<u32>,
    },
    /// Downloads the logs of a run as a zip file.
    Download {
        run: u64,
        /// Where to; `run-ID-logs.zip` when absent.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Lets a run go on that waits for someone: of a fork, or for environments with reviewers.
    Approve {
        run: u64,
        /// Only jobs of this environment; may be given several times. All that wait when absent.
        #[arg(short, long = "env", value_name = "NAME")]
        environments: Vec<String>,
        #[arg(short, long, default_value = "")]
        comment: String,
    },
    /// Refuses jobs that wait for environments with reviewers: they fail.
    Reject {
        run: u64,
        /// Only jobs of this environment; may be given several times. All that wait when absent.
        #[arg(short, long = "env", value_name = "NAME")]
        environments: Vec<String>,
        #[arg(short, long, default_value = "")]
        comment: String,
    },
    /// Keeps the waiting jobs of a run from starting; what runs goes on.
    Pause { run: u64 },
    /// Lets them start again.
    Resume { run: u64 },
    /// Deletes a finished run.
    Delete { run: u64 },
}

/// Does it and says the exit code.
pub(super) async fn execute(target: Target, command: Command) -> Result<u8> {
    match command {
        Command::List { repo, limit, status, branch, json } => {
            let mut path = format!("/api/v3/towline/runs?per_page={}", limit.min(100));
            for (name, value) in [("repository", repo), ("status", status), ("branch", branch)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encode(&value)));
                }
            }
            let body = target.json(Method::GET, &path, None).await?;
            if json.is_wanted() {
                return json.print(&body["workflow_runs"]);
            }
            say(&list(&body))?;
        }
        Command::View { run, log, json, exit_status } => {
            let body = target.json(Method::GET, &format!("/api/v3/towline/runs/{run}"), None).await?;
            if json.is_wanted() {
                json.print(&body)?;
            } else if log {
                for job in items(&body["jobs"]) {
                    let path = format!("{}/jobs/{}/logs", actions(&body), job["id"]);
                    let mut content = Vec::new();
                    target.download(&path, &mut content).await?;
                    let name = text(&job["name"]);
                    for line in String::from_utf8_lossy(&content).lines() {
                        say(&format!("{name}\t{line}\n"))?;
                    }
                }
            } else {
                say(&watch::tree(Clock::System.now(), &body, std::io::stdout().is_terminal() && screen::colors()))?;
            }
            return Ok(if exit_status { code(&body) } else { super::SUCCESS });
        }
        Command::Watch { run, exit_status } => {
            let body = watch::watch(&target, run).await?;
            return Ok(if exit_status { code(&body) } else { super::SUCCESS });
        }
        Command::Cancel { run, force } => {
            let path = actions_of(&target, run).await?;
            let word = if force { "force-cancel" } else { "cancel" };
            target.json(Method::POST, &format!("{path}/runs/{run}/{word}"), None).await?;
            say(&format!("Run {run} is being cancelled.\n"))?;
        }
        Command::Rerun { run, failed, job, debug, hold_on_failure } => {
            let path = actions_of(&target, run).await?;
            let path = match job {
                Some(job) => format!("{path}/jobs/{job}/rerun"),
                None if failed => format!("{path}/runs/{run}/rerun-failed-jobs"),
                None => format!("{path}/runs/{run}/rerun"),
            };
            let body = serde_json::json!({"enable_debug_logging": debug, "hold_minutes": hold_on_failure.unwrap_or(0)});
            target.json(Method::POST, &path, Some(body)).await?;
            say(&format!("Run {run} starts again.\n"))?;
        }
        Command::Download { run, output } => {
            let path = actions_of(&target, run).await?;
            let output = output.unwrap_or_else(|| PathBuf::from(format!("run-{run}-logs.zip")));
            let file = std::fs::File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
            let length = target.download(&format!("{path}/runs/{run}/logs"), file).await?;
            say(&format!("{} ({length} bytes)\n", output.display()))?;
        }
        Command::Approve { run, environments, comment } => {
            review(&target, run, true, &environments, &comment).await?;
        }
        Command::Reject { run, environments, comment } => {
            review(&target, run, false, &environments, &comment).await?;
        }
        Command::Pause { run } => {
            target.json(Method::PUT, &format!("/api/v3/towline/runs/{run}/pause"), None).await?;
            say(&format!("Run {run} is paused.\n"))?;
        }
        Command::Resume { run } => {
            target.json(Method::DELETE, &format!("/api/v3/towline/runs/{run}/pause"), None).await?;
            say(&format!("Run {run} goes on.\n"))?;
        }
        Command::Delete { run } => {
            let path = actions_of(&target, run).await?;
            target.json(Method::DELETE, &format!("{path}/runs/{run}"), None).await?;
            say(&format!("Run {run} is deleted.\n"))?;
        }
    }
    Ok(super::SUCCESS)
}

/// Approves or rejects what of a run waits for someone.
async fn review(target: &Target, run: u64, approved: bool, environments: &[String], comment: &str) -> Result<()> {
    let path = format!("{}/runs/{run}", actions_of(target, run).await?);
    let pending = target.json(Method::GET, &format!("{path}/pending_deployments"), None).await?;
    let pending: Vec<(String, Value)> =
        items(&pending).map(|one| (text(&one["environment"]["name"]), one["environment"]["id"].clone())).collect();
    if pending.is_empty() && approved && environments.is_empty() {
        target.json(Method::POST, &format!("{path}/approve"), None).await?;
        return say(&format!("Run {run} is approved.\n"));
    }
    let chosen: Vec<&(String, Value)> = pending
        .iter()
        .filter(|(name, _)| environments.is_empty() || environments.iter().any(|one| one.eq_ignore_ascii_case(name)))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = pending.iter().map(|(name, _)| name.as_str()).collect();
        let waits = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        return Err(Refused(format!("run {run} does not wait for that; it waits for {waits}")).into());
    }
    let ids: Vec<&Value> = chosen.iter().map(|(_, id)| id).collect();
    let state = if approved { "approved" } else { "rejected" };
    let body = serde_json::json!({"environment_ids": ids, "state": state, "comment": comment});
    target.json(Method::POST, &format!("{path}/pending_deployments"), Some(body)).await?;
    let names: Vec<&str> = chosen.iter().map(|(name, _)| name.as_str()).collect();
    say(&format!("Run {run}: {} {state}.\n", names.join(", ")))
}

fn code(run: &Value) -> u8 {
    match run["conclusion"].as_str() {
        None | Some("success" | "neutral" | "skipped") => super::SUCCESS,
        Some(_) => super::FAILED,
    }
}

fn actions(run: &Value) -> String {
    format!("/api/v3/repos/{}/actions", text(&run["repository"]["full_name"]))
}

async fn actions_of(target: &Target, run: u64) -> Result<String> {
    Ok(actions(&target.json(Method::GET, &format!("/api/v3/towline/runs/{run}"), None).await?))
}

fn state_of(run: &Value) -> String {
    let conclusion = text(&run["conclusion"]);
    if conclusion.is_empty() { text(&run["status"]) } else { conclusion }
}

fn list(body: &Value) -> String {
    let cells = items(&body["workflow_runs"]).map(|run| {
        [
            text(&run["id"]),
            state_of(run),
            crate::server::format::cut(&text(&run["display_title"]), 50),
            text(&run["name"]),
            crate::server::format::cut(&text(&run["head_branch"]), 30),
            text(&run["event"]),
            text(&run["run_started_at"]),
        ]
    });
    let rows = listed(["ID", "STATE", "TITLE", "WORKFLOW", "BRANCH", "EVENT", "STARTED"], cells);
    if rows.len() == 1 { "There are no runs.\n".to_owned() } else { table(&rows) }
}
