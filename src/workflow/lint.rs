//! Advice: what GitHub accepts, but nobody means. Errors are elsewhere.
//!
//! Pure: no I/O, no clock, no async.

use super::decode::{Decoder, shortened};
use super::token::Token;
use super::yaml::Node;
use crate::diagnostic::{codes, nearest};
use crate::expr::{Expression, Reference, Segment, equal_ignoring_case};

/// The names that expressions may refer to at the place being decoded; `None` when that is not known.
#[derive(Default)]
pub(super) struct Scope {
    /// `needs` of the job.
    pub(super) needs: Option<Vec<String>>,
    /// Ids of the steps that have run before.
    pub(super) steps: Option<Vec<String>>,
}

/// Values in `github` that strangers choose. `*` stands for any item.
const UNTRUSTED: &[&str] = &[
    "event.issue.title",
    "event.issue.body",
    "event.pull_request.title",
    "event.pull_request.body",
    "event.pull_request.head.ref",
    "event.pull_request.head.label",
    "event.pull_request.head.repo.default_branch",
    "event.comment.body",
    "event.review.body",
    "event.review_comment.body",
    "event.discussion.title",
    "event.discussion.body",
    "event.pages.*.page_name",
    "event.commits.*.message",
    "event.commits.*.author.email",
    "event.commits.*.author.name",
    "event.head_commit.message",
    "event.head_commit.author.email",
    "event.head_commit.author.name",
    "event.workflow_run.head_branch",
    "event.workflow_run.head_commit.message",
    "event.workflow_run.head_commit.author.email",
    "event.workflow_run.head_commit.author.name",
    "event.workflow_run.pull_requests.*.head.ref",
    "head_ref",
];

/// Functions whose answers say nothing that a stranger could choose.
const HARMLESS: &[&str] = &["contains(", "startswith(", "endswith(", "hashfiles("];

/// `steps.X` and `needs.X` that cannot be there.
pub(super) fn references(decoder: &mut Decoder<'_>, node: &Node, expression: &Expression) {
    for reference in expression.references() {
        let Some(name) = reference.property(0) else { continue };
        if equal_ignoring_case(&reference.context, "steps") {
            unknown_step(decoder, node, name);
        } else if equal_ignoring_case(&reference.context, "needs") {
            unknown_need(decoder, node, name);
        }
    }
}

fn unknown_step(decoder: &mut Decoder<'_>, node: &Node, name: &str) {
    let Some(steps) = &decoder.scope.steps else { return };
    // Made-up ids are not for use, but they are there.
    if name.starts_with("__") || steps.iter().any(|id| equal_ignoring_case(id, name)) {
        return;
    }
    let help = match nearest(name, steps.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `steps.{near}`?"),
        None => format!("give the step that is meant `id: {name}`; it must come before this place"),
    };
    decoder
        .warning(codes::UNKNOWN_STEP, node.id, format!("no step before this place has the id '{}'", shortened(name)))
        .diagnostic
        .help = Some(help);
}

fn unknown_need(decoder: &mut Decoder<'_>, node: &Node, name: &str) {
    let Some(needs) = &decoder.scope.needs else { return };
    if needs.iter().any(|id| equal_ignoring_case(id, name)) {
        return;
    }
    let help = match nearest(name, needs.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `needs.{near}`?"),
        None => format!("add `{name}` to the job's `needs`"),
    };
    decoder
        .warning(codes::UNKNOWN_NEED, node.id, format!("the job does not need '{}'", shortened(name)))
        .diagnostic
        .help = Some(help);
}

/// Text around `${{ }}` makes a condition a string, and a string that is not empty is true (E17).
pub(super) fn condition(decoder: &mut Decoder<'_>, node: &Node, text: &str) {
    let text = text.trim();
    if !text.contains("${{") || is_one_expression(text) {
        return;
    }
    let bare = text.replace("${{", "").replace("}}", "");
    let bare: Vec<&str> = bare.split_whitespace().collect();
    decoder
        .warning(codes::CONSTANT_CONDITION, node.id, "this condition is always true: it is text, not an expression")
        .diagnostic
        .help = Some(format!("write `if: ${{{{ {} }}}}`", shortened(&bare.join(" "))));
}

/// Whether a text is one `${{ }}` from its first to its last character.
fn is_one_expression(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("${{") else { return false };
    let mut quoted = false;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b'}' if !quoted && inner[at..].starts_with("}}") => return at + 2 == inner.len(),
            _ => {}
        }
    }
    false
}

/// A script, as `run` holds it, or as actions/github-script takes it.
pub(super) fn script(decoder: &mut Decoder<'_>, node: &Node, script: &Token) {
    if let Token::Expression(expression) = script {
        for reference in expression.references() {
            if let Some(path) = untrusted(&reference)
                && !harmless(expression.source(), reference.offset)
            {
                injection(decoder, node, &path);
            }
        }
    }
    let text = node.text().unwrap_or_default();
    for (command, file) in [
        ("::set-output ", "GITHUB_OUTPUT"),
        ("::save-state ", "GITHUB_STATE"),
        ("::set-env ", "GITHUB_ENV"),
        ("::add-path::", "GITHUB_PATH"),
    ] {
        if text.contains(command) {
            let name = command.trim_matches([':', ' ']);
            let line = if file == "GITHUB_PATH" { "directory" } else { "name=value" };
            decoder
                .warning(codes::DEPRECATED_COMMAND, node.id, format!("the workflow command `{name}` is deprecated"))
                .diagnostic
                .help = Some(format!("write `echo \"{line}\" >> \"${file}\"`"));
        }
    }
}

fn injection(decoder: &mut Decoder<'_>, node: &Node, path: &str) {
    let name = path.rsplit('.').find(|part| *part != "*").unwrap_or("value").to_uppercase();
    decoder
        .warning(
            codes::SCRIPT_INJECTION,
            node.id,
            format!("`{path}` is chosen by strangers and becomes part of the script"),
        )
        .diagnostic
        .help = Some(format!("set `env: {name}: ${{{{ {path} }}}}` and write \"${name}\" in the script"));
}

/// The path of an untrusted value, as it is written.
fn untrusted(reference: &Reference) -> Option<String> {
    if !equal_ignoring_case(&reference.context, "github") {
        return None;
    }
    let matches = |pattern: &&&str| {
        let parts: Vec<&str> = pattern.split('.').collect();
        parts.len() == reference.path.len()
            && parts.iter().zip(&reference.path).all(|(part, segment)| match segment {
                Segment::Property(name) => {
                    equal_ignoring_case(part, name) || (*part == "*" && name.parse::<u32>().is_ok())
                }
                Segment::Computed | Segment::All => *part == "*",
            })
    };
    UNTRUSTED.iter().find(matches).map(|pattern| format!("github.{pattern}"))
}

/// Whether the value only feeds a function that answers yes or no.
fn harmless(source: &str, offset: usize) -> bool {
    let before = source.get(..offset).unwrap_or("").to_ascii_lowercase();
    HARMLESS.iter().any(|function| before.trim_end().ends_with(function))
}

/// A shell that is neither known nor a command with `{0}`.
pub(super) fn shell(decoder: &mut Decoder<'_>, node: &Node, shell: &Token) {
    const KNOWN: &[&str] = &["bash", "sh", "pwsh", "powershell", "cmd", "python"];
    let Token::String(name) = shell else { return };
    if name.contains("{0}") || KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return;
    }
    let help = match nearest(name, KNOWN.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("say where the script's path goes: `{} {{0}}`", shortened(name)),
    };
    decoder
        .warning(codes::UNKNOWN_SHELL, node.id, format!("'{}' is no shell GitHub knows", shortened(name)))
        .diagnostic
        .help = Some(help);
}
