//! How long it takes to plan a run with a matrix of 256 legs, and to select workflows for an event.

use std::collections::BTreeMap;

use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::Timestamp;
use serde_json::Map;
use towline::event::dispatch::{self, DispatchInputs, Place};
use towline::event::select;
use towline::id::{JobId, RepositoryName, RunId};
use towline::plan::Files;
use towline::run::{Run, RunSpec};
use towline::workflow;

fn main() {
    divan::main();
}

fn spec(text: &str) -> RunSpec {
    let place = Place {
        repository: RepositoryName("octo/hello".to_owned()),
        git_ref: "refs/heads/main".to_owned(),
        sha: "1".repeat(40),
        default_branch: "main".to_owned(),
        actor: "mona".to_owned(),
        server_url: "https://github.com".to_owned(),
    };
    let mut event = dispatch::workflow_dispatch(Timestamp::UNIX_EPOCH, &place, "ci.yml", &DispatchInputs::default());
    event.name = "push".to_owned();
    event.workflow = None;
    RunSpec {
        run: RunId(1),
        run_number: 1,
        attempt: 1,
        workflow_path: "ci.yml".to_owned(),
        workflow_text: text.to_owned(),
        workflow_sha: event.sha.clone(),
        called: BTreeMap::new(),
        inputs: Map::new(),
        vars: Map::new(),
        triggering_actor: event.actor.clone(),
        debug: false,
        hold_minutes: 0,
        only: None,
        event,
    }
}

fn matrix(legs: usize) -> String {
    let list = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let (outer, inner) = (legs / 16, 16);
    format!(
        "on: {{push: {{branches: [main, 'releases/**'], paths-ignore: ['docs/**']}}}}
jobs:
  legs:
    strategy: {{matrix: {{a: [{}], b: [{}], exclude: [{{a: -1}}], include: [{{a: 1, x: y}}]}}}}
    name: Leg ${{{{ matrix.a }}}} of ${{{{ matrix.b }}}}
    runs-on: [self-hosted, \"${{{{ matrix.a == 1 && 'big' || 'small' }}}}\"]
    timeout-minutes: ${{{{ matrix.b }}}}
    steps: [{{run: make}}]
",
        list(outer),
        list(inner)
    )
}

/// From text to 256 queued jobs.
#[divan::bench(args = [16, 256])]
fn start(bencher: Bencher<'_, '_>, legs: usize) {
    let spec = spec(&matrix(legs));
    bencher.counter(ItemsCount::new(legs)).with_inputs(|| spec.clone()).bench_values(|spec| {
        let mut last = 0;
        Run::start(Timestamp::UNIX_EPOCH, spec, &Files::default(), &mut || {
            last += 1;
            JobId(last)
        })
    });
}

/// The orders of 256 jobs.
#[divan::bench]
fn orders(bencher: Bencher<'_, '_>) {
    let mut last = 0;
    let (run, _) = Run::start(Timestamp::UNIX_EPOCH, spec(&matrix(256)), &Files::default(), &mut || {
        last += 1;
        JobId(last)
    });
    bencher
        .counter(ItemsCount::new(256_usize))
        .bench_local(|| run.state().jobs.keys().filter_map(|job| run.order(*job)).count());
}

/// Does an event start a workflow?
#[divan::bench]
fn selection(bencher: Bencher<'_, '_>) {
    let spec = spec(&matrix(16));
    let (parsed, _) = workflow::parse("ci.yml", &spec.workflow_text);
    let parsed = parsed.expect("the sample is a workflow");
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| select(&parsed, &spec.event));
}
