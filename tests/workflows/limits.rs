//! Input that nobody should write: a clear error, never a panic, never a long wait.

use std::fmt::Write as _;

use proptest::prelude::*;
use towline::workflow::{check, parse, parse_action};

use super::errors;

const SAMPLE: &str = r#"name: CI
on:
  push: { branches: [main, 'release/**'] }
  workflow_dispatch:
    inputs:
      level: { type: choice, options: [a, b], default: a }
permissions: read-all
env: &env
  A: ${{ github.sha }}
jobs:
  build:
    strategy:
      matrix: { os: [a, b], include: [{ os: c, x: 1.5 }] }
    runs-on: ${{ matrix.os }}
    env: *env
    outputs: { v: "${{ steps.s.outputs.v }}" }
    steps:
      - uses: actions/checkout@v4
      - id: s
        if: success() && github.ref == 'refs/heads/main'
        run: |
          echo "v=${{ matrix.x }}" >> "$GITHUB_OUTPUT"
        background: true
      - wait: s
  call:
    needs: [build]
    uses: ./.github/workflows/other.yml
    with: { a: true }
    secrets: inherit
"#;

#[test]
fn the_sample_is_accepted() {
    let found = check("ci.yml", SAMPLE, &|_| {
        Some("on: { workflow_call: { inputs: { a: { type: boolean } } } }\njobs: { j: { runs-on: x } }".to_owned())
    });
    assert!(errors(&found).is_empty(), "{found:?}");
}

fn swallow(text: &str) {
    let (model, found) = parse("ci.yml", text);
    assert!(model.is_some() || !errors(&found).is_empty(), "refused without a reason: {text:?}");
    assert!(model.is_none() || errors(&found).is_empty(), "accepted with errors: {text:?}");
    for diagnostic in &found {
        // Rendering slices the text by the places that were found.
        let _ = towline::diagnostic::text(diagnostic, Some(text), false);
    }
    let (action, found) = parse_action("action.yml", text);
    assert!(action.is_some() || !errors(&found).is_empty(), "refused without a reason: {text:?}");
    let _ = check("ci.yml", text, &|_| Some(text.to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        swallow(&text);
    }

    #[test]
    fn yaml_like_text_is_read_or_refused(
        lines in prop::collection::vec(
            "( ){0,8}(- )?(on|jobs|a|\\$\\{\\{ insert \\}\\}|<<|~|\\?|'x'|é)?(: )?(push|&a|\\*a|\\[|\\]|\\{|\\}|!!int|!x|\\||>-|null|0x1F|007|1e999|\\$\\{\\{|\\}\\}|\"|')?",
            0..14,
        )
    ) {
        swallow(&lines.join("\n"));
    }

    #[test]
    fn a_workflow_with_random_damage_is_read_or_refused(
        damage in prop::collection::vec((0..SAMPLE.len(), "\\PC?|[:\\-\\[\\]{}&*!|>'\"#%@` \n\t]"), 1..6)
    ) {
        let mut text = SAMPLE.to_owned();
        for (at, insert) in damage {
            let at = text.floor_char_boundary(at.min(text.len()));
            let end = text.ceil_char_boundary((at + 1).min(text.len()));
            text.replace_range(at..end, &insert);
        }
        swallow(&text);
    }
}

/// Refused, with this code first.
fn refused(text: &str, code: &str) {
    let (model, found) = parse("ci.yml", text);
    assert!(model.is_none());
    assert_eq!(errors(&found).first().map(|diagnostic| diagnostic.code), Some(code), "{:?}", errors(&found).first());
}

#[test]
fn aliases_may_not_explode() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let before = level - 1;
        let aliases = vec![format!("*a{before}"); 10].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    refused(&bomb, "TL102");
}

#[test]
fn an_alias_may_not_hold_itself() {
    refused("on: push\njobs: &jobs\n  a: *jobs\n", "TL103");
}

#[test]
fn nesting_is_bounded() {
    refused(&format!("on: push\njobs: {}{}\n", "[".repeat(60), "]".repeat(60)), "TL103");
    refused(&format!("on: push\njobs: {}", "[".repeat(500_000)), "TL103");
    refused(&format!("on: push\njobs: {}", "{a: ".repeat(200_000)), "TL103");
    let mut block = String::from("on: push\njobs:\n");
    for depth in 1..120 {
        writeln!(block, "{}a:", " ".repeat(depth)).unwrap();
    }
    refused(&block, "TL103");
}

#[test]
fn size_is_bounded() {
    let head = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n";
    let line = "      - run: echo a line of a long workflow that goes on and on\n";
    let lines = |bytes: usize| format!("{head}{}", line.repeat((bytes - head.len()) / line.len()));
    let (model, found) = parse("ci.yml", &lines((1 << 20) - 100));
    assert!(model.is_some(), "{:?}", errors(&found).first());
    refused(&lines((1 << 20) + 200), "TL102");
    let script = |length: usize| format!("{head}      - run: {}\n", "x".repeat(length));
    assert!(parse("ci.yml", &script(21_000)).0.is_some());
    refused(&script(21_001), "TL126");
    let many: String = (0..20_000).map(|n| format!("  k{n}: x\n")).collect();
    refused(&format!("on: push\njobs:\n{many}"), "TL107");
}

#[test]
fn many_faults_are_cut_short() {
    let jobs: String = (0..5_000).map(|n| format!("  j{n}: {{ runs-on: x, foo: 1 }}\n")).collect();
    let (_, found) = parse("ci.yml", &format!("on: push\njobs:\n{jobs}"));
    assert!(found.len() <= 201, "{}", found.len());
}

#[test]
fn long_chains_and_circles_of_needs_end() {
    let chain: String = (0..3_000)
        .map(|n| {
            format!(
                "  j{n}: {{ runs-on: x, needs: [{}] }}\n",
                if n == 0 { String::new() } else { format!("j{}", n - 1) }
            )
        })
        .collect();
    let (model, found) = parse("ci.yml", &format!("on: push\njobs:\n{chain}"));
    assert!(model.is_some(), "{:?}", found.first());
    let circle: String =
        (0..3_000).map(|n| format!("  j{n}: {{ runs-on: x, needs: j{} }}\n", (n + 1) % 3_000)).collect();
    refused(&format!("on: push\njobs:\n{circle}"), "TL121");
}

#[test]
fn a_workflow_that_calls_itself_ends() {
    let text = "on: [push, workflow_call]\njobs:\n  a:\n    uses: ./.github/workflows/ci.yml\n";
    let found = check(".github/workflows/ci.yml", text, &|_| Some(text.to_owned()));
    assert_eq!(errors(&found).first().map(|diagnostic| diagnostic.code), Some("TL143"));
    let wide: String = (0..20).map(|n| format!("  a{n}:\n    uses: ./.github/workflows/ci.yml\n")).collect();
    let wide = format!("on: [push, workflow_call]\njobs:\n{wide}");
    let found = check(".github/workflows/ci.yml", &wide, &|_| Some(wide.clone()));
    assert!(!errors(&found).is_empty());
}
