//! Problem matchers: `conformance/problem-matchers`.

use serde_json::{Value as Json, json};
use towline::run::report::AnnotationLevel;
use towline::toolkit::annotation::Paths;
use towline::toolkit::command::Settings;
use towline::toolkit::mask::Masks;
use towline::toolkit::matcher::{Matcher, MatcherConfig, Matchers, MatchersFile};
use towline::toolkit::output::{Effect, StepOutput};
use towline::toolkit::stamp::{LENGTH, Lines};

use super::{each_case, texts};
use crate::support::conformance;

#[test]
fn files_are_checked() {
    let Some(folder) = conformance("problem-matchers") else { return };
    each_case(&folder.join("config.json"), |case| {
        let read = MatchersFile::from_json(&case["config"]).and_then(|file| file.validate());
        assert_eq!(read.is_ok(), case["valid"].as_bool().unwrap(), "{read:?}");
    });
}

fn check_matches(case: &Json) {
    let mut matcher = Matcher::new(MatcherConfig::from_json(&case["matcher"]).unwrap()).unwrap();
    for entry in case["lines"].as_array().unwrap() {
        let line = entry["line"].as_str().unwrap();
        let found = matcher.feed(line).unwrap();
        let Some(expected) = entry["match"].as_object() else {
            assert_eq!(found, None, "{line}");
            continue;
        };
        let found = found.unwrap_or_else(|| panic!("no match on {line}"));
        for (property, value) in expected {
            let text = match property.as_str() {
                "file" => &found.file,
                "fromPath" => &found.from_path,
                "line" => &found.line,
                "column" => &found.column,
                "severity" => &found.severity,
                "code" => &found.code,
                "message" => &found.message,
                other => panic!("property {other}"),
            };
            assert_eq!(text.as_deref().unwrap_or_default(), value.as_str().unwrap_or_default(), "{property} of {line}");
        }
    }
}

#[test]
fn lines_are_matched() {
    let Some(folder) = conformance("problem-matchers") else { return };
    each_case(&folder.join("match.json"), check_matches);
    each_case(&folder.join("real-world.json"), check_matches);
}

/// Matchers of the table, as one file; GitHub's runner searches them in the order given.
fn file(matchers: &[Json]) -> MatchersFile {
    MatchersFile::from_json(&json!({ "problemMatcher": matchers })).unwrap()
}

#[test]
fn findings_are_reported() {
    let Some(folder) = conformance("problem-matchers") else { return };
    each_case(&folder.join("output.json"), |case| {
        let workspace = "/work/repo";
        let paths = Paths {
            workspace: workspace.to_owned(),
            repository: case["repository_root"].as_str().map(|root| format!("{workspace}/{root}")),
            mounts: Vec::new(),
        };
        let files = texts(&case["workspace_files"]);
        let registered = texts(&case["registered_commands"]);
        let settings = Settings { paths, ..Settings::default() };
        let mut matchers = Matchers::default();
        // The first of the table is the first to be asked, and the newest are asked first.
        for matcher in case["matchers"].as_array().into_iter().flatten().rev() {
            matchers.add(file(std::slice::from_ref(matcher))).unwrap();
        }
        let mut output = StepOutput::new(settings, &matchers);
        let mut masks = Masks::new();
        let mut log = Lines::new("2026-01-02T03:04:05Z".parse().unwrap());
        let mut effects = Vec::new();
        for event in case["events"].as_array().unwrap() {
            if let Some(line) = event["line"].as_str() {
                // The table's own commands stand for any that is known: `debug` is.
                let line = registered
                    .iter()
                    .fold(line.to_owned(), |line, name| line.replace(&format!("##[{name}]"), "##[debug]"));
                output.feed(format!("{line}\n").as_bytes(), &mut masks, &mut log, &mut effects);
            } else if event["add"].is_object() {
                let added = Ok(file(std::slice::from_ref(&event["add"])));
                output.add_matchers("m.json", added, &masks, &mut log, &mut effects);
            } else if let Some(owner) = event["remove"].as_str() {
                output.remove_matchers([owner]);
            } else {
                panic!("event {event}");
            }
        }
        let issues: Vec<_> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Annotation { annotation, file_on_host } => (annotation, file_on_host),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = case["issues"].as_array().unwrap();
        assert_eq!(issues.len(), expected.len(), "{issues:?}");
        for ((annotation, file_on_host), expected) in issues.into_iter().zip(expected) {
            let exists = file_on_host
                .as_deref()
                .and_then(|file| file.strip_prefix(workspace)?.strip_prefix('/'))
                .is_some_and(|file| files.iter().any(|known| known == file));
            for (property, value) in expected.as_object().unwrap() {
                let found = match property.as_str() {
                    "message" => Some(annotation.message.clone()),
                    "level" => Some(level(annotation.level).to_owned()),
                    "file" => annotation.file.clone().filter(|_| exists),
                    "line" => annotation.line.map(|number| number.to_string()),
                    "col" | "column" => annotation.column.map(|number| number.to_string()),
                    // A code is not part of an annotation; the raw one is checked with the matches.
                    "code" => continue,
                    other => panic!("property {other}"),
                };
                let value =
                    value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|number| number.to_string()));
                assert_eq!(found, value, "{property}");
            }
        }
        let printed: Vec<&str> = std::str::from_utf8(log.bytes())
            .unwrap()
            .lines()
            .map(|line| &line[LENGTH + 1..])
            .filter(|line| {
                !["##[debug]", "##[error]", "##[warning]", "##[notice]"].iter().any(|tag| line.starts_with(tag))
            })
            .collect();
        let expected = texts(&case["output"]);
        let expected: Vec<&str> =
            expected.iter().map(String::as_str).filter(|line| !line.starts_with("##[debug]")).collect();
        assert_eq!(printed, expected);
    });
}

fn level(level: AnnotationLevel) -> &'static str {
    match level {
        AnnotationLevel::Notice => "notice",
        AnnotationLevel::Warning => "warning",
        AnnotationLevel::Failure => "error",
    }
}
