//! Problem matchers: regular expressions that find errors in a step's output (W10).
//!
//! Pure: no I/O, no clock, no async.

mod config;
mod pattern;

pub use config::{MatcherConfig, MatchersFile, PatternConfig};

use serde::{Deserialize, Serialize};

use pattern::Regexp;

/// What one matcher found; the text of groups, untouched. A group that took no part is an empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub file: Option<String>,
    pub from_path: Option<String>,
    pub line: Option<String>,
    pub column: Option<String>,
    pub severity: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
}

/// A matcher's expression took too many steps on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// One matcher, in the middle of a step's output.
#[derive(Clone, Debug)]
pub struct Matcher {
    config: MatcherConfig,
    patterns: Vec<Regexp>,
    /// For all patterns but the last: what it and those before it have found.
    running: Vec<Option<Found>>,
}

impl Matcher {
    /// Starts a matcher.
    ///
    /// # Errors
    /// A sentence when the configuration is not valid.
    pub fn new(config: MatcherConfig) -> Result<Self, String> {
        config.validate()?;
        let patterns =
            config.pattern.iter().map(|pattern| Regexp::new(&pattern.regexp)).collect::<Result<Vec<_>, _>>()?;
        let running = vec![None; patterns.len().saturating_sub(1)];
        Ok(Self { config, patterns, running })
    }

    /// Who it belongs to; compared without case.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.config.owner
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &MatcherConfig {
        &self.config
    }

    /// Feeds one line. The patterns of a matcher match lines that follow each other; the last one may go on (`loop`).
    ///
    /// # Errors
    /// When an expression goes beyond its bound: the same line would do so again.
    pub fn feed(&mut self, line: &str) -> Result<Option<Found>, Exhausted> {
        let last = self.patterns.len() - 1;
        for at in (0..=last).rev() {
            let before = match at.checked_sub(1) {
                None => Found::default(),
                Some(previous) => match &self.running[previous] {
                    Some(found) => found.clone(),
                    None => continue,
                },
            };
            let config = &self.config.pattern[at];
            let repeats = config.r#loop;
            let found = self.patterns[at].find(line)?.map(|groups| before.clone().and(config, &groups));
            if at < last {
                self.running[at] = found;
                continue;
            }
            match found {
                Some(mut found) => {
                    self.reset();
                    if at > 0 && repeats {
                        self.running[at - 1] = Some(before);
                    }
                    if found.severity.as_deref().unwrap_or_default().is_empty() && !self.config.severity.is_empty() {
                        found.severity = Some(self.config.severity.clone());
                    }
                    if found.from_path.as_deref().unwrap_or_default().is_empty() && self.config.from_path.is_some() {
                        found.from_path.clone_from(&self.config.from_path);
                    }
                    return Ok(Some(found));
                }
                None if at > 0 => self.running[at - 1] = None,
                None => {}
            }
        }
        Ok(None)
    }

    /// Forgets what the patterns before the last have found: another matcher took the line.
    pub fn reset(&mut self) {
        self.running.fill(None);
    }
}

impl Found {
    /// Adds what a pattern's groups say; what was found before stays.
    fn and(mut self, config: &PatternConfig, groups: &fancy_regex::Captures<'_>) -> Self {
        let take = |slot: &mut Option<String>, group: Option<usize>| {
            if slot.is_none()
                && let Some(group) = group.filter(|&group| group < groups.len())
            {
                *slot = Some(groups.get(group).map_or("", |text| text.as_str()).to_owned());
            }
        };
        take(&mut self.file, config.file);
        take(&mut self.from_path, config.from_path);
        take(&mut self.line, config.line);
        take(&mut self.column, config.column);
        take(&mut self.severity, config.severity);
        take(&mut self.code, config.code);
        take(&mut self.message, config.message);
        self
    }
}

/// The matchers of a job or step, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Matchers {
    list: Vec<Matcher>,
}

impl Matchers {
    /// Adds those of a file in front; an owner's older matcher goes.
    ///
    /// # Errors
    /// A sentence when the file is not valid; then nothing changes.
    pub fn add(&mut self, file: MatchersFile) -> Result<(), String> {
        file.validate()?;
        let new = file.matchers.into_iter().map(Matcher::new).collect::<Result<Vec<_>, _>>()?;
        for matcher in new {
            self.remove(matcher.owner());
            self.list.insert(0, matcher);
        }
        Ok(())
    }

    /// Removes an owner's matcher.
    pub fn remove(&mut self, owner: &str) {
        let owner = owner.to_lowercase();
        self.list.retain(|matcher| matcher.owner().to_lowercase() != owner);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What to start the next step's matchers with: the same ones, which have seen nothing yet.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let mut fresh = self.clone();
        fresh.list.iter_mut().for_each(Matcher::reset);
        fresh
    }

    /// Feeds one line, without colour codes, to each matcher until `accept` takes what one found. Those that took too
    /// long are removed; their owners are appended to `removed`.
    pub fn feed<T>(
        &mut self,
        line: &str,
        removed: &mut Vec<String>,
        mut accept: impl FnMut(Found) -> Option<T>,
    ) -> Option<T> {
        let mut at = 0;
        while at < self.list.len() {
            match self.list[at].feed(line) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    for (other, matcher) in self.list.iter_mut().enumerate() {
                        if other != at {
                            matcher.reset();
                        }
                    }
                    if let Some(accepted) = accept(found) {
                        return Some(accepted);
                    }
                }
                // GitHub tries three times for a second each; the bound here counts steps, so trying again is no use.
                Err(Exhausted) => {
                    removed.push(self.list.remove(at).config.owner);
                    continue;
                }
            }
            at += 1;
        }
        None
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    config: MatcherConfig,
    running: Vec<Option<Found>>,
}

impl Serialize for Matchers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.list.iter().map(|matcher| Stored { config: matcher.config.clone(), running: matcher.running.clone() }),
        )
    }
}

impl<'de> Deserialize<'de> for Matchers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Vec::new();
        for stored in Vec::<Stored>::deserialize(deserializer)? {
            let mut matcher = Matcher::new(stored.config).map_err(serde::de::Error::custom)?;
            if stored.running.len() == matcher.running.len() {
                matcher.running = stored.running;
            }
            list.push(matcher);
        }
        Ok(Self { list })
    }
}

/// Removes colour codes, which tools print in the middle of what matchers look for.
#[must_use]
pub fn without_colours(line: &str) -> std::borrow::Cow<'_, str> {
    const START: &str = "\x1b[";
    if !line.contains(START) {
        return line.into();
    }
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(START) {
        plain.push_str(&rest[..at]);
        rest = rest[at + START.len()..]
            .trim_start_matches(|character: char| character.is_ascii_digit() || character == ';');
        rest = rest.strip_prefix('m').unwrap_or(rest);
    }
    plain.push_str(rest);
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_removed() {
        assert_eq!(without_colours("a\x1b[31mred\x1b[1;31m, \x1b[mx"), "ared, x");
        assert_eq!(without_colours("plain"), "plain");
    }

    #[test]
    fn an_expression_without_end_is_given_up() {
        let file = MatchersFile::parse(
            br#"{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"^(?:(a+)\\1*)+b$","message":1}]}]}"#,
        )
        .unwrap();
        let mut matchers = Matchers::default();
        matchers.add(file).unwrap();
        let mut removed = Vec::new();
        let line = format!("{}!", "a".repeat(2000));
        assert_eq!(matchers.feed(&line, &mut removed, Some), None);
        assert_eq!(removed, ["x"]);
        assert!(matchers.is_empty());
    }

    #[test]
    fn matchers_survive_storage() {
        let file = MatchersFile::parse(
            br#"{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"^in (.+)$","file":1},{"regexp":"^bad (.+)$","message":1,"loop":true}]}]}"#,
        )
        .unwrap();
        let mut matchers = Matchers::default();
        matchers.add(file).unwrap();
        let mut removed = Vec::new();
        assert_eq!(matchers.feed("in a.rs", &mut removed, Some), None);
        let stored = serde_json::to_string(&matchers).unwrap();
        let mut matchers: Matchers = serde_json::from_str(&stored).unwrap();
        let found = matchers.feed("bad luck", &mut removed, Some).unwrap();
        assert_eq!((found.file.as_deref(), found.message.as_deref()), (Some("a.rs"), Some("luck")));
    }
}
