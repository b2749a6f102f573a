//! Parts of a job's log: windows of lines of a step, searches, and the text that `gh` downloads.

use crate::run::report::StepState;
use crate::store::logs::LogId;
use crate::store::{Logs, StoreError};

use super::pages::{LogHit, LogLine, rendered};
use super::terminal;
use super::view::JobView;

/// Text read at once.
const CHUNK: u64 = 1 << 20;
/// A line longer than this is cut where it is shown; the raw log has it whole.
const LINE_SHOWN: usize = 64 * 1024;

/// Where a job's log is.
#[must_use]
pub(super) fn id(job: &JobView) -> LogId {
    LogId { run: job.run, attempt: job.attempt, job: job.id }
}

/// The bytes of a step in its job's log. The step that runs now goes on to the end.
#[must_use]
pub(super) fn range(step: &StepState, length: u64) -> Option<(u64, u64)> {
    let start = step.log_start?;
    let end = step.log_end.unwrap_or(length).min(length);
    (start <= end).then_some((start, end))
}

/// Calls `each` with every line between two offsets, without its line break, and the offset after it; until `false`.
pub(super) fn lines(
    logs: &Logs,
    log: LogId,
    from: u64,
    to: u64,
    mut each: impl FnMut(&[u8], u64) -> bool,
) -> Result<(), StoreError> {
    let mut at = from;
    let mut held: Vec<u8> = Vec::new();
    while at < to {
        let chunk = logs.read(log, at, CHUNK.min(to - at))?;
        if chunk.is_empty() {
            break;
        }
        let mut rest = chunk.as_slice();
        let mut offset = at;
        at += chunk.len() as u64;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            offset += end as u64 + 1;
            rest = &rest[end + 1..];
            let go_on = if held.is_empty() {
                each(line, offset)
            } else {
                held.extend_from_slice(&line[..line.len().min(LINE_SHOWN.saturating_sub(held.len()))]);
                let go_on = each(&held, offset);
                held.clear();
                go_on
            };
            if !go_on {
                return Ok(());
            }
        }
        // A line of a gigabyte must not be held whole.
        held.extend_from_slice(&rest[..rest.len().min(LINE_SHOWN.saturating_sub(held.len()))]);
    }
    if !held.is_empty() {
        each(&held, to);
    }
    Ok(())
}

fn text(line: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&line[..line.len().min(LINE_SHOWN)])
}

/// How many lines there are between two offsets.
pub(super) fn count(logs: &Logs, log: LogId, from: u64, to: u64) -> Result<u64, StoreError> {
    let mut at = from;
    let mut lines = 0;
    let mut last = b'\n';
    while at < to {
        let chunk = logs.read(log, at, CHUNK.min(to - at))?;
        let Some(end) = chunk.last() else { break };
        last = *end;
        lines += memchr::memchr_iter(b'\n', &chunk).count() as u64;
        at += chunk.len() as u64;
    }
    Ok(lines + u64::from(last != b'\n'))
}

/// Lines `first..first + limit` (from 0) of a step, rendered.
pub(super) fn window(
    logs: &Logs,
    log: LogId,
    step: &StepState,
    first: u64,
    limit: u64,
) -> Result<Vec<LogLine>, StoreError> {
    let Some((start, end)) = range(step, logs.length(log)?) else { return Ok(Vec::new()) };
    let from = match step.first_line {
        Some(line) if first > 0 => logs.line_offset(log, line + first)?.clamp(start, end),
        _ => start,
    };
    let skip = if step.first_line.is_none() { first } else { 0 };
    let mut shown = Vec::new();
    let mut number = if skip > 0 { 0 } else { first };
    lines(logs, log, from, end, |line, _| {
        number += 1;
        if number > skip {
            shown.push(rendered(step.number, number, &text(line)));
        }
        (shown.len() as u64) < limit
    })?;
    Ok(shown)
}

/// The last lines of a step up to and a little past its first error: what one wants to read of a failure.
pub(super) fn excerpt(logs: &Logs, log: LogId, step: &StepState, limit: usize) -> Result<Vec<LogLine>, StoreError> {
    let Some((start, end)) = range(step, logs.length(log)?) else { return Ok(Vec::new()) };
    let mut ring: std::collections::VecDeque<LogLine> = std::collections::VecDeque::new();
    let mut number = 0;
    // Errors stand near the end: reading the last part of a long log is enough, and its line numbers are counted.
    let from = end.saturating_sub(512 * 1024).max(start);
    if from > start {
        number = count(logs, log, start, from)?.saturating_sub(1);
    }
    let mut cut_first = from > start;
    let mut after_error = 0;
    // Where the group under way begins, and the last one that ended without an error: mostly the command itself.
    let (mut group, mut folded): (Option<usize>, Vec<LogLine>) = (None, Vec::new());
    lines(logs, log, from, end, |line, _| {
        number += 1;
        if std::mem::take(&mut cut_first) {
            return true;
        }
        let line = rendered(step.number, number, &text(line));
        match line.kind {
            terminal::Kind::Debug => return true,
            terminal::Kind::EndGroup => {
                if let Some(from) = group.take() {
                    folded = ring.split_off(from.min(ring.len())).into();
                }
                return true;
            }
            terminal::Kind::Group => group = Some(ring.len()),
            terminal::Kind::Error => group = None,
            _ => {}
        }
        if line.kind == terminal::Kind::Error || after_error > 0 {
            after_error += 1;
        }
        ring.push_back(line);
        if ring.len() > limit {
            ring.pop_front();
            group = group.map(|from| from.saturating_sub(1));
        }
        after_error < 6
    })?;
    // A step that said little is known by its command.
    if ring.len() < 4 {
        let room = limit - ring.len();
        for line in folded.into_iter().take(room).rev() {
            ring.push_front(line);
        }
    }
    Ok(ring.into())
}

/// Where the first error of a job is: step and line.
pub(super) fn first_error(logs: &Logs, job: &JobView) -> Result<Option<(u32, u64)>, StoreError> {
    let Some(step) = job.failed_step() else { return Ok(None) };
    let log = id(job);
    let Some((start, end)) = range(step, logs.length(log)?) else { return Ok(None) };
    let (mut number, mut found) = (0, None);
    lines(logs, log, start, end, |line, _| {
        number += 1;
        if terminal::line(&text(&line[..line.len().min(200)])).kind == terminal::Kind::Error {
            found = Some((step.number, number));
        }
        found.is_none()
    })?;
    Ok(found)
}

/// Lines that hold a text, without regard to case and colours; at most `limit`, and whether there are more.
pub(super) fn search(
    logs: &Logs,
    job: &JobView,
    wanted: &str,
    limit: usize,
) -> Result<(Vec<LogHit>, bool), StoreError> {
    let (log, wanted) = (id(job), wanted.to_lowercase());
    let length = logs.length(log)?;
    let (mut hits, mut more) = (Vec::new(), false);
    for step in &job.steps {
        let Some((start, end)) = range(step, length) else { continue };
        let mut number = 0;
        lines(logs, log, start, end, |line, _| {
            number += 1;
            let stored = text(line);
            let parts = terminal::line(&stored);
            if !terminal::plain(parts.text).to_lowercase().contains(&wanted) {
                return true;
            }
            if hits.len() == limit {
                more = true;
                return false;
            }
            hits.push(LogHit {
                step: step.number,
                line: number,
                link: format!("?step={}&from={}#s{}-{number}", step.number, number.saturating_sub(50), step.number),
                html: terminal::html(parts.text),
            });
            true
        })?;
        if more {
            break;
        }
    }
    Ok((hits, more))
}
