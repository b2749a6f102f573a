//! Every known answer twice: through the library and through `towline eval`.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value as Json, json};
use towline::expr::template::{self, Template};
use towline::expr::{
    EvaluationError, Expression, Functions, MAX_MEMORY_ALONE, Names, NoFunctions, Object, Scope, StatusFunction,
    SyntaxErrorKind, Value,
};

use crate::support::{conformance, towline};

/// What is expected of one expression.
#[derive(Debug)]
enum Expected {
    Value { kind: String, value: Json },
    Error { kind: String, message: Option<String> },
}

#[derive(Debug)]
struct Case {
    id: String,
    expr: String,
    contexts: Json,
    expected: Expected,
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

fn case(id: String, case: &Json, fallback: &Json) -> Case {
    let expected = match case.get("err") {
        Some(error) => Expected::Error {
            kind: error["kind"].as_str().unwrap().to_owned(),
            message: error["value"].as_str().map(str::to_owned),
        },
        None => Expected::Value {
            kind: case["result"]["kind"].as_str().unwrap().to_owned(),
            value: case["result"]["value"].clone(),
        },
    };
    let contexts = case.get("contexts").or(Some(fallback)).filter(|contexts| contexts.is_object());
    Case {
        id,
        expr: case["expr"].as_str().unwrap().to_owned(),
        contexts: contexts.cloned().unwrap_or_else(|| json!({})),
        expected,
    }
}

/// All cases that have an expression and a value or an error.
fn cases(root: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for file in files(&root.join("languageservices")) {
        for (group, group_cases) in read(&file).as_object().unwrap() {
            for (number, each) in group_cases.as_array().unwrap().iter().enumerate() {
                let id = format!("{}/{group}/{number}", file.file_name().unwrap().display());
                cases.push(case(id, each, &Json::Null));
            }
        }
    }
    for file in files(&root.join("act")).into_iter().chain([root.join("divergences.json")]) {
        let table = read(&file);
        for each in table["cases"].as_array().unwrap() {
            cases.push(case(each["id"].as_str().unwrap().to_owned(), each, &table["contexts"]));
        }
    }
    cases
}

fn library(case: &Case) -> Json {
    let contexts: Object = serde_json::from_value(case.contexts.clone()).unwrap();
    let expression = match Expression::parse(&case.expr, &Names::given(contexts.keys())) {
        Ok(expression) => expression,
        Err(error) => {
            let kind = if error.kind == SyntaxErrorKind::Lexing { "lexing" } else { "parsing" };
            assert!(case.expr.is_char_boundary(error.offset), "{}: offset {}", case.id, error.offset);
            return json!({"error": {"kind": kind, "message": error.message}});
        }
    };
    let scope = Scope { contexts: &contexts, functions: &NoFunctions };
    match expression.evaluate_within(&scope, MAX_MEMORY_ALONE) {
        Ok(value) => json!({"kind": value.kind(), "value": value.to_json()}),
        Err(error) => json!({"error": {"kind": "evaluation", "message": error.to_string()}}),
    }
}

fn compare(case: &Case, answer: &Json, faults: &mut Vec<String>) {
    let right = match &case.expected {
        Expected::Value { kind, value } => answer["kind"] == **kind && same(value, &answer["value"]),
        Expected::Error { kind, .. } => answer["error"]["kind"] == **kind,
    };
    if !right {
        faults.push(format!("{}: {:?} expected {:?}, got {answer}", case.id, case.expr, case.expected));
    }
}

/// JSON equality, but numbers as doubles.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (a, b) => a == b,
    }
}

fn report(name: &str, count: usize, faults: &[String]) {
    println!("{name}: {} of {count} as expected, 0 skipped", count - faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn values_and_errors_through_the_library() {
    let Some(root) = conformance("expressions") else { return };
    let cases = cases(&root);
    assert!(cases.len() > 400, "only {} cases were read", cases.len());
    let mut faults = Vec::new();
    for case in &cases {
        compare(case, &library(case), &mut faults);
    }
    report("expressions", cases.len(), &faults);
}

/// The wording is GitHub's. Two vectors name a position that cannot be right and lack the expression.
#[test]
fn messages_are_those_of_github() {
    let Some(root) = conformance("expressions") else { return };
    let mut count = 0;
    let mut faults = Vec::new();
    for case in cases(&root) {
        let Expected::Error { message: Some(expected), .. } = &case.expected else { continue };
        count += 1;
        let answer = library(&case);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        let without_position = expected.split(". Located").next().unwrap();
        if message != expected && !(case.expr.contains("nonExistent") && message.starts_with(without_position)) {
            faults.push(format!("{}: {expected:?} expected, got {answer}", case.id));
        }
    }
    report("messages", count, &faults);
}

fn ask(requests: &[Json]) -> Vec<Json> {
    let mut child = towline().args(["eval", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn values_and_errors_through_the_binary() {
    let Some(root) = conformance("expressions") else { return };
    let cases = cases(&root);
    let mut requests: Vec<Json> =
        cases.iter().map(|case| json!({"expr": case.expr, "contexts": case.contexts})).collect();
    // The same again between ${{ and }}; nothing at all, and a string that is never closed, stay as they are.
    requests.extend(cases.iter().map(|case| {
        let wrapped = format!("${{{{ {} }}}}", case.expr);
        let closed = case.expr.matches('\'').count() % 2 == 0 && !case.expr.is_empty();
        json!({"expr": if closed { wrapped } else { case.expr.clone() }, "contexts": case.contexts})
    }));
    let answers = ask(&requests);
    assert_eq!(answers.len(), requests.len());
    let mut faults = Vec::new();
    for (case, answer) in cases.iter().chain(&cases).zip(&answers) {
        compare(case, answer, &mut faults);
    }
    report("expressions through the binary", answers.len(), &faults);
}

/// Every word counts as a known context here, and every called one is a function of the language.
#[test]
fn syntax() {
    let Some(root) = conformance("expressions/actionlint/syntax.json") else { return };
    let table = read(&root);
    let cases = table["cases"].as_array().unwrap();
    let mut faults = Vec::new();
    for case in cases {
        let expr = case["expr"].as_str().unwrap();
        let result = Expression::parse(expr, &Names::ANY);
        if result.is_ok() != case["valid"].as_bool().unwrap() {
            faults.push(format!("{}: {expr:?} gave {result:?}", case["id"]));
        }
    }
    report("syntax", cases.len(), &faults);
}

/// A format string that is well-formed asks for exactly the arguments it mentions.
#[test]
fn format_specifiers() {
    let Some(root) = conformance("expressions/actionlint/format-specifiers.json") else { return };
    let table = read(&root);
    let cases = table["cases"].as_array().unwrap();
    let mut faults = Vec::new();
    for case in cases {
        let format = case["format"].as_str().unwrap();
        let highest = case["specifiers"].as_array().unwrap().iter().filter_map(Json::as_u64).max();
        let arguments: String = (0..highest.map_or(0, |highest| highest + 1)).map(|n| format!(", '<{n}>'")).collect();
        let source = format!("format('{}'{arguments})", format.replace('\'', "''"));
        let scope = Scope { contexts: &Object::new(), functions: &NoFunctions };
        let result = Expression::parse(&source, &Names::NONE).unwrap().evaluate(&scope);
        let right = match &result {
            Ok(Value::String(text)) => {
                case["specifiers"].as_array().unwrap().iter().all(|number| text.contains(&format!("<{number}>")))
            }
            Ok(_) => false,
            // Malformed for us: then no argument may be expected of it, or another part of it is at fault.
            Err(_) => highest.is_none() || format.contains("}}") || format.contains("{{"),
        };
        if !right {
            faults.push(format!("{}: {format:?} gave {result:?}", case["id"]));
        }
    }
    report("format strings", cases.len(), &faults);
}

#[test]
fn allowed_names() {
    let Some(root) = conformance("expressions/runner/parse.json") else { return };
    let table = read(&root);
    let cases = table["cases"].as_array().unwrap();
    let mut faults = Vec::new();
    for case in cases {
        let contexts = case["allowed_contexts"].as_array().unwrap().iter().filter_map(Json::as_str);
        let result = Expression::parse(case["expr"].as_str().unwrap(), &Names::given(contexts));
        let right = match (&result, case["error_contains"].as_str()) {
            (Ok(_), _) => case["valid"] == true,
            (Err(error), Some(part)) => case["valid"] == false && error.message.contains(part),
            (Err(_), None) => case["valid"] == false,
        };
        if !right {
            faults.push(format!("{}: {result:?}", case["id"]));
        }
    }
    report("allowed names", cases.len(), &faults);
}

/// Through the binary, with the status where a step finds it.
#[test]
fn status_functions() {
    let Some(root) = conformance("expressions/runner/status-functions.json") else { return };
    let table = read(&root);
    let cases = table["cases"].as_array().unwrap();
    let requests: Vec<Json> = cases
        .iter()
        .map(|case| {
            let mut contexts = json!({"job": {"status": case["job_status"]}});
            if case["inside_composite_action"] == true {
                // A composite action in which no step has ended yet is one in which none has failed.
                let status = case["action_status"].as_str().unwrap_or("success");
                contexts["github"] = json!({"action_status": status});
            }
            json!({"expr": case["expr"], "contexts": contexts})
        })
        .collect();
    let mut faults = Vec::new();
    for (case, answer) in cases.iter().zip(ask(&requests)) {
        if answer["value"] != case["expected"] {
            faults.push(format!("{}: {answer}", case["id"]));
        }
    }
    report("status functions", cases.len(), &faults);
}

#[test]
fn interpolation() {
    let Some(root) = conformance("expressions/interpolation/interpolate.json") else { return };
    let table = read(&root);
    let contexts: Object = serde_json::from_value(table["contexts"].clone()).unwrap();
    let cases = table["cases"].as_array().unwrap();
    let mut faults = Vec::new();
    for case in cases {
        let template = case["template"].as_str().unwrap();
        let text = match template::parse(template, &Names::STEP).unwrap() {
            Template::Text(text) => text,
            Template::Expression(expression) => {
                let scope = Scope { contexts: &contexts, functions: &NoFunctions };
                expression.evaluate(&scope).unwrap().to_display_string()
            }
            Template::Insert => panic!("no case inserts"),
        };
        if text != case["output"].as_str().unwrap() {
            faults.push(format!("{}: {template:?} gave {text:?}", case["id"]));
        }
    }
    report("interpolation", cases.len(), &faults);
}

#[test]
fn rewriting() {
    let Some(root) = conformance("expressions/interpolation/rewrite.json") else { return };
    let table = read(&root);
    let cases = table["cases"].as_array().unwrap();
    let mut faults = Vec::new();
    for case in cases {
        let expected = case["format_expression"].as_str().unwrap();
        let result = match template::parse(case["template"].as_str().unwrap(), &Names::NONE).unwrap() {
            Template::Text(text) => text,
            Template::Expression(expression) if case["single_expression"] == true => {
                format!("${{{{ {} }}}}", expression.source())
            }
            Template::Expression(expression) => expression.source().to_owned(),
            Template::Insert => panic!("no case inserts"),
        };
        if result != expected {
            faults.push(format!("{}: {result:?}", case["id"]));
        }
    }
    report("rewriting", cases.len(), &faults);
}

/// N5, E14: what the vectors leave open.
#[test]
fn laziness_and_job_names() {
    struct Asked(std::cell::RefCell<Vec<String>>);
    impl Functions for Asked {
        fn status(&self, function: StatusFunction, jobs: &[String]) -> Result<bool, EvaluationError> {
            self.0.borrow_mut().push(format!("{}({})", function.name(), jobs.join(" ")));
            Ok(true)
        }
        fn hash_files(&self, patterns: &[String]) -> Result<String, EvaluationError> {
            Err(EvaluationError::HashFiles(patterns.to_vec()))
        }
    }
    let contexts = Object::new();
    let evaluate = |source: &str| {
        let asked = Asked(Default::default());
        let scope = Scope { contexts: &contexts, functions: &asked };
        let value = Expression::parse(source, &Names::ANY).unwrap().evaluate(&scope);
        (value, asked.0.into_inner().join(","))
    };
    assert_eq!(evaluate("success('a', 'B') && failure()"), (Ok(Value::Bool(true)), "success(a B),failure()".into()));
    assert_eq!(evaluate("true || success()"), (Ok(Value::Bool(true)), String::new()));
    assert_eq!(evaluate("case(false, success(), true, 7, failure())"), (Ok(Value::Number(7.0)), String::new()));
    assert_eq!(evaluate("format('{1}', success(), 'x')"), (Ok(Value::string("x")), String::new()));
    let wanted = EvaluationError::HashFiles(vec!["**/a".into(), "!b".into()]);
    assert_eq!(evaluate("format('{0}', hashFiles('**/a', '!b'))").0, Err(wanted));
}
