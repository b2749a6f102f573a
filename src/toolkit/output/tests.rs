use super::*;
use crate::toolkit::annotation::Paths;
use crate::toolkit::stamp::LENGTH;

struct Step {
    output: StepOutput,
    masks: Masks,
    log: Lines,
    effects: Vec<Effect>,
}

fn step(settings: Settings) -> Step {
    Step {
        output: StepOutput::new(settings, &Matchers::default()),
        masks: ["hush-hush"].into_iter().collect(),
        log: Lines::new("2026-01-02T03:04:05Z".parse().unwrap()),
        effects: Vec::new(),
    }
}

impl Step {
    fn feed(&mut self, bytes: &[u8]) -> usize {
        self.output.feed(bytes, &mut self.masks, &mut self.log, &mut self.effects)
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.log.bytes().to_vec()).unwrap();
        let lines: Vec<String> = text.lines().map(|line| line[LENGTH + 1..].to_owned()).collect();
        assert_eq!(lines.len() as u64, self.log.count());
        lines
    }
}

/// Feeds a whole stream and compares the log.
fn check(stream: &[u8], expect: &[&str]) -> Vec<Effect> {
    let mut step = step(Settings::default());
    assert_eq!(step.feed(stream), stream.len());
    step.output.finish(&mut step.masks, &mut step.log, &mut step.effects);
    assert_eq!(step.lines(), expect);
    step.effects
}

#[test]
fn every_kind_of_line_end_ends_a_line() {
    check(b"a\nb\r\nc\rd\n\n\re", &["a", "b", "c", "d", "", "", "e"]);
    check(b"10%\r20%\r\n", &["10%", "20%"]);
    check(b"", &[]);
    check(b"no end", &["no end"]);
    check(b"bad \xff byte\n", &["bad \u{fffd} byte"]);
}

#[test]
fn commands_speak_as_at_github() {
    let effects = check(
        b"::group::G\nx hush-hush\n::endgroup::\n::error file=/w/a.rs,line=3::oh %0Ahush-hush\n::debug::d\n::warning::w\n::notice::n\n::unknown::u\n",
        &[
            "##[group]G",
            "x ***",
            "##[endgroup]",
            "##[error]oh ",
            "***",
            "##[warning]w",
            "##[notice]n",
            "::unknown::u",
        ],
    );
    let Effect::Annotation { annotation, .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!((annotation.message.as_str(), annotation.line), ("oh \n***", Some(3)));
    assert_eq!(effects.len(), 3);
}

#[test]
fn debug_lines_and_echo_come_with_step_debug() {
    let mut step = step(Settings { debug: true, step_id: "s".to_owned(), ..Settings::default() });
    step.feed(b"::debug::a%0Ab\n::add-mask::new one\n::save-state name=x::new one\n");
    assert_eq!(
        step.lines(),
        [
            "##[debug]a",
            "##[debug]b",
            "::add-mask::***",
            "::save-state name=x::***",
            "##[warning]The `save-state` command is deprecated and will be disabled soon. Please upgrade to using Environment Files. For more information see: https://github.blog/changelog/2022-10-11-github-actions-deprecating-save-state-and-set-output-commands/",
            "##[debug]Save intra-action state x = ***",
        ]
    );
}

#[test]
fn insecure_commands_fail_the_step() {
    let effects = check(
        b"::set-env name=a::b\n",
        &[
            "##[error]Unable to process command '::set-env name=a::b' successfully.",
            "##[error]The `set-env` command is disabled. Please upgrade to using Environment Files or opt into unsecure command execution by setting the `ACTIONS_ALLOW_UNSECURE_COMMANDS` environment variable to `true`. For more information see: https://github.blog/changelog/2020-10-01-github-actions-deprecating-set-env-and-add-path-commands/",
        ],
    );
    assert_eq!(effects.last(), Some(&Effect::FailStep));
}

#[test]
fn annotations_are_limited_and_lines_are_not() {
    let mut step = step(Settings { step_number: Some(4), ..Settings::default() });
    step.feed("::error::e\n".repeat(25).as_bytes());
    step.feed(format!("::notice::{}\n", "n".repeat(LONGEST_MESSAGE + 1)).as_bytes());
    assert_eq!(step.lines().len(), 26);
    assert_eq!(step.effects.len(), 11);
    let Effect::Annotation { annotation, .. } = &step.effects[10] else { panic!() };
    assert_eq!((annotation.message.len(), annotation.step), (LONGEST_MESSAGE, Some(4)));
}

#[test]
fn matchers_wait_for_their_file() {
    let mut step =
        step(Settings { paths: Paths { workspace: "/w".to_owned(), ..Paths::default() }, ..Settings::default() });
    let stream = b"::add-matcher::m.json\nERR src/../a.rs: hush-hush\n";
    let taken = step.feed(stream);
    assert_eq!(taken, 22);
    assert_eq!(step.effects, [Effect::AddMatchers { file: "/w/m.json".to_owned() }]);
    let file = MatchersFile::parse(
        br#"{"problemMatcher":[{"owner":"o","pattern":[{"regexp":"^ERR (.+): (.+)$","file":1,"message":2}]}]}"#,
    );
    step.output.add_matchers("m.json", file, &step.masks, &mut step.log, &mut step.effects);
    step.feed(&stream[taken..]);
    assert_eq!(step.lines(), ["##[error]ERR src/../a.rs: ***"]);
    let Effect::Annotation { annotation, file_on_host } = &step.effects[1] else { panic!() };
    assert_eq!((annotation.file.as_deref(), file_on_host.as_deref()), (Some("a.rs"), Some("/w/a.rs")));
    step.output.add_matchers("m.json", Err("no such file".to_owned()), &step.masks, &mut step.log, &mut step.effects);
    assert_eq!(step.effects.last(), Some(&Effect::FailStep));
}

#[test]
fn a_line_without_end_is_printed_in_pieces() {
    let secret = "hush-hush";
    for before in [LONGEST_LINE - 4, LONGEST_LINE - 9, LONGEST_LINE] {
        let line = format!("{}{secret}{}", "ü".repeat(before / 2), "y".repeat(LONGEST_LINE));
        let mut whole = step(Settings::default());
        whole.feed(line.as_bytes());
        assert!(whole.output.held() <= LONGEST_LINE);
        whole.feed(b"\nnext\n");
        let lines = whole.lines();
        assert_eq!(lines.last().map(String::as_str), Some("next"));
        assert_eq!(lines[..lines.len() - 1].concat(), line.replace(secret, "***"));
        // The same pieces, however the stream is cut.
        let mut cut = step(Settings::default());
        for chunk in line.as_bytes().chunks(77_777) {
            cut.feed(chunk);
        }
        cut.feed(b"\nnext\n");
        assert_eq!(cut.lines(), lines);
    }
}

#[test]
fn a_command_may_be_longer_than_a_line() {
    let value = "v".repeat(LONGEST_LINE * 2);
    let effects = check(
        format!("  ::save-state name=x::{value}\n").as_bytes(),
        &[
            "##[warning]The `save-state` command is deprecated and will be disabled soon. Please upgrade to using Environment Files. For more information see: https://github.blog/changelog/2022-10-11-github-actions-deprecating-save-state-and-set-output-commands/",
        ],
    );
    assert_eq!(effects.last(), Some(&Effect::SaveState { name: "x".to_owned(), value }));
}
