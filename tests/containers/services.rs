//! The services for actions, asked from inside of containers: they are at the host's loopback, which is not theirs.

use std::process::Command;

use crate::support::engine::Engine;
use crate::support::towline;

/// Asks for everything a step may be told.
const ASK: &str = r"
const http = require('http');
const ask = (url, headers) => new Promise((done, failed) => {
  http.get(url, { headers }, answer => { answer.resume(); done(answer.statusCode); }).on('error', failed);
});
(async () => {
  const e = process.env, headers = { authorization: `Bearer ${e.INPUT_TOKEN}`, 'user-agent': 'x' };
  console.log('services ' + await ask(e.ACTIONS_RESULTS_URL + '.well-known/jwks'));
  console.log('api ' + await ask(`${e.GITHUB_API_URL}/repos/${e.GITHUB_REPOSITORY}`, headers));
  console.log('server ' + await ask(`${e.GITHUB_SERVER_URL}/${e.GITHUB_REPOSITORY}/info/refs?service=git-upload-pack`, headers));
})().catch(error => { console.log(`failed: ${error}`); process.exit(1); });
";
const MANIFEST: &str =
    "inputs: { token: { default: '${{ github.token }}' } }\nruns: { using: node20, main: main.js }\n";

const IN_DOCKER: &str = r#"
inputs: { token: { default: "${{ github.token }}" } }
runs:
  using: docker
  image: docker://busybox:stand-in
  entrypoint: sh
  args:
    - -c
    - |
      wget -q -O - "${ACTIONS_RESULTS_URL}.well-known/jwks" | grep -q keys && echo "in docker: services"
      wget -q -O - --header "Authorization: Bearer $INPUT_TOKEN" "$GITHUB_API_URL/repos/$GITHUB_REPOSITORY" | grep -q default_branch &&
        echo "in docker: api"
"#;

fn files(workflow: &str) -> [(&'static str, &str); 4] {
    [("w.yml", workflow), ("ask/action.yml", MANIFEST), ("ask/main.js", ASK), ("in-docker/action.yml", IN_DOCKER)]
}

#[test]
fn steps_in_a_job_container_reach_the_services() {
    let Some(engine) = Engine::get() else { return };
    let workflow = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    container: node:16-buster-slim
    steps:
      - uses: actions/checkout@v4
      - uses: ./ask
      - uses: ./in-docker
      - env: { TOKEN: "${{ github.token }}" }
        run: wget -q -O - --header "Authorization:Bearer $TOKEN" "$GITHUB_API_URL/repos/$GITHUB_REPOSITORY" | grep -q full_name && echo "a script too"
"#;
    let (code, log) = super::run(engine, &files(workflow));
    assert_eq!(code, Some(0), "{log}");
    super::in_order(
        &log,
        &["services 200", "api 200", "server 200", "in docker: services", "in docker: api", "│ a script too"],
    );
    // The program on the host was ended, not found astray.
    assert!(!log.contains("orphan process: pid"), "{log}");
    super::nothing_is_left(engine, &log);
}

#[test]
fn docker_actions_reach_the_services_through_the_gateway() {
    let Some(engine) = Engine::get() else { return };
    let workflow = r#"
on: push
jobs:
  alone:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: ./in-docker
  beside:
    runs-on: ubuntu-latest
    services: { web: { image: nginx:latest } }
    steps:
      - uses: actions/checkout@v4
      - uses: ./in-docker
"#;
    // Where the engine is, so that the gateway of its networks is an address of the host.
    let program = towline();
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", engine.network())).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(super::EXEC).env("DOCKER_HOST", engine.address());
    let (code, log) = super::run_in(&mut command, &files(workflow));
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("│ in docker: services").count(), 2, "{log}");
    assert_eq!(log.matches("│ in docker: api").count(), 2, "{log}");
    assert!(!log.contains("orphan process: pid"), "{log}");
}
