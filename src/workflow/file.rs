//! The root of a workflow file, and what its jobs share.
//!
//! Pure: no I/O, no clock, no async.

use indexmap::IndexMap;

use super::decode::{Decoder, Variant};
use super::expression::Scalar;
use super::model::{Permission, Permissions, RunDefaults, Triggers, Workflow};
use super::names;
use super::shape::{CONCURRENCY, Shape, TEXTS};
use super::token::Token;
use super::yaml::{Content, Node};
use super::{events, graph, job};
use crate::diagnostic::codes;
use crate::expr::{Expression, Names};

/// Decodes a workflow file.
pub(super) fn workflow(decoder: &mut Decoder<'_>, root: &Node) -> Option<Workflow> {
    const KEYS: Variant = Variant {
        keys: &["on", "name", "description", "run-name", "defaults", "env", "permissions", "concurrency", "jobs"],
        required: &["on", "jobs"],
    };
    let fields = decoder.only_fields(root, &KEYS)?;
    let on = fields.get("on").map_or_else(Triggers::default, |node| events::triggers(decoder, node));
    let workflow = Workflow {
        path: decoder.path().to_owned(),
        name: fields.get("name").and_then(|node| decoder.text(node)),
        description: fields.get("description").and_then(|node| decoder.text(node)),
        run_name: fields.get("run-name").map(|node| decoder.token(node, &Shape::Text, Some(&names::RUN))),
        on,
        permissions: fields.get("permissions").and_then(|node| permissions(decoder, node)),
        env: fields.get("env").map(|node| decoder.token(node, &TEXTS, Some(&names::WORKFLOW_ENV))),
        defaults: fields.get("defaults").map_or_else(RunDefaults::default, |node| defaults(decoder, node, None)),
        concurrency: fields.get("concurrency").map(|node| {
            let token = decoder.token(node, &CONCURRENCY, Some(&names::RUN));
            concurrency(decoder, node, &token);
            token
        }),
        jobs: fields.get("jobs").map_or_else(IndexMap::new, |node| jobs(decoder, node)),
    };
    Some(workflow)
}

fn jobs(decoder: &mut Decoder<'_>, node: &Node) -> IndexMap<String, super::model::Job> {
    let pairs = decoder.named_pairs(node);
    if pairs.is_empty() && matches!(node.content, Content::Map(_)) {
        decoder.error(codes::MISSING_KEY, node.id, "The workflow must contain at least one job with no dependencies.");
    }
    let mut jobs = IndexMap::new();
    for (id, key, value) in &pairs {
        if identifier(decoder, key, id) {
            not_reserved(decoder, key, id);
        }
        if let Some(job) = job::job(decoder, id, value) {
            jobs.insert((*id).to_owned(), job);
        }
    }
    graph::needs(decoder, &pairs, &mut jobs);
    jobs
}

/// Ids of jobs and steps (S11).
pub(super) fn identifier(decoder: &mut Decoder<'_>, node: &Node, id: &str) -> bool {
    let valid = id.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && id.len() < 100;
    if !valid {
        let mend: String = id
            .trim()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
            .collect();
        let mend: String =
            mend.trim_start_matches(|c: char| !c.is_ascii_alphabetic() && c != '_').chars().take(99).collect();
        let problem = decoder.error(
            codes::IDENTIFIER,
            node.id,
            format!(
                "The identifier '{}' is invalid. IDs may only contain alphanumeric characters, '_', and '-'. IDs must \
                 start with a letter or '_' and must be less than 100 characters.",
                super::decode::shortened(id)
            ),
        );
        if !mend.is_empty() && mend != id {
            problem.diagnostic.help = Some(format!("`{mend}` would do"));
        }
    }
    valid
}

/// Ids that begin with `__` are those that GitHub makes up. Says whether the id is free of them.
pub(super) fn not_reserved(decoder: &mut Decoder<'_>, node: &Node, id: &str) -> bool {
    let reserved = id.starts_with("__");
    if reserved {
        decoder
            .error(
                codes::IDENTIFIER,
                node.id,
                format!("The identifier '{id}' is invalid. IDs starting with '__' are reserved."),
            )
            .diagnostic
            .help = Some(format!("`{}` would do", id.trim_start_matches('_')));
    }
    !reserved
}

/// `defaults.run` of a workflow (no contexts) or a job.
pub(super) fn defaults(decoder: &mut Decoder<'_>, node: &Node, names: Option<&'static Names>) -> RunDefaults {
    const KEYS: Variant = Variant { keys: &["run"], required: &[] };
    const RUN: Variant = Variant { keys: &["shell", "working-directory"], required: &[] };
    let run = decoder.only_fields(node, &KEYS).and_then(|fields| fields.get("run"));
    if let (Some(node), Some(names)) = (run, names)
        && let Content::Text(text) = &node.content
        && let Some(Scalar::Expression(whole)) = decoder.scalar(node, text, Some(names))
    {
        // An expression for the whole mapping: each key is read from its value.
        let read = |key: &str| Expression::parse(&format!("({})['{key}']", whole.source()), names);
        match (read("shell"), read("working-directory")) {
            (Ok(shell), Ok(directory)) => {
                return RunDefaults {
                    shell: Some(Token::Expression(shell)),
                    working_directory: Some(Token::Expression(directory)),
                };
            }
            (Err(fault), _) | (_, Err(fault)) => {
                decoder.error(fault.code(), node.id, fault.message);
                return RunDefaults::default();
            }
        }
    }
    let Some(fields) = run.and_then(|run| decoder.only_fields(run, &RUN)) else { return RunDefaults::default() };
    RunDefaults {
        shell: fields.get("shell").map(|node| decoder.token(node, &Shape::NonEmpty, names)),
        working_directory: fields.get("working-directory").map(|node| decoder.token(node, &Shape::NonEmpty, names)),
    }
}

/// UTF-16 units of the name of a concurrency group (Q1).
pub const LONGEST_GROUP: usize = 400;

/// What GitHub refuses about a concurrency group beyond its shape (Q1, Q4).
pub(super) fn concurrency(decoder: &mut Decoder<'_>, node: &Node, token: &Token) {
    let group = if let Token::Mapping(_) = token { token.get("group") } else { Some(token) };
    if let Some(Token::String(group)) = group
        && group.encode_utf16().count() > LONGEST_GROUP
    {
        decoder.error(codes::CONCURRENCY, node.id, "Concurrency group name must be less than 400 characters");
    }
    let Token::Mapping(pairs) = token else { return };
    let value = |wanted: &str| {
        pairs.iter().find_map(|(key, value)| match key {
            Token::String(key) if key == wanted => Some(value),
            _ => None,
        })
    };
    if matches!(value("queue"), Some(Token::String(queue)) if queue == "max")
        && matches!(value("cancel-in-progress"), Some(Token::Bool(true)))
    {
        let at = node.get("queue").map_or(node.id, |queue| queue.id);
        decoder
            .error(codes::CONCURRENCY, at, "`queue: max` cannot stand beside `cancel-in-progress: true`")
            .diagnostic
            .help = Some("a queue keeps what waits, a cancelling group does not: keep one of the two".to_owned());
    }
}

/// The scopes of `permissions` (S4), with the levels each may have.
pub const SCOPES: &[(&str, &[&str])] = &[
    ("actions", ANY_LEVEL),
    ("artifact-metadata", ANY_LEVEL),
    ("attestations", ANY_LEVEL),
    ("checks", ANY_LEVEL),
    ("code-quality", ANY_LEVEL),
    ("contents", ANY_LEVEL),
    ("copilot-requests", &["write", "none"]),
    ("deployments", ANY_LEVEL),
    ("discussions", ANY_LEVEL),
    ("drives", ANY_LEVEL),
    ("id-token", &["write", "none"]),
    ("issues", ANY_LEVEL),
    ("models", &["read", "none"]),
    ("packages", ANY_LEVEL),
    ("pages", ANY_LEVEL),
    ("pull-requests", ANY_LEVEL),
    ("repository-projects", ANY_LEVEL),
    ("security-events", ANY_LEVEL),
    ("statuses", ANY_LEVEL),
    ("vulnerability-alerts", &["read", "none"]),
];
const ANY_LEVEL: &[&str] = &["read", "write", "none"];

/// Decodes `permissions`.
pub(super) fn permissions(decoder: &mut Decoder<'_>, node: &Node) -> Option<Permissions> {
    if !matches!(node.content, Content::Map(_)) {
        let text = decoder.text(node)?;
        return match text.as_str() {
            "read-all" => Some(Permissions::ReadAll),
            "write-all" => Some(Permissions::WriteAll),
            _ => {
                decoder.unknown_name(codes::UNKNOWN_VALUE, node, &text, ["read-all", "write-all"]).diagnostic.notes =
                    vec!["a mapping of scopes to `read`, `write` or `none` may stand here too".to_owned()];
                None
            }
        };
    }
    let mut scopes = IndexMap::new();
    for (name, key, value) in decoder.named_pairs(node) {
        let Some((_, levels)) = SCOPES.iter().find(|(scope, _)| *scope == name) else {
            decoder.unknown_name(codes::UNKNOWN_KEY, key, name, SCOPES.iter().map(|(scope, _)| *scope));
            continue;
        };
        let Some(level) = decoder.text(value) else { continue };
        if !levels.contains(&level.as_str()) {
            decoder.unknown_name(codes::UNKNOWN_VALUE, value, &level, levels.iter().copied());
            continue;
        }
        let level = match level.as_str() {
            "read" => Permission::Read,
            "write" => Permission::Write,
            _ => Permission::None,
        };
        scopes.insert(name.to_owned(), level);
    }
    Some(Permissions::Scopes(scopes))
}
