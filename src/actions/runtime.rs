//! Node for hosts that have none: kept here under the digest of its program, brought to a host once.
//!
//! Nothing is ever fetched by itself: a runtime is there because somebody added it, with a checksum where it came over a
//! network.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{Context, SHA256};

/// The most a program may be: node has about 100 MB.
const LARGEST: u64 = 1 << 30;
/// Digits of the digest in names: enough that two programs never meet.
const SHORT: usize = 16;

/// Why a runtime cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("'{name}' is no runtime of actions; there are node20 and node24")]
    Name { name: String },
    #[error("the checksum of {what} is {found}, not {expected}: it was not added")]
    Checksum { what: String, expected: String, found: String },
    #[error("a download needs its checksum: --sha256 DIGEST (as in the SHASUMS256.txt beside it)")]
    NoChecksum,
    #[error("cannot fetch {url}: {reason}")]
    Fetch { url: String, reason: String },
    #[error("there is no bin/node in {}: give an archive of nodejs.org, its directory, or the program itself", path.display())]
    NoProgram { path: PathBuf },
    #[error("{} is a program for no system that is known here: {reason}", path.display())]
    Foreign { path: PathBuf, reason: String },
}

/// One program that runs JavaScript actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `node24`.
    pub name: String,
    pub platform: Platform,
    /// The first digits of the program's SHA-256.
    pub digest: String,
    /// The program on this machine.
    pub path: PathBuf,
}

/// What a program runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`, `darwin`.
    pub os: String,
    /// `x64`, `arm64`, `arm`, `x86`.
    pub arch: String,
    /// On Linux `glibc` or `musl`; else empty.
    pub libc: String,
}

impl Platform {
    /// From what a probe of a host says: `Linux`, `X64`, `glibc 2.36`.
    #[must_use]
    pub fn of_host(os: &str, arch: &str, libc: &str) -> Self {
        let os = match os {
            "macOS" => "darwin".to_owned(),
            other => other.to_lowercase(),
        };
        let musl = libc.to_lowercase().contains("musl");
        let libc = match (os.as_str(), musl) {
            ("linux", true) => "musl",
            ("linux", false) => "glibc",
            _ => "",
        };
        Self { os, arch: arch.to_lowercase(), libc: libc.to_owned() }
    }

    fn name(&self) -> String {
        let parts = [&self.os, &self.arch, &self.libc];
        parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("-")
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name())
    }
}

impl Runtime {
    /// The directory on a host, and here: its name says what is in it.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("{}-{}-{}", self.name, self.platform, self.digest)
    }
}

/// The runtimes of this machine, in one directory.
#[derive(Clone, Debug)]
pub struct Runtimes {
    directory: PathBuf,
}

impl Runtimes {
    /// The directory need not be there.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Runtime> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok);
        let mut found: Vec<Runtime> = entries.filter_map(|entry| known(&entry.path())).collect();
        found.sort_by_key(Runtime::directory);
        found
    }

    /// The one for a platform.
    #[must_use]
    pub fn find(&self, name: &str, platform: &Platform) -> Option<Runtime> {
        self.list().into_iter().rfind(|runtime| runtime.name == name && runtime.platform == *platform)
    }

    /// Adds the program in a file, an archive, a directory or behind an address. `sha256` is the digest of the file or
    /// archive as its maker published it.
    ///
    /// # Errors
    /// It cannot be fetched or read, its checksum is another, or it is no program that is known.
    pub fn add(&self, name: &str, source: &str, sha256: Option<&str>) -> Result<Runtime, RuntimeError> {
        let is_name = name.strip_prefix("node").is_some_and(|major| major.parse::<u32>().is_ok());
        if !is_name {
            return Err(RuntimeError::Name { name: name.to_owned() });
        }
        fs::create_dir_all(&self.directory).map_err(|source| self.file(&self.directory, source))?;
        let scratch = self.directory.join(format!(".adding-{}", std::process::id()));
        fs::create_dir_all(&scratch).map_err(|source| self.file(&scratch, source))?;
        let added = self.add_in(&scratch, name, source, sha256);
        drop(fs::remove_dir_all(&scratch));
        added
    }

    fn add_in(&self, scratch: &Path, name: &str, source: &str, sha256: Option<&str>) -> Result<Runtime, RuntimeError> {
        let is_url = source.starts_with("https://") || source.starts_with("http://");
        let path = if is_url {
            if sha256.is_none() {
                return Err(RuntimeError::NoChecksum);
            }
            let path = scratch.join("download");
            fetch(source, &path)?;
            path
        } else {
            PathBuf::from(source)
        };
        if let Some(expected) = sha256 {
            let found = digest(&path).map_err(|source| self.file(&path, source))?;
            if !found.eq_ignore_ascii_case(expected) {
                return Err(RuntimeError::Checksum { what: source.to_owned(), expected: expected.to_owned(), found });
            }
        }
        let program = scratch.join("node");
        extract(&path, source, &program)?;
        let head = head(&program).map_err(|source| self.file(&program, source))?;
        let platform = platform(&head)
            .map_err(|reason| RuntimeError::Foreign { path: PathBuf::from(source), reason: reason.to_owned() })?;
        let digest = digest(&program).map_err(|source| self.file(&program, source))?;
        let mut runtime =
            Runtime { name: name.to_owned(), platform, digest: digest[..SHORT].to_owned(), path: PathBuf::new() };
        let directory = self.directory.join(runtime.directory());
        runtime.path = directory.join("bin/node");
        let bin = directory.join("bin");
        fs::create_dir_all(&bin).map_err(|source| self.file(&bin, source))?;
        make_executable(&program)
            .and_then(|()| fs::rename(&program, &runtime.path))
            .map_err(|source| self.file(&program, source))?;
        Ok(runtime)
    }

    #[expect(clippy::unused_self, reason = "it reads as what it is: an error of these runtimes")]
    fn file(&self, path: &Path, source: std::io::Error) -> RuntimeError {
        RuntimeError::File { path: path.to_owned(), source }
    }

    /// Forgets a runtime by its directory's name or its own; says how many went.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn remove(&self, name: &str) -> Result<usize, RuntimeError> {
        let mut gone = 0;
        for runtime in self.list().into_iter().filter(|runtime| runtime.name == name || runtime.directory() == name) {
            let directory = self.directory.join(runtime.directory());
            fs::remove_dir_all(&directory).map_err(|source| self.file(&directory, source))?;
            gone += 1;
        }
        Ok(gone)
    }
}

/// The runtime in a directory of ours.
fn known(directory: &Path) -> Option<Runtime> {
    let name = directory.file_name()?.to_str()?;
    let parts: Vec<&str> = name.split('-').collect();
    let (runtime, os, arch, libc, digest) = match parts[..] {
        [runtime, os, arch, libc, digest] => (runtime, os, arch, libc, digest),
        [runtime, os, arch, digest] => (runtime, os, arch, "", digest),
        _ => return None,
    };
    let path = directory.join("bin/node");
    let platform = Platform { os: os.to_owned(), arch: arch.to_owned(), libc: libc.to_owned() };
    path.is_file().then(|| Runtime { name: runtime.to_owned(), platform, digest: digest.to_owned(), path })
}

fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// By the programs that every control machine has one of.
fn fetch(url: &str, to: &Path) -> Result<(), RuntimeError> {
    let failed = |reason: String| RuntimeError::Fetch { url: url.to_owned(), reason };
    let attempts = [
        ("curl", vec!["--fail", "--silent", "--show-error", "--location", "--max-time", "1800", "--output"]),
        ("wget", vec!["--quiet", "--tries=3", "-O"]),
    ];
    for (program, arguments) in attempts {
        match Command::new(program).args(arguments).arg(to).arg(url).stdin(Stdio::null()).output() {
            Ok(done) if done.status.success() => return Ok(()),
            Ok(done) => return Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
            Err(_) => {}
        }
    }
    Err(failed("neither curl nor wget is installed; fetch it yourself and give the file".to_owned()))
}

/// Finds the program in whatever it came in, and copies it.
fn extract(path: &Path, shown: &str, to: &Path) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::File { path: path.to_owned(), source };
    let none = || RuntimeError::NoProgram { path: PathBuf::from(shown) };
    if path.is_dir() {
        let candidates = ["bin/node", "node"].map(|name| path.join(name));
        let program = candidates.iter().find(|candidate| candidate.is_file()).ok_or_else(none)?;
        return fs::copy(program, to).map(drop).map_err(failed);
    }
    let start = head(path).map_err(failed)?;
    if start.starts_with(b"\x7fELF") || start.starts_with(&[0xcf, 0xfa, 0xed, 0xfe]) {
        return fs::copy(path, to).map(drop).map_err(failed);
    }
    let file = File::open(path).map_err(failed)?;
    let found = if start.starts_with(&[0x1f, 0x8b]) {
        from_archive(flate2::read::GzDecoder::new(file), to)
    } else if start.starts_with(b"\xfd7zXZ") {
        let mut child = Command::new("xz")
            .args(["--decompress", "--stdout"])
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let found = from_archive(child.stdout.take().expect("it is piped"), to);
        // Once the program is out, the rest is of no interest.
        drop(child.kill());
        drop(child.wait());
        found
    } else {
        from_archive(file, to)
    };
    if found.map_err(failed)? { Ok(()) } else { Err(none()) }
}

fn from_archive(archive: impl Read, to: &Path) -> std::io::Result<bool> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let is_program = entry.path()?.ends_with("bin/node") && entry.header().entry_type().is_file();
        if is_program {
            let size = entry.size();
            if size > LARGEST {
                return Err(std::io::Error::other(format!("its program is larger than {LARGEST} bytes")));
            }
            let mut file = File::create(to)?;
            if std::io::copy(&mut entry, &mut file)? != size {
                return Err(std::io::Error::other("the archive ends within its program"));
            }
            file.flush()?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        context.update(&buffer[..length]);
    }
}

fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(4096).read_to_end(&mut head)?;
    Ok(head)
}

/// What a program is for, from its first bytes: ELF names the machine and its loader, and the loader the C library.
fn platform(head: &[u8]) -> Result<Platform, &'static str> {
    let number = |at: usize| head.get(at..at + 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    if head.starts_with(b"\x7fELF") {
        let arch = match number(18) {
            Some(62) => "x64",
            Some(183) => "arm64",
            Some(40) => "arm",
            Some(3) => "x86",
            _ => return Err("the machine of this ELF file is not known"),
        };
        let musl = head.windows(8).any(|window| window == b"/ld-musl");
        let libc = if musl { "musl" } else { "glibc" };
        return Ok(Platform { os: "linux".to_owned(), arch: arch.to_owned(), libc: libc.to_owned() });
    }
    if head.starts_with(&[0xcf, 0xfa, 0xed, 0xfe]) {
        let arch = match head.get(4..8) {
            Some([7, 0, 0, 1]) => "x64",
            Some([12, 0, 0, 1]) => "arm64",
            _ => return Err("the machine of this Mach-O file is not known"),
        };
        return Ok(Platform { os: "darwin".to_owned(), arch: arch.to_owned(), libc: String::new() });
    }
    Err("it is neither ELF nor Mach-O")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(machine: u8, loader: &str) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(18, 0);
        bytes.extend([machine, 0]);
        bytes.resize(64, 0);
        bytes.extend(loader.as_bytes());
        bytes
    }

    #[test]
    fn a_program_tells_what_it_runs_on() {
        let named = |bytes: &[u8]| platform(bytes).map(|platform| platform.name());
        assert_eq!(named(&program(62, "/lib64/ld-linux-x86-64.so.2")), Ok("linux-x64-glibc".to_owned()));
        assert_eq!(named(&program(183, "/lib/ld-musl-aarch64.so.1")), Ok("linux-arm64-musl".to_owned()));
        assert_eq!(named(&[0xcf, 0xfa, 0xed, 0xfe, 12, 0, 0, 1]), Ok("darwin-arm64".to_owned()));
        assert!(named(b"#!/bin/sh\n").is_err());
        assert_eq!(Platform::of_host("Linux", "X64", "glibc 2.36").name(), "linux-x64-glibc");
        assert_eq!(Platform::of_host("macOS", "ARM64", "").name(), "darwin-arm64");
    }

    #[test]
    fn runtimes_are_added_from_archives_and_found_by_platform() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = program(62, "/lib/ld-musl-x86_64.so.1");
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, "node-v24/bin/node", bytes.as_slice()).unwrap();
        let archive = archive.into_inner().unwrap().finish().unwrap();
        let file = directory.path().join("node.tar.gz");
        fs::write(&file, &archive).unwrap();
        let runtimes = Runtimes::at(directory.path().join("runtimes"));
        let source = file.to_str().unwrap();
        let wrong = runtimes.add("node24", source, Some("00"));
        assert!(matches!(wrong, Err(RuntimeError::Checksum { .. })), "{wrong:?}");
        assert!(matches!(runtimes.add("deno", source, None), Err(RuntimeError::Name { .. })));
        assert!(matches!(runtimes.add("node24", "http://127.0.0.1:1/x", None), Err(RuntimeError::NoChecksum)));
        let added = runtimes.add("node24", source, Some(&digest(&file).unwrap())).unwrap();
        assert_eq!(fs::read(&added.path).unwrap(), bytes);
        assert_eq!(runtimes.list(), std::slice::from_ref(&added));
        assert_eq!(runtimes.find("node24", &Platform::of_host("Linux", "X64", "musl")), Some(added));
        assert_eq!(runtimes.find("node24", &Platform::of_host("Linux", "X64", "glibc 2.36")), None);
        assert_eq!(runtimes.remove("node24").unwrap(), 1);
        assert!(runtimes.list().is_empty());
    }

    #[test]
    fn hostile_archives_leave_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = program(62, "/lib64/ld-linux-x86-64.so.2");
        let header = |name: &str, size: u64, kind: tar::EntryType| {
            let mut header = tar::Header::new_gnu();
            // As it stands in the archive, with whatever leads out of it.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(size);
            header.set_mode(0o755);
            header.set_entry_type(kind);
            header
        };
        let archive = |mut header: tar::Header, link: &str, content: &[u8]| {
            if !link.is_empty() {
                header.set_link_name(link).unwrap();
            }
            header.set_cksum();
            [header.as_bytes().as_slice(), content].concat()
        };
        let whole = bytes.len() as u64;
        let file = tar::EntryType::Regular;
        let cases = [
            // A link to a program of this machine is none of the archive's.
            ("link", archive(header("x/bin/node", 0, tar::EntryType::Symlink), "/bin/sh", &[])),
            ("hard link", archive(header("x/bin/node", 0, tar::EntryType::Link), "/bin/sh", &[])),
            ("directory", archive(header("x/bin/node", 0, tar::EntryType::Directory), "", &[])),
            ("cut off", archive(header("x/bin/node", whole + 4096, file), "", &bytes)),
            ("far too large", archive(header("x/bin/node", LARGEST + 1, file), "", &bytes)),
            ("larger than anything", archive(header("x/other", 1 << 40, file), "", &bytes)),
            ("nothing", vec![0; 1024]),
        ];
        let runtimes = Runtimes::at(directory.path().join("runtimes"));
        for (name, archive) in cases {
            let path = directory.path().join("node.tar");
            fs::write(&path, &archive).unwrap();
            let added = runtimes.add("node24", path.to_str().unwrap(), None);
            assert!(added.is_err(), "{name}: {added:?}");
            assert!(runtimes.list().is_empty(), "{name}");
        }
        // Where an archive says that its program lies is of no importance: only the program is taken.
        let climbing = archive(header("../../../outside/bin/node", whole, file), "", &bytes);
        let path = directory.path().join("node.tar");
        fs::write(&path, &climbing).unwrap();
        let added = runtimes.add("node24", path.to_str().unwrap(), None).unwrap();
        assert!(added.path.starts_with(directory.path().join("runtimes")));
        assert!(!directory.path().join("outside").exists());
    }
}
