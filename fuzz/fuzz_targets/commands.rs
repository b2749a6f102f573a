//! A step's output gives the same log and the same effects however it is cut; command files never fail to be read.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use towline::toolkit::command::Settings;
use towline::toolkit::file_command::{FileCommand, pairs, paths, summary};
use towline::toolkit::mask::Masks;
use towline::toolkit::matcher::Matchers;
use towline::toolkit::output::StepOutput;
use towline::toolkit::stamp::Lines;

fuzz_target!(|data: &[u8]| {
    let Some((cut, output)) = data.split_first() else { return };
    let whole = run(output, output.len().max(1));
    assert_eq!(run(output, usize::from(*cut).max(1)), whole);
    for kind in [FileCommand::Env, FileCommand::Output, FileCommand::State] {
        let _ = pairs(kind, output);
    }
    let _ = paths(output);
    let _ = summary(output, &Masks::new());
});

/// The log and the effects, when the output comes in pieces of this size.
fn run(output: &[u8], size: usize) -> (Vec<u8>, String) {
    let mut masks = Masks::new();
    masks.add("s3cret");
    let mut step = StepOutput::new(Settings::default(), &Matchers::default());
    let mut log = Lines::new(Timestamp::UNIX_EPOCH);
    let mut effects = Vec::new();
    for piece in output.chunks(size) {
        let mut rest = piece;
        while !rest.is_empty() {
            let taken = step.feed(rest, &mut masks, &mut log, &mut effects);
            rest = &rest[taken..];
        }
    }
    step.finish(&mut masks, &mut log, &mut effects);
    (log.bytes().to_vec(), format!("{effects:?}"))
}
