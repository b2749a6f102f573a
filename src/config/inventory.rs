//! `conf.d/hosts.toml`: the hosts that `towline host add` and the page of hosts added, and the keys that were pinned.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Paths;

/// The first line of the file.
const HEAD: &str = "# Hosts added by `towline host add`.\n";

/// A host to be written down.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub name: &'a str,
    pub address: &'a str,
    pub user: Option<&'a str>,
    pub port: Option<u16>,
    pub identity: &'a [PathBuf],
    pub jump: &'a [String],
    /// `None`: the usual one.
    pub root: Option<&'a str>,
    pub labels: &'a [String],
    pub slots: u32,
}

/// Where the hosts are written.
#[must_use]
pub fn file(paths: &Paths) -> PathBuf {
    directory(paths).join("conf.d/hosts.toml")
}

/// Where keys are pinned.
#[must_use]
pub fn pins(paths: &Paths) -> PathBuf {
    directory(paths).join("known_hosts")
}

fn directory(paths: &Paths) -> &Path {
    paths.config.parent().unwrap_or(Path::new("/"))
}

/// One `[[host]]`.
fn text_of(host: &Entry<'_>) -> String {
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |texts: &[String]| {
        let texts: Vec<String> = texts.iter().map(|one| text(one)).collect();
        format!("[{}]", texts.join(", "))
    };
    let mut entry = format!("\n[[host]]\nname = {}\naddress = {}\n", text(host.name), text(host.address));
    if let Some(user) = host.user {
        entry.push_str(&format!("user = {}\n", text(user)));
    }
    if let Some(port) = host.port {
        entry.push_str(&format!("port = {port}\n"));
    }
    if !host.identity.is_empty() {
        let files: Vec<String> = host.identity.iter().map(|file| absolute(file)).collect();
        entry.push_str(&format!("identity = {}\n", list(&files)));
    }
    if !host.jump.is_empty() {
        entry.push_str(&format!("jump = {}\n", list(host.jump)));
    }
    if let Some(root) = host.root {
        entry.push_str(&format!("root = {}\n", text(root)));
    }
    if !host.labels.is_empty() {
        entry.push_str(&format!("labels = {}\n", list(host.labels)));
    }
    entry.push_str(&format!("slots = {}\n", host.slots));
    entry
}

fn absolute(file: &Path) -> String {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    path.to_string_lossy().into_owned()
}

/// Adds a host at the end of the file, which is replaced as a whole; false when one of its name is there already.
///
/// # Errors
/// The file cannot be read or replaced.
pub fn append(paths: &Paths, host: &Entry<'_>) -> std::io::Result<bool> {
    let file = file(paths);
    let mut text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => HEAD.to_owned(),
        Err(error) => return Err(error),
    };
    if without(&text, host.name).is_some() {
        return Ok(false);
    }
    text.push_str(&text_of(host));
    replace(&file, &text).map(|()| true)
}

/// Removes a host's entry; false when it is not there.
///
/// # Errors
/// The file cannot be read or replaced.
pub fn remove(paths: &Paths, name: &str) -> std::io::Result<bool> {
    let file = file(paths);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match without(&text, name) {
        Some(rest) => {
            replace(&file, &rest)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// The text without the entry of a name. An entry goes from its header to the next table.
fn without(text: &str, name: &str) -> Option<String> {
    let mut parts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            parts.push(String::new());
        }
        parts.last_mut().expect("there is always one").push_str(line);
    }
    let before = parts.len();
    parts.retain(|part| {
        let table: Option<toml::Table> = toml::from_str(part).ok();
        let hosts = table.as_ref().and_then(|table| table.get("host")?.as_array());
        !hosts
            .is_some_and(|hosts| hosts.iter().any(|host| host.get("name").and_then(toml::Value::as_str) == Some(name)))
    });
    (parts.len() < before).then(|| parts.concat())
}

fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = file.with_extension("toml.new");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_down_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = Paths { config: directory.path().join("towline.toml"), ..Paths::from_environment() };
        let entry = Entry {
            name: "selene",
            address: "selene.lan",
            user: Some("ci"),
            port: None,
            identity: &[],
            jump: &[],
            root: None,
            labels: &["gpu".to_owned()],
            slots: 2,
        };
        assert!(append(&paths, &entry).expect("written"));
        let text = fs::read_to_string(file(&paths)).expect("read");
        assert!(!append(&paths, &entry).expect("looked at"));
        assert_eq!(fs::read_to_string(file(&paths)).expect("read"), text);
        assert!(append(&paths, &Entry { name: "selen", ..entry }).expect("written"));
    }

    #[test]
    fn an_entry_is_removed_and_the_rest_stays() {
        let text = "# head\n\n[[host]]\nname = \"a\"\nslots = 1\n\n[[host]]\nname = \"b\" # note\n\n[server]\nurl = \"http://x\"\n";
        let rest = without(text, "b").expect("it is there");
        assert_eq!(rest, "# head\n\n[[host]]\nname = \"a\"\nslots = 1\n\n[server]\nurl = \"http://x\"\n");
        assert_eq!(without(&rest, "b"), None);
    }
}
