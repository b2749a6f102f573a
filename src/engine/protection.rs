//! Protection rules of environments (G2): branches, wait timers, reviewers.

use jiff::{SignedDuration, Timestamp};

use super::record::{EnvironmentRules, RunRecord};

/// What the rules say about a job now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Free,
    /// Never: the job fails without having run.
    Forbidden(String),
    /// Not yet.
    Wait {
        until: Option<Timestamp>,
        approval: bool,
    },
}

pub(super) fn judge(
    now: Timestamp,
    environment: &str,
    rules: &EnvironmentRules,
    run: &RunRecord,
    queued_at: Timestamp,
) -> Verdict {
    if !may_deploy(&rules.branches, &run.git_ref) {
        let name = short_name(&run.git_ref);
        return Verdict::Forbidden(format!(
            "\"{name}\" is not allowed to deploy to {environment} due to environment protection rules"
        ));
    }
    let wait = SignedDuration::from_mins(i64::from(rules.wait_minutes));
    let until = queued_at.saturating_add(wait).ok().filter(|until| *until > now);
    let approved = run.reviews.iter().any(|review| {
        review.approved && review.attempt == run.attempt && review.environment.eq_ignore_ascii_case(environment)
    });
    let approval = !rules.reviewers.is_empty() && !approved;
    if until.is_none() && !approval { Verdict::Free } else { Verdict::Wait { until, approval } }
}

/// Whether `reviewer` may decide about a run that `actor` started.
pub(super) fn may_review(rules: &EnvironmentRules, reviewer: &str, actor: &str) -> Result<(), String> {
    if !rules.reviewers.iter().any(|name| name.eq_ignore_ascii_case(reviewer)) {
        return Err(format!("{reviewer} is not a reviewer of this environment"));
    }
    if rules.prevent_self_review && reviewer.eq_ignore_ascii_case(actor) {
        return Err("who started a run may not approve it".to_owned());
    }
    Ok(())
}

fn may_deploy(patterns: &[String], git_ref: &str) -> bool {
    patterns.is_empty()
        || patterns.iter().any(|pattern| {
            let subject = if pattern.starts_with("refs/") { git_ref } else { short_name(git_ref) };
            path_match(pattern.as_bytes(), subject.as_bytes())
        })
}

fn short_name(git_ref: &str) -> &str {
    git_ref.strip_prefix("refs/heads/").or_else(|| git_ref.strip_prefix("refs/tags/")).unwrap_or(git_ref)
}

/// Ruby's `File.fnmatch` with `FNM_PATHNAME`: `*` and `?` stop at a slash, `**/` is any number of directories,
/// `[a-z]` a class, `\` quotes.
fn path_match(pattern: &[u8], text: &[u8]) -> bool {
    // Positions in the pattern that are alive after each byte of text: no backtracking, so no pattern is slow.
    let items = items(pattern);
    let mut alive = vec![false; items.len() + 1];
    alive[0] = true;
    let mut at_start = true;
    close(&items, &mut alive, at_start);
    for byte in text {
        let mut next = vec![false; items.len() + 1];
        for (index, item) in items.iter().enumerate().filter(|(index, _)| alive[*index]) {
            match item {
                Item::Byte(expected) => next[index + 1] |= expected == byte,
                Item::Any => next[index + 1] |= *byte != b'/',
                Item::Star => next[index] |= *byte != b'/',
                Item::Directories => next[index] = true,
                Item::Class { negated, ranges } => {
                    let hit = ranges.iter().any(|(low, high)| (low..=high).contains(&byte));
                    next[index + 1] |= hit != *negated && *byte != b'/';
                }
            }
        }
        at_start = *byte == b'/';
        close(&items, &mut next, at_start);
        alive = next;
    }
    alive[items.len()]
}

/// Steps over items that may match nothing. `**/` ends only where a name begins.
fn close(items: &[Item], alive: &mut [bool], at_start: bool) {
    for (index, item) in items.iter().enumerate() {
        if alive[index] && (matches!(item, Item::Star) || matches!(item, Item::Directories) && at_start) {
            alive[index + 1] = true;
        }
    }
}

enum Item {
    Byte(u8),
    Any,
    Star,
    Directories,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

fn items(pattern: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        at += 1;
        match byte {
            b'*' if pattern[at..].starts_with(b"*/") && (at == 1 || pattern[at - 2] == b'/') => {
                items.push(Item::Directories);
                at += 2;
            }
            b'*' => items.push(Item::Star),
            b'?' => items.push(Item::Any),
            b'\\' => {
                items.push(Item::Byte(pattern.get(at).copied().unwrap_or(b'\\')));
                at += 1;
            }
            b'[' => match class(&pattern[at..]) {
                Some((item, length)) => {
                    items.push(item);
                    at += length;
                }
                None => items.push(Item::Byte(b'[')),
            },
            byte => items.push(Item::Byte(*byte)),
        }
    }
    items
}

fn class(rest: &[u8]) -> Option<(Item, usize)> {
    let end = rest.iter().skip(1).position(|byte| *byte == b']')? + 1;
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let mut body = &rest[usize::from(negated)..end];
    let mut ranges = Vec::new();
    while let Some((low, tail)) = body.split_first() {
        if let [b'-', high, tail @ ..] = tail {
            ranges.push((*low, *high));
            body = tail;
        } else {
            ranges.push((*low, *low));
            body = tail;
        }
    }
    Some((Item::Class { negated, ranges }, end + 1))
}

#[cfg(test)]
mod tests {
    use super::may_deploy;

    #[test]
    fn branch_patterns_follow_fnmatch() {
        let cases = [
            ("main", "refs/heads/main", true),
            ("main", "refs/heads/maintenance", false),
            ("releases/*", "refs/heads/releases/1", true),
            ("releases/*", "refs/heads/releases/1/2", false),
            ("*", "refs/heads/a/b", false),
            ("**/*", "refs/heads/a/b", true),
            ("**/*", "refs/heads/a", true),
            ("v?.[0-9]", "refs/tags/v1.2", true),
            ("v?.[!0-9]", "refs/tags/v1.2", false),
            ("refs/tags/*", "refs/tags/v1", true),
            ("refs/tags/*", "refs/heads/v1", false),
            ("a\\*", "refs/heads/a*", true),
            ("a\\*", "refs/heads/ab", false),
            ("[", "refs/heads/[", true),
        ];
        for (pattern, git_ref, expected) in cases {
            assert_eq!(may_deploy(&[pattern.to_owned()], git_ref), expected, "{pattern} on {git_ref}");
        }
        assert!(may_deploy(&[], "refs/heads/anything"));
    }
}
