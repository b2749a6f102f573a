//! The files a step writes to speak to the runner: `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_STATE`, `GITHUB_PATH` and
//! `GITHUB_STEP_SUMMARY` (W1–W3). They are read when the step has ended, also when it failed.
//!
//! Pure: no I/O, no clock, no async.

use super::command::blocked_variable;
use super::mask::Masks;

/// The largest summary of a step, in bytes (W3).
pub const LARGEST_SUMMARY: usize = 1024 * 1024;

/// The files, in the order GitHub's runner reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileCommand {
    Path,
    Env,
    Summary,
    State,
    Output,
}

impl FileCommand {
    /// The key in the `github` context that holds the file's path; in upper case and after `GITHUB_`, the variable's name.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Env => "env",
            Self::Summary => "step_summary",
            Self::State => "state",
            Self::Output => "output",
        }
    }
}

/// What one of the files of names and values said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// In order; a later one replaces an earlier one of the same name. They hold even when an error follows.
    pub pairs: Vec<(String, String)>,
    /// Names that may not be set (V6): each an error annotation, but the step goes on.
    pub refused: Vec<String>,
    /// Why reading stopped: the step fails (W2).
    pub error: Option<String>,
}

/// Reads `GITHUB_ENV`, `GITHUB_OUTPUT` or `GITHUB_STATE` (W2). Bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn pairs(kind: FileCommand, content: &[u8]) -> Pairs {
    let text = decode(content);
    let mut read = Pairs::default();
    let mut rest = text.as_str();
    while let Some(line) = next_line(&mut rest) {
        if line.text.is_empty() {
            continue;
        }
        match pair(line.text, &mut rest) {
            Ok((name, _)) if kind == FileCommand::Env && blocked_variable(name) => {
                read.refused.push(format!("Can't store {name} output parameter using '$GITHUB_ENV' command."));
            }
            Ok((name, value)) => read.pairs.push((name.to_owned(), value.to_owned())),
            Err(error) => {
                read.error = Some(error);
                break;
            }
        }
    }
    read
}

/// Reads `GITHUB_PATH`: a directory per line, in the order written (V3).
#[must_use]
pub fn paths(content: &[u8]) -> Vec<String> {
    decode(content).split(['\n', '\r']).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Reads `GITHUB_STEP_SUMMARY`, masked line by line (W3). Nothing when it is empty.
///
/// # Errors
/// The text of the error annotation when it is too large; the step's result stays as it is.
pub fn summary(content: &[u8], masks: &Masks) -> Result<Option<String>, String> {
    if content.is_empty() {
        return Ok(None);
    }
    if content.len() > LARGEST_SUMMARY {
        return Err(format!(
            "$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of {}k, got {}k. For more information see: \
             https://docs.github.com/actions/using-workflows/workflow-commands-for-github-actions#adding-a-markdown-summary",
            LARGEST_SUMMARY / 1024,
            content.len() / 1024
        ));
    }
    let mut masked = String::with_capacity(content.len());
    for line in decode(content).lines() {
        masked.push_str(&masks.apply(line));
        masked.push('\n');
    }
    Ok(Some(masked))
}

struct Line<'a> {
    text: &'a str,
    /// The line break behind it: nothing at the end of the file.
    end: &'a str,
}

fn next_line<'a>(rest: &mut &'a str) -> Option<Line<'a>> {
    let text = *rest;
    if text.is_empty() {
        return None;
    }
    let (line, after) = text.split_at(text.find('\n').map_or(text.len(), |at| at + 1));
    *rest = after;
    let bare = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    Some(Line { text: bare, end: &line[bare.len()..] })
}

/// `name=value`, or `name<<delimiter` with the lines up to the delimiter; whichever sign comes first decides.
fn pair<'a>(line: &'a str, rest: &mut &'a str) -> Result<(&'a str, &'a str), String> {
    let (name, delimiter) = match (line.find('='), line.find("<<")) {
        (Some(equals), heredoc) if heredoc.is_none_or(|heredoc| equals < heredoc) => {
            if equals == 0 {
                return Err(format!("Invalid format '{line}'. Name must not be empty"));
            }
            return Ok((&line[..equals], &line[equals + 1..]));
        }
        (_, Some(heredoc)) => (&line[..heredoc], &line[heredoc + 2..]),
        _ => return Err(format!("Invalid format '{line}'")),
    };
    if name.is_empty() || delimiter.is_empty() {
        return Err(format!("Invalid format '{line}'. Name must not be empty and delimiter must not be empty"));
    }
    let text = *rest;
    let mut end = 0;
    loop {
        let at = text.len() - rest.len();
        let Some(line) = next_line(rest) else {
            return Err(format!("Invalid value. Matching delimiter not found '{delimiter}'"));
        };
        if line.text == delimiter {
            return Ok((name, &text[..end]));
        }
        if line.end.is_empty() {
            return Err("Invalid value. EOF marker missing new line.".to_owned());
        }
        end = at + line.text.len();
    }
}

/// Without a byte order mark.
fn decode(content: &[u8]) -> String {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    String::from_utf8_lossy(content).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_before_an_error_hold() {
        let read = pairs(FileCommand::Output, b"\xef\xbb\xbfa=1\r\nb<<X\r\n1\r\n2\r\nX\r\nnonsense\nc=3");
        assert_eq!(read.pairs, [("a".into(), "1".into()), ("b".into(), "1\r\n2".into())]);
        assert_eq!(read.error.as_deref(), Some("Invalid format 'nonsense'"));
    }

    #[test]
    fn faults_are_told() {
        let check = |text: &str, expect: &str| {
            assert_eq!(pairs(FileCommand::Env, text.as_bytes()).error.as_deref(), Some(expect), "{text}");
        };
        check("=v", "Invalid format '=v'. Name must not be empty");
        check("<<X\nX\n", "Invalid format '<<X'. Name must not be empty and delimiter must not be empty");
        check("a<<\n", "Invalid format 'a<<'. Name must not be empty and delimiter must not be empty");
        check("a<<X\n1\n", "Invalid value. Matching delimiter not found 'X'");
        check("a<<X\n1", "Invalid value. EOF marker missing new line.");
    }

    #[test]
    fn paths_and_summaries() {
        assert_eq!(paths(b"/a\n\n/b c\r\n"), ["/a", "/b c"]);
        let masks: Masks = ["hush"].into_iter().collect();
        assert_eq!(summary(b"# hush\nx", &masks), Ok(Some("# ***\nx\n".to_owned())));
        assert_eq!(summary(b"", &masks), Ok(None));
        assert_eq!(summary(&vec![b'x'; LARGEST_SUMMARY], &masks).map(|text| text.is_some()), Ok(true));
        assert!(
            summary(&vec![b'x'; LARGEST_SUMMARY + 1], &masks).unwrap_err().contains("up to a size of 1024k, got 1024k")
        );
    }
}
