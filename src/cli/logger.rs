//! Where log records go: the journal with their fields under systemd, else standard error.

use std::io::Write as _;

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::clock::Clock;

/// Installs the logger. `TOWLINE_LOG` is the least level shown: error, warn, info, debug or trace.
pub(super) fn install() {
    let level = std::env::var("TOWLINE_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::Info);
    let journal = if connected_to_journal() { JournalLog::new().ok() } else { None };
    let logger = match journal {
        Some(journal) => Logger::Journal(Box::new(journal.with_syslog_identifier("towline".to_owned()))),
        None => Logger::Stderr,
    };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

enum Logger {
    Journal(Box<JournalLog>),
    Stderr,
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
        match self {
            Self::Journal(journal) => journal.log(record),
            Self::Stderr => {
                let mut fields = Fields(String::new());
                drop(record.key_values().visit(&mut fields));
                let line = format!("{} {:5} {}{}\n", Clock::System.now(), record.level(), record.args(), fields.0);
                // A closed standard error must not end the daemon.
                drop(std::io::stderr().write_all(line.as_bytes()));
            }
        }
    }

    fn flush(&self) {}
}

struct Fields(String);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        use std::fmt::Write as _;
        let _ = write!(self.0, " {key}={value}");
        Ok(())
    }
}
