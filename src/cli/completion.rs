//! `towline completion`: what a shell needs to complete our commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

/// Arguments of `towline completion`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell it is for.
    shell: Shell,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "towline", &mut script);
    super::remote::block(async move { super::output::say(&String::from_utf8_lossy(&script)).map(|()| super::SUCCESS) })
}
