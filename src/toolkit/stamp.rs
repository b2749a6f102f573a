//! Log lines with the time in front, as in GitHub's raw logs: RFC 3339, seven digits, `Z`.
//!
//! Pure: no I/O, no clock, no async.

use jiff::Timestamp;
use jiff::tz::Offset;

/// The length of a stamp: `2026-11-21T22:50:03.1234567Z`.
pub const LENGTH: usize = 28;

/// Appends the time, without the space that follows it in a log.
pub fn append(buffer: &mut Vec<u8>, time: Timestamp) {
    buffer.extend_from_slice(&stamp(time));
}

/// Stamped lines, ready to be appended to a log file.
#[derive(Debug)]
pub struct Lines {
    prefix: [u8; LENGTH + 1],
    time: Timestamp,
    bytes: Vec<u8>,
    count: u64,
}

impl Lines {
    /// No lines yet; those that follow are of this time.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { prefix: prefix(now), time: now, bytes: Vec::new(), count: 0 }
    }

    /// The lines that follow are of this time.
    pub fn at(&mut self, now: Timestamp) {
        if now != self.time {
            self.time = now;
            self.prefix = prefix(now);
        }
    }

    /// Appends a line, given without its end. Text with line breaks becomes several lines, each with its stamp, so that
    /// every line of a log can be read alone.
    pub fn push(&mut self, text: &[u8]) {
        if memchr::memchr(b'\n', text).is_some() {
            for line in text.split(|&byte| byte == b'\n') {
                self.push_one(line.strip_suffix(b"\r").unwrap_or(line));
            }
        } else {
            self.push_one(text);
        }
    }

    /// Appends every line of `text`, which ends with a line break and has no carriage return.
    pub(super) fn push_all(&mut self, text: &[u8]) {
        self.bytes.reserve(text.len() * 2);
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', text) {
            self.bytes.extend_from_slice(&self.prefix);
            self.bytes.extend_from_slice(&text[from..=end]);
            from = end + 1;
            self.count += 1;
        }
    }

    /// The lines so far, each with its stamp and its end.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many lines there are in [`Lines::bytes`].
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Forgets the lines, keeping the memory: they were written.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    fn push_one(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(&self.prefix);
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        self.count += 1;
    }
}

fn prefix(time: Timestamp) -> [u8; LENGTH + 1] {
    let mut prefix = [b' '; LENGTH + 1];
    prefix[..LENGTH].copy_from_slice(&stamp(time));
    prefix
}

fn stamp(time: Timestamp) -> [u8; LENGTH] {
    let civil = Offset::UTC.to_datetime(time);
    let mut text = *b"0000-00-00T00:00:00.0000000Z";
    let mut put = |at: usize, width: usize, mut value: u32| {
        for place in (at..at + width).rev() {
            text[place] = b'0' + u8::try_from(value % 10).expect("a digit");
            value /= 10;
        }
    };
    put(0, 4, u32::from(civil.year().unsigned_abs()));
    put(5, 2, u32::from(civil.month().unsigned_abs()));
    put(8, 2, u32::from(civil.day().unsigned_abs()));
    put(11, 2, u32::from(civil.hour().unsigned_abs()));
    put(14, 2, u32::from(civil.minute().unsigned_abs()));
    put(17, 2, u32::from(civil.second().unsigned_abs()));
    put(20, 7, civil.subsec_nanosecond().unsigned_abs() / 100);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_seven_digits() {
        let mut lines = Lines::new("2026-01-02T03:04:05.123456789Z".parse().unwrap());
        lines.push(b"one");
        lines.at("2026-11-21T22:50:03Z".parse().unwrap());
        lines.push(b"two\r\nthree");
        assert_eq!(
            String::from_utf8_lossy(lines.bytes()),
            "2026-01-02T03:04:05.1234567Z one\n2026-11-21T22:50:03.0000000Z two\n2026-11-21T22:50:03.0000000Z three\n"
        );
        assert_eq!(lines.count(), 3);
    }
}
