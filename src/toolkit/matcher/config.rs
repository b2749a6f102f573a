//! The JSON file that `::add-matcher::` names.
//!
//! Pure: no I/O, no clock, no async.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::pattern::Regexp;

/// More matchers in one file, or patterns in one matcher, are a mistake.
const MOST: usize = 100;

/// A file of problem matchers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchersFile {
    pub matchers: Vec<MatcherConfig>,
}

/// One matcher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatcherConfig {
    pub owner: String,
    /// For findings without one; empty is `error`.
    pub severity: String,
    /// The file that found paths are relative to, when no pattern says so.
    pub from_path: Option<String>,
    pub pattern: Vec<PatternConfig>,
}

/// One line of a matcher: an expression, and which of its groups mean what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternConfig {
    pub regexp: String,
    pub file: Option<usize>,
    pub from_path: Option<usize>,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub severity: Option<usize>,
    pub code: Option<usize>,
    pub message: Option<usize>,
    pub r#loop: bool,
}

impl MatchersFile {
    /// Reads a file. Keys it does not know are ignored, as GitHub's runner does; a byte order mark too.
    ///
    /// # Errors
    /// A sentence when it is not JSON or a value has the wrong type. Whether the matchers make sense is
    /// [`MatchersFile::validate`]'s question.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let json: Json = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        Self::from_json(&json)
    }

    /// Reads a parsed file.
    ///
    /// # Errors
    /// As [`MatchersFile::parse`].
    pub fn from_json(json: &Json) -> Result<Self, String> {
        let matchers = items(json, "problemMatcher")?;
        Ok(Self { matchers: matchers.iter().map(MatcherConfig::from_json).collect::<Result<_, _>>()? })
    }

    /// Whether the runner would take it.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if self.matchers.len() > MOST {
            return Err(format!("more than {MOST} matchers"));
        }
        let mut owners = HashSet::new();
        for matcher in &self.matchers {
            matcher.validate()?;
            if !owners.insert(matcher.owner.to_lowercase()) {
                return Err(format!("Duplicate owner name '{}'", matcher.owner));
            }
        }
        Ok(())
    }
}

impl MatcherConfig {
    /// Reads one matcher.
    ///
    /// # Errors
    /// A sentence when a value has the wrong type.
    pub fn from_json(json: &Json) -> Result<Self, String> {
        Ok(Self {
            owner: text(json, "owner")?.unwrap_or_default(),
            severity: text(json, "severity")?.unwrap_or_default(),
            from_path: text(json, "fromPath")?.filter(|path| !path.is_empty()),
            pattern: items(json, "pattern")?.iter().map(PatternConfig::from_json).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the runner would take it.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let owner = &self.owner;
        if owner.is_empty() {
            return Err("Owner must not be empty".to_owned());
        }
        if !["", "error", "warning", "notice"].iter().any(|known| known.eq_ignore_ascii_case(&self.severity)) {
            return Err(format!("Matcher '{owner}' contains unexpected default severity '{}'", self.severity));
        }
        if self.pattern.is_empty() {
            return Err(format!("Matcher '{owner}' does not contain any patterns"));
        }
        if self.pattern.len() > MOST {
            return Err(format!("Matcher '{owner}' contains more than {MOST} patterns"));
        }
        let mut set = HashSet::new();
        for (at, pattern) in self.pattern.iter().enumerate() {
            if pattern.r#loop && (at == 0 || at + 1 < self.pattern.len()) {
                return Err("Only the last pattern in a multiline matcher may set 'loop'".to_owned());
            }
            if pattern.r#loop && pattern.message.is_none() {
                return Err("The loop pattern must set 'message'".to_owned());
            }
            let groups = Regexp::new(&pattern.regexp)?.groups();
            for (property, group) in pattern.properties() {
                let Some(group) = group else { continue };
                if !set.insert(property) {
                    return Err(format!("The property '{property}' is set twice"));
                }
                if group >= groups {
                    return Err(format!("The property '{property}' is set to {group} which is out of range"));
                }
            }
        }
        if !set.contains("message") {
            return Err("At least one pattern must set 'message'".to_owned());
        }
        Ok(())
    }
}

impl PatternConfig {
    fn from_json(json: &Json) -> Result<Self, String> {
        let group = |key: &str| group(json, key);
        Ok(Self {
            regexp: text(json, "regexp")?.unwrap_or_default(),
            file: group("file")?,
            from_path: group("fromPath")?,
            line: group("line")?,
            column: group("column")?,
            severity: group("severity")?,
            code: group("code")?,
            message: group("message")?,
            r#loop: match &json["loop"] {
                Json::Null => false,
                Json::Bool(value) => *value,
                other => return Err(format!("'loop' must be true or false, not {other}")),
            },
        })
    }

    fn properties(&self) -> [(&'static str, Option<usize>); 7] {
        [
            ("file", self.file),
            ("line", self.line),
            ("column", self.column),
            ("severity", self.severity),
            ("code", self.code),
            ("message", self.message),
            ("fromPath", self.from_path),
        ]
    }
}

fn text(json: &Json, key: &str) -> Result<Option<String>, String> {
    match &json[key] {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text.clone())),
        other => Err(format!("'{key}' must be a text, not {other}")),
    }
}

/// Some published matchers write group numbers as text; GitHub's reader takes both.
fn group(json: &Json, key: &str) -> Result<Option<usize>, String> {
    let number = match &json[key] {
        Json::Null => return Ok(None),
        Json::Number(number) => number.as_u64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number.and_then(|number| usize::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("The property '{key}' is set to {} which is out of range", json[key])),
    }
}

/// A list; one item alone may stand for a list of one.
fn items<'a>(json: &'a Json, key: &str) -> Result<&'a [Json], String> {
    match &json[key] {
        Json::Null => Ok(&[]),
        Json::Array(items) => Ok(items),
        item @ Json::Object(_) => Ok(std::slice::from_ref(item)),
        other => Err(format!("'{key}' must be a list, not {other}")),
    }
}
