//! `towline check` as scripts and editors see it.

use std::path::Path;
use std::process::Output;

use serde_json::Value as Json;

use crate::support;

const GOOD: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo hi\n";
const BAD: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    stepz: []\n";

fn check(directory: &Path, arguments: &[&str]) -> Output {
    support::towline().arg("check").args(arguments).current_dir(directory).env("NO_COLOR", "1").output().unwrap()
}

fn repository() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let workflows = directory.path().join(".github/workflows");
    std::fs::create_dir_all(&workflows).unwrap();
    std::fs::write(workflows.join("good.yml"), GOOD).unwrap();
    std::fs::write(directory.path().join("unrelated.yml"), "a: b\n").unwrap();
    directory
}

#[test]
fn files_without_errors_end_with_0() {
    let repository = repository();
    let output = check(repository.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let files = report["files"].as_array().unwrap();
    assert_eq!(files.len(), 1);
    assert!(files[0]["path"].as_str().unwrap().ends_with("good.yml"));
    assert_eq!(files[0]["diagnostics"], serde_json::json!([]));
}

#[test]
fn errors_end_with_1_and_say_where() {
    let repository = repository();
    std::fs::write(repository.path().join(".github/workflows/bad.yml"), BAD).unwrap();
    let output = check(repository.path(), &["--format", "json", ".github/workflows/bad.yml"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let found = &report["files"][0]["diagnostics"][0];
    assert_eq!(found["code"], "TL105");
    assert_eq!(found["severity"], "error");
    assert_eq!((&found["line"], &found["column"]), (&5.into(), &5.into()));
    assert_eq!((&found["end_line"], &found["end_column"]), (&5.into(), &10.into()));
    assert_eq!(found["help"], "did you mean `steps`?");
    let output = check(repository.path(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("bad.yml:5:5") && text.ends_with("2 files checked: 1 error, 0 warnings\n"), "{text}");
    let output = check(repository.path(), &["--format", "github"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("::error ") && text.contains("line=5"), "{text}");
}

#[test]
fn what_cannot_be_read_ends_with_3() {
    let repository = repository();
    assert_eq!(check(repository.path(), &["nothing.yml"]).status.code(), Some(3));
}

#[test]
fn called_files_are_found_from_the_root() {
    let repository = repository();
    let caller = "on: push\njobs:\n  a:\n    uses: ./.github/workflows/good.yml\n";
    std::fs::write(repository.path().join(".github/workflows/caller.yml"), caller).unwrap();
    let output = check(repository.path(), &["--format", "json", ".github/workflows/caller.yml"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["files"][0]["diagnostics"][0]["code"], "TL144");
}

#[test]
fn codes_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let output = check(directory.path(), &["--explain", "tl105"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("TL105: unknown key\n\n"));
    assert_eq!(check(directory.path(), &["--explain", "TL999"]).status.code(), Some(2));
    assert_eq!(check(directory.path(), &["--event", "puhs"]).status.code(), Some(2));
}

#[test]
fn text_that_is_not_utf8_is_an_error_of_the_file() {
    let repository = repository();
    std::fs::write(repository.path().join("x.yml"), b"on: push\nname: \xff\n").unwrap();
    let output = check(repository.path(), &["--format", "json", "x.yml"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["files"][0]["diagnostics"][0]["line"], 2);
}
