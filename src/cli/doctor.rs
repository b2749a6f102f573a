//! `towline doctor`: what commonly goes wrong, looked at, each fault with its mend.

mod configuration;
mod machine;
mod service;

use serde_json::{Value as Json, json};

use crate::config::Paths;

use super::output::say;
use super::remote::block;
use super::{FAILED, SUCCESS, screen};

/// Arguments of `towline doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Only asks whether the daemon is well; for health checks.
    #[arg(long)]
    quick: bool,
    /// Also says what is fine.
    #[arg(short, long)]
    verbose: bool,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Fine,
    /// Good to know; nothing is wrong.
    Note,
    /// Something will not work as one would expect.
    Warning,
    /// Something does not work.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What it is about: `host selene`, `git`, …
    pub(super) subject: String,
    pub(super) text: String,
    /// How to mend it; empty when there is nothing to mend.
    pub(super) mend: String,
}

impl Finding {
    fn new(level: Level, subject: impl Into<String>, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level, subject: subject.into(), text: text.into(), mend: mend.into() }
    }

    fn fine(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Level::Fine, subject, text, "")
    }

    fn note(subject: impl Into<String>, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Level::Note, subject, text, mend)
    }

    fn warning(subject: impl Into<String>, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Level::Warning, subject, text, mend)
    }

    fn error(subject: impl Into<String>, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Level::Error, subject, text, mend)
    }
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let (quick, as_json, verbose) = (arguments.quick, arguments.json, arguments.verbose);
    let paths = Paths::from_environment();
    block(async move {
        let findings = if quick { service::answers().await } else { examine(&paths).await };
        let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Fine);
        if as_json {
            say(&format!("{:#}\n", json(&findings)))?;
        } else {
            say(&text(&findings, verbose))?;
        }
        Ok(if worst == Level::Error { FAILED } else { SUCCESS })
    })
}

/// Looks at everything.
pub(super) async fn examine(paths: &Paths) -> Vec<Finding> {
    let (config, mut findings) = configuration::read(paths);
    findings.extend(machine::programs());
    findings.extend(machine::limits());
    findings.extend(configuration::state(paths, &config));
    findings.extend(service::answers().await);
    findings.extend(service::unit(&config));
    findings.extend(service::reachable(&config));
    findings.extend(configuration::sources(paths, &config).await);
    findings.extend(machine::hosts(paths, &config).await);
    findings
}

/// Findings as JSON.
pub(super) fn json(findings: &[Finding]) -> Json {
    let one = |finding: &Finding| json!({"level": finding.level.word(), "subject": finding.subject, "text": finding.text, "mend": finding.mend});
    findings.iter().map(one).collect()
}

fn text(findings: &[Finding], verbose: bool) -> String {
    let mut out = String::new();
    let colors = screen::colors();
    for finding in findings.iter().filter(|finding| verbose || finding.level > Level::Fine) {
        let color = match finding.level {
            _ if !colors => "",
            Level::Fine => "\x1b[32m",
            Level::Note => "\x1b[36m",
            Level::Warning => "\x1b[33m",
            Level::Error => "\x1b[31m",
        };
        let end = if colors { "\x1b[0m" } else { "" };
        out.push_str(&format!("{color}{}{end} {}: {}\n", finding.level.word(), finding.subject, finding.text));
        for line in finding.mend.lines() {
            out.push_str(&format!("    {line}\n"));
        }
    }
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    out.push_str(&format!(
        "{} looked at: {} errors, {} warnings, {} notes\n",
        findings.len(),
        count(Level::Error),
        count(Level::Warning),
        count(Level::Note)
    ));
    out
}
