//! Any scalar is text, an expression or an error that points into it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline::expr::template::{self, Template};
use towline::expr::{Names, condition};

fuzz_target!(|text: &str| {
    match template::parse(text, &Names::STEP) {
        Ok(Template::Text(same)) => assert_eq!(same, text),
        Ok(Template::Expression(_) | Template::Insert) => assert!(template::has_expression(text)),
        Err(error) => assert!(text.get(error.offset..error.offset + error.length).is_some(), "{error:?}"),
    }
    match condition::parse(text, &Names::STEP_IF) {
        Ok(condition) => assert!(condition.calls_status_function()),
        Err(error) => assert!(text.get(error.offset..error.offset + error.length).is_some(), "{error:?}"),
    }
});
