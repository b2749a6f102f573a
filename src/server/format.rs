//! Times, durations, sizes and names as people read them.

use jiff::{SignedDuration, Timestamp};

/// `850ms`, `12s`, `1m 30s`, `2h 05m`, `3d 4h`.
#[must_use]
pub fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0 => format!("{}ms", duration.as_millis().max(0)),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// As [`duration`], of times that are known by the second: what goes on, and all that the API says.
#[must_use]
pub fn so_far(duration: SignedDuration) -> String {
    if duration.as_secs() <= 0 { "0s".to_owned() } else { self::duration(duration) }
}

/// `just now`, `2 min ago`, `3 h ago`, `yesterday`, `12 days ago`, then the date.
#[must_use]
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    match seconds {
        ..0 => format!("in {}", self::duration(SignedDuration::from_secs(seconds.saturating_neg()))),
        0..10 => "just now".to_owned(),
        10..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..172_800 => "yesterday".to_owned(),
        172_800..2_592_000 => format!("{} days ago", seconds / 86_400),
        _ => then.strftime("%Y-%m-%d").to_string(),
    }
}

/// `2026-11-21 21:00:00 UTC`, for hovering.
#[must_use]
pub fn exact(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `2026-11-21T21:00:00Z`: the API's form, whole seconds as GitHub's.
#[must_use]
pub fn api(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// At most `limit` characters, the last one an ellipsis when something was cut.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => {
            let end = text.char_indices().nth(limit.saturating_sub(1)).map_or(0, |(at, _)| at);
            format!("{}…", &text[..end])
        }
    }
}

/// `12 B`, `3.4 KB`, `5.6 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let float = bytes as f64;
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} KB", float / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", float / 1e6),
        _ => format!("{:.1} GB", float / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (millis, expected) in [
            (0, "0ms"),
            (850, "850ms"),
            (12_400, "12s"),
            (90_000, "1m 30s"),
            (7_500_000, "2h 05m"),
            (273_600_000, "3d 4h"),
            (-5, "0ms"),
        ] {
            assert_eq!(duration(SignedDuration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn times_before_now() {
        let now: Timestamp = "2026-11-21T21:00:00Z".parse().unwrap();
        for (seconds, expected) in [
            (5, "just now"),
            (59, "59 s ago"),
            (130, "2 min ago"),
            (7200, "2 h ago"),
            (90_000, "yesterday"),
            (864_000, "10 days ago"),
            (31_536_000, "2025-11-21"),
            (-90, "in 1m 30s"),
        ] {
            assert_eq!(ago(now, now - SignedDuration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüx", 3), "äö…");
    }
}
