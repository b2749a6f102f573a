//! Does an event start a workflow? The answer with its reasons (T1–T15).

use serde::Serialize;
use serde_json::Value as Json;

use super::activity::{self, EventKind};
use super::filters::{FILES_TESTED, Patterns};
use super::github::is_commit;
use super::{ChangedFiles, Event, ref_name};
use crate::workflow::model::{EventTrigger, Workflow};

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Selection {
    pub selected: bool,
    /// One sentence.
    pub reason: String,
    /// Every test that was made, in order; the last one decided.
    pub trace: Vec<Check>,
}

/// One test on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `on`, `types`, `branches`, `paths`, …
    pub what: String,
    pub passed: bool,
    /// The values that were compared.
    pub detail: String,
}

/// Texts in a commit message that stop `push` and `pull_request` (T15).
const SKIP_TOKENS: [&str; 5] = ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"];

/// Tests the event against `on`.
#[must_use]
pub fn select(workflow: &Workflow, event: &Event) -> Selection {
    let mut tests = Tests { trace: Vec::new() };
    let selected = tests.all(workflow, event);
    let reason = match tests.trace.last() {
        Some(check) if !selected => check.detail.clone(),
        _ => format!("the event {} starts it", described(event)),
    };
    Selection { selected, reason, trace: tests.trace }
}

/// Whether the answer depends on the files that changed: finding them out is left undone otherwise.
#[must_use]
pub fn looks_at_files(workflow: &Workflow, event: &Event) -> bool {
    let trigger = activity::kind(&event.name).and_then(|kind| workflow.on.events.get(kind.name));
    trigger.is_some_and(|trigger| {
        trigger.paths.is_some()
            || trigger.paths_ignore.is_some()
            || (trigger.names.is_some() && event.name == "towline")
    })
}

/// The skip token of a commit message, if it holds one (T15).
#[must_use]
pub fn skip_token(message: &str) -> Option<&str> {
    let lower = message.to_ascii_lowercase();
    if let Some(token) = SKIP_TOKENS.iter().find(|token| lower.contains(**token)) {
        let at = lower.find(token)?;
        return message.get(at..at + token.len());
    }
    // A trailer: in the last paragraph, alone on its line.
    let (_, last) = message.trim_end().rsplit_once("\n\n")?;
    last.lines().map(str::trim).find(|line| {
        line.split_once(':').is_some_and(|(key, value)| {
            key.eq_ignore_ascii_case("skip-checks") && value.trim().eq_ignore_ascii_case("true")
        })
    })
}

fn described(event: &Event) -> String {
    match &event.action {
        Some(action) => format!("{} ({action}) on {}", event.name, event.git_ref),
        None => format!("{} on {}", event.name, event.git_ref),
    }
}

/// Whether a dispatch or schedule means this file: by its path, or by its file name alone, as the API takes both.
fn is_named(path: &str, wanted: &str) -> bool {
    let (path, wanted) = (path.trim_start_matches("./"), wanted.trim_start_matches("./"));
    path == wanted || !wanted.contains('/') && path.rsplit('/').next() == Some(wanted)
}

/// The trace as it grows. Each test says whether the next one is made.
struct Tests {
    trace: Vec<Check>,
}

impl Tests {
    fn check(&mut self, what: &str, passed: bool, detail: String) -> bool {
        self.trace.push(Check { what: what.to_owned(), passed, detail });
        passed
    }

    fn all(&mut self, workflow: &Workflow, event: &Event) -> bool {
        if let Some(path) = &event.workflow
            && !is_named(&workflow.path, path)
        {
            return self.check("workflow", false, format!("the event is for {path}"));
        }
        let Some(kind) = activity::kind(&event.name) else {
            return self.check("on", false, format!("the event {} starts no workflow", event.name));
        };
        let triggers = &workflow.on;
        let listed = match kind.name {
            "schedule" => !triggers.schedules.is_empty(),
            "workflow_dispatch" => triggers.dispatch.is_some() || triggers.events.contains_key(kind.name),
            name => triggers.events.contains_key(name),
        };
        if !listed {
            let mut named: Vec<&str> = triggers.events.keys().map(String::as_str).collect();
            let others = [
                ("schedule", !triggers.schedules.is_empty()),
                ("workflow_dispatch", triggers.dispatch.is_some()),
                ("workflow_call", triggers.call.is_some()),
            ];
            for (name, present) in others {
                if present && !named.contains(&name) {
                    named.push(name);
                }
            }
            return self.check("on", false, format!("on names {}, not {}", named.join(", "), event.name));
        }
        self.check("on", true, format!("on names {}", event.name));
        let empty = EventTrigger::default();
        let trigger = triggers.events.get(kind.name).unwrap_or(&empty);
        self.schedule(workflow, event)
            && self.types(trigger, kind, event)
            && self.state_of_pull_request(event)
            && self.skip_tokens(event)
            && self.refs(trigger, event)
            && self.workflows(trigger, event)
            && self.images(trigger, event)
            && self.paths(trigger, event)
    }

    /// An entry of `schedule` must be the one that is due (T10).
    fn schedule(&mut self, workflow: &Workflow, event: &Event) -> bool {
        let Some(due) = event.payload.get("schedule").and_then(Json::as_str).filter(|_| event.name == "schedule")
        else {
            return true;
        };
        let found = workflow.on.schedules.iter().any(|schedule| schedule.cron == due);
        self.check(
            "schedule",
            found,
            format!("the schedule '{due}' is {}", if found { "listed" } else { "not listed" }),
        )
    }

    /// T6.
    fn types(&mut self, trigger: &EventTrigger, kind: &EventKind, event: &Event) -> bool {
        let action = event.action.as_deref();
        match (&trigger.types, action) {
            (Some(types), Some(action)) => {
                let passed = types.iter().any(|listed| listed == action);
                let verb = if passed { "holds" } else { "does not hold" };
                self.check("types", passed, format!("types [{}] {verb} {action}", types.join(", ")))
            }
            (None, Some(action)) => {
                let passed = kind.starts_by_default(Some(action));
                let verb = if passed { "counts" } else { "does not count" };
                self.check("types", passed, format!("{action} {verb} for {} without types", kind.name))
            }
            (_, None) => true,
        }
    }

    /// A pull request with a conflict has no merge commit (T7); branches named like commits do not trigger
    /// `pull_request_target` (T8).
    fn state_of_pull_request(&mut self, event: &Event) -> bool {
        let conflict = event.payload.pointer("/pull_request/mergeable") == Some(&Json::Bool(false))
            && event.payload.pointer("/pull_request/mergeable_state").and_then(Json::as_str) == Some("dirty");
        if event.name == "pull_request" && event.action.as_deref() != Some("closed") && conflict {
            return self.check("mergeable", false, "the pull request has a merge conflict".to_owned());
        }
        if event.name == "pull_request_target"
            && let Some(name) = event.head_ref.as_deref().filter(|name| is_commit(name))
        {
            return self.check("head", false, format!("the branch name {name} looks like a commit"));
        }
        true
    }

    /// T15.
    fn skip_tokens(&mut self, event: &Event) -> bool {
        let message = match event.name.as_str() {
            "push" => event.payload.pointer("/head_commit/message").and_then(Json::as_str),
            "pull_request" => event.head_message.as_deref(),
            _ => None,
        };
        match message.and_then(skip_token) {
            Some(token) => self.check("skip", false, format!("the commit message says {token}")),
            None => true,
        }
    }

    /// Branch and tag filters (T1, T2, T7, T13).
    fn refs(&mut self, trigger: &EventTrigger, event: &Event) -> bool {
        let payload_text = |pointer: &str| event.payload.pointer(pointer).and_then(Json::as_str);
        match event.name.as_str() {
            "push" => {
                let name = event.ref_name();
                let branch_filter = trigger.branches.is_some() || trigger.branches_ignore.is_some();
                let tag_filter = trigger.tags.is_some() || trigger.tags_ignore.is_some();
                let is_tag = event.ref_type() == "tag";
                if is_tag && branch_filter && !tag_filter {
                    return self.check("branches", false, format!("only branches are listed, {name} is a tag"));
                }
                if !is_tag && tag_filter && !branch_filter {
                    return self.check("tags", false, format!("only tags are listed, {name} is a branch"));
                }
                if is_tag {
                    self.names("tags", trigger.tags.as_deref(), trigger.tags_ignore.as_deref(), name)
                } else {
                    self.names("branches", trigger.branches.as_deref(), trigger.branches_ignore.as_deref(), name)
                }
            }
            "pull_request" | "pull_request_target" => {
                let base = event.base_ref.as_deref().unwrap_or_default();
                self.names("branches", trigger.branches.as_deref(), trigger.branches_ignore.as_deref(), base)
            }
            "merge_group" => {
                let base = payload_text("/merge_group/base_ref").map(ref_name).unwrap_or_default();
                self.names("branches", trigger.branches.as_deref(), trigger.branches_ignore.as_deref(), base)
            }
            "workflow_run" => {
                let head = payload_text("/workflow_run/head_branch").unwrap_or_default();
                self.names("branches", trigger.branches.as_deref(), trigger.branches_ignore.as_deref(), head)
            }
            _ => true,
        }
    }

    fn names(&mut self, what: &str, include: Option<&[String]>, ignore: Option<&[String]>, name: &str) -> bool {
        if let Some(include) = include {
            let patterns = Patterns::new(include);
            let passed = patterns.matches(name);
            let list = include.join(", ");
            let detail = match patterns.deciding(name) {
                Some(pattern) => format!("{name} is decided by {what} pattern '{pattern}'"),
                None => format!("{name} matches none of {what} [{list}]"),
            };
            if !self.check(what, passed, detail) {
                return false;
            }
        }
        if let Some(ignore) = ignore {
            let patterns = Patterns::new(ignore);
            let ignored = patterns.matches(name);
            let detail = match patterns.deciding(name) {
                Some(pattern) if ignored => format!("{name} is ignored by {what}-ignore pattern '{pattern}'"),
                _ => format!("{name} is not ignored"),
            };
            if !self.check(&format!("{what}-ignore"), !ignored, detail) {
                return false;
            }
        }
        true
    }

    /// `workflow_run.workflows`: by name, or by path when a workflow has none (T13).
    fn workflows(&mut self, trigger: &EventTrigger, event: &Event) -> bool {
        let Some(workflows) = trigger.workflows.as_ref().filter(|_| event.name == "workflow_run") else {
            return true;
        };
        let cause = |key: &str| {
            let of_run = event.payload.pointer(&format!("/workflow_run/{key}"));
            of_run.or_else(|| event.payload.pointer(&format!("/workflow/{key}"))).and_then(Json::as_str)
        };
        let name = cause("name").unwrap_or_default();
        let passed = workflows.iter().any(|listed| listed == name || Some(listed.as_str()) == cause("path"));
        let verb = if passed { "holds" } else { "does not hold" };
        self.check("workflows", passed, format!("workflows [{}] {verb} '{name}'", workflows.join(", ")))
    }

    /// Names and versions of `image_version`.
    fn images(&mut self, trigger: &EventTrigger, event: &Event) -> bool {
        if event.name != "image_version" {
            return true;
        }
        let field = |keys: [&str; 2]| {
            keys.iter().find_map(|key| event.payload.pointer(key)).and_then(Json::as_str).unwrap_or_default()
        };
        let name = field(["/image_version/image/name", "/image_version/name"]);
        let version = field(["/image_version/version", "/version"]);
        self.names("names", trigger.names.as_deref(), None, name)
            && self.names("versions", trigger.versions.as_deref(), None, version)
    }

    /// T4, T5.
    fn paths(&mut self, trigger: &EventTrigger, event: &Event) -> bool {
        let extension = trigger.names.as_ref().filter(|_| event.name == "towline");
        let include = trigger.paths.as_ref().or(extension);
        if include.is_none() && trigger.paths_ignore.is_none() {
            return true;
        }
        let filtered = ["push", "pull_request", "pull_request_target", "towline"].contains(&event.name.as_str());
        if !filtered {
            return true;
        }
        if event.name == "push" && event.ref_type() == "tag" {
            return self.check("paths", true, "paths are not evaluated for tags".to_owned());
        }
        let ChangedFiles::Known(files) = &event.changed_files else {
            return self.check("paths", true, "what changed is not known, so every path filter passes".to_owned());
        };
        if files.is_empty() {
            return self.check("paths", false, "no files changed".to_owned());
        }
        let tested = &files[..files.len().min(FILES_TESTED)];
        if let Some(include) = include {
            let patterns = Patterns::new(include);
            let found = tested.iter().find(|file| patterns.matches(file));
            let detail = match found {
                Some(file) => format!("{file} matches paths"),
                None => format!("none of {} changed files matches paths [{}]", tested.len(), include.join(", ")),
            };
            if !self.check("paths", found.is_some(), detail) {
                return false;
            }
        }
        if let Some(ignore) = &trigger.paths_ignore {
            let patterns = Patterns::new(ignore);
            let found = tested.iter().find(|file| !patterns.matches(file));
            let detail = match found {
                Some(file) => format!("{file} is not ignored"),
                None => format!("all of {} changed files match paths-ignore [{}]", tested.len(), ignore.join(", ")),
            };
            if !self.check("paths-ignore", found.is_some(), detail) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
