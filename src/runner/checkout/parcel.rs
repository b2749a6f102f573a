//! What is sent to the host for a checkout: packs, refs, where history is cut, contents of git-lfs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::git::{Error, Repository, Submodule};

use super::super::JobError;
use super::super::job::Job;
use super::super::step::StepError;
use super::super::workspace::run;
use super::inputs::Inputs;
use super::scratch::Scratch;
use super::script::{SentModule, Target};
use super::{Answers, Plan};

/// One file of what is sent: its name there, and the file here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    name: String,
    from: PathBuf,
    executable: bool,
}

/// Everything that goes to the host.
#[derive(Default)]
pub(super) struct Parcel {
    /// Below `.git`.
    pub(super) entries: Vec<Entry>,
    /// Below the checkout's directory, after everything else.
    pub(super) files: Vec<Entry>,
    pub(super) refs: BTreeMap<String, String>,
    pub(super) cut: Vec<String>,
    pub(super) overlay: Option<String>,
    pub(super) modules: Vec<SentModule>,
    /// Some contents of git-lfs are not here.
    pub(super) missing: bool,
}

/// What `git checkout` is told once the refs are there.
pub(super) fn target(plan: &Plan) -> Target {
    let (name, branch) = match (plan.reference.strip_prefix("refs/heads/"), plan.reference.strip_prefix("refs/pull/")) {
        (Some(branch), _) => (format!("refs/remotes/origin/{branch}"), Some(branch.to_owned())),
        (None, Some(pull)) => (format!("refs/remotes/pull/{pull}"), None),
        (None, None) if plan.reference.starts_with("refs/tags/") => (plan.reference.clone(), None),
        (None, None) => (plan.commit.clone(), None),
    };
    Target::Known { name, branch, commit: plan.commit.clone() }
}

/// The commits and refs of a checkout, less what the host has.
pub(super) async fn commits(
    repository: &Repository,
    plan: &Plan,
    inputs: &Inputs,
    overlay: Option<String>,
    answers: &Answers,
    scratch: &Scratch,
) -> Result<Parcel, Error> {
    let mut refs = BTreeMap::new();
    if inputs.depth == 0 {
        for (name, id) in repository.objects_under("refs/heads/").await? {
            refs.insert(name.replacen("refs/heads/", "refs/remotes/origin/", 1), id);
        }
    }
    if inputs.depth == 0 || inputs.tags {
        refs.extend(repository.objects_under("refs/tags/").await?);
    }
    let Target::Known { name, .. } = target(plan) else { return Ok(Parcel::default()) };
    if name.starts_with("refs/tags/") {
        // A tag with a message stays one, where it still means this commit.
        let same = repository.resolve(&name).await?.as_deref() == Some(plan.commit.as_str());
        let object = if same { repository.object_of(&name).await? } else { None };
        refs.insert(name, object.unwrap_or_else(|| plan.commit.clone()));
    } else if name.starts_with("refs/") {
        refs.insert(name, plan.commit.clone());
    }
    if let Some(overlay) = &overlay {
        refs.insert("refs/towline/overlay".to_owned(), overlay.clone());
    }
    let mut tips: Vec<String> = refs.values().cloned().collect();
    tips.push(plan.commit.clone());
    tips.sort();
    tips.dedup();
    // A commit that is sent with more of its history than the host has is sent whole.
    let usable = match inputs.depth {
        0 => !answers.shallow,
        1 => true,
        _ => false,
    };
    let offered = if usable { answers.have.as_slice() } else { &[] };
    // Each asks a git of its own, at the same time.
    let (cut, known) = tokio::try_join!(repository.cut(&tips, inputs.depth), repository.known(offered))?;
    let packed = if inputs.depth == 0 {
        repository.pack_history(&tips, &known, &scratch.path).await?
    } else {
        repository.pack(&tips, &cut, &known, &scratch.path).await?
    };
    let entries = packed.into_iter().filter_map(|from| entry_of_pack("", from)).collect();
    Ok(Parcel { entries, refs, cut, overlay, ..Parcel::default() })
}

fn entry_of_pack(below: &str, from: PathBuf) -> Option<Entry> {
    let name = format!("{below}objects/pack/{}", from.file_name()?.to_str()?);
    Some(Entry { name, from, executable: false })
}

impl Parcel {
    /// Adds the objects of a submodule's commit; `place` is its git directory from the top of the checkout.
    pub(super) async fn submodule(
        &mut self,
        repository: &Repository,
        module: &Submodule,
        (place, url): (&str, &str),
        inputs: &Inputs,
        answers: &Answers,
        scratch: &Scratch,
    ) -> Result<(), Error> {
        let sent = SentModule { place: place.to_owned(), url: url.to_owned(), commit: module.commit.clone() };
        let is_there = answers.modules.iter().any(|(known, id)| known == place && *id == module.commit);
        if is_there {
            self.modules.push(sent);
            return Ok(());
        }
        let io = |source| Error::File { path: scratch.path.clone(), source };
        let directory = scratch.fresh().map_err(io)?;
        std::fs::create_dir_all(&directory).map_err(io)?;
        let tips = [module.commit.clone()];
        let cut = repository.cut(&tips, inputs.depth).await?;
        let packed = if inputs.depth == 0 {
            repository.pack_history(&tips, &[], &directory).await?
        } else {
            repository.pack(&tips, &cut, &[], &directory).await?
        };
        let below = format!("{}/", place.strip_prefix(".git/").unwrap_or(place));
        self.entries.extend(packed.into_iter().filter_map(|from| entry_of_pack(&below, from)));
        let text: String = cut.iter().map(|id| format!("{id}\n")).collect();
        let file = directory.join("cut");
        std::fs::write(&file, text).map_err(io)?;
        self.entries.push(Entry { name: format!("{below}towline-cut"), from: file, executable: false });
        self.modules.push(sent);
        Ok(())
    }

    /// Adds what the pointers of a commit stand for: for git-lfs on the host, or in the place of the pointers.
    pub(super) async fn large_files(
        &mut self,
        repository: &Repository,
        commit: &str,
        for_git: bool,
        below: &str,
    ) -> Result<(), Error> {
        let lenders = repository.lenders();
        for pointer in repository.pointers(commit).await? {
            let place = pointer.place();
            let Some(from) = lenders.iter().map(|lender| lender.join(&place)).find(|path| path.is_file()) else {
                self.missing = true;
                continue;
            };
            if for_git {
                let name = if below.is_empty() { place } else { format!("{below}/{place}") };
                self.entries.push(Entry { name, from, executable: false });
            } else {
                self.files.push(Entry { name: pointer.path, from, executable: pointer.executable });
            }
        }
        Ok(())
    }
}

impl Job {
    /// Streams files to a directory of the host; a link that breaks meanwhile is waited for, and all of it is sent again.
    pub(super) async fn send(&mut self, entries: &[Entry], directory: &str) -> Result<(), StepError> {
        loop {
            let (reader, writer) = std::os::unix::net::UnixStream::pair().map_err(JobError::Log)?;
            let owned = entries.to_vec();
            let writing = tokio::task::spawn_blocking(move || write(writer, &owned));
            reader.set_nonblocking(true).map_err(JobError::Log)?;
            let mut reader = tokio::net::UnixStream::from_std(reader).map_err(JobError::Log)?;
            let sent = self.host.put_tar(&mut reader, directory).await;
            drop(reader);
            let written = writing.await.map_err(std::io::Error::other).and_then(|result| result);
            match sent {
                Err(error) if error.is_transient() => {
                    // The next small command waits until the host is there again, or the job is over.
                    run(&self.host, "sending files again", ":\n", b"").await?;
                }
                result => {
                    // Who stops reading says why himself.
                    if let Err(error) = written
                        && (result.is_ok() || error.kind() != std::io::ErrorKind::BrokenPipe)
                    {
                        return Err(StepError::Failed(format!("cannot send files to {}: {error}", self.host_name)));
                    }
                    return Ok(result.map_err(JobError::from)?);
                }
            }
        }
    }
}

fn write(writer: std::os::unix::net::UnixStream, entries: &[Entry]) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(std::io::BufWriter::with_capacity(128 << 10, writer));
    for entry in entries {
        let mut file = std::fs::File::open(&entry.from)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(match (entry.name.ends_with(".pack") || entry.name.ends_with(".idx"), entry.executable) {
            (true, _) => 0o444,
            (false, true) => 0o755,
            (false, false) => 0o644,
        });
        archive.append_data(&mut header, Path::new(&entry.name), &mut file)?;
    }
    std::io::Write::flush(&mut archive.into_inner()?)
}
