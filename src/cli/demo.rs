//! `towline demo`: shows the main job on two hosts inside this process.

/// Arguments of `towline demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let _ = arguments;
    unimplemented!()
}
