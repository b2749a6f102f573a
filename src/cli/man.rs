//! `towline man`: the manual pages and the reference, made from the commands and the configuration themselves.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::config::reference;

use super::{SUCCESS, output, remote};

/// Arguments of `towline man`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Writes all manual pages into this directory instead of the main one to standard output.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Prints the reference of commands or of the configuration as Markdown.
    #[arg(long, value_name = "WHAT", conflicts_with = "directory")]
    markdown: Option<Reference>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Reference {
    Commands,
    Configuration,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    remote::block(async move {
        match (arguments.directory, arguments.markdown) {
            (Some(directory), _) => write_all(&directory)?,
            (None, Some(Reference::Commands)) => output::say(&commands())?,
            (None, Some(Reference::Configuration)) => output::say(&reference::markdown())?,
            (None, None) => {
                let mut page = Vec::new();
                clap_mangen::Man::new(super::Arguments::command()).render(&mut page)?;
                output::say(&String::from_utf8_lossy(&page))?;
            }
        }
        Ok(SUCCESS)
    })
}

fn write_all(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let write = |name: &str, page: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
    };
    let mut command = super::Arguments::command();
    command.build();
    let mut waiting = vec![command];
    while let Some(command) = waiting.pop() {
        let name = command.get_bin_name().unwrap_or(command.get_name()).replace(' ', "-");
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
        write(&format!("{name}.1"), &page)?;
        waiting.extend(visible(&command).cloned());
    }
    write("towline.toml.5", reference::manual().as_bytes())
}

/// The subcommands that people are meant to see.
fn visible(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help")
}

/// All commands with their help, as one Markdown document.
fn commands() -> String {
    let mut command = super::Arguments::command().term_width(100);
    command.build();
    let mut out = String::from(
        "# Commands\n\nMade by `towline man --markdown commands`; a test keeps it what the program says.\n\nExit codes: 0 success, 1 the run \
         failed or errors were found, 2 the input was refused before anything ran, 3 a machine, file or network is not there.\n",
    );
    section(&command, &mut out);
    out
}

fn section(command: &clap::Command, out: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let depth = name.split(' ').count().min(3) + 1;
    let help = command.clone().term_width(100).render_long_help().to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    let _ = write!(out, "\n{} {name}\n\n```text\n{}\n```\n", "#".repeat(depth), help.join("\n"));
    for one in visible(command) {
        section(one, out);
    }
}
