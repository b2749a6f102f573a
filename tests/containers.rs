//! Containers with a real Docker Engine: what runs in them, beside them, and what is left of them.

mod hooks;
mod offline;
mod services;

use std::path::Path;
use std::process::Command;

use crate::exec::{init, over};
use crate::support::engine::Engine;
use crate::support::sshd::Sshd;
use crate::support::towline;

/// Runs a workflow over a real SSH server, whose user reaches the engine; exit code and log.
fn run(engine: &Engine, files: &[(&str, &str)]) -> (Option<i32>, String) {
    let environment = format!("SetEnv DOCKER_HOST={} ACTIONS_RUNNER_ALLOW_ARTIFACTS_FILE=true", engine.address());
    let Some(sshd) = Sshd::start_with(&environment) else {
        panic!("the engine runs, but no sshd");
    };
    run_at(&sshd, files, &[])
}

fn run_at(sshd: &Sshd, files: &[(&str, &str)], more: &[&str]) -> (Option<i32>, String) {
    let mut command = towline();
    command.args(EXEC).args(over(sshd)).args(more);
    run_in(&mut command, files)
}

/// What every run here begins with.
const EXEC: [&str; 6] = ["exec", "w.yml", "--event", "push", "--secret", "WORD=open-sesame"];

/// Runs a command in a new repository of these files; exit code and log.
fn run_in(command: &mut Command, files: &[(&str, &str)]) -> (Option<i32>, String) {
    let work = tempfile::tempdir().unwrap();
    let repository = work.path().join("repo");
    for (path, content) in files {
        let path = repository.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        if content.starts_with("#!") {
            assert!(Command::new("chmod").arg("+x").arg(&path).status().unwrap().success());
        }
    }
    init(&repository);
    let output = command.current_dir(&repository).env("HOME", work.path()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Nothing of what the log names is there any more.
fn nothing_is_left(engine: &Engine, log: &str) {
    let word = |start: &str| {
        let line = log.lines().find_map(|line| line.split_once(start)).unwrap_or_else(|| panic!("no {start}: {log}"));
        line.1.split_whitespace().next().unwrap().to_owned()
    };
    let label = format!("label={}", word("--label "));
    assert!(label.starts_with("label=towline.job="), "{label}");
    let root = log.lines().find_map(|line| line.split_once("towline.root=")).unwrap().1;
    let root = root.split_whitespace().next().unwrap();
    assert_eq!(engine.left(Path::new(root)), "", "{log}");
}

/// The log in the given order.
fn in_order(log: &str, expected: &[&str]) {
    let mut rest = log;
    for text in expected {
        let at = rest.find(text).unwrap_or_else(|| panic!("'{text}' is not where it is due in:\n{log}"));
        rest = &rest[at + text.len()..];
    }
}

#[test]
fn a_job_runs_in_its_container_beside_its_services() {
    let Some(engine) = Engine::get() else { return };
    let workflow = r#"
on: push
env: { LEVEL: workflow }
jobs:
  all:
    runs-on: ubuntu-latest
    outputs: { word: "${{ steps.first.outputs.word }}" }
    container:
      image: ${{ format('docker://{0}', 'node:16-buster-slim') }}
      env: { IN_CONTAINER: "${{ env.LEVEL }}", SECRET: "${{ secrets.WORD }}" }
      volumes: ["named_volume:/named", /nameless]
      options: --hostname container-host --cpus 1
    services:
      db:
        image: mysql:8
        ports: [3306, "127.0.0.1:13306:3307"]
        env: { PASSWORD: "${{ secrets.WORD }}" }
        options: >-
          --health-cmd "mysqladmin ping"
          --health-interval 200ms
          --health-retries 50
      web:
        image: ${{ 'nginx' }}:latest
        entrypoint: sh
        command: -c "cd /srv && echo by-command > said && exec httpd -f -p 8080"
      none:
        image: ${{ false || '' }}
    steps:
      - uses: actions/checkout@v4
      - id: first
        run: |
          test "$GITHUB_WORKSPACE" = /__w/repo/repo && test "$PWD" = /__w/repo/repo && test -f w.yml
          test "$HOME" = /github/home && test "$RUNNER_TEMP" = /__w/_temp && test "$RUNNER_TOOL_CACHE" = /__t
          test "$IN_CONTAINER" = workflow && test "$SECRET" = open-sesame && test "$(hostname)" = container-host
          test -d /named && test -d /nameless && test -f "$GITHUB_EVENT_PATH" && test -S /var/run/docker.sock
          test "$CI" = true && test "$GITHUB_ACTIONS" = true
          case $0 in /__w/_temp/*) ;; *) exit 1 ;; esac
          echo "KEPT=yes" >> "$GITHUB_ENV"; echo "word=spoken" >> "$GITHUB_OUTPUT"; echo "/added" >> "$GITHUB_PATH"
          echo "::error file=$GITHUB_WORKSPACE/w.yml,line=2::a fault"
          echo "the word is $SECRET"
      - run: test "$KEPT ${{ steps.first.outputs.word }}" = "yes spoken" && case $PATH in /added:*) ;; *) exit 1 ;; esac
      - run: pwd > where && test "$(cat where)" = /__w/repo/repo/deep
        working-directory: deep
        shell: sh -x {0}
      - run: mysql -h db -e x && wget -q -O - http://web:8080/said
      - run: test "${{ job.container.network != '' && job.services.web.network == job.container.network }}" = true
      - run: |
          test -n "${{ job.services.db.ports['3306'] }}" && test "${{ job.services.db.ports['3307'] }}" = 13306
          test -n "${{ job.services.db.id }}" && test "${{ job.services.none.id }}" = ""
      - run: exit 7
        continue-on-error: true
      - run: |
          echo made >made; echo "$GITHUB_WORKSPACE/w.yml" >>"$GITHUB_ARTIFACTS"; echo made >>"$GITHUB_ARTIFACTS"
          [ "$GITHUB_ARTIFACTS" = "${{ github.artifacts }}" ]
      - { id: outside, run: echo /etc/passwd >>"$GITHUB_ARTIFACTS", continue-on-error: true }
      - run: |
          grep -q '"name":"made"' "$GITHUB_ARTIFACTS_LIST" && grep -q '"name":"w.yml"' "$GITHUB_ARTIFACTS_LIST"
          test "${{ steps.outside.outcome }}" = failure && ! grep -q passwd "$GITHUB_ARTIFACTS_LIST"
      - uses: ./composite
        with: { who: you }
      - uses: ./javascript
        with: { who-to-greet: "two\nlines" }
      - uses: docker://busybox:stand-in
        with:
          entrypoint: /bin/sh
          args: -c "wget -q -O - http://web:8080/index.html && test -f /github/workspace/w.yml && grep -q made $GITHUB_ARTIFACTS_LIST"
"#;
    let composite = r#"
inputs: { who: { required: true } }
runs:
  using: composite
  steps:
    - run: test -f "$GITHUB_ACTION_PATH/action.yml" && echo "hello ${{ inputs.who }} from $GITHUB_ACTION_PATH"
      shell: sh
"#;
    let javascript = "inputs: { who-to-greet: {} }\nruns: { using: node20, main: main.js, post: post.js }\n";
    let main = "const fs = require('fs');\nif (process.env['INPUT_WHO-TO-GREET'] !== 'two\\nlines') process.exit(3);\n\
        fs.appendFileSync(process.env.GITHUB_STATE, 'kept=in a file\\n');\nconsole.log('main in ' + require('os').hostname());\n";
    let post = "console.log('post with ' + process.env.STATE_kept);\n";
    let files = [
        ("w.yml", workflow),
        ("deep/file", ""),
        ("composite/action.yml", composite),
        ("javascript/action.yml", javascript),
        ("javascript/main.js", main),
        ("javascript/post.js", post),
    ];
    let (code, log) = run(engine, &files);
    assert_eq!(code, Some(0), "{log}");
    in_order(
        &log,
        &[
            "The service 'none' will not be started because the container definition has an empty image.",
            "Checking docker version",
            "Docker daemon API version: '1.",
            "Create local container network",
            "network create --label towline.job=",
            "Starting db service container",
            "Starting web service container",
            "Starting job container",
            "Waiting for all services to be ready",
            "db service is healthy.",
            "the word is ***",
            "by-command",
            "hello you from /__w/repo/repo/composite",
            "main in container-host",
            "served",
            "post with in a file",
            "Stop and remove container:",
            "Print service container logs:",
            "serving for",
            "Remove container network: github_network_",
        ],
    );
    assert!(!log.contains("open-sesame"), "{log}");
    assert!(log.contains("w.yml") && log.contains("a fault"), "{log}");
    nothing_is_left(engine, &log);
}

#[test]
fn docker_actions_are_built_and_run_with_their_stages() {
    let Some(engine) = Engine::get() else { return };
    let workflow = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: built
        uses: ./built
        env: { FROM_STEP: step }
        with: { who-to-greet: "a b", token: "${{ secrets.WORD }}" }
      - run: test "$FROM_ACTION ${{ steps.built.outputs.answer }}" = "said 42" && test -f made-inside
      - uses: ./fails
        continue-on-error: true
        id: fails
      - run: test ${{ steps.fails.outcome }} = failure
      - uses: ./by-url
      - uses: ./dockerfile-alone
      - { id: behind, uses: ./waits, background: true, with: { for: go } }
      - { id: nested, uses: ./nested, background: true }
      - run: |
          until [ -e begun-go ] && [ -e begun-went ]; do sleep 0.1; done
          test "${{ steps.behind.outputs.seen }}${{ steps.nested.outputs.seen }}$SEEN" = "" && touch go
      - wait-all:
      - run: test "${{ steps.behind.outputs.seen }} ${{ steps.nested.outputs.seen }} $SEEN" = "go went went"
"#;
    let manifest = r#"
inputs: { who-to-greet: {}, token: {}, unset: { default: "fallback" } }
runs:
  using: docker
  image: Dockerfile
  args: ["${{ inputs.who-to-greet }}", "", "say \"it\"", "${{ inputs.unset }}"]
  env: { FROM_MANIFEST: "${{ inputs.who-to-greet }}!", FROM_STEP: weaker }
  post-entrypoint: /post.sh
"#;
    let script = r#"#!/bin/sh
set -e
test "$#|$1|$2|$3|$4" = '4|a b||say "it"|fallback'
test "$FROM_MANIFEST $FROM_STEP" = "a b! step" && tr '\000' '\n' </proc/$$/environ | grep -q '^INPUT_WHO-TO-GREET=a b$'
test "$PWD $GITHUB_WORKSPACE $HOME" = "/github/workspace /github/workspace /github/home"
test "$RUNNER_TEMP $GITHUB_EVENT_PATH" = "/github/runner_temp /github/workflow/event.json" && test -f "$GITHUB_EVENT_PATH"
case $GITHUB_OUTPUT in /github/file_commands/*) ;; *) exit 1 ;; esac
echo answer=42 >> "$GITHUB_OUTPUT"; echo FROM_ACTION=said >> "$GITHUB_ENV"; echo kept=state >> "$GITHUB_STATE"
touch made-inside; echo "token $INPUT_TOKEN"
"#;
    let files = [
        ("w.yml", workflow),
        ("built/action.yml", manifest),
        ("built/Dockerfile", "FROM busybox:stand-in\nCOPY *.sh /\nENTRYPOINT [\"/main.sh\"]\n"),
        ("built/main.sh", script),
        ("built/post.sh", "#!/bin/sh\necho \"post $STATE_kept\"\n"),
        (
            "fails/action.yml",
            "runs: { using: docker, image: 'docker://busybox:stand-in', entrypoint: sh, args: ['-c', 'exit 9'] }\n",
        ),
        ("by-url/action.yml", "runs: { using: docker, image: 'docker://busybox:stand-in', args: [echo, by url] }\n"),
        (
            "waits/action.yml",
            "inputs: { for: {} }\nruns:\n  using: docker\n  image: docker://busybox:stand-in\n  entrypoint: sh\n  args: ['-c', \
             'touch begun-$INPUT_FOR; until [ -e $INPUT_FOR ]; do sleep 0.1; done; echo seen=$INPUT_FOR >>$GITHUB_OUTPUT; \
             echo SEEN=$INPUT_FOR >>$GITHUB_ENV; touch went']\n",
        ),
        (
            "nested/action.yml",
            "outputs: { seen: { value: '${{ steps.in.outputs.seen }}' } }\nruns:\n  using: composite\n  steps:\n    \
             - { id: in, uses: ./waits, with: { for: went } }\n",
        ),
        ("dockerfile-alone/Dockerfile", "FROM busybox:stand-in\nCMD [\"echo\", \"only a Dockerfile\"]\n"),
    ];
    let (code, log) = run(engine, &files);
    assert_eq!(code, Some(0), "{log}");
    in_order(
        &log,
        &[
            "Building docker image",
            "build -t towline-action-",
            "token ***",
            "by url",
            "only a Dockerfile",
            "post state",
        ],
    );
    assert!(!log.contains("open-sesame"), "{log}");
    assert!(!log.contains("Process completed with exit code 9"), "{log}");
    nothing_is_left(engine, &log);
    let images = engine.docker(&["images", "--quiet", "--filter", "label=towline.job"]).1;
    assert_eq!(images, "", "images of actions in the workspace go with the job");
}

#[test]
fn images_come_before_the_first_step_and_pre_entrypoints_after_them() {
    let Some(engine) = Engine::get() else { return };
    let workflow = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    steps:
      - run: echo the first step
      - uses: $/staged
      - uses: docker://busybox:stand-in
        with: { args: echo plain }
"#;
    let manifest = "runs:\n  using: docker\n  image: Dockerfile\n  pre-entrypoint: /pre.sh\n  entrypoint: /main.sh\n  post-entrypoint: /post.sh\n";
    let files = [
        ("w.yml", workflow),
        ("staged/action.yml", manifest),
        ("staged/Dockerfile", "FROM busybox:stand-in\nCOPY *.sh /\n"),
        ("staged/pre.sh", "#!/bin/sh\necho \"pre of $GITHUB_ACTION\"\necho kept=early >> \"$GITHUB_STATE\"\n"),
        ("staged/main.sh", "#!/bin/sh\necho \"main after $STATE_kept\"\n"),
        ("staged/post.sh", "#!/bin/sh\necho \"post after $STATE_kept\"\n"),
    ];
    let (code, log) = run(engine, &files);
    assert_eq!(code, Some(0), "{log}");
    in_order(
        &log,
        &[
            "Pull down action image 'busybox:stand-in'",
            "Build container for action use: '",
            "build -t towline-action-",
            "│ pre of __self",
            "│ the first step",
            "│ main after early",
            "│ plain",
            "│ post after early",
        ],
    );
    assert_eq!(log.matches("build -t towline-action-").count(), 1, "{log}");
    assert_eq!(log.matches("Pull down action image").count(), 1, "{log}");
}

#[test]
fn a_service_that_is_not_healthy_fails_the_job_and_shows_its_log() {
    let Some(engine) = Engine::get() else { return };
    let workflow = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    services:
      sick:
        image: busybox:stand-in
        command: sh -c "echo feeling bad; sleep 600"
        options: --health-cmd "exit 1" --health-interval 100ms --health-retries 1
    steps:
      - run: echo never
      - if: failure()
        run: echo after the failure
"#;
    let (code, log) = run(engine, &[("w.yml", workflow)]);
    assert_eq!(code, Some(1), "{log}");
    in_order(
        &log,
        &[
            "Service container sick failed.",
            "feeling bad",
            "Failed to initialize container busybox:stand-in",
            "One or more containers failed to start.",
            "after the failure",
            "Stop and remove container:",
        ],
    );
    assert!(!log.contains("echo never"), "{log}");
    nothing_is_left(engine, &log);
}

#[test]
fn a_step_out_of_time_is_ended_inside_of_the_container() {
    let Some(engine) = Engine::get() else { return };
    let workflow = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    container: ubuntu:latest
    steps:
      - run: |
          trap 'echo interrupted; exit 5' INT
          setsid sleep 6001 &
          sleep 6002 & wait
        timeout-minutes: 0.02
        continue-on-error: true
      - run: if ps | grep -q '[s]leep 600'; then ps; exit 1; fi
      - uses: docker://busybox:stand-in
        with: { entrypoint: sh, args: "-c 'sleep 6003'" }
        timeout-minutes: 0.01
"#;
    let (code, log) = run(engine, &[("w.yml", workflow)]);
    assert_eq!(code, Some(1), "{log}");
    in_order(&log, &["interrupted", "has timed out after", "has timed out after"]);
    assert_eq!(log.matches("has timed out after").count(), 2, "{log}");
    nothing_is_left(engine, &log);
}

#[test]
fn a_host_without_an_engine_says_so() {
    let Some(sshd) = Sshd::start_with("SetEnv DOCKER_HOST=unix:///nowhere/docker.sock CONTAINER_HOST=unix:///nowhere")
    else {
        return;
    };
    if Command::new("podman").arg("--version").output().is_ok() {
        println!("skipped: this machine has podman, which needs no server");
        return;
    }
    let workflow = "on: push\njobs:\n  a:\n    runs-on: x\n    container: ubuntu\n    steps: [{run: 'true'}]\n";
    let (code, log) = run_at(&sshd, &[("w.yml", workflow)], &[]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("neither docker nor podman") && log.contains("127.0.0.1"), "{log}");
}

#[test]
fn a_login_to_a_registry_shows_no_password() {
    let Some(engine) = Engine::get() else { return };
    // Nothing listens there: the login fails, which is enough to see how it was tried.
    let workflow = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    container:
      image: 127.0.0.1:9/owner/image
      credentials: { username: someone, password: "${{ secrets.WORD }}" }
    steps:
      - run: echo never
"#;
    let (code, log) = run(engine, &[("w.yml", workflow)]);
    assert_eq!(code, Some(1), "{log}");
    in_order(
        &log,
        &["login 127.0.0.1:9 -u someone --password-stdin", "Docker login for '127.0.0.1:9' failed with exit code 1"],
    );
    assert!(!log.contains("open-sesame") && !log.contains("echo never"), "{log}");
    nothing_is_left(engine, &log);
}
