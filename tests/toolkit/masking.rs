//! Masks: `conformance/masking`, and the promise that how a stream is cut makes no difference.

use proptest::prelude::*;
use towline::toolkit::command::Settings;
use towline::toolkit::mask::Masks;
use towline::toolkit::matcher::{Matchers, MatchersFile};
use towline::toolkit::output::{Effect, StepOutput};
use towline::toolkit::stamp::Lines;

use super::{each_case, texts};
use crate::support::conformance;

#[test]
fn secrets_are_masked() {
    let Some(folder) = conformance("masking") else { return };
    each_case(&folder.join("mask.json"), |case| {
        let secrets = texts(&case["secrets"]);
        let masks: Masks = secrets.iter().map(String::as_str).collect();
        assert_eq!(masks.apply(case["input"].as_str().unwrap()), case["output"].as_str().unwrap());
    });
}

/// What came of a stream: the log, the effects, and how often the state was stored and restored on the way.
fn follow(bytes: &[u8], cuts: &[usize], restore: bool) -> (String, Vec<Effect>) {
    let file = MatchersFile::parse(
        br#"{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"^in (\\w+)$","file":1},{"regexp":"^bad (.*)$","message":1,"loop":true}]}]}"#,
    )
    .unwrap();
    let settings = Settings { allow_unsecure_commands: true, debug: true, ..Settings::default() };
    let mut output = StepOutput::new(settings, &Matchers::default());
    let mut masks: Masks = ["hush-hush", "two\nlines"].into_iter().collect();
    let mut log = Lines::new("2026-01-02T03:04:05Z".parse().unwrap());
    let mut effects = Vec::new();
    let mut at = 0;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    for end in ends {
        while at < end {
            at += output.feed(&bytes[at..end], &mut masks, &mut log, &mut effects);
            if let Some(Effect::AddMatchers { file: name }) = effects.last() {
                let name = name.clone();
                effects.pop();
                output.add_matchers(&name, Ok(file.clone()), &masks, &mut log, &mut effects);
            }
        }
        if restore {
            at -= output.held();
            output = serde_json::from_str(&serde_json::to_string(&output).unwrap()).unwrap();
            masks = serde_json::from_str(&serde_json::to_string(&masks).unwrap()).unwrap();
            if end < bytes.len() {
                continue;
            }
            output.feed(&bytes[at..end], &mut masks, &mut log, &mut effects);
            at = end;
        }
    }
    output.finish(&mut masks, &mut log, &mut effects);
    (String::from_utf8(log.bytes().to_vec()).unwrap(), effects)
}

/// Pieces of output in which something can go wrong.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("hush-hush"),
        Just("two"),
        Just("lines"),
        Just("aHVzaC1odXNo"),
        Just("\n"),
        Just("\r\n"),
        Just("\r"),
        Just("::add-mask::new secret"),
        Just("new secret"),
        Just("::add-matcher::m.json\n"),
        Just("::remove-matcher owner=x::\n"),
        Just("in file\nbad news\n"),
        Just("bad\n"),
        Just("::error file=a.rs::hush-hush"),
        Just("##[group]"),
        Just("::stop-commands::a-long-token\n"),
        Just("::a-long-token::\n"),
        Just("::set-output name=a::b"),
        Just("\u{1b}[31m"),
        Just("ü\u{1f980}"),
        Just(" "),
        Just("plain text"),
    ]
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_make_no_difference(
        pieces in prop::collection::vec(piece(), 0..40),
        cuts in prop::collection::vec(0..2000_usize, 0..12),
    ) {
        let text = pieces.concat();
        let whole = follow(text.as_bytes(), &[], false);
        prop_assert_eq!(&follow(text.as_bytes(), &cuts, false), &whole);
        prop_assert_eq!(&follow(text.as_bytes(), &cuts, true), &whole);
        let every: Vec<usize> = (0..text.len()).collect();
        prop_assert_eq!(&follow(text.as_bytes(), &every, false), &whole);
        prop_assert!(!whole.0.contains("hush-hush"), "{}", whole.0);
    }

    #[test]
    fn any_bytes_become_lines(bytes in prop::collection::vec(any::<u8>(), 0..600), cuts in prop::collection::vec(0..600_usize, 0..5)) {
        let whole = follow(&bytes, &[], false);
        prop_assert_eq!(&follow(&bytes, &cuts, true), &whole);
    }

    #[test]
    fn masked_text_holds_no_secret(secret in "[ -~]{4,20}", before in "[ -~]{0,30}", after in "[ -~]{0,30}") {
        let masks: Masks = [secret.as_str()].into_iter().collect();
        // Stars are what masks put there.
        prop_assume!(!secret.contains('*') && !before.contains('*') && !after.contains('*'));
        let text = format!("{before}{secret}{after}");
        let masked = masks.apply(&text);
        prop_assert!(!masked.contains(&secret));
        prop_assert!(masked.contains("***"));
    }
}
