//! The spool: the bytes that steps wrote, with a mark where a step ended.
//!
//! A mark is `\x1e NONCE NUMBER KIND CODE [apart] SIZE SIZE SIZE SIZE SIZE \n` (without the spaces around the first byte), followed
//! by the contents of the five command files. The nonce of each step is derived from the job's and was never on the host before
//! the step ended, other than in the memory of its supervisor: a step that prints a mark prints an old one or a wrong one.

use aws_lc_rs::digest;
use bytes::{Buf, Bytes, BytesMut};

use super::CommandFiles;

/// The first byte of a mark.
const MARK: u8 = 0x1e;
/// The longest header: nonce, number, kind, code, five sizes.
const LONGEST: usize = 200;

/// Names derived from a job's nonce. Each tells nothing about the others.
pub(super) fn derive(nonce: &str, purpose: &str) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{purpose}:{nonce}").as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The nonce in the mark of a step.
pub(super) fn step_nonce(nonce: &str, number: u32) -> String {
    derive(nonce, &format!("step {number}"))
}

/// What the spool holds next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Output, and the offset after it.
    Output(Bytes, u64),
    /// The end of a step.
    End(Mark),
}

/// The end of a step as the supervisor wrote it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) number: u32,
    /// `c`ode, `t`imed out, cancelled (`x`), `n`ot started.
    pub(super) kind: char,
    pub(super) code: i32,
    /// The files, or their sizes when they were too long for the spool.
    pub(super) files: Result<CommandFiles, [u64; 5]>,
    /// The offset after the mark and its files.
    pub(super) offset: u64,
}

/// Splits a spool into output and marks. Takes any chunks; what it tells does not depend on their borders.
#[derive(Debug)]
pub(super) struct Reader {
    nonce: String,
    /// Marks up to this number are old: whoever prints them now is not the supervisor.
    ended: u32,
    /// The offset of the first byte of `held`.
    offset: u64,
    held: BytesMut,
}

/// Number, kind and exit code of a step; sizes of its command files; whether these lie apart.
type ParsedMark = ((u32, char, i32), [u64; 5], bool);

impl Reader {
    pub(super) fn new(nonce: &str, offset: u64, ended: u32) -> Self {
        Self { nonce: nonce.to_owned(), ended, offset, held: BytesMut::new() }
    }

    /// Where reading goes on after a break: bytes that were held back come again.
    pub(super) fn restart(&mut self) -> u64 {
        self.held.clear();
        self.offset
    }

    /// The offset up to which everything was told.
    pub(super) fn position(&self) -> u64 {
        self.offset
    }

    /// Takes bytes. Call [`Reader::next`] until it has nothing before the next bytes.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if self.held.is_empty() {
            // The common case takes the chunk without a copy.
            self.held = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.held.extend_from_slice(&bytes);
        }
    }

    /// The next part that is complete.
    pub(super) fn next(&mut self) -> Option<Part> {
        let mut from = 0;
        loop {
            let Some(found) = self.held[from..].iter().position(|&byte| byte == MARK) else {
                let all = self.held.len();
                return self.output(all);
            };
            let at = from + found;
            match self.header(&self.held[at..]) {
                Header::Not => from = at + 1,
                Header::Partial => return self.output(at),
                Header::Whole { .. } if at > 0 => return self.output(at),
                Header::Whole { length, mark, sizes, apart } => {
                    let body: u64 = if apart { 0 } else { sizes.iter().sum() };
                    if ((self.held.len() - length) as u64) < body {
                        return None;
                    }
                    self.held.advance(length);
                    let mut file = |index: usize| self.held.split_to(sizes[index] as usize).to_vec();
                    let files = if apart {
                        Err(sizes)
                    } else {
                        Ok(CommandFiles {
                            env: file(0),
                            output: file(1),
                            path: file(2),
                            state: file(3),
                            summary: file(4),
                        })
                    };
                    self.offset += length as u64 + body;
                    let (number, kind, code) = mark;
                    self.ended = self.ended.max(number);
                    return Some(Part::End(Mark { number, kind, code, files, offset: self.offset }));
                }
            }
        }
    }

    fn output(&mut self, length: usize) -> Option<Part> {
        if length == 0 {
            return None;
        }
        let bytes = self.held.split_to(length).freeze();
        self.offset += length as u64;
        Some(Part::Output(bytes, self.offset))
    }

    fn header(&self, text: &[u8]) -> Header {
        let window = &text[1..text.len().min(LONGEST)];
        let end = window.iter().position(|&byte| byte == b'\n' || byte == MARK);
        let line = &window[..end.unwrap_or(window.len())];
        // The nonce decides as early as it can, so that a lone mark byte is not held back for long.
        let nonce = &line[..line.len().min(32)];
        if !nonce.iter().all(u8::is_ascii_hexdigit) {
            return Header::Not;
        }
        let Some(end) = end else {
            return if window.len() + 1 < LONGEST { Header::Partial } else { Header::Not };
        };
        if window[end] == MARK {
            return Header::Not;
        }
        let Some(parsed) = std::str::from_utf8(line).ok().and_then(|line| self.parse(line)) else {
            return Header::Not;
        };
        Header::Whole { length: end + 2, mark: parsed.0, sizes: parsed.1, apart: parsed.2 }
    }

    fn parse(&self, line: &str) -> Option<ParsedMark> {
        let mut words = line.split(' ');
        let nonce = words.next()?;
        let number: u32 = words.next()?.parse().ok()?;
        if number <= self.ended || nonce != step_nonce(&self.nonce, number) {
            return None;
        }
        let kind = words.next()?.chars().next()?;
        let code = words.next()?.parse().ok()?;
        let mut words = words.peekable();
        let apart = words.next_if_eq(&"apart").is_some();
        let mut sizes = [0_u64; 5];
        for size in &mut sizes {
            *size = words.next()?.parse().ok()?;
        }
        words.next().is_none().then_some(((number, kind, code), sizes, apart))
    }
}

enum Header {
    Not,
    Partial,
    Whole { length: usize, mark: (u32, char, i32), sizes: [u64; 5], apart: bool },
}

#[cfg(test)]
mod tests;
