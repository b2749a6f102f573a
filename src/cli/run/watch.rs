//! A run as a tree of jobs and steps: once, or for as long as it goes on.
//!
//! On a terminal the tree is drawn in place. Elsewhere each change is one line, so that a log of it can be read.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Result;
use http::Method;
use http_body_util::BodyExt;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::clock::Clock;
use crate::server::format;

use super::super::output::{say, text};
use super::super::remote::Target;

/// Lines of a tree that are drawn at most: what is over goes first.
const TALLEST: usize = 60;

/// Shows the run whenever something of it changes, until it ends.
pub(super) async fn watch(target: &Target, run: u64) -> Result<Value> {
    let path = format!("/api/v3/towline/runs/{run}");
    let mut view = View::new();
    let body = loop {
        // The stream is opened first: what changes while the run is read is not missed.
        let stream = target.send(Method::GET, &format!("/api/v3/towline/events?run={run}"), None).await?;
        let mut stream = stream.into_body();
        let ended = loop {
            let body = target.json(Method::GET, &path, None).await?;
            view.show(&body)?;
            if body["status"] == "completed" {
                break Some(body);
            }
            // A lost connection is not the end of the run; neither is silence.
            match tokio::time::timeout(view.patience(), stream.frame()).await {
                Ok(Some(Ok(_))) | Err(_) => {}
                Ok(None | Some(Err(_))) => break None,
            }
        };
        if let Some(body) = ended {
            break body;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    view.end(&body)?;
    Ok(body)
}

/// What was shown so far.
enum View {
    Terminal(ProgressBar),
    /// Job, or job and step → state.
    Lines(BTreeMap<(String, String), String>),
}

impl View {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(BTreeMap::new());
        }
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or(ProgressStyle::default_spinner()));
        Self::Terminal(bar)
    }

    /// On a terminal durations count.
    fn patience(&self) -> Duration {
        Duration::from_secs(if matches!(self, Self::Terminal(_)) { 1 } else { 30 })
    }

    fn show(&mut self, run: &Value) -> Result<()> {
        match self {
            Self::Terminal(bar) => {
                let colors = super::super::screen::colors();
                bar.set_message(short(&tree(Clock::System.now(), run, colors)));
                bar.tick();
                Ok(())
            }
            Self::Lines(states) => {
                let mut out = String::new();
                for (job, step, state) in states_of(run) {
                    if states.insert((job.clone(), step.clone()), state.clone()).as_ref() != Some(&state) {
                        let name = if step.is_empty() { job } else { format!("{job} / {step}") };
                        out.push_str(&format!("{} {name}: {state}\n", mark(&state)));
                    }
                }
                say(&out)
            }
        }
    }

    fn end(self, run: &Value) -> Result<()> {
        match self {
            Self::Terminal(bar) => {
                bar.finish_and_clear();
                say(&tree(Clock::System.now(), run, super::super::screen::colors()))
            }
            Self::Lines(_) => say(&format!(
                "{} run {}: {}\n{}\n",
                mark(run["state"].as_str().unwrap_or_default()),
                run["id"],
                text(&run["state"]),
                text(&run["html_url"])
            )),
        }
    }
}

/// Jobs, and steps that began, with their states.
fn states_of(run: &Value) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for job in run["jobs"].as_array().into_iter().flatten() {
        let name = text(&job["name"]);
        for step in job["steps"].as_array().into_iter().flatten() {
            let state = text(&step["state"]);
            if state != "queued" {
                all.push((name.clone(), text(&step["name"]), state));
            }
        }
        all.push((name, String::new(), text(&job["state"])));
    }
    all
}

/// The steps of jobs that are over are left out when there is not room for all.
fn short(tree: &str) -> String {
    let lines: Vec<&str> = tree.lines().collect();
    if lines.len() <= TALLEST {
        return tree.trim_end().to_owned();
    }
    let jobs: Vec<&str> =
        lines.iter().copied().filter(|line| !line.starts_with("    ") || line.contains('●')).collect();
    let cut = jobs.len().saturating_sub(TALLEST);
    let mut shown: Vec<&str> = jobs.into_iter().take(TALLEST).collect();
    let more = format!("… and {cut} more");
    if cut > 0 {
        shown.push(&more);
    }
    shown.join("\n")
}

/// The mark of a state, the same everywhere.
pub(super) fn mark(state: &str) -> &'static str {
    match state {
        "success" => "✓",
        "failed" | "timed out" | "lost" => "✗",
        "failed, allowed" => "!",
        "running" | "detached" => "●",
        "cancelled" => "■",
        "skipped" => "-",
        _ => "○",
    }
}

fn painted(state: &str, words: &str, colors: bool) -> String {
    let color = match state {
        "success" => 32,
        "failed" | "timed out" | "lost" => 31,
        "failed, allowed" => 33,
        "running" | "detached" => 36,
        _ => 90,
    };
    if colors { format!("\u{1b}[{color}m{words}\u{1b}[0m") } else { words.to_owned() }
}

/// How long something took, or takes so far.
fn took(now: Timestamp, one: &Value) -> Option<SignedDuration> {
    let at = |name: &str| one[name].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let started = at("started_at")?;
    Some(at("completed_at").unwrap_or(now).duration_since(started).max(SignedDuration::ZERO))
}

/// The whole tree.
pub(super) fn tree(now: Timestamp, run: &Value, colors: bool) -> String {
    let state = text(&run["state"]);
    let mut out = format!(
        "{} {} · {} #{} · {} · attempt {}\n",
        painted(&state, mark(&state), colors),
        text(&run["display_title"]),
        text(&run["name"]),
        text(&run["run_number"]),
        text(&run["head_branch"]),
        text(&run["run_attempt"]),
    );
    for message in run["messages"].as_array().into_iter().flatten() {
        out.push_str(&format!("  {}\n", text(message)));
    }
    for job in run["jobs"].as_array().into_iter().flatten() {
        let state = text(&job["state"]);
        let host = text(&job["runner_name"]);
        let host = if host.is_empty() { host } else { format!(" on {host}") };
        let began = !matches!(state.as_str(), "queued" | "waiting" | "skipped");
        let time = took(now, job).filter(|_| began).map(|time| format!(" in {}", format::so_far(time)));
        out.push_str(&format!(
            "{} {}{host} (ID {}): {}{}\n",
            painted(&state, mark(&state), colors),
            text(&job["name"]),
            job["id"],
            painted(&state, &state, colors),
            time.unwrap_or_default()
        ));
        for reason in [&job["reason"], &job["detached"]] {
            if !reason.is_null() {
                out.push_str(&format!("    {}\n", text(reason)));
            }
        }
        if let Some(until) = job["held_until"].as_str() {
            let id = &job["id"];
            out.push_str(&format!(
                "    held until {until}: `towline job ssh {id}` looks at it, `towline job release {id}` ends it\n"
            ));
        }
        for step in job["steps"].as_array().into_iter().flatten() {
            let state = text(&step["state"]);
            let time = took(now, step).map(|time| format!(" ({})", format::so_far(time)));
            out.push_str(&format!(
                "    {} {}{}\n",
                painted(&state, mark(&state), colors),
                text(&step["name"]),
                time.unwrap_or_default()
            ));
        }
    }
    out.push_str(&format!("{}\n", text(&run["html_url"])));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(steps: usize) -> Value {
        let step = |number: usize| json!({"name": format!("step {number}"), "state": if number == 0 { "running" } else { "queued" }, "started_at": (number == 0).then_some("2026-11-21T21:00:00Z")});
        json!({
            "id": 7, "state": "running", "display_title": "Fix\u{1b}[2J it", "name": "CI", "run_number": 3, "head_branch": "main",
            "run_attempt": 1, "html_url": "http://localhost/x", "messages": [],
            "jobs": [{
                "id": 9, "name": "build", "state": "running", "runner_name": "selene", "started_at": "2026-11-21T20:59:00Z",
                "steps": (0..steps).map(step).collect::<Vec<_>>(),
            }],
        })
    }

    #[test]
    fn a_tree_says_what_runs_and_for_how_long() {
        let now = "2026-11-21T21:00:05Z".parse().unwrap();
        let shown = tree(now, &run(2), false);
        assert_eq!(
            shown,
            "● Fix[2J it · CI #3 · main · attempt 1\n● build on selene (ID 9): running in 1m 05s\n    ● step 0 (5s)\n    ○ step 1\nhttp://localhost/x\n"
        );
        assert!(tree(now, &run(2), true).contains("\u{1b}[36m●\u{1b}[0m build"));
    }

    #[test]
    fn a_tall_tree_is_cut_to_what_runs() {
        let now = "2026-11-21T21:00:05Z".parse().unwrap();
        let shown = short(&tree(now, &run(500), false));
        assert!(
            shown.lines().count() <= TALLEST + 1 && shown.contains("step 0") && !shown.contains("step 499"),
            "{shown}"
        );
    }

    #[test]
    fn changes_are_told_once() {
        let states = states_of(&run(3));
        assert_eq!(states.len(), 2, "steps that did not begin are left out: {states:?}");
    }
}
