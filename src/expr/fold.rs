//! Comparison without case, as .NET's OrdinalIgnoreCase does it (E1): every character on its own, by its simple
//! upper-case form, and never across the dotless i.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A form of the text that is equal for texts that differ in case only.
#[must_use]
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(fold_char).collect())
    }
}

/// Equality without case.
#[must_use]
pub fn equal_ignoring_case(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        a.eq_ignore_ascii_case(b)
    } else {
        a.chars().map(fold_char).eq(b.chars().map(fold_char))
    }
}

/// Order by the UTF-16 units of the upper-case forms.
pub(super) fn compare_ignoring_case(a: &str, b: &str) -> Ordering {
    units(a).cmp(units(b))
}

fn units(text: &str) -> impl Iterator<Item = u16> + '_ {
    text.chars().flat_map(|c| {
        let mut buffer = [0; 2];
        let count = upper(c).encode_utf16(&mut buffer).len();
        buffer.into_iter().take(count)
    })
}

/// Lower case for ASCII, so that the usual names of contexts and keys need no copy; upper case for the rest.
fn fold_char(c: char) -> char {
    upper(c).to_ascii_lowercase()
}

fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    if c == 'ı' {
        return c;
    }
    let mut forms = c.to_uppercase();
    // A form of several characters (ß → SS) is not a simple one: such characters stay as they are.
    match (forms.next(), forms.next()) {
        (Some(form), None) => form,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_ordinal_ignore_case() {
        for (a, b, equal) in [
            ("abc", "ABC", true),
            ("ü", "Ü", true),
            ("ς", "Σ", true),
            ("ı", "I", false),
            ("İ", "i", false),
            ("ß", "SS", false),
            ("\u{212a}", "k", false),
            ("a", "ab", false),
        ] {
            assert_eq!(equal_ignoring_case(a, b), equal, "{a} {b}");
            assert_eq!(fold(a) == fold(b), equal, "{a} {b}");
            assert_eq!(compare_ignoring_case(a, b) == Ordering::Equal, equal, "{a} {b}");
        }
    }

    #[test]
    fn order_is_by_upper_case_units() {
        // `_` lies between the upper and the lower letters.
        assert_eq!(compare_ignoring_case("a", "_"), Ordering::Less);
        // U+FF5E is after U+1F600 when compared by UTF-16 units.
        assert_eq!(compare_ignoring_case("\u{ff5e}", "\u{1f600}"), Ordering::Greater);
    }
}
