//! `towline export` and `towline import`: the whole state as lines of JSON. What is secret in it is sealed.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::remote::{Target, block};
use crate::clock::Clock;
use crate::config::Paths;
use crate::store::Store;

/// Arguments of `towline export`.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    target: Target,
    /// Where to; standard output when absent or `-`.
    file: Option<PathBuf>,
    /// Reads the state directory itself, while no daemon runs on it.
    #[arg(long)]
    offline: bool,
}

/// Arguments of `towline import`.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// A file that `towline export` or the daily backup wrote.
    file: PathBuf,
    /// The state directory; no daemon may run on it.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Also into a state that holds something already: records with the same keys are replaced.
    #[arg(long)]
    merge: bool,
}

/// Runs `towline export` and says the exit code.
pub(super) fn export(arguments: Export) -> u8 {
    block(async move {
        let file = arguments.file.filter(|path| path.as_os_str() != "-");
        if arguments.offline {
            return offline(file);
        }
        let path = "/api/v3/towline/export";
        match file {
            Some(path_of_file) => {
                let mut unfinished = path_of_file.clone().into_os_string();
                unfinished.push(".unfinished");
                let unfinished = PathBuf::from(unfinished);
                let written = async {
                    let file = std::fs::File::create(&unfinished)
                        .with_context(|| format!("cannot write {}", unfinished.display()))?;
                    let length = arguments.target.download(path, &file).await?;
                    file.sync_all()?;
                    std::fs::rename(&unfinished, &path_of_file)?;
                    Ok::<u64, anyhow::Error>(length)
                };
                let length = written.await.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
                note(&format!("{} ({length} bytes)", path_of_file.display()));
            }
            None => drop(arguments.target.download(path, std::io::stdout()).await?),
        }
        Ok(super::SUCCESS)
    })
}

fn offline(file: Option<PathBuf>) -> Result<u8> {
    let Some(file) = file else { bail!("name a file to export to") };
    let (store, recovery) = Store::open(&Paths::from_environment().state)?;
    if let Some(recovery) = recovery {
        note(&recovery.to_string());
    }
    let records = store.export(Clock::System.now(), &file)?;
    note(&format!("{records} records were written to {}", file.display()));
    Ok(super::SUCCESS)
}

/// Runs `towline import` and says the exit code.
pub(super) fn import(arguments: &Import) -> u8 {
    block(async move {
        let state = arguments.state.clone().unwrap_or_else(|| Paths::from_environment().state);
        let (store, recovery) = Store::open(&state)?;
        if let Some(recovery) = recovery {
            note(&recovery.to_string());
        }
        if !arguments.merge && !store.is_empty()? {
            bail!(
                "the state in {} is not empty; move it away, or put the records over what is there with --merge",
                state.display()
            );
        }
        let records = store.import(&arguments.file)?;
        note(&format!("{records} records were read into {}", state.display()));
        Ok(super::SUCCESS)
    })
}

fn note(text: &str) {
    // Nobody reads a closed standard error.
    let _ = writeln!(std::io::stderr(), "{text}");
}
