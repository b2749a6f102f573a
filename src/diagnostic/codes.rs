//! The register of diagnostic codes. A code is never reused for another meaning: scripts and editors filter by it.
//!
//! Pure: no I/O, no clock, no async.

/// An entry of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `TL` and three digits.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// A paragraph: what the rule is, why it exists, how to mend it.
    pub explanation: &'static str,
}

/// The paragraph about a code; letters compare without case.
#[must_use]
pub fn explain(code: &str) -> Option<&'static Code> {
    ALL.iter().find(|entry| entry.id.eq_ignore_ascii_case(code))
}

macro_rules! codes {
    ($($name:ident = $id:literal, $title:literal, $explanation:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $id;)*

        /// All of them, by number.
        pub const ALL: &[Code] = &[$(Code { id: $id, title: $title, explanation: $explanation }),*];
    };
}

// 0xx: expressions.
codes! {
    EXPRESSION_SYNTAX = "TL001", "malformed expression",
        "The text between ${{ and }} is not a well-formed expression. Strings stand in single quotes ('it''s'), \
         there is no arithmetic, and the operators are ! < <= > >= == != && || . [] ().";
    EXPRESSION_UNCLOSED = "TL002", "expression without an end",
        "A ${{ has no }} behind it. A }} inside a string in single quotes does not end an expression.";
    UNKNOWN_CONTEXT = "TL003", "context not available here",
        "The expression names a context that does not exist or that GitHub does not offer at this place. Which \
         contexts exist depends on the key: a job's `if` has only github, inputs, vars and needs, for example, \
         because it is decided before the job has a matrix leg, an environment or a machine.";
    UNKNOWN_FUNCTION = "TL004", "function not available here",
        "The expression calls a function that does not exist or that GitHub does not offer at this place. \
         success(), failure(), cancelled() and always() stand in `if` only; hashFiles() needs a workspace, so it \
         is known in the keys of steps only.";
    EXPRESSION_LIMIT = "TL005", "expression too long or too deep",
        "GitHub accepts expressions of at most 21,000 characters whose operators, functions and properties are \
         nested at most 50 levels deep.";
    EXPRESSION_NOT_ALLOWED = "TL006", "expression not allowed here",
        "GitHub reads this key before any context exists, so its value must be written out.";
    CONFIG_SYNTAX = "TL901", "configuration is not TOML",
        "The configuration file could not be read as TOML, so nothing of it is used. A daemon that is running keeps \
         the configuration it has.";
    CONFIG_UNKNOWN_KEY = "TL902", "unknown key in the configuration",
        "Nothing reads this key. It is refused because it is nearly always a misspelling of one that matters.";
    CONFIG_VALUE = "TL903", "impossible value in the configuration",
        "The value has the wrong type, is out of range, or is not one of the words this key knows.";
    CONFIG_DUPLICATE = "TL904", "name given twice in the configuration",
        "Hosts and sources are told apart by their names, whatever their case, over all configuration files.";
    CONFIG_MISSING = "TL905", "something is missing in the configuration",
        "A table lacks a key that it needs, or that a part of it needs to work.";
    CONFIG_SECRET = "TL906", "secret in clear text",
        "The configuration is read by more people and programs than a secret should be. Keep the value in a file that \
         only the daemon may read, in a systemd credential, or in the environment, and name that place.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ordered_and_explained() {
        for pair in ALL.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} is not before {}", pair[0].id, pair[1].id);
        }
        for code in ALL {
            assert!(code.id.len() == 5 && code.id.starts_with("TL"), "{}", code.id);
            assert!(code.explanation.len() > 40, "{} lacks an explanation", code.id);
            assert!(!code.explanation.contains("  "), "{} has a run of spaces", code.id);
        }
    }

    #[test]
    fn explain_finds_without_case() {
        assert_eq!(explain("tl003").map(|code| code.id), Some(UNKNOWN_CONTEXT));
        assert_eq!(explain("TL999"), None);
    }
}
