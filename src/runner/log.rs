//! The job's log as the runner writes it: stamped, masked lines appended to one file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::toolkit::mask::Masks;
use crate::toolkit::stamp;

/// How long to wait before writing again after the disk was full.
const RETRY: Duration = Duration::from_secs(1);
/// The time before a line, and the space after it.
const STAMP: usize = stamp::LENGTH + 1;

/// An append-only log file with the number of bytes that readers may see.
pub struct LogFile {
    file: File,
    path: PathBuf,
    length: watch::Sender<u64>,
    lines: u64,
    limit: u64,
    /// Lines of the runner's own for which there was no room: they come before all others. And how many there are.
    waiting: (Vec<u8>, u64),
}

impl LogFile {
    /// Opens or creates a log.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, length: watch::Sender<u64>) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        length.send_replace(file.metadata()?.len());
        Ok(Self { file, path: path.to_owned(), length, lines: 0, limit: u64::MAX, waiting: (Vec::new(), 0) })
    }

    /// Drops what comes after this many bytes, and says so once.
    #[must_use]
    pub fn limited(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        *self.length.borrow()
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines written.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Takes back what was written after the last record of the journal: it will be written again. What the record knows of and
    /// the file does not have (the machine lost power before it was on the disk) becomes as many lines that say so.
    ///
    /// # Errors
    /// The file cannot be read or cut.
    pub fn rewind(&mut self, length: u64, lines: u64) -> io::Result<()> {
        if self.file.metadata()?.len() < length {
            let there = Whole::of(BufReader::new(File::open(&self.path)?))?;
            self.file.set_len(there.bytes)?;
            there.fill_up(&mut BufWriter::new(&self.file), length, lines)?;
        }
        self.file.set_len(length)?;
        self.length.send_replace(length);
        self.lines = lines;
        Ok(())
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, bytes: &[u8], lines: u64) -> io::Result<()> {
        self.settle()?;
        self.append_now(bytes, lines)
    }

    /// Writes what waited for room.
    fn settle(&mut self) -> io::Result<()> {
        if self.waiting.0.is_empty() {
            return Ok(());
        }
        let (bytes, lines) = std::mem::take(&mut self.waiting);
        self.append_now(&bytes, lines).inspect_err(|_| self.waiting = (bytes, lines))
    }

    /// The same, and waits while the disk is full.
    ///
    /// # Errors
    /// The file cannot be written for another reason.
    pub(super) async fn settle_when_there_is_room(&mut self) -> io::Result<()> {
        self.append_when_there_is_room(&[], 0).await
    }

    fn append_now(&mut self, bytes: &[u8], lines: u64) -> io::Result<()> {
        // A log that is as long as it may be has said so: what crossed the limit was written before the notice, so the
        // same bytes make the same log when they come again.
        if bytes.is_empty() || self.len() >= self.limit {
            return Ok(());
        }
        if self.len().saturating_add(bytes.len() as u64) >= self.limit {
            return self.append_last(bytes);
        }
        self.write(bytes)?;
        self.lines += lines;
        let length = self.len() + bytes.len() as u64;
        self.length.send_replace(length);
        Ok(())
    }

    /// The same, and waits while the disk is full: the step goes on, its output is kept where it runs.
    ///
    /// # Errors
    /// The file cannot be written for another reason.
    pub async fn append_when_there_is_room(&mut self, bytes: &[u8], lines: u64) -> io::Result<()> {
        loop {
            match self.append(bytes, lines) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => tokio::time::sleep(RETRY).await,
                other => return other,
            }
        }
    }

    /// All of it or nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).inspect_err(|_| {
            // What was written in part would be there twice when it is written again.
            let _ = self.file.set_len(self.length.borrow().to_owned());
        })
    }

    /// The last lines there is room for, and the notice.
    fn append_last(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = usize::try_from(self.limit - self.len()).unwrap_or(bytes.len());
        let rest = bytes.get(room..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| room + at + 1);
        let mut last = bytes.get(..end).unwrap_or(bytes).to_vec();
        // The notice has the time of the line before it.
        let begin = last[..last.len().saturating_sub(1)].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = last[begin..].to_vec();
        if let Some(stamp) = line.split(|byte| *byte == b' ').next() {
            last.extend_from_slice(stamp);
            last.push(b' ');
        }
        let notice = format!("##[warning]The log is longer than {} bytes; the rest is not kept.\n", self.limit);
        last.extend_from_slice(notice.as_bytes());
        self.write(&last)?;
        self.lines += last.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = self.len() + last.len() as u64;
        self.length.send_replace(length);
        Ok(())
    }

    /// A log beside this one, for output that will become one section of it later; as it was when it had so many bytes and lines.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn beside(&self, number: u32, (bytes, lines): (u64, u64)) -> io::Result<Self> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        let (length, _) = watch::channel(0);
        let mut log = Self::open(Path::new(&name), length)?.limited(self.limit);
        log.rewind(bytes, lines)?;
        Ok(log)
    }

    /// Appends all of a log beside this one, and waits while the disk is full.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(super) async fn take_over_when_there_is_room(&mut self, other: &Self) -> io::Result<()> {
        loop {
            match self.take_over(other) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => tokio::time::sleep(RETRY).await,
                result => return result,
            }
        }
    }

    fn take_over(&mut self, other: &Self) -> io::Result<()> {
        self.settle()?;
        if self.len() >= self.limit {
            return Ok(());
        }
        let mut reader = File::open(&other.path)?;
        let copied = io::copy(&mut reader, &mut self.file).inspect_err(|_| {
            let _ = self.file.set_len(self.length.borrow().to_owned());
        })?;
        self.lines += other.lines;
        let length = self.len() + copied;
        self.length.send_replace(length);
        Ok(())
    }

    /// Removes the file of a log that was taken over.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    /// Masks, stamps and appends text of the runner's own. On a full disk it waits for what comes after it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn say(&mut self, now: Timestamp, masks: &Masks, text: &str) -> io::Result<()> {
        let mut lines = stamp::Lines::new(now);
        for line in text.split('\n') {
            lines.push(masks.apply(line.trim_end_matches('\r')).as_bytes());
        }
        let count = lines.count();
        match self.append(lines.bytes(), count) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.waiting.0.extend_from_slice(lines.bytes());
                self.waiting.1 += count;
                Ok(())
            }
            other => other,
        }
    }
}

/// What a log that is shorter than its record has in whole lines. It may be larger than memory.
#[derive(Debug, Default)]
struct Whole {
    bytes: u64,
    lines: u64,
    /// The time of the last line, as it stands there.
    stamp: Vec<u8>,
}

impl Whole {
    fn of(mut text: impl BufRead) -> io::Result<Self> {
        let mut there = Self { stamp: vec![b' '; STAMP], ..Self::default() };
        let (mut length, mut stamp) = (0, Vec::with_capacity(STAMP));
        loop {
            let piece = text.fill_buf()?;
            if piece.is_empty() {
                return Ok(there);
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let piece = piece.get(..end.map_or(piece.len(), |end| end + 1)).unwrap_or(piece);
            stamp.extend(piece.iter().take(STAMP - stamp.len()));
            length += piece.len() as u64;
            let count = piece.len();
            text.consume(count);
            if end.is_some() {
                there.bytes += length;
                there.lines += 1;
                if stamp.len() == STAMP && !stamp.contains(&b'\n') {
                    there.stamp.clone_from(&stamp);
                }
                length = 0;
                stamp.clear();
            }
        }
    }

    /// Writes lines in the place of those that are missing, up to a length in bytes and lines, with the time of the last one.
    fn fill_up(&self, to: &mut impl Write, bytes: u64, lines: u64) -> io::Result<()> {
        let missing = bytes - self.bytes;
        let empty = STAMP as u64 + 1;
        // A line takes as much as an empty one at least; one of another kind is none of ours.
        let others = lines.saturating_sub(self.lines).clamp(1, (missing / empty).max(1)) - 1;
        let room = missing.saturating_sub(others * empty + empty);
        to.write_all(&self.stamp)?;
        let notice = format!("##[warning]{missing} bytes of this log were lost when the machine stopped.");
        io::copy(&mut notice.as_bytes().chain(io::repeat(b' ')).take(room), to)?;
        to.write_all(b"\n")?;
        for _ in 0..others {
            to.write_all(&self.stamp)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_on_a_full_disk_is_written_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(Path::new("/dev/full"), watch::channel(0).0).unwrap();
        let now = "2026-11-29T07:32:47Z".parse().unwrap();
        log.say(now, &Masks::new(), "one\ntwo").unwrap();
        log.say(now, &Masks::new(), "three").unwrap();
        assert_eq!(log.append(b"output\n", 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((log.len(), log.lines()), (0, 0));
        let path = directory.path().join("log");
        log.file = File::options().create(true).append(true).open(&path).unwrap();
        log.append(b"output\n", 1).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let said: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(said, ["one", "two", "three", "output"]);
        assert_eq!((log.len(), log.lines()), (text.len() as u64, 4));
    }

    /// A file that is shorter than its record is as long again, in whole lines, and says what is missing.
    #[test]
    fn what_never_reached_the_disk_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let line = |text: &str| format!("2026-11-29T07:32:47.3654802Z {text}\n");
        let written: String = (1..=40).map(|number| line(&number.to_string())).collect();
        for cut in [0, 1, 29, 31, 32, 33, 100, written.len() - 31, written.len() - 1, written.len()] {
            std::fs::write(&path, &written[..cut]).unwrap();
            let mut log = LogFile::open(&path, watch::channel(0).0).unwrap();
            log.rewind(written.len() as u64, 40).unwrap();
            log.append(line("next").as_bytes(), 1).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.len(), written.len() + line("next").len(), "{cut}: {text}");
            assert_eq!((text.lines().count(), log.lines()), (41, 41), "{cut}: {text}");
            assert!(text.ends_with(&line("next")), "{cut}: {text}");
            let whole = written[..cut].rfind('\n').map_or(0, |at| at + 1);
            assert_eq!(text[..whole], written[..whole], "{cut}");
            // The room of one short line is too little for all of the notice.
            assert_eq!(text.contains("##[warning]"), written.len() - whole >= 60, "{cut}: {text}");
        }
    }
}
