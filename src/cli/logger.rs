//! Where log records go: the journal with their fields under systemd, else standard error, as text or as JSON.

use std::io::Write as _;

use log::kv::{self, Key, Source, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::{Map, Value as Json};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::clock::Clock;

/// Installs the logger. `TOWLINE_LOG` is the least level shown: error, warn, info, debug or trace. `TOWLINE_LOG_FORMAT`
/// is `journal`, `text` or `json`; without it the journal is taken when standard error is the journal's.
pub(super) fn install() {
    let level = std::env::var("TOWLINE_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::Info);
    let wanted = std::env::var("TOWLINE_LOG_FORMAT").unwrap_or_default();
    let journal = match wanted.as_str() {
        "text" | "json" => None,
        "journal" => JournalLog::new().ok(),
        _ if connected_to_journal() => JournalLog::new().ok(),
        _ => None,
    };
    let logger = match journal {
        Some(journal) => Logger::Journal(Box::new(journal.with_syslog_identifier("towline".to_owned()))),
        None if wanted == "json" => Logger::Json,
        None => Logger::Text,
    };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

enum Logger {
    Journal(Box<JournalLog>),
    Text,
    Json,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries speak only when something is wrong: their chatter would drown the daemon's.
        metadata.target().starts_with("towline") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let fields = Renamed(record.key_values());
        let line = match self {
            Self::Journal(journal) => {
                let mut named = record.to_builder();
                named.key_values(&fields);
                return journal.log(&named.build());
            }
            Self::Text => {
                let mut text = Text(String::new());
                drop(fields.visit(&mut text));
                format!("{} {:5} {}{}\n", Clock::System.now(), record.level(), record.args(), text.0)
            }
            Self::Json => {
                let mut object = Object(Map::new());
                object.0.insert("time".to_owned(), Clock::System.now().to_string().into());
                object.0.insert("level".to_owned(), record.level().as_str().to_lowercase().into());
                object.0.insert("message".to_owned(), record.args().to_string().into());
                object.0.insert("target".to_owned(), record.target().into());
                drop(fields.visit(&mut object));
                format!("{}\n", Json::Object(object.0))
            }
        };
        // A closed standard error must not end the daemon.
        drop(std::io::stderr().write_all(line.as_bytes()));
    }

    fn flush(&self) {}
}

/// The fields of a record under the names they are found by, in the journal in capitals: `RUN_ID`, `JOB`, `HOST`, `REPO`,
/// `DELIVERY`.
struct Renamed<'a>(&'a dyn Source);

impl Source for Renamed<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        self.0.visit(&mut Renaming(visitor))
    }
}

struct Renaming<'a, 'kvs>(&'a mut dyn VisitSource<'kvs>);

impl<'kvs> VisitSource<'kvs> for Renaming<'_, 'kvs> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let name = match key.as_str() {
            "run" => "run_id",
            "repository" | "source" => "repo",
            _ => return self.0.visit_pair(key, value),
        };
        self.0.visit_pair(Key::from_str(name), value)
    }
}

struct Text(String);

impl<'kvs> VisitSource<'kvs> for Text {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        use std::fmt::Write as _;
        let _ = write!(self.0, " {key}={value}");
        Ok(())
    }
}

struct Object(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Object {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let json = value.to_u64().map_or_else(|| Json::from(value.to_string()), Json::from);
        self.0.insert(key.to_string(), json);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_they_are_found_by() {
        let pairs = [("run", 7), ("job", 8), ("delivery", 9)];
        let fields = Renamed(&pairs);
        let mut text = Text(String::new());
        fields.visit(&mut text).unwrap();
        assert_eq!(text.0, " run_id=7 job=8 delivery=9");
        let pairs = [("repository", "a/b"), ("host", "selene")];
        let mut object = Object(Map::new());
        Renamed(&pairs).visit(&mut object).unwrap();
        assert_eq!(Json::Object(object.0).to_string(), r#"{"repo":"a/b","host":"selene"}"#);
    }
}
