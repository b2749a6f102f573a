//! Branch, tag and path patterns in GitHub's dialect (T2–T5).

/// A list of patterns, compiled. Later patterns overrule earlier ones; `!` takes back (T2).
#[derive(Clone, Debug)]
pub struct Patterns {
    _private: (),
}
