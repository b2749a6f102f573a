//! Bad and excessive input: refused, in bounded time and memory, and never a panic.

use serde_json::Value as Json;
use towline::expr::{Expression, Names, NoFunctions, Object, Scope};

use crate::support::towline;

fn evaluate(source: &str) -> Result<String, String> {
    let contexts: Object = serde_json::from_str(r#"{"a": {"b": [1, 2, 3]}}"#).unwrap();
    let expression = Expression::parse(source, &Names::given(["a"])).map_err(|error| error.message)?;
    let scope = Scope { contexts: &contexts, functions: &NoFunctions };
    expression.evaluate(&scope).map(|value| value.to_display_string()).map_err(|error| error.to_string())
}

#[test]
fn length() {
    let fits = format!("'{}'", "x".repeat(20_998));
    assert_eq!(evaluate(&fits).map(|text| text.len()), Ok(20_998));
    assert_eq!(evaluate(&format!("{fits}0")), Err("Exceeded max expression length 21000".to_owned()));
    // UTF-16 units count, not bytes.
    assert!(evaluate(&format!("'{}'", "ä".repeat(20_998))).is_ok());
    assert!(evaluate(&format!("'{}'", "😊".repeat(10_500))).is_err());
}

#[test]
fn depth() {
    for (open, close) in [("(", ")"), ("!", ""), ("a[", "]"), ("format(", ")"), ("true && (", ")")] {
        let nested = |levels: usize| format!("{}'x'{}", open.repeat(levels), close.repeat(levels));
        assert!(evaluate(&nested(20)).is_ok(), "{open}");
        for levels in [60, 2_000] {
            let error = evaluate(&nested(levels)).unwrap_err();
            assert_eq!(error, "Exceeded max expression depth 50", "{open}");
        }
    }
    // Chains of one level may be as long as an expression may be.
    for operator in ["==", "<", "&&", "||"] {
        assert!(evaluate(&vec!["1"; 4_000].join(operator)).is_ok(), "{operator}");
    }
}

#[test]
fn memory() {
    // Twenty levels of doubling would be a gigabyte.
    let mut source = "'0123456789'".to_owned();
    for _ in 0..5 {
        source = format!("format('{}', {source})", "{0}".repeat(20));
    }
    assert_eq!(evaluate(&source), Err("The maximum allowed memory size was exceeded".to_owned()));
    let joined = format!(
        "join(fromJSON(format('[{{0}}1]', '{}')), format('{{0}}{{0}}{{0}}', '{}'))",
        "1,".repeat(9_000),
        "x".repeat(300)
    );
    assert_eq!(evaluate(&joined), Err("The maximum allowed memory size was exceeded".to_owned()));
}

#[test]
fn json_depth() {
    let deep = format!("fromJSON(format('{{0}}{{1}}', '{}', '{}'))", "[".repeat(9_000), "]".repeat(9_000));
    assert!(evaluate(&deep).unwrap_err().starts_with("Error parsing fromJson"));
}

#[test]
fn eval_answers_bad_lines_and_goes_on() {
    use std::io::Write;
    let mut child = towline()
        .args(["eval", "--stdin"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"{\n\n\xff\n{\"expr\": \"1 < 2\"}\n{\"expr\":\"a\",\"contexts\":[]}\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let answers: Vec<Json> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[2], serde_json::json!({"kind": "Boolean", "value": true}));
    for bad in [0, 1, 3] {
        assert_eq!(answers[bad]["error"]["kind"], "request");
    }
}

#[test]
fn eval_of_one_expression() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("contexts.json");
    std::fs::write(&file, r#"{"github": {"Ref": "refs/heads/main"}}"#).unwrap();
    let run = |expression: &str| {
        let output = towline().args(["eval", expression, "--contexts"]).arg(&file).output().unwrap();
        let answer: Json = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
    };
    let (code, answer, _) = run("github.REF");
    assert_eq!((code, answer.to_string().as_str()), (Some(0), r#"{"kind":"String","value":"refs/heads/main"}"#));
    let (code, answer, _) = run("on ${{ GITHUB.ref }}!");
    assert_eq!((code, answer["value"].as_str()), (Some(0), Some("on refs/heads/main!")));
    let (code, answer, explained) = run("gihtub.ref");
    assert_eq!(
        (code, answer["error"]["kind"].as_str(), answer["error"]["offset"].as_u64()),
        (Some(2), Some("parsing"), Some(0))
    );
    assert!(explained.contains("did you mean `github`?"), "{explained}");
    let (code, answer, _) = run("fromJSON('{')");
    assert_eq!((code, answer["error"]["kind"].as_str()), (Some(1), Some("evaluation")));
}
