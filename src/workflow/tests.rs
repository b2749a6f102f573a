//! What the known answers do not ask: places, spellings and advice, one small file each.

use super::*;

/// The places and messages of what is said about a file, errors first shown as `E`, advice as `W`.
fn said(text: &str) -> Vec<String> {
    let found = check(".github/workflows/ci.yml", text, &|_| None);
    found
        .iter()
        .map(|diagnostic| {
            let place =
                diagnostic.span.map_or_else(String::new, |span| format!("{}:{} ", span.start.line, span.start.column));
            let kind = if diagnostic.is_error() { "E" } else { "W" };
            format!("{kind} {place}{} {}", diagnostic.code, diagnostic.message)
        })
        .collect()
}

fn check_said(text: &str, expected: &[&str]) {
    assert_eq!(said(text), expected, "{text}");
}

/// A workflow with one job of these steps.
fn steps(steps: &str) -> String {
    format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{steps}")
}

#[test]
fn places_survive_marks_and_line_ends() {
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    foo: 1\n";
    let expected = ["E 5:5 TL105 Unexpected value 'foo'"];
    check_said(text, &expected);
    check_said(&format!("\u{feff}{text}"), &expected);
    check_said(&text.replace('\n', "\r\n"), &expected);
    check_said(&format!("# é ü 漢字\n{text}"), &["E 6:5 TL105 Unexpected value 'foo'"]);
}

#[test]
fn needs_name_every_edge_of_a_circle() {
    let job = |id: &str, needs: &str| format!("  {id}:\n    needs: {needs}\n    runs-on: x\n");
    let text = format!("on: push\njobs:\n  s:\n    runs-on: x\n{}{}", job("a", "[b, s]"), job("b", "A"));
    check_said(
        &text,
        &[
            "E 6:13 TL121 Job 'a' depends on job 'b' which creates a cycle in the dependency graph.",
            "E 9:12 TL121 Job 'b' depends on job 'a' which creates a cycle in the dependency graph.",
        ],
    );
    let text = format!("on: push\njobs:\n{}", job("a", "nobody"));
    check_said(
        &text,
        &[
            "E 3:3 TL121 The workflow must contain at least one job with no dependencies.",
            "E 4:12 TL121 Job 'a' depends on unknown job 'nobody'.",
        ],
    );
    let (workflow, _) = parse("x", &format!("on: push\njobs:\n  Ab:\n    runs-on: x\n{}", job("b", "[aB, AB]")));
    assert_eq!(workflow.expect("is valid").jobs["b"].needs, ["Ab"]);
}

#[test]
fn ids_are_checked_and_made_up() {
    check_said(
        &steps(
            "      - { id: __x, run: a }\n      - { id: 1x, run: a }\n      - { id: s, run: a }\n      - { id: S, run: a }\n",
        ),
        &[
            "E 6:15 TL120 The identifier '__x' is invalid. IDs starting with '__' are reserved.",
            "E 7:15 TL120 The identifier '1x' is invalid. IDs may only contain alphanumeric characters, '_', and '-'. \
             IDs must start with a letter or '_' and must be less than 100 characters.",
            "E 9:15 TL104 The identifier 'S' may not be used more than once within the same scope.",
        ],
    );
    let (workflow, _) =
        parse("x", &steps("      - uses: ./a\n      - uses: $/b\n      - parallel: [{ run: x }]\n      - run: y\n"));
    let workflow = workflow.expect("is valid");
    let model::JobBody::Steps { steps, .. } = &workflow.jobs["a"].body else { unreachable!("it has steps") };
    let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["__self", "__self_2", "__parallel", "__run_2"]);
}

#[test]
fn background_steps_are_waited_for_by_name() {
    check_said(
        &steps(
            "      - { id: s, run: a, background: true }\n      - { id: t, run: a }\n      - wait: [s, t, u]\n      \
             - cancel: v\n      - wait-all: false\n",
        ),
        &[
            "W 8:19 TL124 step 't' does not run in the background",
            "E 8:22 TL124 no step before this one has the id 'u'",
            "E 9:17 TL124 no step before this one has the id 'v'",
            "E 10:19 TL107 The value of 'wait-all' must be true or omitted",
        ],
    );
}

#[test]
fn conditions_that_are_text_are_pointed_out() {
    let always = "this condition is always true: it is text, not an expression";
    let cases = [
        ("${{ github.ref }} == 'x'", true),
        ("${{ a || true }}", false),
        ("!${{ github.ref }}", true),
        ("${{ github.ref == 'x' }}", false),
        ("github.ref == 'x'", false),
    ];
    for (condition, constant) in cases {
        let text = steps(&format!("      - if: \"{condition}\"\n        run: x\n"));
        let warned = said(&text).iter().any(|line| line.ends_with(always));
        assert_eq!(warned, constant, "{condition}");
    }
}

#[test]
fn scripts_with_text_of_strangers_are_pointed_out() {
    let cases = [
        ("echo ${{ github.event.pull_request.title }}", true),
        ("echo ${{ github.event.commits[0].message }}", true),
        ("echo ${{ github['head_ref'] }}", true),
        ("echo ${{ contains(github.event.issue.body, 'x') }}", false),
        ("echo ${{ github.event.pull_request.number }}", false),
        ("echo ${{ github.sha }}", false),
    ];
    for (script, unsafe_script) in cases {
        let warned = said(&steps(&format!("      - run: {script}\n"))).iter().any(|line| line.contains("TL201"));
        assert_eq!(warned, unsafe_script, "{script}");
    }
}

#[test]
fn references_to_nothing_are_pointed_out() {
    check_said(
        &steps(
            "      - run: echo ${{ steps.later.outputs.x }}\n      - { id: later, run: x, shell: fish }\n      \
             - run: echo ${{ steps.LATER.outputs.x }} ${{ needs.b.result }}\n      - run: echo \"::set-output name=a::b\"\n",
        ),
        &[
            "W 6:14 TL204 no step before this place has the id 'later'",
            "W 7:37 TL203 'fish' is no shell GitHub knows",
            "W 8:14 TL205 the job does not need 'b'",
            "W 9:14 TL202 the workflow command `set-output` is deprecated",
        ],
    );
}

#[test]
fn scalars_are_read_as_github_reads_them() {
    let numbers = "[1, 007, 0x1F, 0o17, 0b11, -0x1, 1e3, .5, +.5, 1_000, '007', .inf, 1e999, !!str 5, ~, 'true', True]";
    let text = format!("on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {{ matrix: {{ v: {numbers} }} }}\n");
    let (workflow, found) = parse("x", &text);
    assert!(found.is_empty(), "{found:?}");
    let workflow = workflow.expect("is valid");
    let values = workflow.jobs["a"].strategy.as_ref().and_then(|token| token.get("matrix")?.get("v"));
    let Some(token::Token::Sequence(values)) = values else { unreachable!("the vector is a list") };
    let read: Vec<String> = values
        .iter()
        .map(|value| match value {
            token::Token::Number(number) => number.to_string(),
            token::Token::String(text) => format!("'{text}'"),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        read,
        [
            "1",
            "7",
            "31",
            "15",
            "'0b11'",
            "'-0x1'",
            "1000",
            "0.5",
            "0.5",
            "'1_000'",
            "'007'",
            "inf",
            "inf",
            "'5'",
            "Null",
            "'true'",
            "Bool(true)"
        ]
    );
}

#[test]
fn references_to_actions_have_a_form() {
    let cases = [
        ("actions/checkout@v4", true),
        ("a/b/c/d@refs/heads/x", true),
        ("./x", true),
        ("$/x", true),
        ("docker://alpine:3", true),
        ("docker://", false),
        ("actions/checkout", false),
        ("checkout@v4", false),
        ("$/x@v1", false),
        ("a/b@", false),
        ("/a/b@v1", false),
        ("", false),
    ];
    for (uses, valid) in cases {
        assert_eq!(parse_reference(uses).is_some(), valid, "{uses}");
        if let Some(reference) = parse_reference(uses) {
            assert_eq!(reference.to_string(), uses);
        }
    }
}

#[test]
fn steps_have_names() {
    let (workflow, _) = parse(
        "x",
        &steps(
            "      - run: |\n          echo  a\n          b\n      - uses: a/b@v1\n      - run: echo ${{ github.sha }}\n",
        ),
    );
    let workflow = workflow.expect("is valid");
    let model::JobBody::Steps { steps, .. } = &workflow.jobs["a"].body else { unreachable!("it has steps") };
    let names: Vec<String> = steps.iter().map(|step| step.default_name(None)).collect();
    assert_eq!(names, ["Run echo  a", "Run a/b@v1", "Run ${{ format('echo {0}', github.sha) }}"]);
    assert_eq!(steps[2].default_name(Some("echo 5\nx")), "Run echo 5");
}

#[test]
fn groups_that_queue_do_not_cancel() {
    check_said(
        "on: push\nconcurrency: { group: a, queue: max, cancel-in-progress: true }\njobs:\n  a:\n    runs-on: x\n",
        &["E 2:33 TL125 `queue: max` cannot stand beside `cancel-in-progress: true`"],
    );
    check_said("on: push\nconcurrency: { group: a, queue: max }\njobs:\n  a:\n    runs-on: x\n", &[]);
}

#[test]
fn containers_have_images() {
    check_said(
        "on: push\njobs:\n  a:\n    runs-on: x\n    container: { options: --cpus 1 }\n    services:\n      db: { image: \
         postgres, command: x, entrypoint: y }\n      no: { env: {} }\n",
        &["E 5:16 TL106 Container image cannot be empty", "E 8:11 TL106 Container image cannot be empty"],
    );
}

#[test]
fn towline_listens_to_paths() {
    let (workflow, found) = parse("x", "on: { towline: { paths: [a, 'b/**'] } }\njobs: { a: { runs-on: x } }\n");
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(
        workflow.expect("is valid").on.events["towline"].paths.as_deref(),
        Some(&["a".to_owned(), "b/**".to_owned()][..])
    );
}

#[test]
fn one_fault_hides_no_other() {
    // What follows a faulty reference, or stands in a step of no kind, is looked at as well.
    check_said(
        &steps(
            "      - uses: nobody\n        with: x\n        if: foo\n      - env: { A: '${{ a[ }}' }\n        timeout-minutes: x\n",
        ),
        &[
            "E 6:15 TL122 Expected format {org}/{repo}[/path]@ref. Actual 'nobody'",
            "E 7:15 TL107 Unexpected value 'x'",
            "E 8:13 TL003 Unrecognized named-value: 'foo'. Located at position 1 within expression: foo",
            "E 9:9 TL106 There's not enough info to determine what you meant. Add one of these properties: run, uses",
            "E 9:19 TL003 Unrecognized named-value: 'a'. Located at position 1 within expression: a[",
            "E 10:26 TL107 Unexpected value 'x'",
        ],
    );
    check_said(
        "on:\n  workflow_call:\n    outputs:\n      o:\n        description: []\njobs:\n  a:\n    runs-on: x\n",
        &["E 5:9 TL106 Required property is missing: value", "E 5:22 TL107 A sequence was not expected"],
    );
    // A key that is an expression might have been the missing one.
    check_said("on: push\n${{ insert }}: {}\n", &["E 2:1 TL006 A template expression is not allowed in this context"]);
}

#[test]
fn values_below_expressions_have_the_shape_of_their_neighbours() {
    let env = |env: &str| format!("on: push\nenv:\n  {env}\njobs:\n  a:\n    runs-on: x\n");
    check_said(&env("${{ github.ref }}: a"), &[]);
    check_said(&env("${{ insert }}: '${{ github }}'"), &[]);
    check_said(&env("${{ github.ref }}: [a]"), &["E 3:22 TL107 A sequence was not expected"]);
    check_said(&env("${{ insert }}: { a: b }"), &["E 3:18 TL107 A mapping was not expected"]);
}

#[test]
fn defaults_may_be_one_expression() {
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    defaults:\n      run: ${{ matrix.run }}\n";
    let (workflow, found) = parse("x", text);
    assert!(found.is_empty(), "{found:?}");
    let defaults = &workflow.expect("is valid").jobs["a"].defaults;
    let contexts = serde_json::from_str(r#"{"matrix": {"run": {"shell": "sh", "working-directory": "d"}}}"#).unwrap();
    let scope = crate::expr::Scope { contexts: &contexts, functions: &crate::expr::NoFunctions };
    let value = |token: &Option<token::Token>| token.as_ref().and_then(|token| token.evaluate(&scope).ok());
    assert_eq!(value(&defaults.shell), Some("sh".into()));
    assert_eq!(value(&defaults.working_directory), Some("d".into()));
}

#[test]
fn absent_keys_have_a_place() {
    for (text, place) in [("on: push\n?\njobs: {}\n", "E 2:2 TL105"), ("on: push\njobs: {}\n?\n", "E 3:2 TL105")] {
        let said = said(text);
        assert!(said.iter().any(|line| line.starts_with(place)), "{text}: {said:?}");
    }
}

#[test]
fn what_githubs_service_refuses_before_a_job_runs() {
    let job = |keys: &str| format!("on: push\njobs:\n  a:\n    runs-on: x\n{keys}");
    let group = "c".repeat(401);
    for (keys, expected) in [
        ("    container: docker://\n", &["E 5:16 TL106 Container image cannot be empty"][..]),
        (
            "    services: { a: 'docker://', b: { image: 'docker://' } }\n",
            &["E 5:20 TL106 Container image cannot be empty", "E 5:36 TL106 Container image cannot be empty"],
        ),
        ("    container: ''\n", &[]),
        ("    strategy: { matrix: {} }\n", &["E 5:25 TL123 Matrix must define at least one vector"]),
        ("    strategy: { matrix: { include: [] } }\n", &["E 5:25 TL123 Matrix must define at least one vector"]),
        ("    strategy: { matrix: { include: '${{ fromJSON(vars.A) }}' } }\n", &[]),
        (
            "    strategy: { matrix: { a: [1], exclude: [{ b: 1 }, {}], include: [{}] } }\n",
            &[
                "E 5:47 TL123 Matrix exclude key 'b' does not match any key within the matrix",
                "E 5:55 TL123 Matrix exclude filter must not be empty",
                "E 5:70 TL123 Matrix include mapping does not contain any values",
            ],
        ),
        ("    strategy: { matrix: { A: [1], exclude: [{ a: 1 }] } }\n", &[]),
        ("    strategy: { matrix: { a: '${{ fromJSON(vars.A) }}', exclude: [{ b: 1 }] } }\n", &[]),
    ] {
        check_said(&job(keys), expected);
    }
    check_said(
        &job(&format!("    concurrency: {group}\n")),
        &["E 5:18 TL125 Concurrency group name must be less than 400 characters"],
    );
    let wanted = "Please use 'organization/' or 'enterprise/' prefix to target a single runner group.";
    for (group, expected) in [
        ("org/a", None),
        ("a", None),
        ("a/b", Some(format!("E 4:23 TL107 Invalid runs-on group name 'a/b'. {wanted}"))),
        ("org/a/b", Some(format!("E 4:23 TL107 Invalid runs-on group name 'org/a/b'. {wanted}"))),
        ("org/", Some("E 4:23 TL107 Invalid runs-on group name 'org/'.".to_owned())),
    ] {
        let text = format!("on: push\njobs:\n  a:\n    runs-on: {{ group: {group} }}\n");
        assert_eq!(said(&text), Vec::from_iter(expected), "{text}");
    }
    let (version, called) = ("1.*", "on: { workflow_call: { inputs: { a: { type: boolean, default: 'true' } } } }\n");
    assert!(said(&job(&format!("    snapshot: {{ image-name: x, version: '{version}' }}\n")))[0].starts_with("W "));
    let refused = said(&job("    snapshot: { image-name: x, version: v1 }\n"));
    assert!(refused.iter().any(|line| line.starts_with("E 5:15 TL107 Expected format")), "{refused:?}");
    check_said(&job("").replace("on: push\n", called), &["E 1:63 TL117 Unexpected value 'true'"]);
}
