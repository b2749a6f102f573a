//! Properties of the parser and the evaluator.

use proptest::prelude::*;
use towline::expr::template::{self, Template};
use towline::expr::{Expression, Names, NoFunctions, Object, Scope, SyntaxError, Value, condition};

fn contexts() -> Object {
    serde_json::from_str(
        r#"{"foo": {"a": 1, "B": [1, "2", {"c": null}]}, "bar": [{"x": true}, {"x": "y"}], "text": "t"}"#,
    )
    .unwrap()
}

fn evaluate(expression: &Expression) -> Option<Value> {
    expression.evaluate(&Scope { contexts: &contexts(), functions: &NoFunctions }).ok()
}

fn text_of(template: &Template) -> String {
    match template {
        Template::Text(text) => text.clone(),
        Template::Expression(expression) => evaluate(expression).unwrap().to_display_string(),
        Template::Insert => panic!("nothing here inserts"),
    }
}

/// An error points into the text, at borders of characters.
fn points_into(error: &SyntaxError, text: &str) -> bool {
    !error.message.is_empty()
        && text.is_char_boundary(error.offset)
        && error.offset + error.length <= text.len()
        && text.is_char_boundary(error.offset + error.length)
}

/// Pieces of the language in any order.
fn soup() -> impl Strategy<Value = String> {
    const PIECES: [&str; 40] = [
        "(", ")", "[", "]", ".", ",", "*", "!", "!=", "==", "<", "<=", ">", ">=", "&&", "||", "'a'", "'it''s'", "'",
        "1", "-1.5", "0x1f", "null", "true", "NaN", "foo", "bar", "text", "a", "x", "contains", "format", "join",
        "toJSON", "fromJSON", "case", "success", "${{", "}}", " ",
    ];
    proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..40).prop_map(|pieces| pieces.concat())
}

/// Well-formed expressions.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i32>().prop_map(|value| value.to_string()),
        "[ -~äß]{0,8}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
        proptest::sample::select(&["foo", "foo.a", "FOO.b[1]", "bar.*.x", "bar[0]", "text", "foo.missing"][..])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 40, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (two.clone(), proptest::sample::select(&["==", "!=", "<", "<=", ">", ">=", "&&", "||"][..]))
                .prop_map(|((a, b), operator)| format!("({a} {operator} {b})")),
            inner.clone().prop_map(|a| format!("!{a}")),
            inner.clone().prop_map(|a| format!("toJSON( {a} )")),
            two.clone().prop_map(|(a, b)| format!("contains({a},{b})")),
            two.prop_map(|(a, b)| format!("format('{{0}}{{{{{{1}}}}}}', {a}, {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("case(!{a}, {b}, {c})")),
            inner.prop_map(|a| format!("(({a})).x")),
        ]
    })
}

/// JSON whose numbers survive fifteen digits.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        any::<i32>().prop_map(|number| (f64::from(number) / 8.0).into()),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::btree_map("[a-z ]{0,6}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), soup()]) {
        if let Err(error) = Expression::parse(&text, &Names::STEP) {
            prop_assert!(points_into(&error, &text), "{error:?}");
        }
        if let Err(error) = template::parse(&text, &Names::STEP) {
            prop_assert!(points_into(&error, &text), "{error:?}");
        }
        if let Err(error) = condition::parse(&text, &Names::STEP_IF) {
            prop_assert!(points_into(&error, &text), "{error:?}");
        }
    }

    #[test]
    fn soup_has_a_value_or_an_error(text in soup()) {
        if let Ok(expression) = Expression::parse(&text, &Names::given(["foo", "bar", "text"])) {
            let scope = Scope { contexts: &contexts(), functions: &NoFunctions };
            let _ = expression.evaluate(&scope);
            let _ = expression.references();
        }
    }

    #[test]
    fn well_formed_expressions_are_stored_and_come_back(source in expression()) {
        let expression = Expression::parse(&source, &Names::given(["foo", "bar", "text"]));
        // Deep ones are refused, all others read.
        let Ok(expression) = expression else {
            prop_assert!(expression.unwrap_err().message.contains("depth"), "{source}");
            return Ok(());
        };
        let stored = serde_json::to_string(&expression).unwrap();
        let restored: Expression = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(&restored, &expression);
        prop_assert_eq!(evaluate(&restored), evaluate(&expression));
        // In front of it, text makes a string of it.
        if let (Some(value), Ok(whole)) = (evaluate(&expression), template::parse(&format!("x${{{{{source}}}}}"), &Names::ANY)) {
            prop_assert_eq!(text_of(&whole), format!("x{}", value.to_display_string()));
        }
    }

    #[test]
    fn templates_concatenate(parts in proptest::collection::vec(("[ -~äß\n]{0,12}", any::<String>()), 0..6)) {
        let mut text = String::new();
        let mut expected = String::new();
        for (plain, string) in &parts {
            prop_assume!(!plain.contains("${{"));
            // A dollar in front of the braces would be part of the text.
            let plain = plain.trim_end_matches('$');
            text += &format!("{plain}${{{{ '{}' }}}}", string.replace('\'', "''"));
            expected += plain;
            expected += string;
        }
        prop_assert_eq!(text_of(&template::parse(&text, &Names::NONE).unwrap()), expected);
    }

    #[test]
    fn json_goes_there_and_back(json in json()) {
        let value = Value::from_json(&json);
        let mut contexts = Object::new();
        contexts.insert("it", value.clone());
        let scope = Scope { contexts: &contexts, functions: &NoFunctions };
        let names = Names::given(["it"]);
        let back = Expression::parse("fromJSON(toJSON(it))", &names).unwrap().evaluate(&scope).unwrap();
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(&Value::from_json(&value.to_json()), &value);
        // Ours is JSON for others too.
        let text = Expression::parse("toJSON(it)", &names).unwrap().evaluate(&scope).unwrap().to_display_string();
        prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &value);
    }

    #[test]
    fn equality_is_symmetric_and_order_is_not(a in expression(), b in expression()) {
        let holds = |source: String| {
            Expression::parse(&source, &Names::given(["foo", "bar", "text"])).ok().and_then(|e| evaluate(&e)).and_then(|v| v.as_bool())
        };
        prop_assert_eq!(holds(format!("({a}) == ({b})")), holds(format!("({b}) == ({a})")));
        prop_assert_eq!(holds(format!("({a}) < ({b})")), holds(format!("({b}) > ({a})")));
        if holds(format!("({a}) < ({b})")) == Some(true) {
            prop_assert_ne!(holds(format!("({b}) < ({a})")), Some(true));
        }
    }
}
