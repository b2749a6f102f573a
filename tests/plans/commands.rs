//! `towline plan` and `towline why`.

use std::path::Path;
use std::process::Output;

use serde_json::{Value as Json, json};

const WORKFLOW: &str = "name: CI
on:
  push: {branches: [main], paths: ['src/**']}
  workflow_dispatch:
    inputs:
      level: {type: choice, options: [low, high], required: true}
jobs:
  build:
    strategy: {matrix: {os: [linux, mac], include: [{os: linux, fast: true}]}}
    runs-on: ['${{ matrix.os }}', big]
    steps: [{run: make}]
  test:
    needs: build
    if: github.ref_name == 'main'
    strategy: {matrix: {part: '${{ fromJSON(needs.build.outputs.parts) }}'}}
    runs-on: linux
    steps: [{run: make test}]
  deploy:
    needs: test
    uses: ./.github/workflows/deploy.yml
    with: {level: '${{ inputs.level }}'}
";

const DEPLOY: &str = "on:
  workflow_call: {inputs: {level: {type: string}}}
jobs:
  go: {runs-on: edge, steps: [{run: 'true'}]}
";

fn repository() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let workflows = directory.path().join(".github/workflows");
    std::fs::create_dir_all(&workflows).expect("directories");
    std::fs::write(workflows.join("ci.yml"), WORKFLOW).expect("a file");
    std::fs::write(workflows.join("deploy.yml"), DEPLOY).expect("a file");
    directory
}

fn towline(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = crate::support::towline();
    command.current_dir(directory).args(arguments).output().expect("towline runs")
}

fn json_of(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

#[test]
fn plan_lists_the_jobs_that_would_start() {
    let repository = repository();
    let output = towline(repository.path(), &["plan", "ci", "--event", "push", "--changed-file", "src/a.c", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let plan = json_of(&output);
    assert_eq!(plan["selected"], true);
    let jobs: Vec<Json> = plan["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| json!([job["id"], job["name"], job["needs"], job["runs_on"], job["matrix"], job["uses"]]))
        .collect();
    assert_eq!(
        Json::from(jobs),
        json!([
            ["build", "build (linux)", [], ["linux", "big"], { "os": "linux", "fast": true }, null],
            ["build", "build (mac)", [], ["mac", "big"], { "os": "mac" }, null],
            ["test", "test", ["build"], ["linux"], null, null],
            ["deploy", "deploy", ["test"], [], null, "./.github/workflows/deploy.yml"],
            ["deploy/go", "deploy / go", [], ["edge"], null, null],
        ])
    );
    assert_eq!(plan["jobs"][2]["if"], "success() && (github.ref_name == 'main')");

    let text = String::from_utf8(towline(repository.path(), &["plan", "ci", "--event", "push"]).stdout).expect("text");
    assert!(text.starts_with("CI starts: the event push on refs/heads/main starts it."), "{text}");
    assert!(text.contains("build (mac)"), "{text}");
}

#[test]
fn plan_says_why_nothing_would_start() {
    let repository = repository();
    for (arguments, reason) in [
        (&["--event", "push", "--ref", "topic"][..], "topic matches none of branches [main]"),
        (&["--event", "push", "--ref", "refs/tags/v1"], "only branches are listed, v1 is a tag"),
        (&["--event", "push", "--changed-file", "README"], "none of 1 changed files matches paths [src/**]"),
        (&["--event", "pull_request"], "on names push, workflow_dispatch, not pull_request"),
    ] {
        let arguments: Vec<&str> = ["plan", "ci", "--json"].into_iter().chain(arguments.iter().copied()).collect();
        let plan = json_of(&towline(repository.path(), &arguments));
        assert_eq!(
            plan,
            json!({
                "selected": false, "reason": reason, "name": "CI", "title": plan["title"], "event": plan["event"],
                "ref": plan["ref"], "jobs": [],
            })
        );
    }
}

#[test]
fn payloads_and_inputs_count() {
    let repository = repository();
    let payload = json!({
        "ref": "refs/heads/other", "after": "1".repeat(40),
        "repository": { "full_name": "o/r", "default_branch": "main" },
    });
    let file = repository.path().join("payload.json");
    std::fs::write(&file, payload.to_string()).expect("a file");
    let file = file.to_str().expect("text");
    let plan = json_of(&towline(repository.path(), &["plan", "ci", "--event", "push", "--payload", file, "--json"]));
    assert_eq!((&plan["selected"], &plan["ref"]), (&json!(false), &json!("refs/heads/other")));

    let dispatch = ["plan", "ci", "--event", "workflow_dispatch", "--json"];
    let output = towline(repository.path(), &dispatch);
    assert_eq!(output.status.code(), Some(2), "an input is missing");
    assert_eq!(json_of(&output)["reason"], "required input 'level' is not given");
    let given: Vec<&str> = dispatch.into_iter().chain(["--input", "level=high"]).collect();
    assert_eq!(json_of(&towline(repository.path(), &given))["selected"], true);

    let chosen = towline(repository.path(), &["plan", "ci", "--json", "--input", "level=low"]);
    assert_eq!(json_of(&chosen)["event"], "workflow_dispatch", "the event that takes inputs");
    let ignored = towline(repository.path(), &["plan", "ci", "--json", "--event", "push", "--input", "level=low"]);
    assert_eq!(json_of(&ignored)["event"], "push");
    let said = String::from_utf8_lossy(&ignored.stderr).into_owned();
    assert_eq!(said, "warning: inputs are for workflow_dispatch; the event is push, which takes none\n");
}

#[test]
fn refused_files_have_diagnostics() {
    let repository = repository();
    let file = repository.path().join("bad.yml");
    std::fs::write(&file, "on: push\njobs: {a: {needs: [b], runs-on: x, steps: []}}\n").expect("a file");
    let output = towline(repository.path(), &["plan", "bad.yml", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(json_of(&output)["selected"], false);
    assert!(String::from_utf8_lossy(&output.stderr).contains("bad.yml"));
    assert_eq!(towline(repository.path(), &["plan", "absent.yml"]).status.code(), Some(3));
}

#[test]
fn why_shows_tests_and_values() {
    let repository = repository();
    let why = |arguments: &[&str]| {
        let arguments: Vec<&str> =
            ["why", "ci", "--event", "push"].into_iter().chain(arguments.iter().copied()).collect();
        towline(repository.path(), &arguments)
    };
    let trace = json_of(&why(&["--changed-file", "src/a", "--json"]));
    assert_eq!(
        trace["trace"],
        json!([
            { "what": "on", "passed": true, "detail": "on names push" },
            { "what": "branches", "passed": true, "detail": "main is decided by branches pattern 'main'" },
            { "what": "paths", "passed": true, "detail": "src/a matches paths" },
        ])
    );
    let test = &trace["jobs"][1];
    assert_eq!((&test["id"], &test["verdict"]), (&json!("test"), &json!("runs")));
    assert_eq!(
        (&test["values"], &test["needs"]),
        (&json!({ "github.ref_name": "main" }), &json!({ "build": "success" }))
    );
    let text = String::from_utf8(why(&["--job", "test"]).stdout).expect("text");
    assert!(text.contains("    github.ref_name = \"main\""), "{text}");
    assert_eq!(why(&["--job", "tset"]).status.code(), Some(2));
}

#[test]
fn s18_a_workflow_of_another_repository_is_planned_as_its_call() {
    let repository = repository();
    let text = "on: push\njobs:\n  lint: {uses: o/shared/.github/workflows/lint.yml@v1, with: {strict: true}}\n  \
                test: {needs: lint, runs-on: linux, steps: [{run: make}]}\n  \
                stop: {if: false, uses: o/shared/.github/workflows/stop.yml@v1}\n";
    std::fs::write(repository.path().join(".github/workflows/calls.yml"), text).expect("a file");
    let output = towline(repository.path(), &["plan", "calls", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let jobs: Vec<Json> = json_of(&output)["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| json!([job["id"], job["needs"], job["runs"], job["uses"], job["unread"]]))
        .collect();
    assert_eq!(
        Json::from(jobs),
        json!([
            ["lint", [], true, "o/shared/.github/workflows/lint.yml@v1", true],
            ["test", ["lint"], true, null, null],
            ["stop", [], false, "o/shared/.github/workflows/stop.yml@v1", true],
        ])
    );
    let shown = String::from_utf8(towline(repository.path(), &["plan", "calls"]).stdout).expect("text");
    assert!(shown.contains("not read: it lies in another repository"), "{shown}");
    assert_eq!(json_of(&towline(repository.path(), &["why", "calls", "--json"]))["jobs"][1]["verdict"], "runs");
    // One of the own repository that is not there is refused, as it is on GitHub.
    std::fs::write(
        repository.path().join(".github/workflows/calls.yml"),
        text.replace("o/shared/", "./").replace("@v1", ""),
    )
    .expect("a file");
    assert_eq!(towline(repository.path(), &["plan", "calls"]).status.code(), Some(2));
}
