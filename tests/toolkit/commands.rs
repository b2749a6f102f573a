//! Commands and command files: `conformance/commands`.

use serde_json::Value as Json;
use towline::run::report::AnnotationLevel;
use towline::toolkit::annotation;
use towline::toolkit::command::{Command, Rules, Said, Settings};
use towline::toolkit::environment::{Variables, add_path};
use towline::toolkit::file_command::{FileCommand, pairs};
use towline::toolkit::mask::Masks;
use towline::toolkit::output::Effect;

use super::{each_case, texts};
use crate::support::conformance;

fn check_parse(case: &Json) {
    let registered = texts(&case["registered"]);
    let known = |name: &str| {
        case["registered"].is_null() || registered.iter().any(|registered| registered.eq_ignore_ascii_case(name))
    };
    let command = Command::parse(case["line"].as_str().unwrap(), known);
    if case["parses"] == Json::Bool(false) {
        assert_eq!(command, None);
        return;
    }
    let command = command.expect("the line is a command");
    if let Some(name) = case["command"].as_str() {
        assert!(command.name.eq_ignore_ascii_case(name), "{}", command.name);
    }
    if let Some(properties) = case["properties"].as_object() {
        assert_eq!(command.properties.len(), properties.len(), "{command:?}");
        for (key, value) in properties {
            assert_eq!(command.property(key), value.as_str(), "{key}");
        }
    }
    if let Some(data) = case["data"].as_str() {
        assert_eq!(command.data, data);
    }
}

#[test]
fn lines_are_taken_apart() {
    let Some(folder) = conformance("commands") else { return };
    each_case(&folder.join("parse.json"), check_parse);
    each_case(&folder.join("parse-legacy.json"), check_parse);
}

#[test]
fn files_are_read() {
    let Some(folder) = conformance("commands") else { return };
    each_case(&folder.join("files.json"), |case| {
        let kind = match case["kind"].as_str().unwrap() {
            "env" => FileCommand::Env,
            "output" => FileCommand::Output,
            "state" => FileCommand::State,
            other => panic!("kind {other}"),
        };
        // A file that is not there says nothing.
        let read = pairs(kind, case["content"].as_str().unwrap_or_default().as_bytes());
        if let Some(error) = case["error_contains"].as_str() {
            assert!(read.error.as_deref().is_some_and(|text| text.contains(error)), "{:?}", read.error);
            return;
        }
        assert_eq!(read.error, None);
        assert_eq!(read.refused.len() as u64, case["issues"].as_u64().unwrap_or(0));
        let values: Variables = read.pairs.into_iter().collect();
        let expected = case["expected"].as_object().unwrap();
        assert_eq!(values.len(), expected.len(), "{values:?}");
        for (name, value) in expected {
            assert_eq!(values.get(name).map(String::as_str), value.as_str(), "{name}");
        }
    });
}

#[test]
fn annotations_are_validated() {
    let Some(folder) = conformance("commands") else { return };
    each_case(&folder.join("annotations.json"), |case| {
        let mut command = Command::parse(case["line"].as_str().unwrap(), |_| true).unwrap();
        annotation::validate(&mut command);
        for (key, value) in case["properties_after_validation"].as_object().unwrap() {
            assert_eq!(command.property(key), value.as_str(), "{key}");
        }
        for key in texts(&case["removed"]) {
            assert_eq!(command.property(&key), None, "{key}");
        }
        let said = annotation::from_command(&command, AnnotationLevel::Warning, &annotation::Paths::default());
        assert_eq!(said.line, command.property("line").and_then(|line| line.parse().ok()));
    });
}

#[test]
fn commands_are_obeyed() {
    let Some(folder) = conformance("commands") else { return };
    each_case(&folder.join("process.json"), |case| {
        let is_true = |json: &Json| json.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let settings = Settings {
            allow_unsecure_commands: is_true(&case["env"]["ACTIONS_ALLOW_UNSECURE_COMMANDS"]),
            allow_unsecure_stop_tokens: is_true(&case["env"]["ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS"]),
            debug: is_true(&case["vars"]["ACTIONS_STEP_DEBUG"]),
            ..Settings::default()
        };
        let mut rules = Rules::new(&settings);
        let mut masks = Masks::new();
        let mut variables = Variables::new();
        let (mut outputs, mut state) = (Variables::new(), Variables::new());
        let mut path = Vec::new();
        if let Some(echo) = case["echo_before"].as_bool() {
            assert_eq!(rules.echo(), echo);
        }
        for (at, entry) in case["sequence"].as_array().unwrap().iter().enumerate() {
            let line = entry[0].as_str().unwrap();
            let mut said = Vec::new();
            let taken = rules.obey(line, &settings, &mut masks, &mut said);
            let failed = said.iter().any(|said| matches!(said, Said::Effect(Effect::FailStep)));
            match &entry[1] {
                Json::Bool(expected) => assert_eq!((taken, failed), (*expected, false), "{line}"),
                _ => assert_eq!((taken, failed), (true, true), "{line}"),
            }
            if let Some(echo) = case["echo_after_each"][at].as_bool() {
                assert_eq!(rules.echo(), echo, "{line}");
            }
            for said in said {
                match said {
                    Said::Effect(Effect::SetEnv { name, value }) => drop(variables.insert(name, value)),
                    Said::Effect(Effect::SetOutput { name, value }) => drop(outputs.insert(name, value)),
                    Said::Effect(Effect::SaveState { name, value }) => drop(state.insert(name, value)),
                    Said::Effect(Effect::AddPath(directory)) => add_path(&mut path, directory),
                    _ => {}
                }
            }
        }
        for (expected, found) in
            [(&case["env_afterwards"], &variables), (&case["outputs"], &outputs), (&case["state"], &state)]
        {
            for (name, value) in expected.as_object().into_iter().flatten() {
                assert_eq!(found.get(name).map(String::as_str), value.as_str(), "{name}");
            }
        }
        if case["path_added"].is_array() {
            assert_eq!(path, texts(&case["path_added"]));
        }
        for mask in case["mask"].as_array().into_iter().flatten() {
            assert_eq!(masks.apply(mask[0].as_str().unwrap()), mask[1].as_str().unwrap());
        }
    });
}
