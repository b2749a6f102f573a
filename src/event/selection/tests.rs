use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::{select, skip_token};
use crate::event::push::{NO_COMMIT, Push, push};
use crate::event::{ChangedFiles, Event, github};
use crate::id::RepositoryName;
use crate::workflow::model::{EventTrigger, RunDefaults, Triggers, Workflow};

fn workflow(event: &str, trigger: EventTrigger) -> Workflow {
    Workflow {
        path: ".github/workflows/ci.yml".to_owned(),
        name: None,
        description: None,
        run_name: None,
        on: Triggers { events: IndexMap::from([(event.to_owned(), trigger)]), ..Triggers::default() },
        permissions: None,
        env: None,
        defaults: RunDefaults::default(),
        concurrency: None,
        jobs: IndexMap::new(),
    }
}

fn pushed(git_ref: &str, files: Option<&[&str]>) -> Event {
    push(
        Timestamp::UNIX_EPOCH,
        Push {
            repository: RepositoryName("o/r".to_owned()),
            git_ref: git_ref.to_owned(),
            before: NO_COMMIT.to_owned(),
            after: "1".repeat(40),
            forced: false,
            commits: Vec::new(),
            changed_files: match files {
                Some(files) => ChangedFiles::Known(files.iter().map(|&file| file.to_owned()).collect()),
                None => ChangedFiles::Unknown,
            },
            pusher: "mona".to_owned(),
            pusher_email: None,
            default_branch: "main".to_owned(),
            default_sha: "2".repeat(40),
            server_url: "https://github.com".to_owned(),
            clone_url: "/srv/r.git".to_owned(),
        },
    )
}

fn list(patterns: &[&str]) -> Option<Vec<String>> {
    Some(patterns.iter().map(|&pattern| pattern.to_owned()).collect())
}

#[track_caller]
fn check(trigger: EventTrigger, event: &Event, expect: bool) {
    let selection = select(&workflow(&event.name, trigger), event);
    assert_eq!(selection.selected, expect, "{}", selection.reason);
    assert_eq!(selection.trace.last().map(|check| check.passed), Some(expect));
}

#[test]
fn t1_branches_and_tags() {
    let (branch, tag) = (pushed("refs/heads/main", None), pushed("refs/tags/v1", None));
    let none = EventTrigger::default;
    let branches = || EventTrigger { branches: list(&["main"]), ..none() };
    let tags = || EventTrigger { tags: list(&["v*"]), ..none() };
    check(none(), &branch, true);
    check(none(), &tag, true);
    check(branches(), &branch, true);
    check(branches(), &tag, false);
    check(tags(), &branch, false);
    check(tags(), &tag, true);
    check(EventTrigger { tags: list(&["v*"]), ..branches() }, &branch, true);
    check(EventTrigger { tags: list(&["v*"]), ..branches() }, &tag, true);
    check(EventTrigger { branches_ignore: list(&["x"]), ..none() }, &tag, false);
    check(EventTrigger { branches_ignore: list(&["ma*"]), ..none() }, &branch, false);
    check(EventTrigger { tags_ignore: list(&["v1"]), ..none() }, &tag, false);
    check(EventTrigger { branches: list(&[]), ..none() }, &branch, false);
}

#[test]
fn t1_paths_are_not_evaluated_for_tags() {
    let paths = || EventTrigger { paths: list(&["docs/**"]), ..EventTrigger::default() };
    check(paths(), &pushed("refs/tags/v1", Some(&["src/a"])), true);
    check(paths(), &pushed("refs/heads/main", Some(&["src/a"])), false);
    let both = EventTrigger { branches: list(&["main"]), ..paths() };
    check(both.clone(), &pushed("refs/heads/main", Some(&["docs/a"])), true);
    check(both, &pushed("refs/heads/other", Some(&["docs/a"])), false);
}

#[test]
fn t4_changed_files() {
    let paths = || EventTrigger { paths: list(&["late"]), ..EventTrigger::default() };
    check(paths(), &pushed("refs/heads/main", Some(&[])), false);
    check(paths(), &pushed("refs/heads/main", None), true);
    let mut files: Vec<String> = (0..300).map(|number| format!("f{number}")).collect();
    files.push("late".to_owned());
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    check(paths(), &pushed("refs/heads/main", Some(&names)), false);
    check(paths(), &pushed("refs/heads/main", Some(&names[1..])), true);
}

#[test]
fn t5_paths_ignore() {
    let ignore = || EventTrigger { paths_ignore: list(&["docs/**"]), ..EventTrigger::default() };
    check(ignore(), &pushed("refs/heads/main", Some(&["docs/a", "docs/b"])), false);
    check(ignore(), &pushed("refs/heads/main", Some(&["docs/a", "src/b"])), true);
}

fn pull_request(action: &str, more: Json) -> Event {
    let mut payload = json!({
        "action": action,
        "number": 1,
        "pull_request": { "head": { "ref": "topic" }, "base": { "ref": "main" } },
        "repository": { "full_name": "o/r", "default_branch": "main" },
    });
    if let (Json::Object(pull), Json::Object(more)) = (&mut payload["pull_request"], more) {
        pull.extend(more);
    }
    github::from_payload(Timestamp::UNIX_EPOCH, "pull_request", payload).expect("an event")
}

#[test]
fn t6_types() {
    let none = EventTrigger::default;
    check(none(), &pull_request("opened", json!({})), true);
    check(none(), &pull_request("closed", json!({})), false);
    check(EventTrigger { types: list(&["closed"]), ..none() }, &pull_request("closed", json!({})), true);
    check(EventTrigger { types: list(&["closed"]), ..none() }, &pull_request("opened", json!({})), false);
}

#[test]
fn t7_branches_filter_the_base_and_conflicts_do_not_run() {
    let branches = |name: &str| EventTrigger { branches: list(&[name]), ..EventTrigger::default() };
    check(branches("main"), &pull_request("opened", json!({})), true);
    check(branches("topic"), &pull_request("opened", json!({})), false);
    let conflict = json!({ "mergeable": false, "mergeable_state": "dirty" });
    check(branches("main"), &pull_request("opened", conflict), false);
}

#[test]
fn t13_workflow_run_by_name_and_branch() {
    let payload = json!({
        "action": "completed",
        "workflow_run": { "name": "Build", "head_branch": "main", "path": ".github/workflows/b.yml" },
        "repository": { "full_name": "o/r", "default_branch": "main" },
    });
    let event = github::from_payload(Timestamp::UNIX_EPOCH, "workflow_run", payload).expect("an event");
    let named = |name: &str| EventTrigger { workflows: list(&[name]), ..EventTrigger::default() };
    check(named("Build"), &event, true);
    check(named("Test"), &event, false);
    check(EventTrigger { branches: list(&["release"]), ..named("Build") }, &event, false);
}

#[test]
fn t15_skip_tokens() {
    assert_eq!(skip_token("fix [skip ci] this"), Some("[skip ci]"));
    assert_eq!(skip_token("x [No CI]"), Some("[No CI]"));
    assert_eq!(skip_token("title\n\nbody\n\n\nskip-checks: true\n"), Some("skip-checks: true"));
    assert_eq!(skip_token("title\n\nbody\n\n\nskip-checks:true"), Some("skip-checks:true"));
    assert_eq!(skip_token("skip-checks: true"), None);
    assert_eq!(skip_token("skip ci"), None);
    let mut event = pushed("refs/heads/main", None);
    event.payload["head_commit"] = json!({ "message": "wip [ci skip]" });
    check(EventTrigger::default(), &event, false);
    let mut event = pull_request("opened", json!({}));
    event.head_message = Some("wip [skip ci]".to_owned());
    check(EventTrigger::default(), &event, false);
    event.name = "pull_request_target".to_owned();
    check(EventTrigger::default(), &event, true);
}

#[test]
fn t10_events_for_one_workflow_leave_the_others() {
    let mut event = pushed("refs/heads/main", None);
    for (wanted, expect) in
        [("other.yml", false), ("ci.yml", true), ("./.github/workflows/ci.yml", true), ("workflows/ci.yml", false)]
    {
        event.workflow = Some(wanted.to_owned());
        check(EventTrigger::default(), &event, expect);
    }
}
