//! What `towline exec` is told.

use std::path::PathBuf;

use super::super::given::Given;

/// Arguments of `towline exec`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(super) given: Given,
    /// A secret; NAME alone takes the value from the environment
    #[arg(long = "secret", value_name = "NAME[=VALUE]")]
    pub(super) secrets: Vec<String>,
    /// Runs only this job and what it needs
    #[arg(long, value_name = "ID")]
    pub(super) job: Option<String>,
    /// Runs jobs on this host over SSH instead of on this machine; may be repeated
    #[arg(long = "host", value_name = "[USER@]ADDRESS[:PORT]")]
    pub(super) hosts: Vec<String>,
    /// The private key to log in with
    #[arg(long, value_name = "FILE")]
    pub(super) identity: Option<PathBuf>,
    /// The file with the hosts' keys
    #[arg(long, value_name = "FILE")]
    pub(super) known_hosts: Option<PathBuf>,
    /// A variable of the machine's environment for all steps
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// A value of the github context
    #[arg(long = "github", value_name = "KEY=VALUE")]
    pub(super) github: Vec<String>,
    /// A directory of bare repositories OWNER/NAME.git to find actions in
    #[arg(long, value_name = "DIR")]
    pub(super) actions: Option<PathBuf>,
    /// Which actions/checkout runs: the one that is built in, or the action itself
    #[arg(long, value_name = "KIND", value_enum, default_value = "builtin")]
    pub(super) checkout: Checkout,
    /// Where the hosts keep what belongs to this program
    #[arg(long, value_name = "DIR", default_value = "~/.towline")]
    pub(super) root: String,
    /// How many jobs run at once on each host; its cores by default
    #[arg(long, value_name = "N")]
    pub(super) slots: Option<u32>,
    /// Turns on debug logging of steps
    #[arg(long)]
    pub(super) debug: bool,
    /// Keeps the workspace of a failed job, and the job, for so long (30m, 2h; an hour by default) or until Ctrl-C
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1h", value_parser = crate::cli::job::hold_minutes)]
    pub(super) hold_on_failure: Option<u32>,
    /// Prints one JSON object at the end; everything else goes to standard error
    #[arg(long)]
    pub(super) json: bool,
}

/// Which `actions/checkout` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Checkout {
    Builtin,
    Node,
}
