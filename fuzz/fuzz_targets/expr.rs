//! Any text is an expression with a value or an error; what is read can be stored and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline::expr::{Expression, Names, NoFunctions, Object, Scope};

const CONTEXTS: &str = r#"{"a": {"b": [1, "2", {"c": null}]}, "github": {"ref": "refs/heads/main", "sha": ""}}"#;

fuzz_target!(|source: &str| {
    let contexts: Object = serde_json::from_str(CONTEXTS).expect("the contexts are JSON");
    match Expression::parse(source, &Names::ANY) {
        Ok(expression) => {
            let scope = Scope { contexts: &contexts, functions: &NoFunctions };
            let value = expression.evaluate(&scope);
            let _ = expression.references();
            let again = Expression::parse(expression.source(), &Names::ANY).expect("it was read before");
            assert_eq!(format!("{value:?}"), format!("{:?}", again.evaluate(&scope)));
        }
        Err(error) => {
            assert!(source.get(error.offset..error.offset + error.length).is_some(), "{error:?}");
        }
    }
});
