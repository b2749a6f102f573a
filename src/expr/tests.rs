//! What the known answers leave open.

use serde_json::json;

use super::template::Template;
use super::*;

fn source(text: &str) -> Result<String, String> {
    match template::parse(text, &Names::STEP) {
        Ok(Template::Expression(expression)) => Ok(expression.source().to_owned()),
        Ok(Template::Text(text)) => Ok(format!("text {text}")),
        Ok(Template::Insert) => Ok("insert".to_owned()),
        Err(error) => Err(format!("{} {} {}", error.offset, error.length, error.message)),
    }
}

#[test]
fn templates() {
    for (text, expected) in [
        ("plain }} text", Ok("text plain }} text")),
        ("${{ github.sha }}", Ok("github.sha")),
        ("${{github.sha}}", Ok("github.sha")),
        (" ${{ github.sha }}", Ok("format(' {0}', github.sha)")),
        ("${{ 1 }}${{ 2 }}", Ok("format('{0}{1}', 1, 2)")),
        ("it's {${{ '}}' }}}", Ok("format('it''s {{{0}}}', '}}')")),
        ("${{ insert }}", Ok("insert")),
        (
            "a ${{ github.sha",
            Err(
                "2 14 The expression is not closed. An unescaped ${{ sequence was found, but the closing }} sequence was not found.",
            ),
        ),
        (
            "a ${{ 'b }}",
            Err(
                "2 9 The expression is not closed. An unescaped ${{ sequence was found, but the closing }} sequence was not found.",
            ),
        ),
        ("a ${{  }}", Err("2 7 An expression was expected")),
        (
            "${{ 1 }} ${{ nope }}",
            Err("13 4 Unrecognized named-value: 'nope'. Located at position 1 within expression: nope"),
        ),
        ("ä${{ 1 = 2 }}", Err("8 1 Unexpected symbol: '='. Located at position 3 within expression: 1 = 2")),
    ] {
        assert_eq!(source(text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
    }
    assert!(source("a${{ insert }}").unwrap_err().contains("The directive 'insert' is not allowed in this context"));
}

#[test]
fn a_template_counts_as_one_expression() {
    let text = format!("{}${{{{ 1 }}}}", "x".repeat(21_000));
    assert_eq!(source(&text).unwrap_err(), format!("0 {} Exceeded max expression length 21000", text.len()));
    assert!(source(&"x".repeat(21_001)).is_ok());
}

#[test]
fn conditions() {
    let in_force = |text: &str| {
        condition::parse(text, &Names::STEP_IF)
            .map(|condition| condition.source().to_owned())
            .map_err(|error| error.offset)
    };
    for (text, expected) in [
        ("", Ok("success()")),
        ("  ", Ok("success()")),
        ("github.ref == 'x'", Ok("success() && (github.ref == 'x')")),
        ("${{ github.ref == 'x' }}", Ok("success() && (github.ref == 'x')")),
        ("'failure()'", Ok("success() && ('failure()')")),
        ("!cancelled()", Ok("!cancelled()")),
        ("contains('x', FAILURE())", Ok("contains('x', FAILURE())")),
        ("${{ always() }} && false", Ok("format('{0} && false', always())")),
        ("${{ false }} x", Ok("success() && (format('{0} x', false))")),
        (" secrets.x", Err(1)),
        ("${{ secrets.x }}", Err(4)),
        ("success('job')", Err(0)),
    ] {
        assert_eq!(in_force(text), expected.map(str::to_owned), "{text}");
    }
    assert!(condition::parse("success('job')", &Names::JOB_IF).is_ok());
    assert_eq!(condition::parse_hook("", &Names::ACTION_IF).unwrap().source(), "always()");
    assert_eq!(condition::parse_hook("runner.os == 'x'", &Names::ACTION_IF).unwrap().source(), "runner.os == 'x'");
}

#[test]
fn names_by_place() {
    let fault = |source: &str, names: &Names| Expression::parse(source, names).map(drop).map_err(|error| error.fault);
    for (source, names, expected) in [
        ("github.ref", &Names::RUN, Ok(())),
        ("GitHub.ref", &Names::RUN, Ok(())),
        ("secrets.x", &Names::RUN, Err(Fault::UnknownContext)),
        ("secrets.x", &Names::WORKFLOW_ENV, Ok(())),
        ("matrix.x", &Names::JOB_IF, Err(Fault::UnknownContext)),
        ("needs.x", &Names::COMPOSITE, Err(Fault::UnknownContext)),
        ("secrets.x", &Names::STEP_IF, Err(Fault::UnknownContext)),
        ("hashFiles('x')", &Names::JOB, Err(Fault::UnknownFunction)),
        ("hashFiles('x')", &Names::STEP, Ok(())),
        ("hashFiles()", &Names::STEP, Err(Fault::Syntax)),
        ("always()", &Names::STEP, Err(Fault::UnknownFunction)),
        ("always(1)", &Names::STEP_IF, Err(Fault::Syntax)),
        ("jobs.x", &Names::CALL_OUTPUT, Ok(())),
        ("case(true, 1)", &Names::NONE, Err(Fault::Syntax)),
        ("case(true, 1, true, 2)", &Names::NONE, Err(Fault::Syntax)),
        ("anything.at.all", &Names::ANY, Ok(())),
        ("x[", &Names::given(["X"]), Err(Fault::Syntax)),
    ] {
        assert_eq!(fault(source, names), expected, "{source}");
    }
}

#[test]
fn help() {
    let help = |source: &str, names: &Names| Expression::parse(source, names).unwrap_err().help.unwrap_or_default();
    for (source, names, part) in [
        ("gihtub.ref", &Names::RUN, "did you mean `github`?"),
        ("matrix.os", &Names::RUN, "`matrix` is not available here; available are: github, inputs, vars"),
        ("success", &Names::STEP_IF, "`success` is a function"),
        ("main", &Names::RUN, "strings stand in single quotes"),
        ("x", &Names::NONE, "no context is available here"),
        ("containz('a', 'b')", &Names::NONE, "did you mean `contains`?"),
        ("hashFiles('a')", &Names::JOB, "keys of steps only"),
        ("failure()", &Names::STEP, "known in `if` only"),
        ("github.ref == \"main\"", &Names::RUN, "single quotes"),
        ("1 = 1", &Names::RUN, "`==`"),
    ] {
        assert!(help(source, names).contains(part), "{source}: {}", help(source, names));
    }
}

#[test]
fn references() {
    let read = |source: &str| -> Vec<String> {
        let expression = Expression::parse(source, &Names::ANY).unwrap();
        let shown = |reference: &Reference| {
            let path: String = reference
                .path
                .iter()
                .map(|segment| match segment {
                    Segment::Property(name) => format!(".{name}"),
                    Segment::Computed => "[]".to_owned(),
                    Segment::All => ".*".to_owned(),
                })
                .collect();
            format!("{}{path}@{}", reference.context, reference.offset)
        };
        expression.references().iter().map(shown).collect()
    };
    assert_eq!(read("github.event.issue['title'].x"), ["github.event.issue.title.x@0"]);
    assert_eq!(read("a[b.c].d || e.*.f"), ["a[].d@0", "b.c@2", "e.*.f@12"]);
    assert_eq!(read("format('{0}', !x.y == (a || b).c)"), ["x.y@15", "a.c@23", "b.c@28"]);
    assert!(Expression::parse("x[Matrix.y]", &Names::ANY).unwrap().reads_context("matrix"));
    assert!(!Expression::parse("'matrix'", &Names::ANY).unwrap().reads_context("matrix"));
}

#[test]
fn stored_expressions_come_back() {
    let expression = condition::parse("${{ github.ref }}", &Names::STEP_IF).unwrap();
    let stored = serde_json::to_string(&expression).unwrap();
    assert_eq!(stored, r#""success() && (github.ref)""#);
    assert_eq!(serde_json::from_str::<Expression>(&stored).unwrap(), expression);
    assert!(serde_json::from_str::<Expression>(r#""1 +""#).is_err());
}

#[test]
fn json_is_written_as_the_runner_writes_it() {
    let write = |source: &str| {
        let scope = Scope { contexts: &Object::new(), functions: &NoFunctions };
        Expression::parse(source, &Names::NONE).unwrap().evaluate(&scope).unwrap().to_display_string()
    };
    assert_eq!(write("toJSON('a/<>&ü\u{1}\u{2028}\u{7f}')"), "\"a/<>&ü\\u0001\\u2028\u{7f}\"");
    assert_eq!(
        write("toJSON(fromJSON('[1e20, 0.1, [], {}, {\"a\":null}]'))"),
        "[\n  1E+20,\n  0.1,\n  [],\n  {},\n  {\n    \"a\": null\n  }\n]"
    );
    assert_eq!(write("fromJSON('1234.5678901234567') == 1234.5678901234567"), "true");
    assert_eq!(write("toJSON(NaN)"), "NaN");
}

#[test]
fn expressions_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Expression>();
    shared::<Value>();
}

#[test]
fn a_trace_is_what_a_debug_log_of_github_has() {
    let mut contexts = Object::new();
    let github = json!({ "ref": "refs/heads/main", "labels": [{ "name": "it's" }], "n": 2 });
    contexts.insert("github", Value::from_json(&github));
    let traced = |text: &str| {
        let expression = Expression::parse(text, &Names::ANY).expect("an expression");
        let (value, lines) = expression.evaluate_traced(&Scope { contexts: &contexts, functions: &NoFunctions });
        (value.is_ok(), lines)
    };
    let lines = [
        "Evaluating: (contains(github.labels[*].name, 'it''s') && ((github.n > 1) == true) && (github['no word'] || !github.ref))",
        "Evaluating And:",
        "..Evaluating contains:",
        "....Evaluating Index:",
        "......Evaluating Index:",
        "........Evaluating Index:",
        "..........Evaluating github:",
        "..........=> Object",
        "..........Evaluating String:",
        "..........=> 'labels'",
        "........=> Array",
        "........Evaluating Wildcard:",
        "........=> '*'",
        "......=> Array",
        "......Evaluating String:",
        "......=> 'name'",
        "....=> Array",
        "....Evaluating String:",
        "....=> 'it''s'",
        "..=> true",
        "..Evaluating Equal:",
        "....Evaluating GreaterThan:",
        "......Evaluating Index:",
        "........Evaluating github:",
        "........=> Object",
        "........Evaluating String:",
        "........=> 'n'",
        "......=> 2",
        "......Evaluating Number:",
        "......=> 1",
        "....=> true",
        "....Evaluating Boolean:",
        "....=> true",
        "..=> true",
        "..Evaluating Or:",
        "....Evaluating Index:",
        "......Evaluating github:",
        "......=> Object",
        "......Evaluating String:",
        "......=> 'no word'",
        "....=> null",
        "....Evaluating Not:",
        "......Evaluating Index:",
        "........Evaluating github:",
        "........=> Object",
        "........Evaluating String:",
        "........=> 'ref'",
        "......=> 'refs/heads/main'",
        "....=> false",
        "..=> false",
        "=> false",
        "Expanded: (contains(Array, 'it''s') && ((2 > 1) == true) && (null || !'refs/heads/main'))",
        "Result: false",
    ];
    let text =
        "contains(github.labels.*.name, 'it''s') && (github.n > 1 == true && (github['no word'] || !github.ref))";
    assert_eq!(traced(text), (true, lines.map(str::to_owned).to_vec()));
    // What was not evaluated has no value, and a key of nothing is not asked for.
    let (_, lines) = traced("false && github.ref.length[github.n]");
    assert_eq!(lines[lines.len() - 2], "Expanded: (false && github['ref']['length'][github['n']])");
    let (_, lines) = traced("github.ref.length");
    let last = ["..=> 'refs/heads/main'", "=> null", "Result: null"];
    assert_eq!(lines[lines.len() - 3..], last.map(str::to_owned));
    // A failure ends it where it was.
    let (good, lines) = traced("fromJSON('x')");
    assert_eq!((good, lines.last().map(String::as_str)), (false, Some("..=> 'x'")));
}
