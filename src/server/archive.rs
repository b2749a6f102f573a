//! The zip of a run's logs, in GitHub's layout: `0_JOB.txt` for the whole job, `JOB/N_STEP.txt` for each step.
//!
//! Entries are stored without compression, so that the archive is written as it is sent and never held whole.

use std::collections::HashSet;

/// A directory entry of an archive that is being written.
struct Entry {
    name: String,
    crc: u32,
    size: u32,
    offset: u32,
    zip_time: (u16, u16),
}

/// Writes a zip piece by piece. Entries and offsets are limited to 4 GiB, as the classic format is.
#[derive(Default)]
pub(super) struct Archive {
    entries: Vec<Entry>,
    offset: u64,
}

impl Archive {
    /// The head and content of one file. `None` when the archive would grow past what the format can say.
    pub(super) fn file(&mut self, name: &str, at: jiff::Timestamp, content: &[u8]) -> Option<Vec<u8>> {
        if self.entries.len() >= usize::from(u16::MAX) {
            return None;
        }
        let size = u32::try_from(content.len()).ok()?;
        let offset = u32::try_from(self.offset).ok()?;
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let entry = Entry { name: name.to_owned(), crc: crc.sum(), size, offset, zip_time: dos_time(at) };
        let mut out = Vec::with_capacity(content.len() + name.len() + 30);
        out.extend(0x0403_4b50_u32.to_le_bytes());
        entry.write_common(&mut out);
        out.extend(name.as_bytes());
        out.extend(content);
        self.offset += out.len() as u64;
        self.entries.push(entry);
        Some(out)
    }

    /// The directory at the end.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        for entry in &self.entries {
            out.extend(0x0201_4b50_u32.to_le_bytes());
            // Made by: version 2.0 on Unix.
            out.extend(0x0314_u16.to_le_bytes());
            entry.write_common(&mut out);
            // No comment, first disk, binary.
            out.extend([0; 6]);
            out.extend((0o100_644_u32 << 16).to_le_bytes());
            out.extend(entry.offset.to_le_bytes());
            out.extend(entry.name.as_bytes());
        }
        let count = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        let size = u32::try_from(out.len()).unwrap_or(u32::MAX);
        out.extend(0x0605_4b50_u32.to_le_bytes());
        out.extend([0; 4]);
        out.extend(count.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(size.to_le_bytes());
        out.extend(u32::try_from(self.offset).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out
    }
}

impl Entry {
    /// The fields that the local head and the directory share, up to the length of extra fields.
    fn write_common(&self, out: &mut Vec<u8>) {
        out.extend(20_u16.to_le_bytes());
        // Names are UTF-8.
        out.extend(0x0800_u16.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out.extend(self.zip_time.0.to_le_bytes());
        out.extend(self.zip_time.1.to_le_bytes());
        out.extend(self.crc.to_le_bytes());
        out.extend(self.size.to_le_bytes());
        out.extend(self.size.to_le_bytes());
        out.extend(u16::try_from(self.name.len()).unwrap_or(u16::MAX).to_le_bytes());
        // No extra fields.
        out.extend(0_u16.to_le_bytes());
    }
}

/// Date and time as FAT keeps them, in steps of two seconds.
fn dos_time(at: jiff::Timestamp) -> (u16, u16) {
    let zoned = at.to_zoned(jiff::tz::TimeZone::UTC);
    let part = |value: i8, shift: u32| u16::from(value.unsigned_abs()) << shift;
    let time = part(zoned.hour(), 11) | part(zoned.minute(), 5) | (part(zoned.second(), 0) / 2);
    let year = u16::try_from(zoned.year().saturating_sub(1980).clamp(0, 127)).unwrap_or(0);
    (time, year << 9 | part(zoned.month(), 5) | part(zoned.day(), 0))
}

/// File names of a log archive: what `gh` looks for.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// The folder of a job: its name without `/` and `:`, at most 90 UTF-16 units. Two jobs never share one.
    pub(super) fn job(&mut self, name: &str) -> String {
        let clean = cut_utf16(&clean(name), 90);
        let mut unique = clean.clone();
        for again in 2.. {
            if self.taken.insert(unique.to_lowercase()) {
                break;
            }
            unique = format!("{clean} ({again})");
        }
        unique
    }
}

/// `3_Run tests.txt`
pub(super) fn step_file(number: u32, name: &str) -> String {
    format!("{number}_{}.txt", cut_utf16(&clean(name), 90))
}

/// GitHub drops the two separators. What else a file system or an unpacker could trip over becomes a space; a name of
/// dots alone would climb.
fn clean(name: &str) -> String {
    let clean: String = name
        .chars()
        .filter(|c| !matches!(c, '/' | ':'))
        .map(|c| if c.is_control() || c == '\\' { ' ' } else { c })
        .collect();
    let clean = clean.trim();
    if clean.chars().all(|c| c == '.') { "job".to_owned() } else { clean.to_owned() }
}

fn cut_utf16(text: &str, limit: usize) -> String {
    let mut units = 0;
    text.chars()
        .take_while(|c| {
            units += c.len_utf16();
            units <= limit
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unzip_reads_what_we_write() {
        let at = "2026-11-21T21:00:02Z".parse().unwrap();
        let mut archive = Archive::default();
        let mut bytes = archive.file("0_build.txt", at, b"hello\n").unwrap();
        bytes.extend(archive.file("build/1_Set up job.txt", at, "ü".repeat(1000).as_bytes()).unwrap());
        bytes.extend(archive.finish());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs.zip");
        std::fs::write(&path, bytes).unwrap();
        let script = "import sys,zipfile\nz=zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\nprint([(i.filename,i.file_size,i.date_time) for i in z.infolist()], z.read('0_build.txt'))";
        let Ok(output) = std::process::Command::new("python3").args(["-c", script]).arg(&path).output() else {
            eprintln!("skipped: no python3 to read the archive with");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            said.trim(),
            "[('0_build.txt', 6, (2026, 11, 21, 21, 0, 2)), ('build/1_Set up job.txt', 2000, (2026, 11, 21, 21, 0, 2))] b'hello\\n'"
        );
    }

    #[test]
    fn names_are_harmless_and_unique() {
        let mut names = Names::default();
        for (name, expected) in [
            ("build", "build"),
            ("a / b: c", "a  b c"),
            ("../../etc/passwd", "....etcpasswd"),
            ("..", "job"),
            ("", "job (2)"),
            ("Build", "Build (2)"),
            ("a\\b\u{0}c", "a b c"),
        ] {
            assert_eq!(names.job(name), expected, "{name:?}");
        }
        assert_eq!(names.job(&"x".repeat(1 << 20)).len(), 90);
        assert_eq!(names.job(&"\u{1f600}".repeat(100)).encode_utf16().count(), 90);
        assert_eq!(step_file(3, "Run a/b"), "3_Run ab.txt");
    }
}
