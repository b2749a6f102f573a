//! `towline plan`: shows the jobs an event would start; nothing is executed.

/// Arguments of `towline plan`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let _ = arguments;
    unimplemented!()
}
