//! `towline actions`: what is pinned, checked and copied.

use super::{Desk, git};

const COMPOSITE: &str = "name: c\nruns:\n  using: composite\n  steps:\n    - uses: o/inner@v1\n";
const INNER: &str = "name: i\nruns:\n  using: composite\n  steps:\n    - { run: \"echo 'say: inner'\", shell: bash }\n";
const WORKFLOW: &str = "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n      - uses: o/outer@v1\n";

#[test]
fn versions_are_pinned_verified_and_vendored() {
    let desk = Desk::new();
    let outer = desk.action("o/outer", &[("action.yml", COMPOSITE)]);
    let inner = desk.action("o/inner", &[("action.yml", INNER)]);
    desk.write(".github/workflows/w.yml", WORKFLOW);
    let mirror = desk.path("mirror").to_string_lossy().into_owned();
    let place = ["--mirror", mirror.as_str()];
    let said = desk.towline(&["actions", "lock", place[0], place[1]]);
    let lock = std::fs::read_to_string(desk.path("repo/towline.lock")).expect(&said);
    assert!(lock.contains(&outer) && lock.contains(&inner), "{lock}");
    let said = desk.towline(&["actions", "verify", place[0], place[1]]);
    assert!(said.contains("2 actions are as pinned"), "{said}");

    let copy = desk.path("copy").to_string_lossy().into_owned();
    let said = desk.towline(&["actions", "vendor", &copy, place[0], place[1]]);
    assert!(said.contains("o/inner is in "), "{said}");
    git(&desk.path("copy/o/inner.git"), &["cat-file", "-e", &inner]);
    desk.run(WORKFLOW, &["--actions", &copy]);

    // The tag moves: what is pinned still runs, and says the old word.
    desk.action("o/inner", &[("action.yml", &INNER.replace("say: inner", "say: changed"))]);
    let ran = desk.run(WORKFLOW, &[]);
    ran.must_succeed();
    assert_eq!(ran.said(), ["inner"], "{}", ran.log);

    // What was pinned is gone: nothing runs.
    std::fs::remove_dir_all(desk.path("mirror/o/inner.git")).unwrap();
    std::fs::remove_dir_all(desk.path("work/o/inner")).unwrap();
    desk.action("o/inner", &[("action.yml", INNER), ("new", "history")]);
    let said = desk.towline(&["actions", "verify", place[0], place[1]]);
    assert!(said.contains("o/inner@v1"), "{said}");
    let ran = desk.run(WORKFLOW, &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    assert!(ran.said().is_empty(), "{}", ran.log);
}
