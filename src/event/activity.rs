//! Which events start workflows, and which of their activity types count (T6, T18).
//!
//! Facts from GitHub's page "Events that trigger workflows": what it delivers. What a file may name is in `workflow::events`, which
//! follows GitHub's schema: that knows more types (`stacked`, those of `image_version`), and still `project`, `project_card` and
//! `project_column`, which nothing delivers since classic projects are gone.

/// An event that `on` may name and that something can deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind {
    pub name: &'static str,
    /// Its activity types; empty when it has none, or any (`repository_dispatch`).
    pub types: &'static [&'static str],
    /// The types that count when `types` is absent; `None`: all of them.
    pub default_types: Option<&'static [&'static str]>,
    /// Where its commit and ref come from.
    pub origin: Origin,
}

/// Where `GITHUB_REF` and `GITHUB_SHA` of an event come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default branch and its last commit.
    DefaultBranch,
    /// The ref that was pushed.
    Push,
    /// `refs/pull/N/merge` and its merge commit.
    PullRequest,
    /// The branch or tag that was made.
    Created,
    /// What the deployment names.
    Deployment,
    /// The tag of the release.
    Release,
    /// The merge group's own branch.
    MergeGroup,
    /// The tag or commit of the published package.
    Package,
    /// The ref that the sender chose.
    Chosen,
}

const CHANGES: &[&str] = &["created", "edited", "deleted"];

const PULL_REQUEST: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
];

const PULL_REQUEST_DEFAULT: &[&str] = &["opened", "synchronize", "reopened"];

const fn plain(name: &'static str, origin: Origin) -> EventKind {
    EventKind { name, types: &[], default_types: None, origin }
}

const fn typed(name: &'static str, types: &'static [&'static str], origin: Origin) -> EventKind {
    EventKind { name, types, default_types: None, origin }
}

/// Every event that can start a workflow, by name.
pub const EVENTS: &[EventKind] = &[
    typed("branch_protection_rule", CHANGES, Origin::DefaultBranch),
    typed("check_run", &["created", "rerequested", "completed", "requested_action"], Origin::DefaultBranch),
    typed("check_suite", &["completed"], Origin::DefaultBranch),
    plain("create", Origin::Created),
    plain("delete", Origin::DefaultBranch),
    plain("deployment", Origin::Deployment),
    plain("deployment_status", Origin::Deployment),
    typed(
        "discussion",
        &[
            "created",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "category_changed",
            "answered",
            "unanswered",
        ],
        Origin::DefaultBranch,
    ),
    typed("discussion_comment", CHANGES, Origin::DefaultBranch),
    plain("fork", Origin::DefaultBranch),
    plain("gollum", Origin::DefaultBranch),
    plain("image_version", Origin::DefaultBranch),
    typed("issue_comment", CHANGES, Origin::DefaultBranch),
    typed(
        "issues",
        &[
            "opened",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "closed",
            "reopened",
            "assigned",
            "unassigned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "milestoned",
            "demilestoned",
            "field_added",
            "field_removed",
            "typed",
            "untyped",
        ],
        Origin::DefaultBranch,
    ),
    typed("label", CHANGES, Origin::DefaultBranch),
    typed("merge_group", &["checks_requested"], Origin::MergeGroup),
    typed("milestone", &["created", "closed", "opened", "edited", "deleted"], Origin::DefaultBranch),
    plain("page_build", Origin::DefaultBranch),
    plain("public", Origin::DefaultBranch),
    EventKind {
        name: "pull_request",
        types: PULL_REQUEST,
        default_types: Some(PULL_REQUEST_DEFAULT),
        origin: Origin::PullRequest,
    },
    typed("pull_request_review", &["submitted", "edited", "dismissed"], Origin::PullRequest),
    typed("pull_request_review_comment", CHANGES, Origin::PullRequest),
    EventKind {
        name: "pull_request_target",
        types: PULL_REQUEST,
        default_types: Some(PULL_REQUEST_DEFAULT),
        origin: Origin::DefaultBranch,
    },
    plain("push", Origin::Push),
    typed("registry_package", &["published", "updated"], Origin::Package),
    typed(
        "release",
        &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"],
        Origin::Release,
    ),
    plain("repository_dispatch", Origin::DefaultBranch),
    plain("schedule", Origin::DefaultBranch),
    plain("status", Origin::DefaultBranch),
    // The extension event: watched files changed.
    plain("towline", Origin::DefaultBranch),
    typed("watch", &["started"], Origin::DefaultBranch),
    plain("workflow_dispatch", Origin::Chosen),
    typed("workflow_run", &["completed", "requested", "in_progress"], Origin::DefaultBranch),
];

/// The names of all events that start workflows, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    EVENTS.iter().map(|kind| kind.name)
}

/// The event of that name, if it starts workflows.
#[must_use]
pub fn kind(name: &str) -> Option<&'static EventKind> {
    EVENTS.binary_search_by(|kind| kind.name.cmp(name)).ok().map(|at| &EVENTS[at])
}

impl EventKind {
    /// Whether an activity counts when `types` is absent (T6).
    #[must_use]
    pub fn starts_by_default(&self, action: Option<&str>) -> bool {
        let counted = self.default_types.unwrap_or(self.types);
        counted.is_empty() || action.is_none_or(|action| counted.contains(&action))
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENTS, kind};

    #[test]
    fn t18_events_are_found_by_name() {
        assert!(EVENTS.is_sorted_by_key(|kind| kind.name));
        for event in EVENTS {
            assert_eq!(kind(event.name), Some(event));
        }
        assert_eq!(kind("star"), None);
        assert_eq!(kind("workflow_call"), None);
    }

    #[test]
    fn t6_default_types() {
        let check = |event: &str, action: &str| {
            kind(event).expect("the event exists").starts_by_default(Some(action).filter(|action| !action.is_empty()))
        };
        for event in ["pull_request", "pull_request_target"] {
            assert!(check(event, "opened") && check(event, "synchronize") && check(event, "reopened"));
            assert!(!check(event, "labeled") && !check(event, "closed"));
        }
        assert!(check("issues", "labeled") && check("push", "") && check("repository_dispatch", "anything"));
        assert!(!check("check_suite", "requested"));
    }
}
