//! Workflow and action files against GitHub's known answers, and against input nobody should write.

mod accepted;
mod command;
mod documentation;
mod limits;
mod readers;
mod refused;

use towline::diagnostic::Diagnostic;

/// Whether any of them is an error.
fn errors(diagnostics: &[Diagnostic]) -> Vec<&Diagnostic> {
    diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect()
}

/// One line per diagnostic, for failure messages.
fn listed(diagnostics: &[&Diagnostic]) -> String {
    let lines: Vec<String> = diagnostics
        .iter()
        .map(|diagnostic| {
            let place = diagnostic
                .span
                .map_or_else(String::new, |span| format!(" ({}:{})", span.start.line, span.start.column));
            format!("    {}{place}: {} [{}]", diagnostic.path, diagnostic.message, diagnostic.code)
        })
        .collect();
    lines.join("\n")
}

/// Prints the counts of a folder and fails with the list of failures.
fn conclude(folder: &str, total: usize, failures: &[String], skipped: &[(&str, &str)]) {
    eprintln!("{folder}: {} of {total} pass, {} skipped", total - failures.len() - skipped.len(), skipped.len());
    for (id, reason) in skipped {
        eprintln!("  skipped {id}: {reason}");
    }
    assert!(failures.is_empty(), "{} of {total} fail in {folder}:\n{}", failures.len(), failures.join("\n"));
    assert!(total > 0, "{folder} is empty");
}

fn json(path: &std::path::Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
