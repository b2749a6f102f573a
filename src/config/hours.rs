//! Hours of the week: `22:00-06:00`, `Mon-Fri 08:00-18:00`, `Sat,Sun 00:00-24:00`. In the machine's time zone.

use jiff::civil::Time;
use jiff::{Span, Timestamp, ToSpan, Zoned, tz::TimeZone};

/// A stretch of the day on some days of the week. One whose end is not after its begin goes on into the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Monday first; the day on which it begins.
    days: [bool; 7],
    /// Minutes of the day.
    from: u32,
    /// Minutes since the midnight before `from`; up to two days.
    to: u32,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: u32 = 24 * 60;

impl Hours {
    /// Reads a stretch.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let (days, times) = match text.rsplit_once(' ') {
            Some((days, times)) => (weekdays(days.trim())?, times),
            None => ([true; 7], text.as_str()),
        };
        let (from, to) = times.split_once('-')?;
        let (from, to) = (minutes(from)?, minutes(to)?);
        if from == DAY {
            return None;
        }
        Some(Self { days, from, to: if to > from { to } else { to + DAY } })
    }

    /// When it ends, if `now` is in it.
    #[must_use]
    pub fn until(&self, now: &Zoned) -> Option<Timestamp> {
        // It may have begun yesterday.
        [1_i64, 0].into_iter().find_map(|days| {
            let begin = now.date().checked_sub(Span::new().days(days)).ok()?;
            if !self.days[usize::try_from(begin.weekday().to_monday_zero_offset()).ok()?] {
                return None;
            }
            let at = |minutes: u32| {
                let date = begin.checked_add(i64::from(minutes / DAY).days()).ok()?;
                let minutes = minutes % DAY;
                let time = Time::new(i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?, 0, 0).ok()?;
                Some(date.to_datetime(time).to_zoned(now.time_zone().clone()).ok()?.timestamp())
            };
            let (from, to) = (at(self.from)?, at(self.to)?);
            (from <= now.timestamp() && now.timestamp() < to).then_some(to)
        })
    }
}

/// When the last of these stretches that `now` is in ends; `None` when it is in none.
#[must_use]
pub fn quiet_until(hours: &[Hours], now: Timestamp) -> Option<Timestamp> {
    let now = now.to_zoned(TimeZone::system());
    hours.iter().filter_map(|hours| hours.until(&now)).max()
}

fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

fn weekdays(text: &str) -> Option<[bool; 7]> {
    let day = |text: &str| DAYS.iter().position(|day| *day == text.trim());
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        loop {
            days[at] = true;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_the_week() {
        let cases = [
            // Monday to Sunday: 5 to 11 January 2026.
            ("22:00-06:00", "2026-01-05T23:00", Some("2026-01-06T06:00")),
            ("22:00-06:00", "2026-01-05T05:59", Some("2026-01-05T06:00")),
            ("22:00-06:00", "2026-01-05T06:00", None),
            ("08:00-18:00", "2026-01-05T08:00", Some("2026-01-05T18:00")),
            ("Mon-Fri 08:00-18:00", "2026-01-10T09:00", None),
            ("Fri 22:00-06:00", "2026-01-10T05:00", Some("2026-01-10T06:00")),
            ("Fri 22:00-06:00", "2026-01-09T05:00", None),
            ("Sat,Sun 00:00-24:00", "2026-01-11T12:00", Some("2026-01-12T00:00")),
            ("Sat-Mon 10:00-11:00", "2026-01-11T10:30", Some("2026-01-11T11:00")),
            ("Sat-Mon 10:00-11:00", "2026-01-06T10:30", None),
        ];
        for (text, now, expected) in cases {
            let zoned = |text: &str| {
                text.parse::<jiff::civil::DateTime>()
                    .unwrap()
                    .to_zoned(TimeZone::get("Europe/Zurich").unwrap())
                    .unwrap()
            };
            let until = Hours::parse(text).unwrap().until(&zoned(now));
            assert_eq!(until, expected.map(|text| zoned(text).timestamp()), "{text} at {now}");
        }
        for text in ["", "8-18", "25:00-26:00", "08:00", "Foo 08:00-09:00", "24:00-25:00", "08:60-09:00"] {
            assert_eq!(Hours::parse(text), None, "{text}");
        }
    }
}
