//! Actions of every kind that run beside the others (S14): what they do is seen where they are waited for.

use super::{Desk, way};
use crate::support::sshd::Sshd;

/// Says which stage it is, and what its main stage saved.
const STAGE: &str = r"
const fs = require('fs');
const stage = process.argv[1].split('/').pop().replace('.js', '');
console.log(`say: ${process.env.INPUT_NAME}-${stage}(${process.env.STATE_kept ?? ''})`);
fs.appendFileSync(process.env.GITHUB_STATE, 'kept=state\n');
";

fn with_post(desk: &Desk) {
    let manifest = "name: p\ninputs: { name: {} }\nruns: { using: node20, main: main.js, post: post.js }\n";
    desk.action("o/with-post", &[("action.yml", manifest), ("main.js", STAGE), ("post.js", STAGE)]);
}

#[test]
fn s14_composite_actions_run_beside_the_others() {
    let desk = Desk::new();
    with_post(&desk);
    let inner = "name: inner\noutputs: { word: { value: '${{ steps.one.outputs.word }}' } }\nruns:\n  using: composite\n  steps:\n\
                 \x20   - { id: one, shell: sh, run: 'echo \"word=deep-$FROM\" >> $GITHUB_OUTPUT' }\n";
    desk.write("inner/action.yml", inner);
    let outer = r#"
name: outer
inputs: { flags: {} }
outputs: { word: { value: "${{ steps.two.outputs.word }}" } }
runs:
  using: composite
  steps:
    - shell: sh
      run: |
        echo "FROM=inside" >> "$GITHUB_ENV"; echo "/added/inside" >> "$GITHUB_PATH"; echo "summary of it" >> "$GITHUB_STEP_SUMMARY"
        touch "${{ inputs.flags }}/begun"; until [ -e "${{ inputs.flags }}/go" ]; do sleep 0.05; done
        echo "say: first-$WORD-$BEFORE"
    - { id: two, uses: ./inner }
    - { uses: o/with-post@v1, with: { name: nested } }
    - { if: "github.action_status == 'success'", shell: sh, run: "echo 'say: last'" }
"#;
    desk.write("outer/action.yml", outer);
    let sshd = Sshd::start();
    for over in [None, sshd.as_ref()] {
        let flags = tempfile::tempdir_in(desk.path("repo").parent().unwrap()).unwrap();
        let workflow = format!(
            "on: push\nenv: {{ BEFORE: set }}\njobs:\n  one:\n    runs-on: x\n    outputs: {{ word: '${{{{ steps.slow.outputs.word }}}}' }}\n    \
             steps:\n\
             \x20     - uses: actions/checkout@v4\n\
             \x20     - {{ id: slow, uses: ./outer, background: true, env: {{ WORD: own }}, with: {{ flags: '{flags}' }} }}\n\
             \x20     - {{ uses: o/with-post@v1, with: {{ name: later }} }}\n\
             \x20     - run: |\n\
             \x20         until [ -e '{flags}/begun' ]; do sleep 0.05; done\n\
             \x20         case $PATH in *added*) exit 1 ;; esac\n\
             \x20         echo \"say: beside-$FROM-${{{{ steps.slow.outputs.word }}}}-${{{{ steps.slow.outcome }}}}\"; touch '{flags}/go'\n\
             \x20     - wait: slow\n\
             \x20     - run: |\n\
             \x20         case $PATH in /added/inside:*) ;; *) exit 1 ;; esac\n\
             \x20         echo \"say: after-$FROM-${{{{ steps.slow.outputs.word }}}}-${{{{ steps.slow.outcome }}}}\"\n",
            flags = flags.path().display()
        );
        let more = over.map(way).unwrap_or_default();
        let ran = desk.run(&workflow, &more.iter().map(String::as_str).collect::<Vec<_>>());
        ran.must_succeed();
        assert_eq!(
            ran.said(),
            [
                "later-main()",
                "beside---",
                "first-own-set",
                "nested-main()",
                "last",
                "after-inside-deep-inside-success",
                // In reverse of the steps, whenever which of them ended.
                "later-post(state)",
                "nested-post(state)",
            ],
            "{}",
            ran.log
        );
        assert_eq!(ran.result["jobs"][0]["outputs"]["word"], "deep-inside");
    }
}

#[test]
fn s14_steps_of_all_kinds_run_in_parallel() {
    let desk = Desk::new();
    // Nobody gets on before all have begun, so they must run at once.
    let meet =
        "touch $FLAGS/$0; for f in composite script javascript; do until [ -e $FLAGS/$f ]; do sleep 0.05; done; done";
    desk.write(
        "composite/action.yml",
        &format!(
            "name: c\nruns:\n  using: composite\n  steps:\n    - {{ shell: 'sh -e {{0}}', run: \"sh -c '{meet}' composite\" }}\n\
             \x20   - {{ shell: sh, run: \"echo 'say: composite'\" }}\n"
        ),
    );
    let main = "require('child_process').execFileSync('sh', ['-c', process.env.INPUT_MEET, 'javascript']);\nconsole.log('say: javascript');\n";
    desk.write("javascript/action.yml", "name: j\ninputs: { meet: {} }\nruns: { using: node20, main: main.js }\n");
    desk.write("javascript/main.js", main);
    let flags = desk.path("flags");
    std::fs::create_dir(&flags).unwrap();
    let workflow = format!(
        "on: push\nenv: {{ FLAGS: '{}' }}\njobs:\n  one:\n    runs-on: x\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - parallel:\n\
         \x20         - {{ id: a, uses: actions/checkout@v4, with: {{ path: elsewhere }} }}\n\
         \x20         - {{ uses: actions/checkout@v4, with: {{ path: here }} }}\n\
         \x20     - parallel:\n\
         \x20         - uses: ./composite\n\
         \x20         - {{ uses: ./javascript, with: {{ meet: '{meet}' }} }}\n\
         \x20         - run: sh -c '{meet}' script && echo 'say script'\n\
         \x20     - run: \"test -f here/README && test -f elsewhere/README && echo 'say: ${{{{ steps.a.outputs.commit == github.sha }}}}'\"\n",
        flags.display()
    );
    let ran = desk.run(&workflow, &[]);
    ran.must_succeed();
    assert_eq!(ran.said(), ["composite", "javascript", "true"], "{}", ran.log);
    assert!(ran.log.contains("say script"), "{}", ran.log);
}

#[test]
fn s14_a_composite_action_is_cancelled_as_a_whole() {
    let desk = Desk::new();
    let manifest = "name: c\ninputs: { flag: {} }\nruns:\n  using: composite\n  steps:\n\
                    \x20   - { shell: bash, run: 'touch ${{ inputs.flag }}; exec sleep 600' }\n\
                    \x20   - { if: always(), shell: bash, run: \"echo 'say: never'\" }\n";
    desk.write("c/action.yml", manifest);
    let failing = "name: f\nruns:\n  using: composite\n  steps:\n    - { shell: bash, run: exit 3 }\n\
                   \x20   - { if: failure(), shell: bash, run: \"echo 'say: cleanup'\" }\n    - { shell: bash, run: \"echo 'say: no'\" }\n";
    desk.write("f/action.yml", failing);
    let flag = desk.path("flag");
    let workflow = format!(
        "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n      - uses: actions/checkout@v4\n\
         \x20     - {{ id: endless, uses: ./c, background: true, with: {{ flag: '{flag}' }} }}\n\
         \x20     - {{ id: bad, uses: ./f, background: true, continue-on-error: true }}\n\
         \x20     - run: until [ -e '{flag}' ]; do sleep 0.05; done\n\
         \x20     - cancel: endless\n\
         \x20     - wait: bad\n\
         \x20     - run: \"echo 'say: ${{{{ steps.endless.outcome }}}}-${{{{ steps.bad.outcome }}}}-${{{{ steps.bad.conclusion }}}}'\"\n",
        flag = flag.display()
    );
    let ran = desk.run(&workflow, &[]);
    ran.must_succeed();
    assert_eq!(ran.said(), ["cleanup", "cancelled-failure-success"], "{}", ran.log);
}
