//! `hashFiles()` on the host (E13): the host lists and hashes, the choice and the order of files are ours.

use crate::toolkit::hash_files::{Entry, EntryKind, Globs, combine};
use crate::transport::HostJob;

use super::JobError;
use super::workspace::quote;

/// The status of a listing whose path leads through a regular file.
const THROUGH_A_FILE: i32 = 20;

/// Files hashed by one command: the list must fit into its standard input and its answer into memory.
const CHUNK: usize = 2000;

/// Evaluates `hashFiles(patterns…)` in the workspace of a host.
///
/// # Errors
/// The outer error is the machine's; the inner one is the expression's.
pub(crate) async fn hash(
    host: &HostJob,
    workspace: &str,
    patterns: &[String],
) -> Result<Result<String, String>, JobError> {
    let failed = |reason: String| Ok(Err(format!("hashFiles('{}') failed: {reason}", patterns.join("', '"))));
    let globs = match Globs::parse(patterns, workspace, &host.facts().home) {
        Ok(globs) => globs,
        Err(error) => return failed(error.to_string()),
    };
    let mut listing = Vec::new();
    for path in globs.search_paths() {
        let output = host.exec(&list_script(&path, globs.follow_links()), b"").await?;
        if output.status == THROUGH_A_FILE {
            return failed(format!("ENOTDIR: not a directory, lstat '{path}'"));
        }
        if output.status != 0 {
            return failed(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        listing.extend(output.stdout.split(|&byte| byte == 0).filter_map(entry));
    }
    let files = match globs.select(&listing) {
        Ok(files) => files,
        Err(error) => return failed(error.to_string()),
    };
    if files.is_empty() {
        return Ok(Ok(String::new()));
    }
    let mut digests = Vec::with_capacity(files.len());
    for chunk in files.chunks(CHUNK) {
        let mut names = Vec::new();
        for file in chunk {
            names.extend_from_slice(file.as_bytes());
            names.push(0);
        }
        let output = host.exec(HASH_SCRIPT, &names).await?;
        if output.status != 0 {
            return failed(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        digests.extend(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
    }
    if digests.len() != files.len() {
        return failed("files changed while they were read".to_owned());
    }
    match combine(&digests) {
        Ok(hash) => Ok(Ok(hash)),
        Err(error) => failed(error.to_string()),
    }
}

/// Reads names from its input, each ended by a zero byte; prints a digest a line.
const HASH_SCRIPT: &str = "if command -v sha256sum >/dev/null 2>&1; then h=sha256sum; else h='shasum -a 256'; fi\n\
    xargs -0 sh -c 'h=$1; shift; for f; do $h < \"$f\" || exit 1; done' sh \"$h\"\n";

/// Lists what is below a path: `f` before files, `b` before links to nothing, names ended by a zero byte. POSIX find has
/// no `-printf` and no `-print0`, so a shell prints the names.
fn list_script(path: &str, follow_links: bool) -> String {
    let print = |mark: &str| format!("-exec sh -c 'for f; do printf \"{mark}%s\\000\" \"$f\"; done' sh {{}} +");
    let path = quote(path);
    // A path that is not there is nothing to find, but one that leads through a file is a fault.
    let absent = format!(
        "{{ p={path}\nwhile p=${{p%/*}}; [ -n \"$p\" ] && [ ! -d \"$p\" ]; do [ ! -e \"$p\" ] || exit {THROUGH_A_FILE}; done\nexit 0; }}\n"
    );
    if follow_links {
        return format!("[ -e {path} ] || {absent}find -L {path} -type f {} 2>/dev/null\nexit 0\n", print("f"));
    }
    let links = "-exec sh -c 'for f; do if [ -f \"$f\" ]; then printf \"f%s\\000\" \"$f\"; \
                 elif [ ! -e \"$f\" ]; then printf \"b%s\\000\" \"$f\"; fi; done' sh {} +";
    format!(
        "[ -e {path} ] || [ -L {path} ] || {absent}find {path} -type f {} 2>/dev/null\n\
         find {path} -type l {links} 2>/dev/null\nexit 0\n",
        print("f")
    )
}

fn entry(listed: &[u8]) -> Option<Entry> {
    let (mark, path) = listed.split_first()?;
    let kind = if *mark == b'b' { EntryKind::BrokenLink } else { EntryKind::File };
    Some(Entry { path: String::from_utf8_lossy(path).into_owned(), kind })
}
