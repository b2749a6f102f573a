//! Any text is a workflow and an action, or has errors; all diagnostics can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline::diagnostic::{Diagnostic, github, json, text};
use towline::workflow;

fuzz_target!(|source: &str| {
    let (model, diagnostics) = workflow::parse("ci.yml", source);
    assert_eq!(model.is_none(), diagnostics.iter().any(Diagnostic::is_error));
    show(source, &diagnostics);
    let (model, diagnostics) = workflow::parse_action("action.yml", source);
    assert_eq!(model.is_none(), diagnostics.iter().any(Diagnostic::is_error));
    show(source, &diagnostics);
});

fn show(source: &str, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let _ = text(diagnostic, Some(source), true);
        let _ = json(diagnostic);
        assert!(!github(diagnostic).contains('\n'));
    }
}
