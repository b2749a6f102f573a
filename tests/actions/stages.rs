//! `pre`, `main` and `post` of JavaScript actions: when they run, and what they keep (A1, A2).

use super::Desk;

/// Says which stage it is, and what earlier stages saved.
const STAGE: &str = r"
const fs = require('fs');
const stage = process.argv[1].split('/').pop().replace('.js', '');
const seen = Object.keys(process.env).filter(name => name.startsWith('STATE_')).sort().join('+');
console.log(`say: ${process.env.INPUT_NAME}-${stage}(${seen})`);
fs.appendFileSync(process.env.GITHUB_STATE, `${stage}=1\n`);
if (process.env.INPUT_FAIL === stage) process.exit(1);
";

fn manifest(more: &str) -> String {
    format!(
        "name: stages\ninputs:\n  name: {{ required: true }}\n  fail: {{ default: '' }}\nruns:\n  using: node20\n  main: main.js\n  \
         post: post.js\n{more}"
    )
}

#[test]
fn pre_main_and_post_run_in_githubs_order_and_share_state() {
    let desk = Desk::new();
    let pre = manifest("  pre: pre.js\n");
    desk.action("o/with-pre", &[("action.yml", &pre), ("pre.js", STAGE), ("main.js", STAGE), ("post.js", STAGE)]);
    let without = manifest("");
    desk.action("o/without", &[("action.yml", &without), ("main.js", STAGE), ("post.js", STAGE)]);
    let conditional = manifest("  pre: pre.js\n  pre-if: runner.os == 'None'\n  post-if: failure()\n");
    let files = [("action.yml", conditional.as_str()), ("pre.js", STAGE), ("main.js", STAGE), ("post.js", STAGE)];
    desk.action("o/conditional", &files);
    let composite = "name: c\ninputs: { name: { default: '' } }\nruns:\n  using: composite\n  steps:\n    - uses: o/with-pre@v1\n      \
                     with: { name: '${{ inputs.name }}-inner' }\n";
    desk.action("o/composite", &[("action.yml", composite)]);
    desk.write("local/action.yml", &pre);
    for stage in ["pre", "main", "post"] {
        desk.write(&format!("local/{stage}.js"), STAGE);
    }
    let ran = desk.run(
        "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n\
         \x20     - run: \"echo 'say: first'\"\n\
         \x20     - { uses: o/with-pre@v1, with: { name: a } }\n\
         \x20     - { uses: o/without@v1, with: { name: b } }\n\
         \x20     - { uses: o/composite@v1, with: { name: c } }\n\
         \x20     - { uses: o/conditional@v1, with: { name: d } }\n\
         \x20     - { uses: o/with-pre@v1, if: false, with: { name: e } }\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - { uses: ./local, with: { name: f } }\n",
        &[],
    );
    ran.must_succeed();
    assert_eq!(
        ran.said(),
        [
            "a-pre()",
            "c-inner-pre()",
            "e-pre()",
            "first",
            "a-main(STATE_pre)",
            "b-main()",
            "c-inner-main(STATE_pre)",
            "d-main()",
            // Of a local action nothing runs before it is there.
            "f-main()",
            "f-post(STATE_main)",
            // The last that was reached is the first to clean up, and a pre step counts as reached.
            "b-post(STATE_main)",
            // Its main step was skipped; what its pre step began is ended all the same.
            "e-post(STATE_pre)",
            "c-inner-post(STATE_main+STATE_pre)",
            "a-post(STATE_main+STATE_pre)",
        ],
        "{}",
        ran.log
    );
}

#[test]
fn a_failing_pre_step_fails_the_job_and_is_cleaned_up_after() {
    let desk = Desk::new();
    let pre = manifest("  pre: pre.js\n");
    desk.action("o/stages", &[("action.yml", &pre), ("pre.js", STAGE), ("main.js", STAGE), ("post.js", STAGE)]);
    let ran = desk.run(
        "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n\
         \x20     - { uses: o/stages@v1, with: { name: a, fail: pre } }\n\
         \x20     - { run: \"echo 'say: always'\", if: always() }\n",
        &[],
    );
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    assert_eq!(ran.said(), ["a-pre()", "always", "a-post(STATE_pre)"], "{}", ran.log);
    // GitHub's runner prints no exit code for these: the action has said what went wrong.
    assert!(!ran.log.contains("Process completed with exit code"), "{}", ran.log);
}

#[test]
fn background_actions_keep_state_and_outputs_until_they_are_waited_for() {
    let desk = Desk::new();
    let main = "const fs = require('fs');\nfs.appendFileSync(process.env.GITHUB_STATE, 'main=1\\n');\n\
                fs.appendFileSync(process.env.GITHUB_OUTPUT, 'word=late\\n');\n\
                const wait = () => fs.existsSync(process.env.INPUT_NAME) ? console.log('say: background') : setTimeout(wait, 20);\nwait();\n";
    desk.action("o/slow", &[("action.yml", &manifest("")), ("main.js", main), ("post.js", STAGE)]);
    let flag = desk.path("flag");
    let workflow = format!(
        "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n\
         \x20     - {{ id: slow, uses: o/slow@v1, background: true, with: {{ name: {flag} }} }}\n\
         \x20     - run: \"echo 'say: beside'; touch {flag}\"\n\
         \x20     - wait: slow\n\
         \x20     - run: \"echo 'say: ${{{{ steps.slow.outputs.word }}}}'\"\n",
        flag = flag.display()
    );
    let ran = desk.run(&workflow, &[]);
    ran.must_succeed();
    let post = format!("{}-post(STATE_main)", flag.display());
    assert_eq!(ran.said(), ["beside", "background", "late", &post], "{}", ran.log);
}

#[test]
fn a_job_whose_actions_cannot_be_had_runs_no_step() {
    let desk = Desk::new();
    desk.action("o/stages", &[("action.yml", &manifest("")), ("main.js", STAGE), ("post.js", STAGE)]);
    for (uses, reason) in [
        ("o/stages@v9", "unable to find version `v9`"),
        ("o/nothing@v1", "repository not found"),
        ("o/stages/below@v1", "Can't find 'action.yml', 'action.yaml' or 'Dockerfile'"),
    ] {
        let workflow = format!(
            "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n      - run: \"echo 'say: deployed'\"\n      - uses: {uses}\n"
        );
        let ran = desk.run(&workflow, &[]);
        assert_eq!(ran.code, Some(1), "{}", ran.log);
        assert!(ran.said().is_empty() && ran.log.contains(reason), "{uses}: {}", ran.log);
    }
}

#[test]
fn a_host_without_node_is_given_one() {
    let Some(node) = program("node") else {
        println!("skipped: there is no node here");
        return;
    };
    let desk = Desk::new();
    desk.action("o/stages", &[("action.yml", &manifest("")), ("main.js", STAGE), ("post.js", STAGE)]);
    // Everything but node.
    let bin = desk.path("bin");
    std::fs::create_dir(&bin).unwrap();
    for directory in ["/usr/bin", "/bin"] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
            if !entry.file_name().to_string_lossy().starts_with("node") {
                drop(std::os::unix::fs::symlink(entry.path(), bin.join(entry.file_name())));
            }
        }
    }
    let path = bin.to_string_lossy().into_owned();
    let workflow =
        "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n      - { uses: o/stages@v1, with: { name: a } }\n";
    let ran = desk.run_with(workflow, &[], &[("PATH", &path)]);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    assert!(ran.log.contains("towline runtime add node24"), "{}", ran.log);
    let added = desk.towline(&["runtime", "add", "node24", &node]);
    assert!(added.contains("added node24 for "), "{added}");
    let ran = desk.run_with(workflow, &[], &[("PATH", &path)]);
    ran.must_succeed();
    assert_eq!(ran.said(), ["a-main()", "a-post(STATE_main)"], "{}", ran.log);
}

impl Desk {
    /// The program with the state of this desk.
    pub(crate) fn towline(&self, arguments: &[&str]) -> String {
        let mut command = crate::support::towline();
        command.current_dir(self.path("repo")).args(arguments);
        command.env("HOME", self.path("home")).env("XDG_STATE_HOME", self.path("state"));
        command.env("TOWLINE_STATE", self.path("state")).env_remove("STATE_DIRECTORY");
        let output = command.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

fn program(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found =
        path.split(':').map(|directory| std::path::Path::new(directory).join(name)).find(|path| path.is_file())?;
    Some(found.to_string_lossy().into_owned())
}
