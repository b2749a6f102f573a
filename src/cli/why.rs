//! `towline why`: explains a selection, a condition or a wait.

/// Arguments of `towline why`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let _ = arguments;
    unimplemented!()
}
