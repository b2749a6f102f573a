//! Notices by a program of the user's: facts in its environment and, as JSON, on its standard input.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::super::Error;
use super::{Notice, webhook};
use crate::event::ref_name;

/// After this it is ended: a notification is no place for work.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the daemon's own environment: the rest is none of the program's business.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Runs the program; anything but exit code 0 means that nobody was told.
pub(super) async fn run(notice: &Notice, words: &[String]) -> Result<(), Error> {
    let failed = |reason: String| Error::Unreachable { host: words.first().cloned().unwrap_or_default(), reason };
    let (program, arguments) = words.split_first().ok_or_else(|| failed("no program is named".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true);
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let (run, number, attempt) = (notice.run.to_string(), notice.run_number.to_string(), notice.attempt.to_string());
    let (headline, recovered) = (notice.headline(), notice.recovered.to_string());
    for (name, value) in [
        ("TOWLINE_TEXT", headline.as_str()),
        ("TOWLINE_REPOSITORY", notice.repository.as_str()),
        ("TOWLINE_WORKFLOW", &notice.workflow),
        ("TOWLINE_RUN_ID", &run),
        ("TOWLINE_RUN_NUMBER", &number),
        ("TOWLINE_RUN_ATTEMPT", &attempt),
        ("TOWLINE_EVENT", &notice.event),
        ("TOWLINE_REF", &notice.git_ref),
        ("TOWLINE_BRANCH", ref_name(&notice.git_ref)),
        ("TOWLINE_SHA", &notice.sha),
        ("TOWLINE_ACTOR", &notice.actor),
        ("TOWLINE_CONCLUSION", notice.conclusion.as_str()),
        ("TOWLINE_RECOVERED", &recovered),
        ("TOWLINE_URL", &notice.url),
    ] {
        // A NUL cannot be in an environment.
        command.env(name, value.replace('\0', ""));
    }
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
    let mut input = child.stdin.take();
    let body = webhook::plain(notice).to_string();
    let work = async {
        if let Some(input) = &mut input {
            // A program that does not read it need not.
            drop(input.write_all(body.as_bytes()).await);
        }
        drop(input);
        child.wait().await
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(format!("ended with {status}"))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("did not end within {} s", PATIENCE.as_secs()))),
    }
}
