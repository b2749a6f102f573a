//! Secrets nobody registered, known by their shape (K4): what GitHub's documentation lists as redacted from logs by
//! itself. The shapes are narrow on purpose: text that is no credential must stay readable.
//!
//! Pure: no I/O, no clock, no async.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::Sieve;

/// A text with a shape holds one of these; beside each the index of the shape. Looking for them all at once is cheap, the
/// expressions are not.
const ANCHORS: [(&str, usize); 22] = [
    ("eyJ", 0),
    ("ghp_", 1),
    ("gho_", 1),
    ("ghu_", 1),
    ("ghs_", 1),
    ("ghr_", 1),
    ("github_pat_", 2),
    ("v1.", 3),
    ("npm_", 4),
    ("oy2", 5),
    ("earer ", 6),
    ("EARER ", 6),
    ("ccountKey=", 7),
    ("ccessKey=", 7),
    ("+ASt", 8),
    ("+ACR", 8),
    ("AzSe", 8),
    ("AzCa", 8),
    ("AzFu", 8),
    ("ACDb", 8),
    ("Q~", 8),
    ("://", 9),
];

/// The first group of each is the secret, the rest stays in the log.
const SHAPES: [&str; 10] = [
    // JSON Web Token
    r"(?-u:\b)(eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})",
    // GitHub: tokens by kind, fine-grained personal ones, the first format of installation tokens
    r"(?-u:\b)(gh[pousr]_[A-Za-z0-9]{36,251})(?-u:\b)",
    r"(?-u:\b)(github_pat_[A-Za-z0-9_]{50,250})(?-u:\b)",
    r"(?-u:\b)(v1\.[0-9a-f]{40})(?-u:\b)",
    // npm, NuGet
    r"(?-u:\b)(npm_[A-Za-z0-9]{36})(?-u:\b)",
    r"(?-u:\b)(oy2[a-z0-9]{43})(?-u:\b)",
    // HTTP header
    r#"(?i-u)authorization["']?\s*[:=]\s*["']?bearer +([a-z0-9._~+/-]{8,}=*)"#,
    // Azure: keys in connection strings; keys with their maker's mark; client secrets of applications
    r"(?-u:\b)(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{42,86}={0,2})",
    r"(?-u:\b)([A-Za-z0-9+/]{42}(?:AzSe|AzCa|AzFu|\+ACR)[A-Za-z0-9+/]{5,6}={0,2}|[A-Za-z0-9+/]{76}(?:\+ASt|ACDb)[A-Za-z0-9+/]{6}={0,2}|[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34})",
    // Passwords in the addresses of databases and brokers
    r"(?i-u)(?-u:\b)(?:postgres(?:ql)?|mysql|mariadb|mongodb(?:\+srv)?|rediss?|amqps?|mssql|sqlserver)://[^\s:/@]*:([^\s/@]{3,})@",
];

static ANCHOR: LazyLock<Sieve> = LazyLock::new(|| Sieve::new(&ANCHORS.map(|(anchor, _)| anchor)));

static SHAPE: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    SHAPES.iter().map(|shape| Regex::new(shape).expect("the expressions are constants that a test builds")).collect()
});

/// Where secrets known by their shape are in `text`; neither sorted nor apart from each other.
pub(super) fn find(text: &[u8]) -> Vec<Range<usize>> {
    let mut hits = Vec::new();
    let Some(first) = ANCHOR.first(text) else { return hits };
    let mut present = [false; SHAPES.len()];
    for (anchor, _) in ANCHOR.all(text, first) {
        present[ANCHORS[anchor].1] = true;
    }
    for (shape, _) in SHAPE.iter().zip(present).filter(|(_, present)| *present) {
        for captures in shape.captures_iter(text) {
            hits.extend(captures.get(1).map(|secret| secret.range()));
        }
    }
    hits
}
