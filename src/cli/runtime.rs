//! `towline runtime`: node for hosts that have none.
//!
//! Works on the state directory itself; a daemon that runs sees the change with the next job.

use serde_json::json;

use crate::actions::Runtimes;
use crate::config::Paths;

use super::output::{self, listed, table};
use super::{ENVIRONMENT, INVALID, SUCCESS};

/// Arguments of `towline runtime`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Adds node: an archive of nodejs.org, the directory it unpacks to, the program itself, or an address.
    Add {
        /// node24 (or node20)
        name: String,
        /// A path, or an http(s) address; an address needs --sha256
        source: String,
        /// The SHA-256 of the file, as its maker published it
        #[arg(long, value_name = "DIGEST")]
        sha256: Option<String>,
    },
    /// Lists what was added.
    List {
        #[command(flatten)]
        json: output::Json,
    },
    /// Forgets a runtime: all of a name, or one by its full name.
    Remove { name: String },
}

/// Runs the command and says the exit code.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]
pub(super) fn run(arguments: Arguments) -> u8 {
    let runtimes = Runtimes::at(Paths::from_environment().runtimes());
    match arguments.command {
        Command::Add { name, source, sha256 } => match runtimes.add(&name, &source, sha256.as_deref()) {
            Ok(added) => {
                println!("added {} for {} ({})", added.name, added.platform, added.directory());
                SUCCESS
            }
            Err(error) => complain(&error),
        },
        Command::List { json } if json.is_wanted() => {
            let all = runtimes
                .list()
                .iter()
                .map(|runtime| {
                    json!({
                        "name": runtime.name, "os": runtime.platform.os, "arch": runtime.platform.arch,
                        "libc": runtime.platform.libc, "digest": runtime.digest, "path": runtime.path,
                    })
                })
                .collect();
            output::exit_code(json.print(&all))
        }
        Command::List { .. } => {
            let all = runtimes.list();
            let cells = all.iter().map(|one| [one.name.to_string(), one.platform.to_string(), one.digest.to_string()]);
            let shown = if all.is_empty() {
                "There are no runtimes. Add one: towline runtime add node24 PATH\n".to_owned()
            } else {
                table(&listed(["NAME", "PLATFORM", "DIGEST"], cells))
            };
            output::exit_code(output::say(&shown).map(|()| SUCCESS))
        }
        Command::Remove { name } => match runtimes.remove(&name) {
            Ok(0) => {
                eprintln!("error: there is no runtime {name}");
                INVALID
            }
            Ok(_) => SUCCESS,
            Err(error) => complain(&error),
        },
    }
}

#[expect(clippy::print_stderr, reason = "the command line prints")]
fn complain(error: &crate::actions::RuntimeError) -> u8 {
    use crate::actions::RuntimeError;
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    eprintln!("error: {error}{cause}");
    match error {
        RuntimeError::Name { .. } | RuntimeError::NoChecksum => INVALID,
        _ => ENVIRONMENT,
    }
}
