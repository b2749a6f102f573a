//! Pushes that wait for the daemon, in the repository itself: whoever may push may write there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{HookPush, parse_refs};

/// In the git directory. The shell part of the hook knows it too.
pub(super) const DIRECTORY: &str = "towline/spool";

/// A push that was spooled.
#[derive(Clone, Debug)]
pub struct Spooled {
    /// To be removed once its runs are durable.
    pub file: PathBuf,
    pub push: HookPush,
}

/// Writes a push so that it is whole or not there, and on the disk.
pub(super) fn write(repository: &Path, push: &HookPush) -> std::io::Result<()> {
    let directory = repository.join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    let bytes = serde_json::to_vec(push)?;
    let unfinished = directory.join(format!(".{}", push.id));
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(format!("{}.json", push.id)))?;
    fs::File::open(&directory)?.sync_all()
}

/// The pushes that wait in a repository, oldest first. Files nobody understands are set aside, and said.
///
/// # Errors
/// The directory is there and cannot be read.
pub fn spooled(repository: &Path) -> std::io::Result<Vec<Spooled>> {
    let directory = repository.join(DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry?.path();
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with('.') {
            continue;
        }
        let push = match file.extension().and_then(|extension| extension.to_str()) {
            Some("json") => fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()),
            // By the shell, when it did not find this program: the lines alone.
            Some("refs") => fs::read_to_string(&file).ok().map(|text| plain(repository, &file, &text)),
            _ => continue,
        };
        match push {
            Some(push) => found.push(Spooled { file, push }),
            None => {
                log::error!("{} is no push; it is kept as {}.bad", file.display(), file.display());
                drop(fs::rename(&file, file.with_extension("bad")));
            }
        }
    }
    found.sort_by(|one, other| (one.push.at, &one.push.id).cmp(&(other.push.at, &other.push.id)));
    Ok(found)
}

fn plain(repository: &Path, file: &Path, text: &str) -> HookPush {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    HookPush {
        // Unique in its directory, and the same however often it is read.
        id: format!("{}:{}", repository.display(), file.file_stem().unwrap_or_default().display()),
        repository: repository.display().to_string(),
        refs: parse_refs(text),
        options: Vec::new(),
        pusher: "unknown".to_owned(),
        at: modified.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::UNIX_EPOCH),
    }
}
