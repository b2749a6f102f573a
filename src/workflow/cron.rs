//! The five fields of `on.schedule[].cron` (T10): the POSIX syntax GitHub accepts, nothing more.
//!
//! Pure: no I/O, no clock, no async.

/// A cron expression that GitHub accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: Vec<u8>,
}

/// Why a text is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronFault(String);

impl std::fmt::Display for CronFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CronFault {}

struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    /// Short names, the first one for `least`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day", least: 1, most: 31, names: &[] },
    Field {
        name: "month",
        least: 1,
        most: 12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    },
    Field { name: "weekday", least: 0, most: 6, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] },
];

/// Checks a cron expression.
///
/// # Errors
/// Which field is wrong, and why.
pub fn parse(text: &str) -> Result<Cron, CronFault> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(CronFault(format!("{} fields instead of 5", parts.len())));
    }
    let mut minutes = Vec::new();
    for (field, part) in FIELDS.iter().zip(&parts) {
        let values = values_of(field, part)?;
        if field.name == "minute" {
            minutes = values;
        }
    }
    minutes.sort_unstable();
    minutes.dedup();
    Ok(Cron { minutes })
}

impl Cron {
    /// Whether two starts would be less than five minutes apart: GitHub then starts it every five minutes at most.
    #[must_use]
    pub fn more_often_than_every_5_minutes(&self) -> bool {
        let across_the_hour = match (self.minutes.first(), self.minutes.last()) {
            (Some(first), Some(last)) if self.minutes.len() > 1 => 60 - last + first < 5,
            _ => false,
        };
        across_the_hour || self.minutes.windows(2).any(|pair| pair[1] - pair[0] < 5)
    }
}

fn values_of(field: &Field, text: &str) -> Result<Vec<u8>, CronFault> {
    let mut values = Vec::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(number(field, step).filter(|step| *step > 0))),
        };
        let fault = || CronFault(format!("'{text}' is no {}", field.name));
        let step = match step {
            None => None,
            Some(None) => return Err(fault()),
            Some(step) => step,
        };
        let (first, last) = if range == "*" {
            (field.least, field.most)
        } else if let Some((first, last)) = range.split_once('-') {
            let first = value(field, first).ok_or_else(fault)?;
            let last = value(field, last).ok_or_else(fault)?;
            if first > last {
                return Err(CronFault(format!("the range '{range}' of the {} runs backwards", field.name)));
            }
            (first, last)
        } else {
            let first = value(field, range).ok_or_else(fault)?;
            // `20/15` starts at 20 and goes on to the end.
            (first, if step.is_some() { field.most } else { first })
        };
        values.extend((first..=last).step_by(usize::from(step.unwrap_or(1))));
    }
    Ok(values)
}

/// A number or a short name, within the field's bounds.
fn value(field: &Field, text: &str) -> Option<u8> {
    if let Some(at) = field.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return u8::try_from(at).ok().map(|at| at + field.least);
    }
    number(field, text).filter(|value| *value >= field.least)
}

fn number(field: &Field, text: &str) -> Option<u8> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<u8>().ok().filter(|value| *value <= field.most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses() {
        let cases = [
            ("* * * * *", true),
            ("0 0 1 JAN mon", true),
            ("0,30 0-12/2 1-31 1,2 0-6", true),
            ("59 23 31 12 6", true),
            ("60 * * * *", false),
            ("* 24 * * *", false),
            ("* * 0 * *", false),
            ("* * 32 * *", false),
            ("* * * 13 *", false),
            ("* * * * 7", false),
            ("@daily", false),
            ("0 0 * * * *", false),
            ("0 0 L * *", false),
            ("0 0 ? * *", false),
            ("", false),
            ("999 * * * *", false),
        ];
        for (text, valid) in cases {
            assert_eq!(parse(text).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn finds_schedules_that_are_too_frequent() {
        let cases = [
            ("* * * * *", true),
            ("*/5 * * * *", false),
            ("*/4 * * * *", true),
            ("0,4 * * * *", true),
            ("0,58 * * * *", true),
            ("7 * * * *", false),
            ("0 0 1 1 1", false),
        ];
        for (text, frequent) in cases {
            assert_eq!(parse(text).map(|cron| cron.more_often_than_every_5_minutes()), Ok(frequent), "{text}");
        }
    }
}
