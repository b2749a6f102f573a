//! `towline exec`: runs a workflow here and now, without the daemon.
//!
//! The engine, the executor and the runner are the daemon's; only what surrounds them differs: the repository is a
//! snapshot of the working tree, secrets come from the command line, and nothing outlives the process.

mod arguments;
mod result;
mod session;
mod source;

use std::sync::Arc;

pub(super) use arguments::Arguments;

use crate::clock::Clock;
use crate::diagnostic::Diagnostic;

use super::given::Unusable;
use super::{ENVIRONMENT, INVALID};

/// Why nothing ran.
#[derive(Debug)]
enum Refusal {
    /// The workflow file was refused.
    Diagnostics { text: String, diagnostics: Vec<Diagnostic> },
    /// The command line asks for what cannot be.
    Invalid(Vec<String>),
    /// Something this needs is not there.
    Environment(String),
}

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Invalid(message) => Self::Invalid(vec![message]),
            Unusable::Unreadable(message) => Self::Environment(message),
        }
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Environment(format!("{error:#}"))
    }
}

/// Runs the command and says the exit code.
#[expect(clippy::print_stderr, reason = "the command line prints")]
pub(super) fn run(arguments: Arguments) -> u8 {
    let Some(runtime) = super::threads() else { return ENVIRONMENT };
    let color = super::screen::colors();
    let code = match runtime.block_on(execute(Arc::new(arguments))) {
        Ok(code) => code,
        Err(Refusal::Diagnostics { text, diagnostics }) => {
            for diagnostic in &diagnostics {
                eprintln!("{}", crate::diagnostic::text(diagnostic, Some(&text), color));
            }
            INVALID
        }
        Err(Refusal::Invalid(messages)) => {
            for message in messages {
                eprintln!("error: {message}");
            }
            INVALID
        }
        Err(Refusal::Environment(message)) => {
            eprintln!("error: {message}");
            ENVIRONMENT
        }
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

async fn execute(arguments: Arc<Arguments>) -> Result<u8, Refusal> {
    let clock = Clock::System;
    let prepared = source::prepare(&arguments, &clock).await?;
    session::run(&arguments, &clock, prepared).await
}
