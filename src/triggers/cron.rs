//! Schedules: which workflow is due when, and what to do about what was missed.
//!
//! The default branch of every source is read again from time to time; what is due is handled as an event whose id
//! holds the due time, so that a restart in the same minute starts nothing twice.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::id::RepositoryName;
use crate::workflow;
use crate::workflow::model::Schedule;

/// What was missed by less is started late; by more, only reported (§7).
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// One `schedule` entry of one workflow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub repository: RepositoryName,
    /// Path of the workflow file.
    pub workflow: String,
    /// As written.
    pub cron: String,
    /// IANA name.
    pub timezone: Option<String>,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Start it now; it was due at this time.
    Start(Entry, Timestamp),
    /// It was due so many times while nobody looked, last at this time, too long ago to be of use now.
    Missed(Entry, Timestamp),
}

/// Why a schedule can have no next time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("'{0}' is no schedule")]
    Cron(String),
    #[error("there is no time zone '{0}'")]
    TimeZone(String),
}

/// The next times of a schedule strictly after `after`, at most `count`.
///
/// # Errors
/// The expression or the zone is wrong.
pub fn next_times(cron: &str, timezone: Option<&str>, after: Timestamp, count: usize) -> Result<Vec<Timestamp>, Error> {
    // GitHub's five fields; the library below knows more than GitHub does.
    workflow::cron::parse(cron).map_err(|_| Error::Cron(cron.to_owned()))?;
    let pattern = croner::Cron::from_str(cron).map_err(|_| Error::Cron(cron.to_owned()))?;
    let zone = match timezone {
        Some(name) => TimeZone::get(name).map_err(|_| Error::TimeZone(name.to_owned()))?,
        None => TimeZone::UTC,
    };
    let mut times = Vec::new();
    let mut at: Zoned = after.to_zoned(zone);
    while times.len() < count {
        // A day that does not exist (31 February) has no next time.
        let Ok(next) = pattern.find_next_occurrence(&at, false) else { break };
        times.push(next.timestamp());
        at = next;
    }
    Ok(times)
}

/// The schedules of a workflow file.
#[must_use]
pub fn entries(repository: &RepositoryName, path: &str, schedules: &[Schedule]) -> Vec<Entry> {
    schedules
        .iter()
        .map(|schedule| Entry {
            repository: repository.clone(),
            workflow: path.to_owned(),
            cron: schedule.cron.clone(),
            timezone: schedule.timezone.clone(),
        })
        .collect()
}

/// The timetable: every entry with the time from which it counts.
#[derive(Clone, Debug, Default)]
pub struct Timetable {
    /// Entry → the last time it was looked at.
    since: BTreeMap<Entry, Timestamp>,
}

impl Timetable {
    /// Takes the entries there are now. New ones count from `from` (the time of the last look before a restart, or now);
    /// those that are gone are forgotten. None counts from later than now: the clock was ahead then, and what is due from
    /// now on is due all the same.
    pub fn set(&mut self, entries: Vec<Entry>, from: Timestamp, now: Timestamp) {
        let before = std::mem::take(&mut self.since);
        for entry in entries {
            let since = before.get(&entry).copied().unwrap_or(from);
            self.since.insert(entry, since.min(now));
        }
    }

    /// What became due until now. Of several due times of one entry only the last one counts.
    pub fn due(&mut self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        for (entry, since) in &mut self.since {
            if let Some(last) = last_time(entry, *since, now) {
                let late = now.duration_since(last);
                due.push(if late <= GRACE {
                    Due::Start(entry.clone(), last)
                } else {
                    Due::Missed(entry.clone(), last)
                });
            }
            *since = now;
        }
        due
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.since
            .keys()
            .filter_map(|entry| next_times(&entry.cron, entry.timezone.as_deref(), now, 1).ok()?.first().copied())
            .min()
    }

    /// All entries with their next times.
    #[must_use]
    pub fn preview(&self, now: Timestamp, count: usize) -> Vec<(Entry, Vec<Timestamp>)> {
        self.since
            .keys()
            .map(|entry| {
                let times = next_times(&entry.cron, entry.timezone.as_deref(), now, count).unwrap_or_default();
                (entry.clone(), times)
            })
            .collect()
    }
}

/// The last due time after `since` and not after `now`.
fn last_time(entry: &Entry, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    // After a long sleep only what is near matters: look back over the grace first, then far.
    let times_after =
        |after: Timestamp, count| next_times(&entry.cron, entry.timezone.as_deref(), after, count).unwrap_or_default();
    let near = now.checked_sub(GRACE).map_or(since, |near| near.max(since));
    // At most every minute: sixty times an hour, and one to see the end.
    let recent = times_after(near, 62).into_iter().take_while(|time| *time <= now).last();
    recent.or_else(|| times_after(since, 1).into_iter().find(|time| *time <= now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn check(cron: &str, zone: Option<&str>, after: &str, expected: &[&str]) {
        let times = next_times(cron, zone, at(after), expected.len()).unwrap();
        let expected: Vec<Timestamp> = expected.iter().map(|time| at(time)).collect();
        assert_eq!(times, expected, "{cron} {zone:?} after {after}");
    }

    #[test]
    fn t10_next_times_follow_the_zone() {
        check("30 3 * * *", None, "2026-03-28T12:00:00Z", &["2026-03-29T03:30:00Z", "2026-03-30T03:30:00Z"]);
        check("30 3 * * *", Some("Europe/Rome"), "2026-01-01T00:00:00Z", &["2026-01-01T02:30:00Z"]);
        // An hour earlier in summer.
        check("30 3 * * *", Some("Europe/Rome"), "2026-07-01T00:00:00Z", &["2026-07-01T01:30:00Z"]);
        check("0 0 29 2 *", None, "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
        check("*/15 9-17 * * MON-FRI", None, "2026-11-20T17:50:00Z", &["2026-11-23T09:00:00Z"]);
        assert!(next_times("0 0 31 2 *", None, at("2026-01-01T00:00:00Z"), 1).unwrap().is_empty());
        for wrong in ["@daily", "* * * * * *", "61 * * * *", ""] {
            assert!(next_times(wrong, None, at("2026-01-01T00:00:00Z"), 1).is_err(), "{wrong}");
        }
        assert!(matches!(
            next_times("0 0 * * *", Some("Mars/Olympus"), at("2026-01-01T00:00:00Z"), 1),
            Err(Error::TimeZone(_))
        ));
    }

    fn entry(cron: &str) -> Entry {
        Entry {
            repository: RepositoryName::from("local/app"),
            workflow: ".github/workflows/n.yml".into(),
            cron: cron.into(),
            timezone: None,
        }
    }

    #[test]
    fn what_was_missed_by_less_than_an_hour_starts_once() {
        let mut table = Timetable::default();
        table.set(vec![entry("*/10 * * * *")], at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        let last = at("2026-01-01T05:40:00Z");
        assert_eq!(table.due(at("2026-01-01T05:45:00Z")), [Due::Start(entry("*/10 * * * *"), last)]);
        assert_eq!(table.due(at("2026-01-01T05:45:01Z")), []);
        assert_eq!(table.next(at("2026-01-01T05:45:01Z")), Some(at("2026-01-01T05:50:00Z")));
        // On the second it is due.
        assert_eq!(table.due(at("2026-01-01T05:50:00Z")).len(), 1);
    }

    #[test]
    fn what_was_missed_by_more_is_only_reported() {
        let mut table = Timetable::default();
        table.set(vec![entry("0 3 * * *")], at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        let missed = at("2026-01-01T03:00:00Z");
        assert_eq!(table.due(at("2026-01-01T04:30:00Z")), [Due::Missed(entry("0 3 * * *"), missed)]);
        assert_eq!(table.due(at("2026-01-01T04:30:01Z")), []);
    }

    #[test]
    fn a_clock_that_was_ahead_delays_nothing() {
        let mut table = Timetable::default();
        let ahead = at("2027-01-01T00:10:00Z");
        table.set(vec![entry("0 * * * *")], ahead, ahead);
        assert_eq!(table.due(at("2027-01-01T01:00:00Z")).len(), 1);
        let now = at("2026-01-01T00:20:00Z");
        table.set(vec![entry("0 * * * *"), entry("30 * * * *")], ahead, now);
        assert_eq!(table.due(now), []);
        table.set(vec![entry("0 * * * *"), entry("30 * * * *")], ahead, at("2026-01-01T01:00:00Z"));
        let due = [("0 * * * *", "2026-01-01T01:00:00Z"), ("30 * * * *", "2026-01-01T00:30:00Z")];
        let due = due.map(|(cron, time)| Due::Start(entry(cron), at(time)));
        assert_eq!(table.due(at("2026-01-01T01:00:00Z")), due);
    }

    #[test]
    fn an_entry_that_stays_keeps_its_time_and_a_new_one_starts_now() {
        let mut table = Timetable::default();
        table.set(vec![entry("0 3 * * *")], at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        table.set(vec![entry("0 3 * * *"), entry("0 2 * * *")], at("2026-01-01T02:30:00Z"), at("2026-01-01T02:30:00Z"));
        assert_eq!(table.due(at("2026-01-01T03:00:00Z")), [Due::Start(entry("0 3 * * *"), at("2026-01-01T03:00:00Z"))]);
        table.set(Vec::new(), at("2026-01-01T03:00:00Z"), at("2026-01-01T03:00:00Z"));
        assert_eq!(table.next(at("2026-01-01T03:00:00Z")), None);
    }
}
