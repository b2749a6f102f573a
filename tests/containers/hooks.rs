//! Container hooks (D5): no engine is needed, the hook of the tests runs everything on the host.

use serde_json::json;

use super::{EXEC, in_order, run_at, run_in};
use crate::support::hooks::{Hook, variable};
use crate::support::sshd::Sshd;
use crate::support::towline;

const WORKFLOW: &str = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    container:
      image: registry.example.org/some/image:1
      credentials: { username: me, password: "${{ secrets.WORD }}" }
      env: { A: one }
      ports: [80, "8080:81"]
      volumes: ["/v:/w:ro", named:/n]
      options: --cpus 1
    services:
      db: { image: "postgres:16", ports: [5432], command: -c "a b" }
    steps:
      - uses: actions/checkout@v4
      - id: first
        run: |
          echo "KEPT=yes" >>"$GITHUB_ENV"; echo "word=spoken" >>"$GITHUB_OUTPUT"; echo /added >>"$GITHUB_PATH"
          echo "the word is ${{ secrets.WORD }}"
          case $0 in */_temp/*) ;; *) exit 1 ;; esac
      - run: test "$KEPT ${{ steps.first.outputs.word }}" = "yes spoken" && case $PATH in /added:*) ;; *) exit 1 ;; esac
      - run: test "${{ format('{0} {1} {2}', job.container.id, job.container.network, job.services.db.id) }}" = "job-1 net-1 db-1"
      - { run: 'test "${{ job.services.db.ports[5432] }} ${{ job.services.db.network }}" = "15432 net-1"', shell: sh }
      - { run: 'test -f action.yml', working-directory: javascript }
      - uses: ./javascript
      - { id: tool, uses: "docker://some/tool:2", with: { args: say "two words" } }
      - { id: docker, uses: ./docker, with: { who: you } }
      - run: test "${{ steps.tool.outputs.from }} ${{ steps.docker.outputs.from }}" = "container container"
      - { id: refused, uses: "docker://some/tool:2", with: { entrypoint: refuse }, continue-on-error: true }
      - { id: seven, run: exit 7, continue-on-error: true }
      - { background: true, run: 'echo "beside ${{ steps.refused.outcome }} ${{ steps.seven.outcome }}"' }
      - wait-all:
"#;

const FILES: [(&str, &str); 6] = [
    ("w.yml", WORKFLOW),
    ("javascript/action.yml", "runs: { using: node20, main: main.js, post: post.js }\n"),
    (
        "javascript/main.js",
        "require('fs').appendFileSync(process.env.GITHUB_STATE, 'kept=state\\n'); console.log('main ' + process.env.KEPT);\n",
    ),
    ("javascript/post.js", "console.log('post ' + process.env.STATE_kept);\n"),
    (
        "docker/action.yml",
        "inputs: { who: {} }\nruns: { using: docker, image: Dockerfile, args: ['hello ${{ inputs.who }}'], env: { MORE: x } }\n",
    ),
    ("docker/Dockerfile", "FROM scratch\n"),
];

fn check(hook: &Hook, code: Option<i32>, log: &str) {
    assert_eq!(code, Some(0), "{log}");
    in_order(
        log,
        &[
            "Run '",
            "preparing",
            "the word is ***",
            "main yes",
            "container of some/tool:2: say two words",
            "container of Dockerfile: hello you",
            "cannot be read: it is no JSON",
            "Executing the custom container implementation failed.",
            "Process completed with exit code 7.",
            "Executing the custom container implementation failed. Please contact your self hosted runner administrator.",
            "beside failure failure",
            "post state",
            "cleaning up",
        ],
    );
    assert!(!log.contains("open-sesame"), "{log}");
    let mut due = vec!["run_script_step"; 15];
    for (at, command) in [
        (0, "prepare_job"),
        (7, "run_container_step"),
        (8, "run_container_step"),
        (10, "run_container_step"),
        (14, "cleanup_job"),
    ] {
        due[at] = command;
    }
    assert_eq!(hook.commands(), due, "{log}");
    let notes = hook.notes();
    assert_eq!(notes[0]["state"], json!({}));
    let container = &notes[0]["args"]["container"];
    let field = |name: &str, expect| assert_eq!(container[name], expect, "{container}");
    field("image", json!("registry.example.org/some/image:1"));
    field("workingDirectory", json!("/__w/repo/repo"));
    field("createOptions", json!("--cpus 1"));
    field("environmentVariables", json!({ "A": "one" }));
    field("portMappings", json!(["80", "8080:81"]));
    field("registry", json!({ "username": "me", "password": "open-sesame", "serverUrl": "registry.example.org" }));
    field("entryPoint", json!("tail"));
    field("entryPointArgs", json!(["-f", "/dev/null"]));
    field(
        "userMountVolumes",
        json!([
            { "sourceVolumePath": "/v", "targetVolumePath": "/w", "readOnly": true },
            { "sourceVolumePath": "named", "targetVolumePath": "/n", "readOnly": false },
        ]),
    );
    let targets: Vec<&str> = container["systemMountVolumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["targetVolumePath"].as_str().unwrap())
        .collect();
    for target in ["/__w/repo", "/__e", "/__w/_temp", "/__w/_actions", "/github/home", "/github/workflow"] {
        assert!(targets.contains(&target), "{target}: {targets:?}");
    }
    let service = &notes[0]["args"]["services"][0];
    assert_eq!(
        (&service["contextName"], &service["image"], &service["portMappings"], &service["entryPointArgs"]),
        (&json!("db"), &json!("postgres:16"), &json!(["5432"]), &json!(["-c", "a b"]))
    );
    let script = &notes[2]["args"];
    assert_eq!((&script["workingDirectory"], &script["prependPath"]), (&json!("/__w/repo/repo"), &json!(["/added"])));
    assert_eq!(script["environmentVariables"]["KEPT"], "yes", "{script}");
    assert_eq!(script["environmentVariables"]["GITHUB_WORKSPACE"], "/__w/repo/repo", "{script}");
    assert!(script["environmentVariables"].get("PATH").is_none(), "{script}");
    let tool = &notes[7];
    assert_eq!((&tool["args"]["image"], &tool["args"]["dockerfile"]), (&json!("some/tool:2"), &json!(null)));
    assert_eq!(tool["args"]["environmentVariables"]["GITHUB_WORKSPACE"], "/github/workspace");
    let docker = &notes[8]["args"];
    assert!(
        docker["image"].is_null() && docker["dockerfile"].as_str().unwrap().ends_with("/docker/Dockerfile"),
        "{docker}"
    );
    assert_eq!(docker["environmentVariables"]["MORE"], "x");
    // What a call says of the state is what the next one gets.
    assert_eq!(notes[14]["state"]["containers"], 2);
    assert_eq!(notes[14]["args"], json!({}));
}

#[test]
fn d5_a_hook_of_the_host_runs_what_docker_would() {
    let hook = Hook::new();
    let mut command = towline();
    command.args(EXEC).args(["--env", &hook.variable()]);
    let (code, log) = run_in(&mut command, &FILES);
    check(&hook, code, &log);
}

#[test]
fn d5_a_hook_runs_on_a_host_over_ssh() {
    let hook = Hook::new();
    let Some(sshd) = Sshd::start_with(&format!("SetEnv {}", hook.variable())) else { return };
    let (code, log) = run_at(&sshd, &FILES, &[]);
    check(&hook, code, &log);
}

#[test]
fn d5_what_a_hook_does_wrong_is_named() {
    let hook = Hook::new();
    let jobs = r#"
on: push
jobs:
  each:
    runs-on: ubuntu-latest
    strategy: { fail-fast: false, matrix: { how: [exit, none, text, list, no alpine] } }
    container: { image: some/image, options: "${{ matrix.how }}" }
    steps:
      - run: echo "never" "here"
      - { if: always(), run: echo "nor" "here" }
"#;
    let mut command = towline();
    command.args(EXEC).args(["--env", &hook.variable()]);
    let (code, log) = run_in(&mut command, &[("w.yml", jobs)]);
    assert_eq!(code, Some(1), "{log}");
    for said in [
        "Process completed with exit code 3.",
        "Response file is required but not found for the hook script at '",
        "cannot be read: it is no JSON: ",
        "cannot be read: it is no JSON object",
        "The property 'isAlpine' is required but was not found in the response file.",
        "the job's container is not running",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    let failed =
        "Executing the custom container implementation failed. Please contact your self hosted runner administrator.";
    assert!(log.matches(failed).count() >= 5, "{log}");
    assert!(!log.contains("never here") && !log.contains("nor here"), "{log}");
    let mut commands = hook.commands();
    commands.sort();
    assert_eq!(commands, [["cleanup_job"; 5], ["prepare_job"; 5]].concat(), "{log}");

    std::fs::write(hook.path("hook.txt"), "").unwrap();
    for (name, said) in [
        ("hook.txt", "must be a path to a file with one of the following extensions: .js, .sh, .ps1"),
        ("nowhere.js", "Set ACTIONS_RUNNER_CONTAINER_HOOKS to the path of an existing file."),
    ] {
        let mut command = towline();
        command.args(EXEC).args(["--env", &variable(&hook.path(name))]);
        let (code, log) =
            run_in(&mut command, &[("w.yml", &jobs.replace("exit, none, text, list, no alpine", "fine"))]);
        assert!(code == Some(1) && log.contains(said), "{log}");
    }
}

#[test]
fn d5_jobs_without_a_container_can_be_refused() {
    let job = "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{ run: echo \"was\" \"run\" }]\n";
    for (value, code) in [("true", 1), ("false", 0)] {
        let mut command = towline();
        command.args(EXEC).args(["--env", &format!("ACTIONS_RUNNER_REQUIRE_JOB_CONTAINER={value}")]);
        let (ended, log) = run_in(&mut command, &[("w.yml", job)]);
        assert_eq!(ended, Some(code), "{log}");
        assert_eq!(
            log.contains("Jobs without a job container are forbidden on this runner, please add a 'container:'"),
            code == 1,
            "{log}"
        );
        assert_eq!(log.contains("was run"), code == 0, "{log}");
    }
}
