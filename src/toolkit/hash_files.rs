//! `hashFiles()` (E13): which files the patterns select, in which order, and what their digests make together.
//!
//! The dialect is that of `@actions/glob`, which GitHub's runner uses. The files are on the machine of the job, so the
//! work is done in three steps. [`Globs::parse`] reads the arguments; whoever runs the job lists what is at and below
//! [`Globs::search_paths`] and calls [`Globs::select`]; then it hashes those files, in that order, and calls
//! [`combine`].
//!
//! Pure: no I/O, no clock, no async.

mod pattern;

use std::cmp::Ordering;

use aws_lc_rs::digest::{Context, SHA256};

use pattern::Pattern;

/// Why the files cannot be selected or hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashFilesError {
    #[error("Invalid pattern '{0}'. Relative pathing '.' and '..' is not allowed.")]
    RelativePath(String),
    #[error("pattern cannot be empty")]
    EmptyPattern,
    #[error("Invalid glob option {0}, available option: '--follow-symbolic-links'.")]
    UnknownOption(String),
    #[error("'{0}' is a symbolic link to nothing")]
    BrokenLink(String),
    #[error("'{0}' is not a SHA-256 digest")]
    NotADigest(String),
}

/// What one name in the workspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, or a symbolic link to one.
    File,
    /// A symbolic link to nothing.
    BrokenLink,
}

/// One name below a search path. Directories and links to directories need not be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute, with single slashes.
    pub path: String,
    pub kind: EntryKind,
}

/// The arguments of one call.
#[derive(Clone, Debug)]
pub struct Globs {
    patterns: Vec<Pattern>,
    workspace: Vec<String>,
    follow_links: bool,
}

impl Globs {
    /// Reads the arguments. `workspace` and `home` are absolute paths on the machine of the job.
    ///
    /// # Errors
    /// An unknown option, or a pattern with `.` or `..` in it.
    pub fn parse(arguments: &[String], workspace: &str, home: &str) -> Result<Self, HashFilesError> {
        let (follow_links, patterns) = match arguments.split_first() {
            Some((first, rest)) if first.starts_with("--") => {
                if !first.eq_ignore_ascii_case("--follow-symbolic-links") {
                    return Err(HashFilesError::UnknownOption(first.clone()));
                }
                (true, rest)
            }
            _ => (false, arguments),
        };
        let mut globs = Self { patterns: Vec::new(), workspace: components(workspace), follow_links };
        for line in patterns.iter().flat_map(|text| text.split('\n')).map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let pattern = Pattern::parse(line, &globs.workspace, &components(home))?;
            let below = pattern.below();
            globs.patterns.push(pattern);
            globs.patterns.extend(below);
        }
        Ok(globs)
    }

    /// Whether symbolic links to directories are entered (`find -L`) or not.
    #[must_use]
    pub fn follow_links(&self) -> bool {
        self.follow_links
    }

    /// The paths that must be listed, in the order of the patterns: files, or directories with all below them. One
    /// that does not exist lists nothing. Hidden files count.
    #[must_use]
    pub fn search_paths(&self) -> Vec<String> {
        self.search_components().iter().map(|path| joined(path)).collect()
    }

    fn search_components(&self) -> Vec<Vec<String>> {
        let positive: Vec<&[String]> =
            self.patterns.iter().filter(|pattern| !pattern.negate).map(|pattern| &*pattern.search_path).collect();
        let mut paths: Vec<Vec<String>> = Vec::new();
        for path in &positive {
            let below_another = positive.iter().any(|other| path.len() > other.len() && path.starts_with(other));
            if below_another {
                continue;
            }
            // Only what is in the workspace counts, so a search from above begins there.
            let path = if self.workspace.starts_with(path) { &self.workspace } else { *path };
            if path.starts_with(&self.workspace) && !paths.iter().any(|known| known == path) {
                paths.push(path.to_vec());
            }
        }
        paths
    }

    /// The files to hash, in the order in which their digests count: search paths in the order of the patterns, each
    /// depth first, names by bytes. The listing may be in any order.
    ///
    /// # Errors
    /// A selected link that leads to nothing, unless links are followed.
    pub fn select(&self, listing: &[Entry]) -> Result<Vec<String>, HashFilesError> {
        let mut selected: Vec<(usize, Vec<&str>, &Entry)> = Vec::new();
        let search_paths = self.search_components();
        for entry in listing {
            let path: Vec<&str> = entry.path.split('/').filter(|name| !name.is_empty()).collect();
            let under = |parent: &[String]| path.len() >= parent.len() && parent.iter().eq(&path[..parent.len()]);
            let Some(search) = search_paths.iter().position(|parent| under(parent)) else { continue };
            if path.len() > self.workspace.len() && under(&self.workspace) && self.matches(&path) {
                selected.push((search, path, entry));
            }
        }
        selected.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| by_bytes(&a.1, &b.1)));
        selected.dedup_by(|a, b| a.1 == b.1);
        let mut files = Vec::with_capacity(selected.len());
        for (_, _, entry) in selected {
            match entry.kind {
                EntryKind::File => files.push(entry.path.clone()),
                EntryKind::BrokenLink if self.follow_links => {}
                EntryKind::BrokenLink => return Err(HashFilesError::BrokenLink(entry.path.clone())),
            }
        }
        Ok(files)
    }

    /// Later patterns decide.
    fn matches(&self, path: &[&str]) -> bool {
        let mut matched = false;
        for pattern in &self.patterns {
            if matched == pattern.negate && pattern.matches_file(path) {
                matched = !pattern.negate;
            }
        }
        matched
    }
}

/// The value of `hashFiles()` from the SHA-256 digests of the selected files, in their order: empty when there are
/// none.
///
/// # Errors
/// A digest that is not 64 hexadecimal digits.
pub fn combine<D: AsRef<str>>(digests: &[D]) -> Result<String, HashFilesError> {
    if digests.is_empty() {
        return Ok(String::new());
    }
    let mut all = Context::new(&SHA256);
    for digest in digests {
        let text = digest.as_ref().trim();
        let bytes = unhex(text).ok_or_else(|| HashFilesError::NotADigest(text.to_owned()))?;
        all.update(&bytes);
    }
    Ok(hex(all.finish().as_ref()))
}

/// The SHA-256 digest of the contents of a file, as [`combine`] takes it.
#[must_use]
pub fn digest(contents: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(contents);
    hex(context.finish().as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn components(path: &str) -> Vec<String> {
    path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn joined(path: &[String]) -> String {
    format!("/{}", path.join("/"))
}

fn by_bytes(a: &[&str], b: &[&str]) -> Ordering {
    a.iter().map(|name| name.as_bytes()).cmp(b.iter().map(|name| name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|&pattern| pattern.to_owned()).collect()
    }

    fn check(patterns: &[&str], files: &[&str], expected: &[&str]) {
        let globs = Globs::parse(&arguments(patterns), "/home/me/work", "/home/me").unwrap();
        let entries: Vec<Entry> =
            files.iter().map(|file| Entry { path: format!("/home/me/work/{file}"), kind: EntryKind::File }).collect();
        let selected = globs.select(&entries).unwrap();
        let selected: Vec<&str> = selected.iter().map(|path| path.strip_prefix("/home/me/work/").unwrap()).collect();
        assert_eq!(selected, expected, "{patterns:?}");
    }

    #[test]
    fn patterns_select_files_in_order() {
        let files = ["b.txt", "a/z.txt", "a-b/x.txt", "a/.hidden/y.txt", "a.txt", "B.txt", "src/main.rs", "[x].txt"];
        check(
            &["**"],
            &files,
            &["B.txt", "[x].txt", "a/.hidden/y.txt", "a/z.txt", "a-b/x.txt", "a.txt", "b.txt", "src/main.rs"],
        );
        check(&["*.txt"], &files, &["B.txt", "[x].txt", "a.txt", "b.txt"]);
        check(&["a"], &files, &["a/.hidden/y.txt", "a/z.txt"]);
        check(&["./a/"], &files, &["a/.hidden/y.txt", "a/z.txt"]);
        check(&["b.txt/"], &files, &[]);
        check(&["b.txt/**"], &files, &["b.txt"]);
        check(&["**/*.txt", "!a"], &files, &["B.txt", "[x].txt", "a-b/x.txt", "a.txt", "b.txt"]);
        check(
            &["**/*.txt\n!**/[a-b]*.txt\n\n# nothing\n  a.txt "],
            &files,
            &["B.txt", "[x].txt", "a/.hidden/y.txt", "a/z.txt", "a-b/x.txt", "a.txt"],
        );
        check(&["b.txt", "a.txt"], &files, &["b.txt", "a.txt"]);
        check(&["a/**/z.txt"], &files, &["a/z.txt"]);
        check(&["!!b.txt"], &files, &["b.txt"]);
        check(&["/home/me/work/a.txt", "~/work/b.txt", "~/elsewhere/**"], &files, &["a.txt", "b.txt"]);
        check(&["/**/main.rs"], &files, &["src/main.rs"]);
        check(&["[[]x].txt"], &files, &["[x].txt"]);
        check(&["\\[x].txt"], &files, &["[x].txt"]);
        check(&["--follow-symbolic-links", "b.txt"], &files, &["b.txt"]);
        check(&[], &files, &[]);
    }

    #[test]
    fn only_the_needed_paths_are_searched() {
        for (patterns, expected) in [
            (&["package-lock.json"][..], &["/w/package-lock.json"][..]),
            (&["a/b/*.txt", "a/**", "c"], &["/w/a", "/w/c"]),
            (&["**/x", "y"], &["/w"]),
            (&["/**/x", "y", "/elsewhere/z"], &["/w"]),
            (&["!a"], &[]),
            (&["a[b]/c"], &["/w/ab/c"]),
        ] {
            let globs = Globs::parse(&arguments(patterns), "/w", "/root").unwrap();
            assert_eq!(globs.search_paths(), expected, "{patterns:?}");
        }
    }

    #[test]
    fn bad_arguments() {
        for (argument, error) in [
            ("../x", HashFilesError::RelativePath("../x".into())),
            ("a/../x", HashFilesError::RelativePath("a/../x".into())),
            ("!a/./x", HashFilesError::RelativePath("a/./x".into())),
            ("!", HashFilesError::EmptyPattern),
            ("--follow", HashFilesError::UnknownOption("--follow".into())),
        ] {
            assert_eq!(Globs::parse(&arguments(&[argument]), "/w", "/root").unwrap_err(), error);
        }
    }

    #[test]
    fn broken_links_fail_unless_links_are_followed() {
        let listing = [Entry { path: "/w/a".into(), kind: EntryKind::BrokenLink }];
        let select = |patterns: &[&str]| Globs::parse(&arguments(patterns), "/w", "/root").unwrap().select(&listing);
        assert_eq!(select(&["a"]), Err(HashFilesError::BrokenLink("/w/a".into())));
        assert_eq!(select(&["--follow-symbolic-links", "a"]), Ok(vec![]));
        assert_eq!(select(&["b"]), Ok(vec![]));
    }

    #[test]
    fn digests_combine() {
        assert_eq!(combine::<&str>(&[]), Ok(String::new()));
        assert_eq!(combine(&["x"]), Err(HashFilesError::NotADigest("x".into())));
        let once = combine(&[digest(b"test file content")]).unwrap();
        assert_eq!(once, "d8a411e8f8643821bed189e627ff57151918aa554c00c10b31c693ab2dded273");
    }
}
