//! How many expressions are read and evaluated in a second.

use divan::Bencher;
use divan::counter::ItemsCount;
use towline::expr::{Expression, Names, NoFunctions, Object, Scope, condition, template};

fn main() {
    divan::main();
}

/// What workflows in the wild are full of.
const EXPRESSIONS: [&str; 8] = [
    "github.event_name == 'push' && github.ref == 'refs/heads/main'",
    "matrix.os",
    "needs.build.outputs.version",
    "contains(github.event.head_commit.message, '[release]') || startsWith(github.ref, 'refs/tags/v')",
    "format('{0}-{1}-{2}', runner.os, matrix.node, env.CACHE)",
    "fromJSON(needs.build.outputs.matrix)",
    "contains(github.event.pull_request.labels.*.name, 'ci: full')",
    "!github.event.pull_request.draft && (inputs.full || env.FULL == 'true')",
];

fn contexts() -> Object {
    let labels: Vec<String> = (0..20).map(|number| format!(r#"{{"name": "label {number}"}}"#)).collect();
    let text = format!(
        r#"{{
            "github": {{"event_name": "push", "ref": "refs/heads/main", "event": {{
                "head_commit": {{"message": "a message of ordinary length"}},
                "pull_request": {{"draft": false, "labels": [{}]}}}}}},
            "matrix": {{"os": "ubuntu-latest", "node": 20}}, "runner": {{"os": "Linux"}},
            "needs": {{"build": {{"outputs": {{"version": "1.2.3", "matrix": "{{\"include\":[{{\"a\":1}},{{\"a\":2}}]}}"}}}}}},
            "env": {{"CACHE": "v3", "FULL": "true"}}, "inputs": {{"full": false}}
        }}"#,
        labels.join(",")
    );
    serde_json::from_str(&text).expect("the contexts are JSON")
}

#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(EXPRESSIONS.len())).bench(|| {
        EXPRESSIONS.map(|source| Expression::parse(divan::black_box(source), &Names::STEP).expect("it is well-formed"))
    });
}

#[divan::bench]
fn evaluate(bencher: Bencher<'_, '_>) {
    let contexts = contexts();
    let parsed = EXPRESSIONS.map(|source| Expression::parse(source, &Names::STEP).expect("it is well-formed"));
    bencher.counter(ItemsCount::new(EXPRESSIONS.len())).bench(|| {
        let scope = Scope { contexts: &contexts, functions: &NoFunctions };
        parsed.each_ref().map(|expression| expression.evaluate(&scope).expect("it has a value"))
    });
}

#[divan::bench]
fn conditions(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(EXPRESSIONS.len())).bench(|| {
        EXPRESSIONS
            .map(|source| condition::parse(divan::black_box(source), &Names::STEP_IF).expect("it is well-formed"))
    });
}

/// A script of 8 KiB with ten expressions in it.
#[divan::bench]
fn script(bencher: Bencher<'_, '_>) {
    let line = format!("{}\necho '${{{{ matrix.os }}}}'\n", "make all check install\n".repeat(36));
    let text = line.repeat(10);
    bencher
        .counter(ItemsCount::new(1_usize))
        .bench(|| template::parse(divan::black_box(&text), &Names::STEP).expect("it is well-formed"));
}
