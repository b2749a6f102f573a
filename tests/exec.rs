//! `towline exec` through the built binary: known answers of other runners, the samples, and what a person does wrong.

mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use crate::support::engine::Engine;
use crate::support::sshd::{self, Sshd};
use crate::support::{conformance, towline};

/// What this machine offers to the known answers.
const OFFERED: &[&str] = &["bash", "sh", "python", "root", "checkout", "self-hosted"];

/// What it offers besides where a container engine runs: the images of the cases have stand-ins that want no network.
const OFFERED_BY_ENGINE: &[&str] = &["container", "network"];

/// Known answers that are wrong for us, with the reason.
const SKIPPED: &[(&str, &str)] = &[(
    "uses-workflow-local",
    "it passes a secret that the called file does not declare; GitHub's own parser refuses that (R2)",
)];

#[test]
fn known_answers_of_other_runners_hold_on_this_machine() {
    run_suites(&[], Engine::get());
}

#[test]
fn known_answers_of_other_runners_hold_over_ssh() {
    let engine = Engine::get();
    let mut env = engine.map(|engine| format!("SetEnv DOCKER_HOST={}\n", engine.address())).unwrap_or_default();
    // The cases ask for a machine that has `python`; Debian's has `python3` only.
    let programs = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/usr/bin/python3", programs.path().join("python")).unwrap();
    let rest = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env.push_str(&format!("SetEnv PATH={}:{rest}\n", programs.path().display()));
    let Some(sshd) = Sshd::start_with(&env) else { return };
    let way = over(&sshd);
    run_suites(&way.iter().map(String::as_str).collect::<Vec<_>>(), engine);
}

/// The options of `exec` that lead to a server.
pub(crate) fn over(sshd: &Sshd) -> Vec<String> {
    let port = sshd.port().to_string();
    let host = format!("{}@127.0.0.1:{port}", sshd::user());
    let identity = sshd.path("id").to_string_lossy().into_owned();
    let known_hosts = sshd.path("known_hosts").to_string_lossy().into_owned();
    ["--host", &host, "--identity", &identity, "--known-hosts", &known_hosts].map(str::to_owned).to_vec()
}

fn run_suites(way: &[&str], engine: Option<&Engine>) {
    let mut faults = Vec::new();
    let (mut passed, mut skipped) = (0, 0);
    for suite in ["act-runner", "server-workflows"] {
        let Some(folder) = conformance(suite) else { return };
        let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        cases.sort();
        for folder in cases {
            let case: Json = serde_json::from_str(&std::fs::read_to_string(folder.join("case.json")).unwrap()).unwrap();
            let id = case["id"].as_str().unwrap().to_owned();
            let root = rustix::process::geteuid().is_root();
            let offered = |need: &str| match need {
                "root" => root,
                need if OFFERED_BY_ENGINE.contains(&need) => engine.is_some(),
                need => OFFERED.contains(&need),
            };
            let missing = strings(&case["requires"]).into_iter().find(|need| !offered(need));
            if let Some(need) = missing {
                skipped += 1;
                println!("skipped {id}: needs {need}");
                continue;
            }
            if let Some((_, reason)) = SKIPPED.iter().find(|(skipped, _)| *skipped == id) {
                skipped += 1;
                println!("skipped {id}: {reason}");
                continue;
            }
            match check_case(&folder, &case, way, engine) {
                Ok(()) => passed += 1,
                Err(fault) => faults.push(format!("{id}: {fault}")),
            }
        }
    }
    println!("act-runner and server-workflows: {passed} passed, {} failed, {skipped} skipped", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn check_case(folder: &Path, case: &Json, way: &[&str], engine: Option<&Engine>) -> Result<(), String> {
    let work = tempfile::tempdir().unwrap();
    let repository = work.path().join("repo");
    copy(&folder.join("repo"), &repository);
    init(&repository);
    let mut command = towline();
    command.current_dir(&repository).env("HOME", work.path()).args(["exec", "--json"]).args(way);
    if let Some(engine) = engine {
        command.env("DOCKER_HOST", engine.address());
    }
    command.arg(case["workflow"].as_str().unwrap()).args(["--event", case["event"].as_str().unwrap()]);
    if case["payload"].is_object() {
        let file = work.path().join("payload.json");
        std::fs::write(&file, case["payload"].to_string()).unwrap();
        command.arg("--payload").arg(file);
    }
    for (option, key) in [
        ("--input", "inputs"),
        ("--secret", "secrets"),
        ("--var", "vars"),
        ("--env", "inject_env"),
        ("--github", "github"),
    ] {
        for (name, value) in case[key].as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            command.args([option, &format!("{name}={value}")]);
        }
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let tail =
        || stderr.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n    ");
    let expected = case["conclusion"].as_str().unwrap();
    let code = match expected {
        "success" => 0,
        "invalid" => 2,
        _ => 1,
    };
    if output.status.code() != Some(code) {
        return Err(format!("exit {:?} where {code} is due\n    {}", output.status.code(), tail()));
    }
    if expected == "invalid" {
        return Ok(());
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let result: Json =
        serde_json::from_str(stdout.lines().last().unwrap_or_default()).map_err(|e| format!("no JSON: {e}"))?;
    if result["conclusion"] != case["conclusion"] {
        return Err(format!("concluded {} where {expected} is due\n    {}", result["conclusion"], tail()));
    }
    check_jobs(case, &result)?;
    for text in strings(&case["log_output_must_not_contain"]) {
        // The echoed source of the masking step itself is exempt: it is printed before the mask is known.
        let shown = stderr.lines().filter(|line| !line.contains("echo") && line.contains(&text)).count();
        if shown > 0 {
            return Err(format!("the log shows '{text}'\n    {}", tail()));
        }
    }
    Ok(())
}

fn check_jobs(case: &Json, result: &Json) -> Result<(), String> {
    let mut by_id: BTreeMap<String, Vec<&Json>> = BTreeMap::new();
    for job in result["jobs"].as_array().into_iter().flatten() {
        by_id.entry(job["id"].as_str().unwrap_or_default().to_owned()).or_default().push(job);
    }
    for (id, expected) in case["jobs"].as_object().into_iter().flatten() {
        let legs = by_id.get(id).ok_or_else(|| format!("there is no job {id} in {:?}", by_id.keys()))?;
        let ends: Vec<&str> = legs.iter().filter_map(|leg| leg["conclusion"].as_str()).collect();
        let worst = ["failure", "cancelled", "success", "skipped"].into_iter().find(|end| ends.contains(end));
        if worst != expected["conclusion"].as_str() {
            return Err(format!("job {id}: {ends:?} where {} is due", expected["conclusion"]));
        }
        for leg in expected["matrix"].as_array().into_iter().flatten() {
            let same = |job: &&&Json| {
                leg.as_object().unwrap().iter().all(|(key, value)| key == "conclusion" || job["matrix"][key] == *value)
            };
            let found = legs.iter().find(same).ok_or_else(|| format!("job {id}: no leg {leg}"))?;
            if found["conclusion"] != leg["conclusion"] {
                return Err(format!("job {id}: leg {leg} ended with {}", found["conclusion"]));
            }
        }
        if let Some(steps) = expected["steps"].as_array() {
            let got = legs[0]["steps"].as_array().unwrap();
            if got.len() != steps.len() {
                return Err(format!("job {id}: {} steps where {} are due", got.len(), steps.len()));
            }
            for (step, got) in steps.iter().zip(got) {
                let (outcome, conclusion) = match step {
                    Json::String(_) => (step, step),
                    step => (&step["outcome"], &step["conclusion"]),
                };
                if got["outcome"] != *outcome || got["conclusion"] != *conclusion {
                    return Err(format!("job {id}: step {got} where {step} is due"));
                }
            }
        }
    }
    for (id, count) in case["job_counts"].as_object().into_iter().flatten() {
        let got = by_id.get(id).map_or(0, Vec::len);
        if Some(got as u64) != count.as_u64() {
            return Err(format!("job {id}: {got} legs where {count} are due"));
        }
    }
    if case["runs"] == 0 && !by_id.is_empty() {
        return Err("jobs ran although no run is due".to_owned());
    }
    Ok(())
}

fn strings(json: &Json) -> Vec<String> {
    json.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Makes a directory a repository with one commit.
pub(crate) fn init(directory: &Path) {
    let git = |arguments: &[&str]| {
        let status = Command::new("git")
            .current_dir(directory)
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"])
            .args(arguments)
            .status()
            .unwrap();
        assert!(status.success(), "git {arguments:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "--allow-empty", "-m", "Test repository"]);
}

/// A copy of the sample project with the samples as its workflows, as `init --sample` would lay them out.
pub(crate) fn sample_project() -> tempfile::TempDir {
    let work = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&root.join("tests/samples/todo-app"), &work.path().join("repo"));
    copy(&root.join("workflows"), &work.path().join("repo/.github/workflows"));
    init(&work.path().join("repo"));
    work
}

pub(crate) fn run_sample(work: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = towline();
    command.current_dir(work.join("repo")).env("HOME", work).arg("exec").args(arguments);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn sample_node_ci_passes() {
    let work = sample_project();
    let (code, said) = run_sample(work.path(), &["node-ci", "--event", "push"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn sample_python_ci_passes() {
    let work = sample_project();
    let (code, said) = run_sample(work.path(), &["python-ci", "--event", "push"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn sample_deploy_goes_live_and_goes_back_when_it_is_not_healthy() {
    if Command::new("rsync").arg("--version").output().is_err() {
        println!("skipped: rsync is not installed");
        return;
    }
    let work = sample_project();
    let apps = work.path().join("apps");
    let variables = |health: &str| {
        vec![
            "deploy".to_owned(),
            format!("--var=APPS={}", apps.display()),
            "--var=START=true".to_owned(),
            format!("--var=HEALTH={health}"),
            "--var=ATTEMPTS=2".to_owned(),
            "--var=PAUSE=0".to_owned(),
        ]
    };
    let run =
        |arguments: Vec<String>| run_sample(work.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (code, said) = run(variables("test -f package.json"));
    assert_eq!(code, Some(0), "{said}");
    let app = apps.join("todo-app");
    let first = std::fs::read_to_string(app.join("REVISION")).unwrap();
    assert_eq!(std::fs::read_to_string(apps.join(".state/todo-app/last-good")).unwrap(), first);
    // What only the server has stays where it is.
    std::fs::write(app.join(".env"), "KEY=1\n").unwrap();
    std::fs::write(work.path().join("repo/broken"), "x").unwrap();
    let directory = work.path().join("repo");
    let commit = Command::new("git")
        .current_dir(&directory)
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-qam", "Break it"])
        .args(["--allow-empty"])
        .status()
        .unwrap();
    assert!(commit.success());
    let (code, said) = run(variables("test ! -f broken"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("going back to"), "{said}");
    assert_eq!(std::fs::read_to_string(app.join("REVISION")).unwrap(), first, "{said}");
    assert!(!app.join("broken").exists() && app.join(".env").exists(), "{said}");
}

#[test]
fn sample_nightly_speaks_up_when_something_is_wrong() {
    let work = sample_project();
    let state = format!("--var=NIGHTLY_STATE={}", work.path().join("nightly").display());
    let (code, said) = run_sample(work.path(), &["nightly", "--event", "schedule", &state, "--var=SMOKE=true"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run_sample(work.path(), &["nightly", "--event", "schedule", &state, "--var=SMOKE=false"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn a_refused_workflow_names_the_place_and_the_mend() {
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("w.yml"), "on: push\njobs:\n  a:\n    runs-on: x\n    stesp: []\n").unwrap();
    init(work.path());
    let output = towline().current_dir(work.path()).args(["exec", "w.yml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("w.yml:5") && said.contains("steps"), "{said}");
}

#[test]
fn a_missing_host_names_itself() {
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("w.yml"), "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{run: 'true'}]\n")
        .unwrap();
    init(work.path());
    let port = sshd::free_port();
    let host = format!("ci@127.0.0.1:{port}");
    let output = towline().current_dir(work.path()).args(["exec", "w.yml", "--host", &host]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("127.0.0.1"), "{said}");
}

#[test]
fn h8_a_secret_turns_on_debug_logging_and_is_not_masked() {
    let project = tempfile::tempdir().unwrap();
    std::fs::write(
        project.path().join("debug.yml"),
        "on: push\njobs:\n  a:\n    runs-on: self-hosted\n    steps:\n      - run: |\n          echo \"::debug::seen\"\n          echo \"debug is ${RUNNER_DEBUG:-off}, that is true, and $KEY\"\n        env:\n          KEY: ${{ secrets.KEY }}\n",
    )
    .unwrap();
    init(project.path());
    let run = |more: &[&str]| {
        let mut command = towline();
        command.current_dir(project.path()).args(["exec", "debug.yml", "--secret", "KEY= spaced \n"]).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    };
    let plain = run(&[]);
    assert!(plain.contains("debug is off") && !plain.contains("│ seen") && !plain.contains("Evaluating"), "{plain}");
    // The blanks around a secret are no part of it.
    assert!(plain.contains("and  *** "), "{plain}");
    let secret = run(&["--secret", "ACTIONS_STEP_DEBUG=true"]);
    assert!(secret.contains("│ seen") && secret.contains("debug is 1, that is true, and"), "{secret}");
    // How the condition came about, as GitHub's runner says it.
    let in_order = [
        "Evaluating condition for step: 'Run echo \"::debug::seen\"'",
        "Evaluating: success()",
        "Evaluating success:",
        "=> true",
        "Result: true",
        "Starting: Run echo",
        "│ seen",
        "Finishing: Run echo",
    ];
    let mut rest = secret.as_str();
    for words in in_order {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words} is missing or too early: {secret}")).1;
    }
    let variable = run(&["--var", "ACTIONS_STEP_DEBUG=true"]);
    assert!(variable.contains("│ seen"), "{variable}");
    let overruled = run(&["--var", "ACTIONS_STEP_DEBUG=true", "--secret", "ACTIONS_STEP_DEBUG=false"]);
    assert!(!overruled.contains("│ seen"), "{overruled}");
}

/// Runs a workflow with these steps in a new project; gives the result and what was said.
fn run_steps(steps: &str, more: &[&str]) -> (Json, String) {
    let project = tempfile::tempdir().unwrap();
    let text = format!(
        "on: push\njobs:\n  a:\n    runs-on: self-hosted\n    outputs: {{ o: '${{{{ steps.end.outputs.o }}}}' }}\n    \
         steps:\n{steps}"
    );
    std::fs::write(project.path().join("w.yml"), text).unwrap();
    init(project.path());
    let mut command = towline();
    let output = command.current_dir(project.path()).args(["exec", "w.yml", "--json"]).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let result = serde_json::from_str(stdout.lines().last().unwrap_or_default());
    (result.unwrap_or_else(|error| panic!("{error}: {stdout}{said}")), said)
}

#[test]
fn s14_ten_steps_run_at_once_in_the_background_and_more_wait_their_turn() {
    let flags = tempfile::tempdir().unwrap();
    let flag = |name: &str| flags.path().join(name).display().to_string();
    let go = flag("go");
    let mut steps = String::new();
    for number in 1..=12 {
        let begun = flag(&format!("begun-{number}"));
        steps.push_str(&format!(
            "      - {{ id: s{number}, background: true, run: 'touch {begun}; until [ -e {go} ]; do sleep 0.05; done; \
             echo v={number} >> $GITHUB_OUTPUT' }}\n"
        ));
    }
    let first = flag("begun-");
    steps.push_str(&format!(
        "      - run: |\n          for n in 1 2 3 4 5 6 7 8 9 10; do until [ -e {first}$n ]; do sleep 0.05; done; done\n\
         \x20         test ! -e {first}11 && test ! -e {first}12\n          touch {go}\n\
         \x20     - wait-all:\n\
         \x20     - {{ id: end, run: 'echo \"o=${{{{ steps.s1.outputs.v }}}} ${{{{ steps.s11.outputs.v }}}} ${{{{ \
         steps.s12.outputs.v }}}}\" >> $GITHUB_OUTPUT' }}\n"
    ));
    let (result, said) = run_steps(&steps, &[]);
    assert_eq!(result["conclusion"], "success", "{said}");
    assert_eq!(result["jobs"][0]["outputs"]["o"], "1 11 12", "{said}");
}

#[test]
fn s14_a_wait_may_go_on_after_a_failure_but_the_job_still_fails() {
    let steps = "      - { id: bad, background: true, run: exit 4 }\n\
                 \x20     - { id: fine, background: true, continue-on-error: true, run: exit 5 }\n\
                 \x20     - { id: w, wait: [bad], continue-on-error: true }\n\
                 \x20     - { id: v, wait: fine }\n\
                 \x20     - { id: end, run: 'echo \"o=${{ steps.bad.outcome }} ${{ steps.w.outcome }} ${{ \
                 steps.w.conclusion }} ${{ steps.fine.conclusion }} ${{ steps.v.outcome }} ${{ job.status }}\" >> \
                 $GITHUB_OUTPUT' }\n";
    let (result, said) = run_steps(steps, &[]);
    assert_eq!(result["jobs"][0]["outputs"]["o"], "failure failure success success success success", "{said}");
    assert_eq!(result["conclusion"], "failure", "{said}");
}

#[test]
fn s14_what_waits_for_its_turn_can_be_cancelled() {
    let mut steps = String::new();
    for number in 1..=11 {
        steps.push_str(&format!("      - {{ id: s{number}, background: true, run: 'exec sleep 600' }}\n"));
    }
    for number in (1..=11).rev() {
        steps.push_str(&format!("      - {{ cancel: s{number} }}\n"));
    }
    steps.push_str(
        "      - { id: end, run: 'echo \"o=${{ steps.s1.outcome }} ${{ steps.s11.outcome }}\" >> $GITHUB_OUTPUT' }\n",
    );
    let (result, said) = run_steps(&steps, &[]);
    assert_eq!(result["jobs"][0]["outputs"]["o"], "cancelled cancelled", "{said}");
    assert_eq!(result["conclusion"], "success", "{said}");
}

#[test]
fn a_run_that_failed_has_failed_whatever_was_skipped() {
    let project = tempfile::tempdir().unwrap();
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{ run: exit 1 }]\n  b:\n    needs: a\n    runs-on: x\n    \
                steps: [{ run: echo b }]\n";
    std::fs::write(project.path().join("w.yml"), text).unwrap();
    init(project.path());
    let output = towline().current_dir(project.path()).args(["exec", "w.yml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn g5_the_token_goes_through_calls_under_any_name() {
    let project = tempfile::tempdir().unwrap();
    let folder = project.path().join(".github/workflows");
    std::fs::create_dir_all(&folder).unwrap();
    let caller = "on: push\njobs:\n  a:\n    uses: ./.github/workflows/called.yml\n    secrets: { by-name: '${{ secrets.GITHUB_TOKEN }}' }\n";
    let called = "on:\n  workflow_call:\n    secrets: { by-name: { required: true } }\njobs:\n  a:\n    runs-on: x\n    steps:\n      - \
                  run: test -n \"$T\" && test \"$T\" = '${{ github.token }}'\n        env: { T: '${{ secrets.by-name }}' }\n";
    std::fs::write(folder.join("w.yml"), caller).unwrap();
    std::fs::write(folder.join("called.yml"), called).unwrap();
    init(project.path());
    for more in [&[][..], &["--secret", "GITHUB_TOKEN=given"][..]] {
        let output = towline().current_dir(project.path()).args(["exec", "w.yml"]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn w12_steps_declare_what_they_made_and_later_ones_read_it() {
    let bad = [
        ("out", "'out' is a directory, not a regular file"),
        (
            "nowhere/at/all",
            "file 'nowhere/at/all' does not exist (relative paths are resolved against the workspace root",
        ),
        ("/nowhere", "file '/nowhere' does not exist"),
        ("a=b", "entries containing '=' are reserved"),
        ("out/other/app", "Conflicting digest for artifact 'app'"),
    ];
    let mut steps = "      - run: |\n          mkdir -p out/other; printf a >out/app; printf b >out/other/app\n\
                     \x20         printf '# made here\\n\\n out/app \\nfile://out/app\\r\\no/i@sha256:%064d\\n' 0 >>$GITHUB_ARTIFACTS\n\
                     \x20         echo \"before $(cat $GITHUB_ARTIFACTS_LIST) ${{ github.artifacts_list == '' }}\"\n"
        .to_owned();
    for (line, _) in bad {
        steps.push_str(&format!(
            "      - {{ run: 'printf \"first\" >first; printf \"first\\n{line}\\n\" >>$GITHUB_ARTIFACTS', continue-on-error: true }}\n"
        ));
    }
    steps.push_str(
        "      - { continue-on-error: true, run: 'head -c 1100000 /dev/zero >>$GITHUB_ARTIFACTS' }\n\
         \x20     - { id: end, run: 'echo \"o=$(cat $GITHUB_ARTIFACTS_LIST)\" >>$GITHUB_OUTPUT' }\n",
    );
    let (result, said) = run_steps(&steps, &["--env", "ACTIONS_RUNNER_ALLOW_ARTIFACTS_FILE=true"]);
    assert_eq!(result["conclusion"], "success", "{said}");
    let listed: Json = serde_json::from_str(result["jobs"][0]["outputs"]["o"].as_str().unwrap()).unwrap();
    let app = "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
    let first = "sha256:a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
    let image = format!("sha256:{}", "0".repeat(64));
    let subjects = serde_json::json!([
        { "name": "app", "digest": app, "kind": "file" },
        { "name": "first", "digest": first, "kind": "file" },
        { "name": "o/i", "digest": image, "kind": "oci" },
    ]);
    assert_eq!(listed, serde_json::json!({ "version": 1, "subjects": subjects }), "{said}");
    assert!(said.contains("before {\"version\":1,\"subjects\":[]} false"), "{said}");
    assert!(said.contains("Captured 2 artifact subject(s) from this step (job total: 2)."), "{said}");
    for (_, reason) in bad {
        assert!(said.contains(&format!("Invalid $GITHUB_ARTIFACTS entry on line 2: {reason}")), "{reason}: {said}");
    }
    assert!(said.contains("exceeds the maximum size of 1024 KiB (got 1074 KiB)"), "{said}");
    // Without the switch the files are there, and nobody reads them.
    let (result, said) = run_steps(&steps, &[]);
    assert_eq!((&result["conclusion"], &result["jobs"][0]["outputs"]["o"]), (&"success".into(), &Json::Null), "{said}");
    assert!(!said.contains("GITHUB_ARTIFACTS entry"), "{said}");
}

#[test]
fn h9_hooks_of_the_host_run_around_a_job() {
    let hooks = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = hooks.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let notes = hooks.path().join("notes").display().to_string();
    let before = script(
        "before.sh",
        &format!("echo before $GITHUB_JOB >> {notes}\necho HOOKED=yes >> $GITHUB_ENV\nfalse | true || exit 9\n"),
    );
    // `bash` with pipefail, as GitHub's runner runs it.
    let before_fixed =
        script("good.sh", &format!("echo before $GITHUB_JOB >> {notes}\necho HOOKED=yes >> $GITHUB_ENV\n"));
    let after = script("after.sh", &format!("echo after $GITHUB_JOB >> {notes}\n"));
    let started = |path: &str| format!("ACTIONS_RUNNER_HOOK_JOB_STARTED={path}");
    let completed = format!("ACTIONS_RUNNER_HOOK_JOB_COMPLETED={after}");
    let steps = format!(
        "      - {{ id: end, run: 'echo main >> {notes}; echo o=$HOOKED >> $GITHUB_OUTPUT' }}\n\
         \x20     - {{ if: always(), run: 'echo always >> {notes}' }}\n"
    );

    let (result, said) = run_steps(&steps, &["--env", &started(&before_fixed), "--env", &completed]);
    assert_eq!(
        (&result["conclusion"], &result["jobs"][0]["outputs"]["o"]),
        (&"success".into(), &"yes".into()),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "before a\nmain\nalways\nafter a\n", "{said}");
    assert!(said.contains("A job started hook has been configured by the self-hosted runner administrator"), "{said}");
    assert!(said.contains("--noprofile --norc -e -o pipefail"), "{said}");

    std::fs::remove_file(&notes).unwrap();
    let (result, said) = run_steps(&steps, &["--env", &started(&before), "--env", &completed]);
    assert_eq!(result["conclusion"], "failure", "{said}");
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "before a\nalways\nafter a\n", "{said}");

    let script = script("hook.js", "require('fs').appendFileSync(process.env.GITHUB_ENV, 'HOOKED=by node\\n')\n");
    let (result, said) = run_steps(&steps, &["--env", &started(&script)]);
    assert_eq!(result["jobs"][0]["outputs"]["o"], "by node", "{said}");

    let (result, said) = run_steps(&steps, &["--env", &started("/nowhere/hook.txt")]);
    assert_eq!(result["conclusion"], "failure", "{said}");
    assert!(said.contains("is not a valid path to a script"), "{said}");
}
