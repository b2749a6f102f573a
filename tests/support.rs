//! What several areas share.

pub mod clients;
pub mod engine;
pub mod hooks;
pub mod sshd;

use std::path::{Path, PathBuf};

/// The known answers beside the project, if this checkout has them. A suite that gets `None` must say that it was skipped.
#[must_use]
pub fn conformance(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance").join(folder);
    if path.exists() {
        Some(path)
    } else {
        eprintln!("skipped: no known answers at {} (they are not part of the project)", path.display());
        None
    }
}

/// The binary under test.
#[must_use]
pub fn towline() -> std::process::Command {
    std::process::Command::new(env!("CARGO_BIN_EXE_towline"))
}
