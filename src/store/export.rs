//! The whole state as lines of JSON: for backups, for other versions, and for people.
//!
//! The first line names the format; each further line is one record: tree, key in hexadecimal, and the value, as JSON
//! where it is JSON and in base64 where it is not. Secrets are in it as they are at rest: sealed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::identity::IDENTITY;
use super::records::{COUNTERS, Counters};
use super::trees::{NAMES, Name, Trees, Write};
use super::{Store, StoreError};

const FORMAT: u32 = 1;
/// Backups kept beside each other.
const KEPT: usize = 7;
/// Records imported in one transaction.
const BATCH: usize = 1000;
const PREFIX: &str = "towline-";
const SUFFIX: &str = ".ndjson";

#[derive(Serialize, Deserialize)]
struct Header {
    towline_export: u32,
    at: Timestamp,
}

#[derive(Deserialize)]
struct Line {
    tree: String,
    key: String,
    /// The value's format version, when it is plain JSON.
    version: Option<u8>,
    json: Option<Json>,
    bytes: Option<String>,
}

impl Store {
    /// Writes everything to a file, which appears only when it is complete. Returns the number of records. Takes as
    /// long as the state is large: not for a worker thread.
    ///
    /// # Errors
    /// The state cannot be read or the file cannot be written.
    pub fn export(&self, now: Timestamp, path: &Path) -> Result<usize, StoreError> {
        export(self.trees(), now, path)
    }

    /// Exports into the state's own directory of backups and removes the oldest beyond a week's.
    ///
    /// # Errors
    /// As [`Store::export`].
    pub fn back_up(&self, now: Timestamp) -> Result<PathBuf, StoreError> {
        let directory = backups(self.directory());
        fs::create_dir_all(&directory).map_err(|source| StoreError::Export { path: directory.clone(), source })?;
        let path = directory.join(format!("{PREFIX}{}{SUFFIX}", now.strftime("%Y%m%dT%H%M%SZ")));
        self.export(now, &path)?;
        for old in newest_first(self.directory()).into_iter().skip(KEPT) {
            // One backup too many is no harm.
            let _ = fs::remove_file(old);
        }
        Ok(path)
    }

    /// When the newest backup was made.
    #[must_use]
    pub fn last_backup(&self) -> Option<Timestamp> {
        let newest = newest_first(self.directory()).into_iter().next()?;
        let name = newest.file_name()?.to_str()?;
        let time = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    }

    /// Whether nothing was ever kept here.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        // A new database has its own mark only, and perhaps an identity.
        let trees = self.trees();
        let own = 1 + usize::from(trees.get(Name::Meta, IDENTITY)?.is_some());
        Ok(NAMES.iter().filter(|(name, _)| *name != Name::Meta).all(|(name, _)| trees.tree(*name).is_empty())
            && trees.tree(Name::Meta).len() <= own)
    }

    /// Puts the records of an export into this state, over those with the same keys. The daemon must not run.
    ///
    /// # Errors
    /// The file cannot be read, is no export or is of a newer format; or the state cannot be written.
    pub fn import(&self, path: &Path) -> Result<usize, StoreError> {
        let records = import(self.trees(), path)?;
        self.inner.writer.commit_blocking(Vec::new())?;
        Ok(records)
    }
}

fn backups(directory: &Path) -> PathBuf {
    directory.join("backups")
}

/// The exports of a state directory; their names sort by time.
pub(super) fn newest_first(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(backups(directory)).into_iter().flatten().flatten();
    let named = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(named).collect();
    paths.sort_unstable_by(|a, b| b.cmp(a));
    paths
}

fn export(trees: &Trees, now: Timestamp, path: &Path) -> Result<usize, StoreError> {
    let fail = |source| StoreError::Export { path: path.to_owned(), source };
    let unfinished = path.with_extension("unfinished");
    let mut file = BufWriter::new(File::create(&unfinished).map_err(fail)?);
    let header =
        serde_json::to_string(&Header { towline_export: FORMAT, at: now }).map_err(|error| fail(error.into()))?;
    writeln!(file, "{header}").map_err(fail)?;
    let mut records = 0;
    for (name, tree) in NAMES {
        for item in trees.tree(name) {
            let (key, value) = item?;
            writeln!(file, "{}", line(tree, &key, &value)).map_err(fail)?;
            records += 1;
        }
    }
    let file = file.into_inner().map_err(|error| fail(error.into_error()))?;
    file.sync_all().map_err(fail)?;
    fs::rename(&unfinished, path).map_err(fail)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(fail)?;
    }
    Ok(records)
}

/// One record. JSON inside is kept byte for byte.
fn line(tree: &str, key: &[u8], value: &[u8]) -> String {
    let key = to_hex(key);
    let json = match value {
        [version, b'j', json @ ..] => std::str::from_utf8(json).ok().map(|json| (version, json)),
        _ => None,
    };
    match json {
        Some((version, json)) => format!(r#"{{"tree":"{tree}","key":"{key}","version":{version},"json":{json}}}"#),
        None => format!(r#"{{"tree":"{tree}","key":"{key}","bytes":"{}"}}"#, STANDARD.encode(value)),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory cannot fail");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

/// The last ids that an export knows of; nothing if it cannot be read. They are near its beginning.
pub(super) fn counters(path: &Path) -> Option<Counters> {
    let lines = BufReader::new(File::open(path).ok()?).lines().skip(1).map_while(Result::ok);
    let meta = lines.map_while(|line| serde_json::from_str::<Line>(&line).ok().filter(|line| line.tree == "meta"));
    let key = to_hex(COUNTERS);
    let found = meta.into_iter().find(|line| line.key == key)?;
    serde_json::from_value(found.json?).ok()
}

pub(super) fn import(trees: &Trees, path: &Path) -> Result<usize, StoreError> {
    let fail = |reason: String| StoreError::Import { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let mut lines = BufReader::new(file).lines();
    let first = lines.next().ok_or_else(|| fail("it is empty".to_owned()))?.map_err(|error| fail(error.to_string()))?;
    let header: Header = serde_json::from_str(&first).map_err(|_| fail("it is not an export of towline".to_owned()))?;
    if header.towline_export > FORMAT {
        let newer = header.towline_export;
        return Err(fail(format!("it has format {newer} of a newer towline; this one knows {FORMAT}")));
    }
    let mut writes = Vec::new();
    let mut records = 0;
    for (index, line) in lines.enumerate() {
        let at = |reason: String| fail(format!("line {}: {reason}", index + 2));
        let line = line.map_err(|error| at(error.to_string()))?;
        let line: Line = serde_json::from_str(&line).map_err(|error| at(error.to_string()))?;
        // A tree of a newer version that only adds things is left out.
        let Some(tree) = NAMES.iter().find(|(_, name)| *name == line.tree).map(|(name, _)| *name) else { continue };
        writes.push(Write::put(tree, from_hex(&line.key).ok_or_else(|| at("bad key".to_owned()))?, value(line, at)?));
        records += 1;
        if writes.len() == BATCH {
            trees.apply(std::mem::take(&mut writes))?;
        }
    }
    trees.apply(writes)?;
    trees.flush()?;
    Ok(records)
}

fn value(line: Line, at: impl Fn(String) -> StoreError) -> Result<Vec<u8>, StoreError> {
    match (line.json, line.bytes) {
        (Some(json), None) => {
            let mut value = vec![line.version.unwrap_or(super::codec::VERSION), b'j'];
            value.extend_from_slice(json.to_string().as_bytes());
            Ok(value)
        }
        (None, Some(bytes)) => STANDARD.decode(bytes).map_err(|error| at(error.to_string())),
        _ => Err(at("it has no value".to_owned())),
    }
}

/// Every tree is exported: a name missing from the list would be lost.
const _: () = assert!(NAMES.len() == Name::Stopping as usize + 1);
