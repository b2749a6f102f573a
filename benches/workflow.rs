//! How fast workflow files are checked. With the known answers at hand, the starter workflows; else one typical file.

use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
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
    let texts: Vec<String> = workflows()
        .iter()
        .map(|text| text.replace("$default-branch", "main").replace("$cron-weekly", "30 1 * * 0"))
        .collect();
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
