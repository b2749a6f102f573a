//! The hook of a pushed repository: how it is installed, what it does, and what it leaves when the daemon is down.
//!
//! A hook never fails and never holds up a push: it tells the daemon over its socket, and when nobody answers it leaves
//! the push in the repository's spool, where the daemon finds it. The same id in both makes a push start its runs once.

mod client;
mod install;
mod spool;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use client::{Told, post_receive};
pub use install::{Error as InstallError, Installed, install, is_installed, remove, upgrade};
pub use spool::{Spooled, spooled};

/// Where the hook posts to, on the daemon's socket.
pub const HOOK_PATH: &str = "/api/v3/towline/push";

/// What a hook says of one push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPush {
    /// Made up by the hook; a repeated push has the same.
    pub id: String,
    /// The git directory.
    pub repository: String,
    pub refs: Vec<HookRef>,
    /// `git push -o OPTION`.
    pub options: Vec<String>,
    pub pusher: String,
    pub at: Timestamp,
}

/// One line of `post-receive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRef {
    pub old: String,
    pub new: String,
    pub name: String,
}

impl HookPush {
    /// Whether the pusher asked to see the live log.
    #[must_use]
    pub fn wants_follow(&self) -> bool {
        self.options.iter().any(|option| option == "follow")
    }
}

/// Lines of `post-receive`: `OLD NEW REF`. Others are left out.
#[must_use]
pub fn parse_refs(text: &str) -> Vec<HookRef> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            Some(HookRef { old: words.next()?.into(), new: words.next()?.into(), name: words.next()?.into() })
        })
        .collect()
}
