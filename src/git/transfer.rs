//! Moving a commit to a machine that cannot fetch it.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Component, Path};
use std::process::{Child, Stdio};

use super::objects::EntryKind;
use super::{Error, Repository};

/// Writes the files of a commit as a tar stream. Unlike `git archive` it takes every file as it is: no `export-ignore`,
/// no `export-subst`, no change of line ends. Submodules become empty directories, as after a checkout without them.
///
/// # Errors
/// When git or the writer fails.
pub async fn archive<W: Write + Send + 'static>(repository: &Repository, commit: &str, writer: W) -> Result<W, Error> {
    let mut list = repository.git("ls-tree");
    list.args(["-r", "-z", "--full-tree", "--end-of-options", commit]);
    let listed = list.bytes().await?;
    let seconds = match repository.objects() {
        Ok(mut objects) => {
            let commit = objects.commit(commit).await?;
            objects.close().await;
            commit.map_or(0, |commit| commit.committer.at.as_second().max(0).cast_unsigned())
        }
        Err(error) => return Err(error),
    };
    let mut git = repository.git("cat-file");
    git.args(["--batch"]);
    let mut command = git.command.into_std();
    let work = move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::Start { source })?;
        let written = write_archive(&mut child, &listed, seconds, writer);
        drop(child.stdin.take());
        drop(child.wait());
        written
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Talk { action: "cat-file", source: std::io::Error::other(error) })?
}

fn write_archive<W: Write>(child: &mut Child, listed: &[u8], seconds: u64, writer: W) -> Result<W, Error> {
    let talk = |source| Error::Talk { action: "cat-file", source };
    let mut questions = child.stdin.take().expect("it is piped");
    let mut answers = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut archive = tar::Builder::new(writer);
    let mut links = HashSet::new();
    for line in listed.split(|&byte| byte == 0).filter(|line| !line.is_empty()) {
        let Some((kind, id, path)) = parse_listed(line) else { continue };
        // No git makes such a tree, but one can be fetched: who unpacks it would write where a link leads, or above.
        let climbs = path.components().any(|part| !matches!(part, Component::Normal(_)));
        if climbs || path.ancestors().skip(1).any(|above| links.contains(above)) {
            let what = format!("the tree leads out of itself at {}", path.display());
            return Err(Error::Answer { action: "ls-tree", what });
        }
        if kind == EntryKind::Link {
            links.insert(path.to_owned());
        }
        let mut header = tar::Header::new_gnu();
        header.set_mtime(seconds);
        header.set_mode(if kind == EntryKind::Executable { 0o755 } else { 0o644 });
        if kind == EntryKind::Submodule {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, path, std::io::empty()).map_err(talk)?;
            continue;
        }
        writeln!(questions, "{id}").and_then(|()| questions.flush()).map_err(talk)?;
        let mut head = String::new();
        answers.read_line(&mut head).map_err(talk)?;
        let size = head.trim_end().rsplit(' ').next().and_then(|size| size.parse::<u64>().ok());
        let size = size.ok_or_else(|| Error::Answer { action: "cat-file", what: head.trim_end().to_owned() })?;
        if kind == EntryKind::Link {
            let mut target = Vec::new();
            (&mut answers).take(size).read_to_end(&mut target).map_err(talk)?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            let target = String::from_utf8_lossy(&target).into_owned();
            archive.append_link(&mut header, path, target).map_err(talk)?;
        } else {
            header.set_size(size);
            archive.append_data(&mut header, path, (&mut answers).take(size)).map_err(talk)?;
        }
        answers.read_exact(&mut [0]).map_err(talk)?;
    }
    archive.into_inner().map_err(talk)
}

/// `mode kind id<TAB>path`.
fn parse_listed(line: &[u8]) -> Option<(EntryKind, &str, &Path)> {
    use std::os::unix::ffi::OsStrExt as _;
    let tab = line.iter().position(|&byte| byte == b'\t')?;
    let mut words = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
    let (mode, _, id) = (words.next()?, words.next()?, words.next()?);
    let kind = match mode {
        "120000" => EntryKind::Link,
        "160000" => EntryKind::Submodule,
        "100755" => EntryKind::Executable,
        _ => EntryKind::File,
    };
    Some((kind, id, Path::new(std::ffi::OsStr::from_bytes(&line[tab + 1..]))))
}

/// Writes refs (full names) with all their history as a bundle file, less what the commits `without` already bring.
///
/// # Errors
/// An unknown ref, nothing to send, or an unwritable file.
pub async fn bundle(repository: &Repository, refs: &[&str], without: &[&str], file: &Path) -> Result<(), Error> {
    let mut git = repository.git("bundle");
    git.args(["create", "--quiet"]).arg(file).args(refs);
    git.args(without.iter().map(|id| format!("^{id}")));
    git.text().await.map(drop)
}
