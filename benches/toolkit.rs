//! How fast a step's output becomes log lines.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use towline::toolkit::command::Settings;
use towline::toolkit::mask::Masks;
use towline::toolkit::matcher::{Matchers, MatchersFile};
use towline::toolkit::output::StepOutput;
use towline::toolkit::stamp::Lines;

const LINES: usize = 100_000;

fn main() {
    divan::main();
}

fn secrets(count: usize) -> Masks {
    let secrets: Vec<String> = (0..count).map(|number| format!("s3cr3t-{number}-{}", "k".repeat(30))).collect();
    secrets.iter().map(String::as_str).collect()
}

fn compiler_output() -> String {
    (0..LINES).map(|number| format!("   Compiling some-crate-{number} v0.1.0 (/code/repo/crates/{number})\n")).collect()
}

fn run(bencher: Bencher<'_, '_>, text: &str, masks: &Masks, matchers: &Matchers) {
    let lines = text.lines().count();
    bencher.counter(ItemsCount::new(lines)).counter(BytesCount::new(text.len())).bench_local(|| {
        let mut masks = masks.clone();
        let mut output = StepOutput::new(Settings::default(), matchers);
        let mut log = Lines::new(jiff::Timestamp::UNIX_EPOCH);
        let mut effects = Vec::new();
        for chunk in text.as_bytes().chunks(32 * 1024) {
            output.feed(chunk, &mut masks, &mut log, &mut effects);
            if log.bytes().len() > 1024 * 1024 {
                log.clear();
            }
        }
        effects.len()
    });
}

#[divan::bench]
fn plain_lines(bencher: Bencher<'_, '_>) {
    run(bencher, &compiler_output(), &Masks::new(), &Matchers::default());
}

#[divan::bench(args = [1, 5, 50])]
fn plain_lines_with_secrets(bencher: Bencher<'_, '_>, count: usize) {
    let masks = secrets(count);
    // Builds the automaton before the clock starts.
    assert!(!masks.hits(b""));
    run(bencher, &compiler_output(), &masks, &Matchers::default());
}

#[divan::bench]
fn a_secret_in_every_line(bencher: Bencher<'_, '_>) {
    let masks = secrets(5);
    let secret = masks.values().next().expect("five secrets").to_owned();
    let text: String = (0..LINES).map(|number| format!("line {number} says {secret} to everyone\n")).collect();
    run(bencher, &text, &masks, &Matchers::default());
}

#[divan::bench]
fn a_command_in_every_line(bencher: Bencher<'_, '_>) {
    let text: String = (0..LINES).map(|number| format!("::debug::line {number}\n")).collect();
    run(bencher, &text, &secrets(5), &Matchers::default());
}

#[divan::bench]
fn windows_line_ends(bencher: Bencher<'_, '_>) {
    run(bencher, &compiler_output().replace('\n', "\r\n"), &secrets(5), &Matchers::default());
}

#[divan::bench]
fn three_problem_matchers(bencher: Bencher<'_, '_>) {
    let file = MatchersFile::parse(
        br#"{"problemMatcher":[
            {"owner":"tsc","pattern":[{"regexp":"^(?:\\s+\\d+\\>)?([^\\s].*)\\((\\d+)(?:,(\\d+)(?:,\\d+(?:,\\d+)?)?)?\\)\\s*:\\s+(error|warning|info)\\s+(\\w{1,2}\\d+)\\s*:\\s*(.*)$","file":1,"line":2,"column":3,"severity":4,"code":5,"message":6}]},
            {"owner":"eslint-compact","pattern":[{"regexp":"^(.+):\\sline\\s(\\d+),\\scol\\s(\\d+),\\s(Error|Warning|Info)\\s-\\s(.+)\\s\\((.+)\\)$","file":1,"line":2,"column":3,"severity":4,"message":5,"code":6}]},
            {"owner":"eslint-stylish","pattern":[{"regexp":"^\\s*([^\\s].*)$","file":1},{"regexp":"^\\s+(\\d+):(\\d+)\\s+(error|warning|info)\\s+(.*)\\s\\s+(.*)$","line":1,"column":2,"severity":3,"message":4,"code":5,"loop":true}]}
        ]}"#,
    )
    .expect("a valid file");
    let mut matchers = Matchers::default();
    matchers.add(file).expect("valid matchers");
    run(bencher, &compiler_output(), &secrets(5), &matchers);
}
