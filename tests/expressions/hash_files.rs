//! hashFiles() over the known workspace, through the library and the binary.

use std::path::Path;

use serde_json::Value as Json;

use crate::support::{conformance, towline};

/// Asks the binary with `workspace` as the directory.
fn eval(expression: &str, workspace: &Path) -> Json {
    let output = towline().args(["eval", expression, "--workspace"]).arg(workspace).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn known_answers() {
    let Some(root) = conformance("expressions/hashfiles") else { return };
    let table: Json = serde_json::from_slice(&std::fs::read(root.join("cases.json")).unwrap()).unwrap();
    let cases = table["cases"].as_array().unwrap();
    let mut faults = Vec::new();
    for case in cases {
        let own = tempfile::tempdir().unwrap();
        let workspace = match case["file_contents"].as_object() {
            Some(files) => {
                for (name, contents) in files {
                    let path = own.path().join(name);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, contents.as_str().unwrap()).unwrap();
                }
                own.path().to_owned()
            }
            None => root.join("workspace"),
        };
        let answer = eval(case["expr"].as_str().unwrap(), &workspace);
        let right = match case["error"].as_str() {
            Some(message) => answer["error"]["message"] == message,
            None => answer["value"] == case["result"],
        };
        if !right {
            faults.push(format!("{}: {answer}", case["id"]));
        }
    }
    println!("hashFiles: {} of {} as expected, 0 skipped", cases.len() - faults.len(), cases.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn links_are_entered_when_asked() {
    let workspace = tempfile::tempdir().unwrap();
    let path = workspace.path();
    std::fs::create_dir(path.join("real")).unwrap();
    std::fs::write(path.join("real/file"), "x").unwrap();
    std::os::unix::fs::symlink("real", path.join("linked")).unwrap();
    std::os::unix::fs::symlink("..", path.join("real/cycle")).unwrap();
    let one = eval("hashFiles('real/file')", path);
    // The link's directory is not entered, so nothing is found by that name.
    assert_eq!(eval("hashFiles('linked/*')", path)["value"], "");
    assert_eq!(eval("hashFiles('**')", path), one);
    assert_eq!(eval("hashFiles('--follow-symbolic-links', 'linked/*')", path), one);
    // Nothing is there, or there can be nothing.
    assert_eq!(eval("hashFiles('real/no/file', 'none/**')", path)["value"], "");
    for through in ["real/file/x", "real/file/x/*", "linked/file/a/**"] {
        assert_eq!(eval(&format!("hashFiles('{through}')"), path)["error"]["kind"], "evaluation", "{through}");
    }
    std::os::unix::fs::symlink("nowhere", path.join("broken")).unwrap();
    assert_eq!(eval("hashFiles('bro*')", path)["error"]["kind"], "evaluation");
    assert_eq!(eval("hashFiles('--follow-symbolic-links', 'bro*')", path)["value"], "");
}
