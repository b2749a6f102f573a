//! `towline check`: checks workflow and action files.

/// Arguments of `towline check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let _ = arguments;
    unimplemented!()
}
