//! The outputs shown in `docs/diagnostics.md` are those of the program.

use towline::diagnostic::text;
use towline::workflow::check;

#[test]
fn shown_outputs_are_current() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/diagnostics.md")).unwrap();
    let mut examples = 0;
    for section in page.split("\n## ").skip(1) {
        let (title, _) = section.split_once('\n').unwrap();
        let block = |language: &str| {
            let (_, rest) = section.split_once(&format!("```{language}\n")).unwrap();
            rest.split_once("```").unwrap().0.to_owned()
        };
        let source = block("yaml");
        let found = check(".github/workflows/ci.yml", &source, &|_| None);
        let printed: Vec<String> = found.iter().map(|diagnostic| text(diagnostic, Some(&source), false)).collect();
        assert_eq!(printed.join("\n"), block("text"), "{title}");
        examples += 1;
    }
    assert_eq!(examples, 10);
}
