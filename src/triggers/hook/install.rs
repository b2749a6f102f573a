//! Putting the hook into a repository, beside what is there.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::spool;
use crate::git::{self, Repository};

/// What tells our hook from anybody else's.
const MARK: &str = "# towline hook, version ";
/// Raised with every change of the text below.
const VERSION: u32 = 2;

/// What an installation did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Installed {
    New,
    Upgraded,
    Unchanged,
    /// There was a hook; it is kept at this path and runs first.
    Beside(PathBuf),
}

/// Why a hook could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{} is not ours, and {} exists already; merge the two and try again", hook.display(), local.display())]
    TwoHooks { hook: PathBuf, local: PathBuf },
}

/// Installs or upgrades the `post-receive` hook, and lets pushers give options.
///
/// # Errors
/// The repository cannot be written, or a foreign hook is in the way twice.
pub async fn install(repository: &Repository, program: &Path, socket: &Path) -> Result<Installed, Error> {
    let hooks = repository.hooks_directory().await?;
    fs::create_dir_all(&hooks).map_err(|source| Error::Write { path: hooks.clone(), source })?;
    let hook = hooks.join("post-receive");
    let local = hooks.join("post-receive.local");
    let text = script(program, socket);
    let installed = match fs::read(&hook) {
        Err(_) => Installed::New,
        Ok(bytes) if bytes == text.as_bytes() => Installed::Unchanged,
        Ok(bytes) if is_ours(&bytes) => Installed::Upgraded,
        Ok(_) if local.exists() => return Err(Error::TwoHooks { hook, local }),
        Ok(_) => {
            fs::rename(&hook, &local).map_err(|source| Error::Write { path: local.clone(), source })?;
            Installed::Beside(local)
        }
    };
    if installed != Installed::Unchanged {
        replace(&hook, &text).map_err(|source| Error::Write { path: hook.clone(), source })?;
    }
    // Made now, with the owner and mode of the repository: a pusher of the same group can spool then.
    let spool = repository.git_dir().join(spool::DIRECTORY);
    fs::create_dir_all(&spool).map_err(|source| Error::Write { path: spool.clone(), source })?;
    if let Ok(metadata) = fs::metadata(repository.git_dir().join("objects")) {
        for directory in [spool.parent(), Some(spool.as_path())].into_iter().flatten() {
            drop(fs::set_permissions(directory, metadata.permissions()));
        }
    }
    repository.configure("receive.advertisePushOptions", "true").await?;
    Ok(installed)
}

/// Whether the hook is in place, of whatever version.
pub async fn is_installed(repository: &Repository) -> bool {
    let Ok(hooks) = repository.hooks_directory().await else { return false };
    fs::read(hooks.join("post-receive")).is_ok_and(|bytes| is_ours(&bytes))
}

/// Replaces an older version of the hook by this one's, where it speaks to this daemon. Says whether it did.
///
/// # Errors
/// The repository cannot be written.
pub async fn upgrade(repository: &Repository, program: &Path, socket: &Path) -> Result<bool, Error> {
    let hook = repository.hooks_directory().await?.join("post-receive");
    let Ok(bytes) = fs::read(&hook) else { return Ok(false) };
    let text = String::from_utf8_lossy(&bytes);
    let version = text.lines().take(3).find_map(|line| line.strip_prefix(MARK)?.trim().parse::<u32>().ok());
    // The hook of an adopted repository may be another daemon's.
    if version.is_none_or(|version| version >= VERSION) || !text.contains(&quoted(socket)) {
        return Ok(false);
    }
    replace(&hook, &script(program, socket)).map_err(|source| Error::Write { path: hook, source })?;
    Ok(true)
}

/// Takes the hook away and puts back what was there before.
///
/// # Errors
/// The repository cannot be written.
pub async fn remove(repository: &Repository) -> Result<bool, Error> {
    if !is_installed(repository).await {
        return Ok(false);
    }
    let hooks = repository.hooks_directory().await?;
    let (hook, local) = (hooks.join("post-receive"), hooks.join("post-receive.local"));
    let gone = if local.exists() { fs::rename(&local, &hook) } else { fs::remove_file(&hook) };
    gone.map_err(|source| Error::Write { path: hook, source })?;
    Ok(true)
}

fn is_ours(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).lines().take(3).any(|line| line.starts_with(MARK))
}

/// Whole or not at all: a push may be running the old one.
fn replace(hook: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = hook.with_extension("towline-new");
    drop(fs::remove_file(&unfinished));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    file.sync_all()?;
    drop(file);
    fs::rename(&unfinished, hook)
}

fn script(program: &Path, socket: &Path) -> String {
    let (program, socket) = (quoted(program), quoted(socket));
    let spool = spool::DIRECTORY;
    format!(
        r#"#!/bin/sh
{MARK}{VERSION}
# Written by `towline repo add` and replaced by newer versions of it. Your own hook goes into post-receive.local,
# which runs first; its exit code is this hook's.
program={program}
[ -x "$program" ] || program=$(command -v towline || echo)
tell() {{
    [ -n "$program" ] || return 127
    "$program" hook post-receive --socket {socket}
}}
status=0
refs=
if [ -x "$0.local" ]; then
    refs=$(cat)
    printf '%s\n' "$refs" | "$0.local" "$@" || status=$?
    printf '%s\n' "$refs" | tell
else
    # Nobody else reads what git says.
    tell
fi
case $? in
126 | 127) ;;
*) exit "$status" ;;
esac
# It could not be started and has read nothing: the daemon finds the push here.
[ -n "$refs" ] || refs=$(cat)
directory=${{GIT_DIR:-.}}/{spool}
mkdir -p "$directory"
name=$(date +%s)-$$
printf '%s\n' "$refs" > "$directory/.$name" && mv "$directory/.$name" "$directory/$name.refs"
exit "$status"
"#
    )
}

/// For the shell, whatever the path holds.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
