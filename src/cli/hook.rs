//! `towline hook`: what git runs in a repository that was added. Not for people.

use std::path::PathBuf;

use crate::clock::Clock;
use crate::config::Paths;
use crate::triggers::hook;

/// Arguments of `towline hook`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// The same as a program of its own.
#[derive(Debug, clap::Parser)]
#[command(name = "towline hook", version)]
pub(super) struct Alone {
    #[command(flatten)]
    pub(super) arguments: Arguments,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Tells the daemon what was pushed; reads git's lines from standard input.
    PostReceive {
        /// The daemon's socket.
        #[arg(long)]
        socket: Option<PathBuf>,
    },
}

/// Runs the command and says the exit code. Always success: the push is done already, and its pusher is not to blame.
pub(super) fn run(arguments: Arguments) -> u8 {
    let Command::PostReceive { socket } = arguments.command;
    let socket = socket.unwrap_or_else(|| Paths::from_environment().socket());
    let repository = std::env::var_os("GIT_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let now = Clock::System.now();
    // A pusher who hung up must not end the hook: what is printed to nobody is dropped.
    let mut out = std::io::stdout().lock();
    let mut print = |line: &str| {
        use std::io::Write as _;
        drop(writeln!(out, "{line}").and_then(|()| out.flush()));
    };
    hook::post_receive(now, &socket, &repository, std::io::stdin().lock(), &mut print);
    super::SUCCESS
}
