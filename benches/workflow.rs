//! How fast workflow files are checked. With the known answers at hand, the starter workflows; else one typical file.
//!
//! First the whole command beside `wrkflw validate` on the same files, where that is installed (`cargo install wrkflw`;
//! `TOWLINE_WRKFLW` names the program).

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use divan::counter::{BytesCount, ItemsCount};

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    if std::env::args().any(|argument| argument == "--bench") {
        beside_wrkflw();
    }
    divan::main();
}

/// The command as people run it, from its start to its end, by turns with its peer: on the files as they are, where the
/// start of a process weighs most, and on as many as a large organisation has, where the work does.
fn beside_wrkflw() {
    let texts = texts();
    for files in [texts.len(), 2000] {
        beside_wrkflw_on(&texts, files);
    }
}

fn beside_wrkflw_on(texts: &[String], files: usize) {
    const ROUNDS: usize = 11;
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join(".github/workflows");
    std::fs::create_dir_all(&place).expect("a directory");
    for (number, text) in texts.iter().cycle().take(files).enumerate() {
        std::fs::write(place.join(format!("{number}.yml")), text).expect("a file");
    }
    let time = |program: &PathBuf, arguments: &[&str]| {
        let begin = Instant::now();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory.path());
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok().then(|| begin.elapsed().as_secs_f64() * 1e3)
    };
    let named = std::env::var_os("TOWLINE_WRKFLW").map(PathBuf::from);
    let peer = named.unwrap_or_else(|| PathBuf::from("wrkflw"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.extend(time(&PathBuf::from(env!("CARGO_BIN_EXE_towline")), &["check", ".github/workflows"]));
        theirs.extend(time(&peer, &["validate", ".github/workflows"]));
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    };
    let Some(ours) = median(&mut ours) else { return };
    print!("towline check, {files} files, the whole command: {ours:.1} ms");
    match median(&mut theirs) {
        Some(theirs) => println!("; wrkflw validate: {theirs:.1} ms, ratio {:.2} (wanted >= 5)", theirs / ours),
        None => println!("; skipped: wrkflw is not installed"),
    }
}

/// The workflows with their templates' variables filled in.
fn texts() -> Vec<String> {
    let fill = |text: &String| text.replace("$default-branch", "main").replace("$cron-weekly", "30 1 * * 0");
    workflows().iter().map(fill).collect()
}

const TYPICAL: &str = r#"name: CI
on:
  push: { branches: [main] }
  pull_request:
jobs:
  test:
    strategy:
      matrix: { os: [ubuntu-latest, macos-latest], node: [20, 22, 24] }
    runs-on: ${{ matrix.os }}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-node@v4
        with: { node-version: "${{ matrix.node }}" }
      - run: npm ci
      - run: npm test -- --shard=${{ strategy.job-index }}
        if: github.event_name == 'push' || !github.event.pull_request.draft
  publish:
    needs: test
    if: github.ref == 'refs/heads/main'
    runs-on: ubuntu-latest
    permissions: { contents: read, id-token: write }
    steps:
      - uses: actions/checkout@v4
      - run: npm publish
        env: { NODE_AUTH_TOKEN: "${{ secrets.NPM_TOKEN }}" }
"#;

fn workflows() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/conformance/starter-workflows");
    let mut texts = Vec::new();
    for directory in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(directory.path()).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|extension| extension == "yml") {
                texts.extend(std::fs::read_to_string(file.path()));
            }
        }
    }
    if texts.is_empty() {
        texts.push(TYPICAL.to_owned());
    }
    texts
}

#[divan::bench]
fn check_workflows(bencher: divan::Bencher<'_, '_>) {
    let texts = texts();
    bencher
        .counter(ItemsCount::new(texts.len()))
        .counter(BytesCount::new(texts.iter().map(String::len).sum::<usize>()))
        .bench(|| {
            texts
                .iter()
                .map(|text| towline::workflow::check("ci.yml", divan::black_box(text), &|_| None).len())
                .sum::<usize>()
        });
}

#[divan::bench]
fn check_one(bencher: divan::Bencher<'_, '_>) {
    bencher.bench(|| towline::workflow::check("ci.yml", divan::black_box(TYPICAL), &|_| None));
}

#[divan::bench]
fn place_many_faults(bencher: divan::Bencher<'_, '_>) {
    let text: String = (0..200).map(|n| format!("  j{n}: {{ runs-on: x, foo: 1 }}\n")).collect();
    let text = format!("on: push\njobs:\n{text}");
    bencher.bench(|| towline::workflow::check("ci.yml", divan::black_box(&text), &|_| None));
}
