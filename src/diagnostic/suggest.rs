//! The nearest of several names, for "did you mean …".
//!
//! Pure: no I/O, no clock, no async.

/// Longer words are never compared: no name of the language is that long, and the work stays bounded.
const LONGEST: usize = 64;

/// The candidate most like `word`, if one is near enough to be what was meant: at most a third of the letters differ.
/// Case does not count. Of equals the first wins.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = folded(word)?;
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        let Some(letters) = folded(candidate) else { continue };
        let allowed = (word.len().max(letters.len()) / 3).max(1);
        let distance = distance(&word, &letters);
        if distance <= allowed && distance < letters.len() && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn folded(word: &str) -> Option<Vec<char>> {
    let letters: Vec<char> = word.chars().flat_map(char::to_lowercase).take(LONGEST + 1).collect();
    (letters.len() <= LONGEST).then_some(letters)
}

/// Insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut row = vec![0; b.len() + 1];
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_wins() {
        let names = ["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "env"];
        let cases = [
            ("gihtub", Some("github")),
            ("GITHUB", Some("github")),
            ("secret", Some("secrets")),
            ("step", Some("steps")),
            ("martix", Some("matrix")),
            ("environment", None),
            ("x", None),
            ("", None),
            ("jobs", Some("job")),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }

    #[test]
    fn long_words_are_left_alone() {
        assert_eq!(nearest(&"x".repeat(100_000), ["x"]), None);
    }
}
