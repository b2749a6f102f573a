//! What a job's log and contexts say, word by word as GitHub's runner has them.

use super::{init, run_steps, towline};

/// Runs `w.yml` among these files in a new project; gives the exit code and what was said.
fn run_files(files: &[(&str, &str)]) -> (Option<i32>, String) {
    let project = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = project.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    init(project.path());
    let output = towline().current_dir(project.path()).args(["exec", "w.yml"]).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn x8_x10_contexts_are_what_a_step_of_github_sees() {
    let steps = r#"      - run: |
          test "${{ github.action }}" = __run && test "$GITHUB_ACTION" = __run
          env | grep -x GITHUB_ACTION_REPOSITORY= && env | grep -x GITHUB_ACTION_REF=
          test '${{ toJSON(job.container) }}${{ toJSON(job.services) }}' = nullnull
          test '${{ contains(toJSON(secrets), '"github_token"') }}' = true
          test '${{ secrets.GITHUB_TOKEN == github.token && github.token != '' }}' = true
          test '${{ job.workflow_ref == github.workflow_ref && job.workflow_sha == github.sha }}' = true
          echo upper=small >> "$GITHUB_ENV"
      - id: end
        if: github.action == 'end' && env.upper == 'small' && env.UPPER == 'large' && env.Upper == null
        env: { UPPER: large }
        run: echo "o=$UPPER $upper ${{ env.upper }}" >> "$GITHUB_OUTPUT"
"#;
    let (result, said) = run_steps(steps, &[]);
    assert_eq!(result["jobs"][0]["outputs"]["o"], "large small small", "{said}");
}

#[test]
fn x9_a_called_workflow_knows_its_own_file() {
    let called = "on:\n  workflow_call:\n    inputs: { who: { type: string }, n: { type: number, default: 2 } }\njobs:\n  b:\n    \
                  runs-on: x\n    steps:\n      - run: echo '${{ job.workflow_file_path }} in ${{ job.workflow_repository == \
                  github.repository }} at ${{ job.workflow_sha == github.sha }}'\n      - uses: $/inner\n";
    let (code, said) = run_files(&[
        ("w.yml", "on: push\njobs:\n  a:\n    uses: ./.github/workflows/c.yml\n    with: { who: Mona }\n"),
        (".github/workflows/c.yml", called),
        ("inner/action.yml", "name: i\nruns: { using: composite, steps: [{ run: echo inside, shell: sh }] }\n"),
    ]);
    assert_eq!(code, Some(0), "{said}");
    let in_order = [
        "Prepare all required actions",
        "Uses: local/",
        " Inputs",
        "  who: Mona",
        "  n: 2",
        "Complete job name: a / b",
    ];
    let mut rest = said.as_str();
    for words in in_order {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words} is missing or too early: {said}")).1;
    }
    assert!(said.contains("/.github/workflows/c.yml@refs/heads/"), "{said}");
    assert!(said.contains(".github/workflows/c.yml in true at true") && said.contains("inside"), "{said}");
}

#[test]
fn n6_g1_the_end_of_a_job_says_what_it_gives() {
    let job = |url: &str| {
        format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    environment: {{ name: e, url: '{url}' }}\n    outputs: {{ given: v, empty: '' \
             }}\n    steps: [{{ run: 'echo ::add-mask::hidden' }}]\n"
        )
    };
    let (code, said) = run_files(&[("w.yml", &job("https://x.example"))]);
    assert_eq!(code, Some(0), "{said}");
    let end = ["Evaluate and set job outputs", "Set output 'given'", "Evaluate and set environment url"];
    assert!(end.iter().all(|words| said.contains(words)) && !said.contains("Set output 'empty'"), "{said}");
    assert!(said.contains("Evaluated environment url: https://x.example"), "{said}");
    let (code, said) = run_files(&[("w.yml", &job("https://hidden.example"))]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Skip setting environment url as environment 'e' may contain secret."), "{said}");
    // What cannot be evaluated is a failure of the job.
    let (code, said) = run_files(&[("w.yml", &job("${{ fromJSON(steps.none.outcome) }}"))]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Error: Failed to evaluate environment url"), "{said}");
}

#[test]
fn h5_what_cannot_be_started_says_why_and_has_no_exit_code() {
    let steps = "      - { run: echo, working-directory: none, continue-on-error: true }\n\
                 \x20     - { run: echo, working-directory: w.yml, continue-on-error: true }\n\
                 \x20     - { run: echo, shell: 'nothing-such {0}', continue-on-error: true }\n";
    let (result, said) = run_steps(steps, &[]);
    assert_eq!(result["conclusion"], "success", "{said}");
    assert!(
        said.contains("Error: An error occurred trying to start process '/") && said.contains("bash' with"),
        "{said}"
    );
    assert!(said.contains("/none'. No such file or directory"), "{said}");
    assert!(said.contains("Error: nothing-such: command not found"), "{said}");
    assert!(!said.contains("exit code"), "{said}");
}

#[test]
fn h7_the_header_of_an_action_has_the_defaults_of_its_inputs() {
    let action = "name: a\ninputs: { given: { default: x }, open: { default: '${{ github.event_name }}' }, none: {} }\nruns: { \
                  using: composite, steps: [{ run: 'true', shell: sh }] }\n";
    let workflow = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: actions/checkout@v4\n        with: { fetch-depth: 0 \
                    }\n      - uses: ./act\n        with: { given: y }\n";
    let (code, said) = run_files(&[("w.yml", workflow), ("act/action.yml", action)]);
    assert_eq!(code, Some(0), "{said}");
    let with = |lines: &[&str]| lines.iter().map(|line| format!("a │   {line}\n")).collect::<String>();
    assert!(said.contains(&format!("Run ./act\na │ with:\n{}", with(&["given: y", "open: push"]))), "{said}");
    assert!(
        said.contains("Run actions/checkout@v4\na │ with:\na │   fetch-depth: 0\na │   repository: local/"),
        "{said}"
    );
    assert!(said.contains(&with(&["token: ***", "ssh-strict: true", "ssh-user: git"])), "{said}");
}

#[test]
fn a3_a_composite_action_has_to_name_its_shells() {
    let action =
        "name: a\nruns:\n  using: composite\n  steps:\n    - { run: echo first, shell: sh }\n    - run: echo second\n";
    let workflow =
        "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: actions/checkout@v4\n      - uses: ./act\n";
    let (code, said) = run_files(&[("w.yml", workflow), ("act/action.yml", action)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("act/action.yml (Line: 6, Col: 7): Required property is missing: shell"), "{said}");
    assert!(said.contains("Error: Failed to load ./act/action.yml") && !said.contains("first"), "{said}");
}

#[test]
fn s13_a2_what_an_action_is_given_in_vain_is_warned_of() {
    let action = "name: a\ninputs: { n: {}, old: { deprecationMessage: say n } }\nruns: { using: node20, pre: m.js, main: m.js }\n";
    let workflow = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: actions/checkout@v4\n      - uses: ./act\n        with: { \
                    args: 1, old: 2 }\n";
    // Whether this machine has a node does not matter: all of this is said before one is looked for.
    let (_, said) = run_files(&[("w.yml", workflow), ("act/action.yml", action), ("act/m.js", "")]);
    let warnings = [
        "`pre` execution is not supported for local action from './act'",
        "Input 'old' has been deprecated with message: say n",
        "Unexpected input(s) 'args', valid inputs are ['n', 'old']",
        "Run ./act",
    ];
    let mut rest = said.as_str();
    for words in warnings {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words} is missing or too early: {said}")).1;
    }
}

#[test]
fn a3_composite_actions_in_a_circle_end_at_the_tenth_level() {
    let action = "name: a\nruns: { using: composite, steps: [{ uses: ./act }] }\n";
    let workflow =
        "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{ uses: actions/checkout@v4 }, { uses: ./act }]\n";
    let (code, said) = run_files(&[("w.yml", workflow), ("act/action.yml", action)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nested too deeply: at most 9 levels"), "{said}");
    assert_eq!(said.matches("Run ./act").count(), 10 + 1, "ten headers and the name of the failed step: {said}");
}
