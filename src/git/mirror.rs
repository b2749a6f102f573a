//! Repositories that live elsewhere: asking for their refs and keeping a bare mirror of them.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use rustix::fs::{FlockOperation, flock};
use secrecy::{ExposeSecret, SecretString};

use super::{Error, Git, Repository};

const LS_REMOTE_TIMEOUT: Duration = Duration::from_secs(60);
const FETCH_TIMEOUT: Duration = Duration::from_secs(1800);

/// A ref and the commit it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRef {
    /// Full: `refs/heads/main`, or `HEAD`.
    pub name: String,
    pub id: String,
}

/// What proves who we are to a server. It reaches git through its environment, never through arguments.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Public, or SSH with keys that ssh finds.
    None,
    /// Basic authentication over HTTP; forges take a token as the password (GitHub: user `x-access-token`).
    Basic { user: String, password: SecretString },
}

/// Asks a repository for its branches, tags and `HEAD`.
///
/// # Errors
/// When it cannot be reached or refuses; see [`Error::is_transient`].
pub async fn ls_remote(url: &str, credentials: &Credentials) -> Result<Vec<RemoteRef>, Error> {
    let mut git = Git::new("ls-remote");
    credentials.apply(&mut git, url);
    git.args(["--quiet", "--end-of-options", url, "HEAD", "refs/heads/*", "refs/tags/*"]);
    git.timeout = LS_REMOTE_TIMEOUT;
    let answer = git.text().await?;
    let mut refs: Vec<RemoteRef> = Vec::new();
    for line in answer.lines() {
        let Some((id, name)) = line.split_once('\t') else { continue };
        // `tag^{}` follows its tag: the commit is what counts.
        match name.strip_suffix("^{}") {
            Some(tag) => {
                if let Some(tag) = refs.iter_mut().rev().find(|other| other.name == tag) {
                    id.clone_into(&mut tag.id);
                }
            }
            None => refs.push(RemoteRef { name: name.to_owned(), id: id.to_owned() }),
        }
    }
    Ok(refs)
}

/// Brings a bare mirror up to date, making it first when it is not there. `refspecs` are what is wanted besides branches
/// and tags: `+refs/pull/7/merge:refs/pull/7/merge`, or a bare commit id where the server allows it. Refs that are gone
/// there are pruned here. One fetch at a time per mirror, over processes.
///
/// # Errors
/// When the server cannot be reached or refuses, or the disk does.
pub async fn fetch_mirror(
    mirror: &Path,
    url: &str,
    credentials: &Credentials,
    refspecs: &[String],
) -> Result<Repository, Error> {
    let parent = mirror.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|source| Error::File { path: mirror.to_owned(), source })?;
    let _lock = lock(mirror).await?;
    let repository = Repository::init_bare(mirror, "main").await?;
    let mut git = repository.git("fetch");
    credentials.apply(&mut git, url);
    git.args([
        "--quiet",
        "--force",
        "--prune",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--end-of-options",
        url,
    ]);
    git.args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]).args(refspecs);
    git.timeout = FETCH_TIMEOUT;
    git.text().await?;
    Ok(repository)
}

/// Held by who changes a mirror, over processes; let go by the kernel should this one die.
async fn lock(mirror: &Path) -> Result<File, Error> {
    let file = |source| Error::File { path: mirror.to_owned(), source };
    let mut name = mirror.as_os_str().to_owned();
    name.push(".lock");
    let lock = tokio::task::spawn_blocking(move || {
        let lock = File::create(name)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    });
    lock.await.map_err(|error| file(std::io::Error::other(error)))?.map_err(file)
}

/// Packs what many fetches left in a mirror, when it has become much, and lets go of what no ref has led to for long: runs
/// of it can be repeated until then.
///
/// # Errors
/// When git or the disk refuse.
pub async fn tidy_mirror(mirror: &Path) -> Result<(), Error> {
    let _lock = lock(mirror).await?;
    let mut git = Git::with_settings(
        "gc",
        &["gc.auto=3000", "gc.autoPackLimit=40", "gc.autoDetach=false", "gc.pruneExpire=40.days.ago"],
    );
    git.env("GIT_DIR", mirror).args(["--auto", "--quiet"]);
    git.timeout = FETCH_TIMEOUT;
    git.text().await.map(drop)
}

impl Credentials {
    pub(super) fn apply(&self, git: &mut Git, url: &str) {
        // Helpers of the machine's user could prompt, or answer with somebody else's password.
        git.setting("credential.helper", SecretString::from(String::new()));
        let Self::Basic { user, password } = self else { return };
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return;
        }
        let pair = format!("{user}:{}", password.expose_secret());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        // For this address only: a redirect to another host must not carry it along.
        git.setting(format!("http.{}.extraHeader", origin(url)), format!("Authorization: Basic {encoded}").into());
    }
}

/// Scheme, host and port, with a slash.
fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}/")
}

/// A text in which `user:password@` of addresses is replaced.
pub(super) fn without_user_information(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|letter: char| letter == '/' || letter == '\'' || letter.is_whitespace());
        let authority = &after[..end.unwrap_or(after.len())];
        if let Some((_, host)) = authority.rsplit_once('@') {
            out.push_str("***@");
            out.push_str(host);
        } else {
            out.push_str(authority);
        }
        rest = &after[authority.len()..];
    }
    out.push_str(rest);
    out
}
