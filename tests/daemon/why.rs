//! `towline why` about jobs of a run: one that waits, one that runs, one that was skipped, one that failed.

use super::Lab;

#[test]
fn why_tells_of_waiting_running_skipped_and_failed_jobs() {
    let gate = tempfile::tempdir().unwrap();
    let workflow = format!(
        "on: push\njobs:\n  waits:\n    runs-on: [self-hosted, gpu]\n    steps: [{{run: x}}]\n  runs:\n    runs-on: ubuntu-latest\n    steps:\n      - name: Until told\n        run: until [ -e {}/open ]; do sleep 0.1; done\n  fails:\n    runs-on: ubuntu-latest\n    steps: [{{name: Break it, run: exit 1}}]\n  after:\n    needs: fails\n    runs-on: ubuntu-latest\n    steps: [{{run: x}}]\n  never:\n    if: github.ref == 'refs/heads/other'\n    runs-on: ubuntu-latest\n    steps: [{{run: x}}]\n",
        gate.path().display()
    );
    let root = gate.path().join("root");
    let lab =
        Lab::new(&format!("[[host]]\nname = \"here\"\nkind = \"local\"\nroot = \"{}\"\nslots = 2\n", root.display()));
    lab.push("local/why", &workflow);
    lab.until("local/why", 1, "fails", "completed");
    lab.eventually("the running step", |lab| lab.say(&["why", "1", "--job", "runs"], "").contains("Until told"));
    let about = |job: &str| lab.say(&["why", "1", "--job", job], "");
    let waits = about("waits");
    assert!(waits.contains("waits (ID") && waits.contains("here comes closest but lacks `gpu`"), "{waits}");
    assert!(waits.contains("Add the label `gpu` to here"), "{waits}");
    let runs = about("runs");
    assert!(runs.contains("it runs on here since 20"), "{runs}");
    let fails = about("fails");
    assert!(fails.contains("failed on here: Break it"), "{fails}");
    let after = about("after");
    assert!(after.contains("after (ID") && after.contains("skipped"), "{after}");
    assert!(after.contains("is false: fails ended as failure"), "{after}");
    let never = about("never");
    assert!(never.contains("is false: github.ref is \"refs/heads/main\""), "{never}");
    let all: serde_json::Value = serde_json::from_str(&lab.say(&["why", "1", "--json"], "")).unwrap();
    assert_eq!(all["jobs"].as_array().unwrap().len(), 5, "{all}");
    let (success, said) = lab.try_say(&["why", "1", "--job", "nobody"], "");
    assert!(!success && said.contains("has no job \"nobody\""), "{said}");
    std::fs::write(gate.path().join("open"), "").unwrap();
    lab.say(&["run", "cancel", "1"], "");
    assert!(["cancelled", "failure"].contains(&lab.conclusion("local/why", 1).as_str()));
}
