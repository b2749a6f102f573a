//! `towline job`: logs in where a job works, and lets a failed one go that is held.

use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context, Result, bail};
use http::Method;

use super::output::{say, text};
use super::remote::Target;
use crate::runner::quote;

/// The longest that a failed job may be held: a week.
const LONGEST_HOLD: u64 = 7 * 24 * 60;

/// What `towline job` does.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Logs in on the host of a job, in its workspace; prints the command when there is no terminal.
    Ssh {
        job: u64,
        /// Prints the command and does not run it.
        #[arg(long)]
        print: bool,
    },
    /// Lets a job end that failed and is held.
    Release { job: u64 },
}

/// Does it and says the exit code.
pub(super) async fn execute(target: Target, command: Command) -> Result<u8> {
    match command {
        Command::Ssh { job, print } => {
            let place = target.json(Method::GET, &format!("/api/v3/towline/jobs/{job}/place"), None).await?;
            let workspace = text(&place["workspace"]);
            let arguments: Vec<String> = place["ssh"].as_array().into_iter().flatten().map(text).collect();
            if !is_way(&arguments) {
                bail!("the daemon names a way to the host that this program does not take: {}", arguments.join(" "));
            }
            let words = words(&arguments, &workspace);
            if print || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
                let shown: Vec<String> = words.iter().map(|word| quote(word)).collect();
                say(&format!("{}\n", shown.join(" ")))?;
                return Ok(super::SUCCESS);
            }
            let Some((program, rest)) = words.split_first() else { bail!("there is no way to the host") };
            // Only comes back when it cannot be run.
            Err(std::process::Command::new(program).args(rest).exec()).with_context(|| format!("cannot run {program}"))
        }
        Command::Release { job } => {
            target.json(Method::POST, &format!("/api/v3/towline/jobs/{job}/release"), None).await?;
            say(&format!("Job {job} goes on to its end.\n"))?;
            Ok(super::SUCCESS)
        }
    }
}

/// Whether these are arguments that only say where a host is. Others could have `ssh` run something here.
fn is_way(ssh: &[String]) -> bool {
    let Some((destination, options)) = ssh.split_last() else { return true };
    let known = |pair: &[String]| match pair {
        [flag, value] if flag == "-o" => value.starts_with("UserKnownHostsFile="),
        [flag, value] => ["-p", "-i", "-J"].contains(&flag.as_str()) && !value.starts_with('-'),
        _ => false,
    };
    !destination.starts_with('-') && options.chunks(2).all(known)
}

/// The command that gives a shell in the workspace; without `ssh` on this machine.
fn words(ssh: &[String], workspace: &str) -> Vec<String> {
    let shell = format!("cd -- {} && exec \"${{SHELL:-/bin/sh}}\" -l", quote(workspace));
    if ssh.is_empty() {
        return ["sh".to_owned(), "-c".to_owned(), shell].into();
    }
    ["ssh".to_owned(), "-t".to_owned()].into_iter().chain(ssh.iter().cloned()).chain([shell]).collect()
}

/// Reads how long a failed job is held, in whole minutes.
pub(super) fn hold_minutes(given: &str) -> Result<u32, String> {
    let split = given.find(|character: char| !character.is_ascii_digit()).unwrap_or(given.len());
    let (digits, unit) = given.split_at(split);
    let factor = match unit {
        "m" | "min" => Some(1),
        "h" => Some(60),
        "d" => Some(24 * 60),
        _ => None,
    };
    let minutes = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    let minutes = minutes.filter(|minutes| (1..=LONGEST_HOLD).contains(minutes));
    minutes
        .and_then(|minutes| u32::try_from(minutes).ok())
        .ok_or_else(|| "write a time from 1m to 7d: `30m`, `2h` or `1d`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_hold() {
        for (given, minutes) in [("30m", 30), ("2h", 120), ("1d", 1440), ("7d", 10_080)] {
            assert_eq!(hold_minutes(given), Ok(minutes));
        }
        for given in ["", "30", "0m", "8d", "h", "1w", "99999999999999999999h", "-1m"] {
            assert!(hold_minutes(given).is_err(), "{given}");
        }
    }

    #[test]
    fn ssh_is_told_where_a_host_is_and_nothing_else() {
        let is_way = |words: &[&str]| is_way(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert!(is_way(&[]));
        assert!(is_way(&[
            "-p",
            "22",
            "-i",
            "/k",
            "-o",
            "UserKnownHostsFile=\"/f\"",
            "-J",
            "a@b:22,c@d:2",
            "ci@selene"
        ]));
        for words in [
            &["-p", "22", "-o", "ProxyCommand=touch /tmp/x", "ci@selene"][..],
            &["-p", "22", "-oProxyCommand=x"],
            &["-F", "/tmp/x", "ci@selene"],
            &["-p", "-v", "ci@selene"],
            &["-v", "ci@selene"],
        ] {
            assert!(!is_way(words), "{words:?}");
        }
    }

    #[test]
    fn the_command_survives_a_shell() {
        let words = words(&["-p".to_owned(), "22".to_owned(), "ci@selene".to_owned()], "/srv/o'x/app");
        assert_eq!(words[..5], ["ssh", "-t", "-p", "22", "ci@selene"]);
        assert_eq!(words[5], "cd -- '/srv/o'\\''x/app' && exec \"${SHELL:-/bin/sh}\" -l");
    }
}
