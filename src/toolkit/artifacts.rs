//! `GITHUB_ARTIFACTS` and `GITHUB_ARTIFACTS_LIST` (W12): a step says what it made, later steps read what was said so far.
//!
//! Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

/// The longest file of a step, in bytes.
pub const LARGEST: u64 = 1024 * 1024;
/// Artifacts of one job.
pub const MOST: usize = 500;

/// What a line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// A file, as written: relative to the workspace, or absolute where the step ran.
    File(String),
    /// Something in a registry, by its digest.
    Image(Subject),
}

/// An artifact: a name and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub name: String,
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    pub kind: Kind,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Oci,
}

impl Subject {
    /// A file by its path and the digits of its SHA-256.
    #[must_use]
    pub fn file(path: &str, digits: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        Self { name, digest: format!("sha256:{}", digits.to_ascii_lowercase()), kind: Kind::File }
    }
}

/// The artifacts of a job, by name.
pub type Subjects = BTreeMap<String, Subject>;

/// Reads what a step wrote: lines, counted from 1, up to the first that says nothing it may say; then why not.
#[must_use]
pub fn read(content: &[u8]) -> (Vec<(usize, Declared)>, Option<String>) {
    let text = String::from_utf8_lossy(content);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n");
    let mut declared = Vec::new();
    for (line, number) in text.split(['\n', '\r']).map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match declaration(line) {
            Ok(one) => declared.push((number, one)),
            Err(reason) => return (declared, Some(invalid(number, &reason))),
        }
    }
    (declared, None)
}

/// The fault of a line.
#[must_use]
pub fn invalid(line: usize, reason: &str) -> String {
    format!("Invalid $GITHUB_ARTIFACTS entry on line {line}: {reason}")
}

/// The fault of a file of so many bytes.
#[must_use]
pub fn too_large(bytes: u64) -> String {
    format!("$GITHUB_ARTIFACTS file exceeds the maximum size of {} KiB (got {} KiB).", LARGEST / 1024, bytes / 1024)
}

fn declaration(line: &str) -> Result<Declared, String> {
    if line.contains('=') {
        return Err("entries containing '=' are reserved and not permitted".to_owned());
    }
    // No file has such a name, and on its way to the host it would be two.
    if line.contains('\0') {
        return Err("entries containing a null character are not permitted".to_owned());
    }
    if let Some(path) = after_scheme(line, "file") {
        return match path.trim() {
            "" => Err("file:// entries must include a path".to_owned()),
            _ => Ok(Declared::File(path.to_owned())),
        };
    }
    if let Some(rest) = after_scheme(line, "oci") {
        let (name, algorithm, digits) = with_digest(rest)
            .ok_or_else(|| "oci:// entries must include an @sha{256,384,512}:<hex> digest".to_owned())?;
        if digits.len() != digits_of(algorithm) {
            let (wanted, got) = (digits_of(algorithm), digits.len());
            return Err(format!("digest '{algorithm}' must be {wanted} hex characters, got {got}"));
        }
        return Ok(image(name, algorithm, digits));
    }
    if has_scheme(line) {
        return Err("unsupported URI scheme".to_owned());
    }
    match with_digest(line) {
        Some((name, algorithm, digits)) if digits.len() == digits_of(algorithm) => Ok(image(name, algorithm, digits)),
        _ => Ok(Declared::File(line.to_owned())),
    }
}

fn image(name: &str, algorithm: &str, digits: &str) -> Declared {
    let digest = format!("{algorithm}:{}", digits.to_ascii_lowercase());
    Declared::Image(Subject { name: name.to_owned(), digest, kind: Kind::Oci })
}

fn after_scheme<'a>(line: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = line.split_once("://")?;
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn has_scheme(line: &str) -> bool {
    line.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
    })
}

/// `NAME@ALGORITHM:DIGITS`.
fn with_digest(text: &str) -> Option<(&str, &str, &str)> {
    let (name, digest) = text.rsplit_once('@')?;
    let (algorithm, digits) = digest.split_once(':')?;
    let known = matches!(algorithm, "sha256" | "sha384" | "sha512");
    let fits = !name.is_empty() && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (known && fits).then_some((name, algorithm, digits))
}

fn digits_of(algorithm: &str) -> usize {
    match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        _ => 128,
    }
}

/// Adds what a step declared to what the job has; gives how many are new.
///
/// # Errors
/// The fault of the first line that contradicts what is known or is one too many. What was before it stays.
pub fn add(all: &mut Subjects, declared: &[(usize, Subject)]) -> Result<usize, String> {
    let mut new = 0;
    for (line, subject) in declared {
        if let Some(known) = all.get(&subject.name) {
            if known.digest == subject.digest {
                continue;
            }
            let reason = format!(
                "Conflicting digest for artifact '{}': previously declared as '{}', now declared as '{}'.",
                subject.name, known.digest, subject.digest
            );
            return Err(invalid(*line, &reason));
        }
        if all.len() >= MOST {
            let reason = format!("The job has exceeded the maximum of {MOST} declared artifacts.");
            return Err(invalid(*line, &reason));
        }
        all.insert(subject.name.clone(), subject.clone());
        new += 1;
    }
    Ok(new)
}

/// The content of `GITHUB_ARTIFACTS_LIST`.
#[must_use]
pub fn list(all: &Subjects) -> String {
    let subjects: Vec<Json> = all.values().map(|subject| json!(subject)).collect();
    json!({ "version": 1, "subjects": subjects }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef";

    fn one(line: &str) -> Result<Declared, String> {
        let (mut declared, fault) = read(line.as_bytes());
        match fault {
            Some(fault) => Err(fault),
            None => Ok(declared.pop().expect("a line").1),
        }
    }

    #[test]
    fn w12_what_a_line_may_be() {
        let file = |path: &str| Ok(Declared::File(path.to_owned()));
        let image = |name: &str, digest: &str| {
            let digest = digest.to_ascii_lowercase();
            Ok(Declared::Image(Subject { name: name.to_owned(), digest, kind: Kind::Oci }))
        };
        let fault = |reason: &str| Err(invalid(1, reason));
        let digest = format!("sha256:{DIGITS}");
        let cases = [
            ("dist/app.tar.gz".to_owned(), file("dist/app.tar.gz")),
            ("  with blanks  \r".to_owned(), file("with blanks")),
            ("FILE://a@b".to_owned(), file("a@b")),
            ("file:// ".to_owned(), fault("file:// entries must include a path")),
            (format!("ghcr.io/o/i@{digest}"), image("ghcr.io/o/i", &digest)),
            (format!("OCI://ghcr.io/o/i:v1@{digest}"), image("ghcr.io/o/i:v1", &digest)),
            (format!("a@b@{digest}"), image("a@b", &digest)),
            // Too short to be a digest: a path like any other.
            ("i@sha256:abc".to_owned(), file("i@sha256:abc")),
            ("i@SHA256:abc".to_owned(), file("i@SHA256:abc")),
            ("oci://i@sha256:abc".to_owned(), fault("digest 'sha256' must be 64 hex characters, got 3")),
            ("oci://i".to_owned(), fault("oci:// entries must include an @sha{256,384,512}:<hex> digest")),
            ("https://example.org/a".to_owned(), fault("unsupported URI scheme")),
            ("a b://c".to_owned(), file("a b://c")),
            ("name=value".to_owned(), fault("entries containing '=' are reserved and not permitted")),
            ("a\0b".to_owned(), fault("entries containing a null character are not permitted")),
        ];
        for (line, expect) in cases {
            assert_eq!(one(&line), expect, "{line}");
        }
        let (declared, fault) = read(b"# nothing\n\na\n\r\nb=\nc\n");
        assert_eq!(declared, [(3, Declared::File("a".to_owned()))]);
        assert!(fault.is_some_and(|fault| fault.contains("on line 5")));
    }

    #[test]
    fn w12_what_a_job_has_declared() {
        let mut all = Subjects::new();
        let subject = |name: &str, digits: &str| Subject::file(name, digits);
        let first = [(1, subject("b/two", "22")), (2, subject("a/one", "AA")), (3, subject("c/two", "22"))];
        assert_eq!(add(&mut all, &first), Ok(2));
        assert_eq!(
            list(&all),
            "{\"version\":1,\"subjects\":[{\"name\":\"one\",\"digest\":\"sha256:aa\",\"kind\":\"file\"},\
             {\"name\":\"two\",\"digest\":\"sha256:22\",\"kind\":\"file\"}]}"
        );
        let fault = add(&mut all, &[(7, subject("three", "33")), (8, subject("one", "bb"))]).unwrap_err();
        assert!(fault.contains("on line 8: Conflicting digest for artifact 'one'"), "{fault}");
        assert_eq!(all.len(), 3);
        let many: Vec<(usize, Subject)> =
            (1..=MOST).map(|number| (number, subject(&format!("n{number}"), "0"))).collect();
        let fault = add(&mut all, &many).unwrap_err();
        assert!(fault.contains("on line 498: The job has exceeded the maximum of 500"), "{fault}");
        // What is known already is not one more.
        assert_eq!(add(&mut all, &many[..497]), Ok(0));
        assert_eq!(list(&Subjects::new()), "{\"version\":1,\"subjects\":[]}");
    }
}
