//! Charts of a workflow's last runs as SVG: how long they took, half of them and 95 of 100, and how long they waited.

use std::fmt::Write;

use jiff::SignedDuration;

use super::format;
use super::view::{RunPoint, State};

const WIDTH: i64 = 720;
const HEIGHT: i64 = 250;
const LEFT: i64 = 104;
const RIGHT: i64 = 12;
const TOP: i64 = 18;
const BOTTOM: i64 = 36;
/// A percentile at a run is that of this many runs up to it.
const WINDOW: usize = 10;

/// The value below which `part` of 100 values are.
pub(super) fn percentile(sorted: &[i64], part: usize) -> i64 {
    match sorted.len() {
        0 => 0,
        count => sorted[(count * part).div_ceil(100).clamp(1, count) - 1],
    }
}

/// A round number of seconds at or above `value`, so that the labels are readable.
fn round_up(value: i64) -> i64 {
    const STEPS: [i64; 22] = [
        2, 4, 6, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
        172_800, 604_800,
    ];
    STEPS.into_iter().find(|step| *step >= value).unwrap_or(value)
}

/// The chart of runs, oldest first; nothing before there are three of them.
pub(super) fn durations(points: &[RunPoint]) -> Option<String> {
    if points.len() < 3 {
        return None;
    }
    // Nothing takes a century; a clock that jumped must not overflow the arithmetic below.
    let seconds = |duration: SignedDuration| duration.as_secs().clamp(0, 3_200_000_000);
    let took: Vec<i64> = points.iter().map(|point| seconds(point.took)).collect();
    let waited: Vec<i64> = points.iter().map(|point| seconds(point.waited)).collect();
    let top = round_up(took.iter().chain(&waited).copied().max().unwrap_or(0).max(1));
    let last = i64::try_from(points.len()).unwrap_or(i64::MAX) - 1;
    let x = |at: usize| LEFT + (WIDTH - LEFT - RIGHT) * i64::try_from(at).unwrap_or(last) / last;
    let y = |value: i64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value.min(top) / top;
    let moving = |values: &[i64], part: usize| -> Vec<i64> {
        (1..=values.len())
            .map(|end| {
                let mut window = values[end.saturating_sub(WINDOW)..end].to_vec();
                window.sort_unstable();
                percentile(&window, part)
            })
            .collect()
    };
    let (half, most) = (moving(&took, 50), moving(&took, 95));
    let now = |values: &[i64]| format::duration(SignedDuration::from_secs(values.last().copied().unwrap_or(0)));
    let label = format!(
        "Durations of the last {} runs: half take at most {}, 95 of 100 at most {}; the last waited {}",
        points.len(),
        now(&half),
        now(&most),
        now(&waited)
    );
    let mut out = format!("<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">");
    for value in [0, top / 2, top] {
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {0}H{1}\"/><text x=\"{2}\" y=\"{3}\" class=\"end\">{4}</text>",
            y(value),
            WIDTH - RIGHT,
            LEFT - 8,
            y(value) + 4,
            if value == 0 { "0".to_owned() } else { format::duration(SignedDuration::from_secs(value)) }
        );
    }
    let middle = points.len() / 2;
    for (at, class) in [(0, "begin"), (middle, "middle"), (points.len() - 1, "end")] {
        let number = points[at].number;
        let _ = write!(out, "<text x=\"{}\" y=\"{}\" class=\"{class}\">#{number}</text>", x(at), HEIGHT - 10);
    }
    for (values, class) in [(&waited, "waited"), (&most, "most"), (&half, "half")] {
        let line: Vec<String> =
            values.iter().enumerate().map(|(at, value)| format!("{} {}", x(at), y(*value))).collect();
        let _ = write!(out, "<path class=\"line {class}\" d=\"M{}\"/>", line.join("L"));
    }
    for (at, point) in points.iter().enumerate() {
        let _ = write!(
            out,
            "<circle class=\"s-{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"><title>#{} {}, {}</title></circle>",
            point.state.class(),
            x(at),
            y(took[at]),
            if point.state == State::Success { 3 } else { 4 },
            point.number,
            point.state.word(),
            format::duration(point.took),
        );
    }
    out.push_str("</svg>");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        for (values, half, most) in
            [(vec![], 0, 0), (vec![7], 7, 7), (vec![1, 2], 1, 2), ((1..=100).collect::<Vec<i64>>(), 50, 95)]
        {
            assert_eq!((percentile(&values, 50), percentile(&values, 95)), (half, most), "{values:?}");
        }
    }

    #[test]
    fn a_chart_stays_inside_its_frame() {
        let point = |number: u64, took: i64| RunPoint {
            number,
            state: State::Success,
            took: SignedDuration::from_secs(took),
            waited: SignedDuration::from_secs(i64::MAX),
        };
        let points: Vec<RunPoint> =
            [0, 5, i64::MAX / 1_000_000_000].into_iter().zip(1..).map(|(took, number)| point(number, took)).collect();
        assert_eq!(durations(&points[..2]), None);
        let svg = durations(&[point(1, 1), point(2, 9), point(3, 4)]).unwrap();
        assert!(svg.contains("aria-label=\"Durations of the last 3 runs") && !svg.contains("style="), "{svg}");
        assert!(durations(&points).is_some(), "absurd times do not overflow");
    }
}
