//! `on`: which events a workflow listens to, with which filters, and the interfaces of dispatch and call (T1–T18).
//!
//! Pure: no I/O, no clock, no async.

use indexmap::IndexMap;

use super::cron;
use super::decode::{Decoder, Variant};
use super::model::{
    CallInterface, CallOutput, CallSecret, Dispatch, EventTrigger, Input, InputKind, Schedule, Triggers,
};
use super::names;
use super::shape::{SCALAR, Shape};
use super::token::Token;
use super::yaml::{Content, Node};
use crate::diagnostic::codes;

/// GitHub's form for a manual run has room for no more (T11).
const MOST_DISPATCH_INPUTS: usize = 25;

/// What an event's entry under `on` may hold.
pub struct EventShape {
    /// As written in files.
    pub name: &'static str,
    /// Activity types; empty when the event has none.
    pub types: &'static [&'static str],
    /// Further keys: filters.
    filters: &'static [&'static str],
}

const BRANCHES: &[&str] = &["branches", "branches-ignore"];
const PULL: &[&str] = &["branches", "branches-ignore", "paths", "paths-ignore"];
const PUSH: &[&str] = &["branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"];
const CHANGES: &[&str] = &["created", "edited", "deleted"];
const PULL_TYPES: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
    "stacked",
];

const fn event(name: &'static str, types: &'static [&'static str], filters: &'static [&'static str]) -> EventShape {
    EventShape { name, types, filters }
}

/// Every event a workflow may name (T18), and Towline's own `towline`.
pub const EVENTS: &[EventShape] = &[
    event("branch_protection_rule", CHANGES, &[]),
    event("check_run", &["completed", "created", "rerequested", "requested_action"], &[]),
    event("check_suite", &["completed"], &[]),
    event("create", &[], &[]),
    event("delete", &[], &[]),
    event("deployment", &[], &[]),
    event("deployment_status", &[], &[]),
    event(
        "discussion",
        &[
            "created",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "category_changed",
            "answered",
            "unanswered",
        ],
        &[],
    ),
    event("discussion_comment", CHANGES, &[]),
    event("fork", &[], &[]),
    event("gollum", &[], &[]),
    event("image_version", &["created", "ready", "deleted"], &["names", "versions"]),
    event("issue_comment", CHANGES, &[]),
    event(
        "issues",
        &[
            "opened",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "closed",
            "reopened",
            "assigned",
            "unassigned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "milestoned",
            "demilestoned",
            "field_added",
            "field_removed",
            "typed",
            "untyped",
        ],
        &[],
    ),
    event("label", CHANGES, &[]),
    event("merge_group", &["checks_requested"], BRANCHES),
    event("milestone", &["created", "closed", "opened", "edited", "deleted"], &[]),
    event("page_build", &[], &[]),
    event("project", &["created", "closed", "reopened", "edited", "deleted"], &[]),
    event("project_card", &["created", "moved", "converted", "edited", "deleted"], &[]),
    event("project_column", &["created", "updated", "moved", "deleted"], &[]),
    event("public", &[], &[]),
    event("pull_request", PULL_TYPES, PULL),
    event("pull_request_comment", CHANGES, &[]),
    event("pull_request_review", &["submitted", "edited", "dismissed"], &[]),
    event("pull_request_review_comment", CHANGES, &[]),
    event("pull_request_target", PULL_TYPES, PULL),
    event("push", &[], PUSH),
    event("registry_package", &["published", "updated"], &[]),
    event("release", &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"], &[]),
    event("repository_dispatch", &[], &["types"]),
    event("schedule", &[], &[]),
    event("status", &[], &[]),
    event("towline", &[], &["paths", "paths-ignore"]),
    event("watch", &["started"], &[]),
    event("workflow_call", &[], &[]),
    event("workflow_dispatch", &[], &[]),
    event("workflow_run", &["requested", "completed", "in_progress"], &["workflows", "branches", "branches-ignore"]),
];

/// The entry of an event name.
#[must_use]
pub fn event_shape(name: &str) -> Option<&'static EventShape> {
    EVENTS.iter().find(|event| event.name == name)
}

/// Decodes `on`: a name, a list of names, or a mapping.
pub(super) fn triggers(decoder: &mut Decoder<'_>, node: &Node) -> Triggers {
    let mut triggers = Triggers::default();
    match &node.content {
        Content::List(items) => {
            for item in items {
                bare_event(decoder, item, &mut triggers);
            }
        }
        Content::Map(_) => {
            for (name, key, value) in decoder.named_pairs(node) {
                match event_shape(name) {
                    Some(shape) => configured_event(decoder, shape, value, &mut triggers),
                    None => unknown_event(decoder, key, name),
                }
            }
        }
        _ => bare_event(decoder, node, &mut triggers),
    }
    triggers
}

fn bare_event(decoder: &mut Decoder<'_>, node: &Node, triggers: &mut Triggers) {
    let Some(name) = decoder.word(node) else { return };
    let Some(shape) = event_shape(&name) else { return unknown_event(decoder, node, &name) };
    match shape.name {
        "workflow_dispatch" => triggers.dispatch = Some(Dispatch::default()),
        "workflow_call" => triggers.call = Some(CallInterface::default()),
        _ => {}
    }
    triggers.events.entry(name).or_default();
}

fn unknown_event(decoder: &mut Decoder<'_>, node: &Node, name: &str) {
    decoder.unknown_name(codes::UNKNOWN_EVENT, node, name, EVENTS.iter().map(|event| event.name));
}

fn configured_event(decoder: &mut Decoder<'_>, shape: &'static EventShape, node: &Node, triggers: &mut Triggers) {
    let mut trigger = EventTrigger::default();
    match shape.name {
        "schedule" => {
            triggers.schedules = schedules(decoder, node);
        }
        "workflow_dispatch" => triggers.dispatch = Some(dispatch(decoder, node)),
        "workflow_call" => triggers.call = Some(call(decoder, node)),
        _ => filters(decoder, shape, node, &mut trigger),
    }
    triggers.events.insert(shape.name.to_owned(), trigger);
}

fn filters(decoder: &mut Decoder<'_>, shape: &'static EventShape, node: &Node, trigger: &mut EventTrigger) {
    if matches!(node.content, Content::Null) {
        return;
    }
    if shape.types.is_empty() && shape.filters.is_empty() {
        decoder.wrong_type(node, &format!("nothing: `{}` has neither activity types nor filters", shape.name));
        return;
    }
    if !matches!(node.content, Content::Map(_)) {
        decoder.wrong_type(node, "a mapping of filters, or nothing");
        return;
    }
    let mut seen: Vec<(&'static str, u32)> = Vec::new();
    for (name, key, value) in decoder.named_pairs(node) {
        let known = shape.filters.iter().find(|filter| **filter == name).copied();
        let Some(name) = known.or((name == "types" && !shape.types.is_empty()).then_some("types")) else {
            let types = (!shape.types.is_empty()).then_some("types");
            decoder.unknown_name(codes::UNKNOWN_KEY, key, name, types.into_iter().chain(shape.filters.iter().copied()));
            continue;
        };
        seen.push((name, key.id));
        let words = if name == "types" { types(decoder, shape, value) } else { decoder.words(value) };
        let place = match name {
            "types" => &mut trigger.types,
            "branches" => &mut trigger.branches,
            "branches-ignore" => &mut trigger.branches_ignore,
            "tags" => &mut trigger.tags,
            "tags-ignore" => &mut trigger.tags_ignore,
            "paths" => &mut trigger.paths,
            "paths-ignore" => &mut trigger.paths_ignore,
            "workflows" => &mut trigger.workflows,
            "names" => &mut trigger.names,
            _ => &mut trigger.versions,
        };
        *place = Some(words);
    }
    both_filters(decoder, &seen);
}

/// A filter and its opposite (T2). GitHub's own reader lets them pass, its server does not.
fn both_filters(decoder: &mut Decoder<'_>, seen: &[(&'static str, u32)]) {
    for (plain, ignore) in [("branches", "branches-ignore"), ("tags", "tags-ignore"), ("paths", "paths-ignore")] {
        let has = |wanted: &str| seen.iter().any(|(name, _)| *name == wanted);
        if has(plain)
            && let Some((_, at)) = seen.iter().find(|(name, _)| *name == ignore)
        {
            decoder
                .warning(codes::BOTH_FILTERS, *at, format!("`{plain}` and `{ignore}` of one event exclude each other"))
                .diagnostic
                .help = Some(format!("keep `{plain}` and turn each pattern of `{ignore}` into one with `!` before it"));
        }
    }
}

fn types(decoder: &mut Decoder<'_>, shape: &'static EventShape, node: &Node) -> Vec<String> {
    if shape.types.is_empty() {
        // The types of a repository_dispatch are the sender's own words.
        return decoder.words(node);
    }
    let mut types = Vec::new();
    let items = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for item in items {
        let Some(name) = decoder.text(item) else { continue };
        if shape.types.contains(&name.as_str()) {
            types.push(name);
        } else {
            let problem = decoder.unknown_name(codes::UNKNOWN_ACTIVITY, item, &name, shape.types.iter().copied());
            if name == "merged" && shape.name.starts_with("pull_request") {
                problem.diagnostic.help = Some(
                    "a merge is a way to close: use `closed`, and `if: github.event.pull_request.merged` on the job"
                        .to_owned(),
                );
            }
        }
    }
    types
}

fn schedules(decoder: &mut Decoder<'_>, node: &Node) -> Vec<Schedule> {
    const ENTRY: Variant = Variant { keys: &["cron", "timezone"], required: &["cron"] };
    let mut schedules = Vec::new();
    for item in decoder.items(node, "a list of entries with `cron`") {
        let Some(fields) = decoder.only_fields(item, &ENTRY) else { continue };
        let Some(cron_node) = fields.get("cron") else { continue };
        let Some(text) = decoder.word(cron_node) else { continue };
        match cron::parse(&text) {
            Err(fault) => {
                let problem = decoder.error(codes::CRON, cron_node.id, format!("invalid cron expression: {fault}"));
                problem.diagnostic.help = Some("expected five fields: minute hour day month weekday".to_owned());
            }
            Ok(cron) if cron.more_often_than_every_5_minutes() => {
                decoder
                    .warning(codes::CRON_TOO_OFTEN, cron_node.id, "this schedule is more frequent than every 5 minutes")
                    .diagnostic
                    .help = Some("GitHub starts it once every 5 minutes at most: write `*/5 * * * *`".to_owned());
            }
            Ok(_) => {}
        }
        let timezone = fields.get("timezone").and_then(|node| {
            let name = decoder.word(node)?;
            if !is_zone_name(&name) {
                decoder
                    .error(codes::TIME_ZONE, node.id, format!("'{name}' is not the name of a time zone"))
                    .diagnostic
                    .help = Some("use an IANA name such as `Europe/Berlin` or `UTC`".to_owned());
            }
            Some(name)
        });
        schedules.push(Schedule { cron: text, timezone });
    }
    schedules
}

/// Whether a text has the form of an IANA name; whether the zone exists is known where zones are read.
fn is_zone_name(name: &str) -> bool {
    name.len() <= 64
        && name.split('/').all(|part| {
            part.starts_with(|first: char| first.is_ascii_alphabetic())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
        })
}

fn dispatch(decoder: &mut Decoder<'_>, node: &Node) -> Dispatch {
    const KEYS: Variant = Variant { keys: &["inputs"], required: &[] };
    let mut dispatch = Dispatch::default();
    if matches!(node.content, Content::Null) {
        return dispatch;
    }
    let Some(fields) = decoder.only_fields(node, &KEYS) else { return dispatch };
    let Some(inputs) = fields.get("inputs").filter(|inputs| !matches!(inputs.content, Content::Null)) else {
        return dispatch;
    };
    let pairs = decoder.named_pairs(inputs);
    if pairs.len() > MOST_DISPATCH_INPUTS {
        decoder.error(
            codes::DISPATCH_INPUT,
            inputs.id,
            format!("a dispatch may have {MOST_DISPATCH_INPUTS} inputs, this one has {}", pairs.len()),
        );
    }
    for (name, key, value) in pairs {
        not_empty(decoder, key, name);
        if let Some(input) = dispatch_input(decoder, value) {
            dispatch.inputs.insert(name.to_owned(), input);
        }
    }
    dispatch
}

fn not_empty(decoder: &mut Decoder<'_>, key: &Node, name: &str) {
    if name.is_empty() {
        decoder.error(codes::WRONG_TYPE, key.id, "Unexpected value ''");
    }
}

fn dispatch_input(decoder: &mut Decoder<'_>, node: &Node) -> Option<Input> {
    const KEYS: Variant = Variant {
        keys: &["description", "type", "required", "default", "options", "deprecationMessage"],
        required: &[],
    };
    let fields = decoder.only_fields(node, &KEYS)?;
    let kind = match fields.get("type") {
        None => InputKind::String,
        Some(node) => input_kind(decoder, node, &["string", "boolean", "number", "choice", "environment"])
            .unwrap_or(InputKind::String),
    };
    let default = fields.get("default").map(|node| (node, decoder.token(node, &SCALAR, None)));
    let options: Vec<String> = match fields.get("options") {
        None => Vec::new(),
        Some(node) => decoder.items(node, "a list of choices").iter().filter_map(|item| decoder.text(item)).collect(),
    };
    match (kind, fields.key("options")) {
        (InputKind::Choice, None) => {
            decoder.error(codes::DISPATCH_INPUT, node.id, "Missing 'options' for choice input").diagnostic.help =
                Some("add `options:` with the list of choices".to_owned());
        }
        (InputKind::Choice, Some(key)) if options.is_empty() => {
            decoder.error(codes::DISPATCH_INPUT, key.id, "Missing 'options' for choice input").diagnostic.help =
                Some("a choice needs at least one option".to_owned());
        }
        (InputKind::Choice, Some(_)) => {
            if let Some((at, Token::String(default))) = &default
                && !options.contains(default)
                && !default.is_empty()
            {
                decoder
                    .warning(codes::INPUT_DEFAULT, at.id, format!("the default '{default}' is none of the options"))
                    .diagnostic
                    .help = Some(format!("expected one of {}", options.join(", ")));
            }
        }
        (_, Some(key)) => {
            decoder
                .error(codes::DISPATCH_INPUT, key.id, "Input type is not 'choice', but 'options' is defined")
                .diagnostic
                .help = Some("set `type: choice`, or remove the options".to_owned());
        }
        (_, None) => {}
    }
    if let Some((at, default)) = &default {
        default_fits(decoder, at, kind, default);
    }
    Some(Input {
        kind,
        description: fields.get("description").and_then(|node| decoder.text(node)),
        deprecation_message: fields.get("deprecationMessage").and_then(|node| decoder.text(node)),
        required: fields.get("required").and_then(|node| decoder.boolean(node)).unwrap_or(false),
        default: default.map(|(_, default)| default),
        options,
    })
}

/// The default of an input of a dispatch must be able to become the input's type.
fn default_fits(decoder: &mut Decoder<'_>, node: &Node, kind: InputKind, default: &Token) {
    let (fits, expected) = match (kind, default) {
        (InputKind::Boolean, Token::Bool(_)) | (InputKind::Number, Token::Number(_)) => (true, ""),
        (InputKind::Boolean, Token::String(text)) => {
            (text.is_empty() || matches!(text.as_str(), "true" | "false"), "`true` or `false`")
        }
        (InputKind::Number, Token::String(text)) => {
            (text.is_empty() || super::yaml::core_number(text.trim()).is_some(), "a number")
        }
        (InputKind::Boolean, Token::Number(_)) => (false, "`true` or `false`"),
        (InputKind::Number, Token::Bool(_)) => (false, "a number"),
        _ => (true, ""),
    };
    if !fits {
        does_not_fit(decoder, node, default, expected);
    }
}

fn does_not_fit(decoder: &mut Decoder<'_>, node: &Node, default: &Token, expected: &str) {
    let text = super::decode::scalar_text(default);
    decoder.error(codes::INPUT_DEFAULT, node.id, format!("Unexpected value '{text}'")).diagnostic.help =
        Some(format!("the input's type asks for {expected}"));
}

fn input_kind(decoder: &mut Decoder<'_>, node: &Node, known: &'static [&'static str]) -> Option<InputKind> {
    let name = decoder.word(node)?;
    if !known.contains(&name.as_str()) {
        decoder.unknown_name(codes::UNKNOWN_VALUE, node, &name, known.iter().copied());
        return None;
    }
    Some(match name.as_str() {
        "boolean" => InputKind::Boolean,
        "number" => InputKind::Number,
        "choice" => InputKind::Choice,
        "environment" => InputKind::Environment,
        _ => InputKind::String,
    })
}

fn call(decoder: &mut Decoder<'_>, node: &Node) -> CallInterface {
    const KEYS: Variant = Variant { keys: &["inputs", "secrets", "outputs"], required: &[] };
    let mut call = CallInterface::default();
    if matches!(node.content, Content::Null) {
        return call;
    }
    let Some(fields) = decoder.only_fields(node, &KEYS) else { return call };
    if let Some(inputs) = fields.get("inputs") {
        call.inputs = each(decoder, inputs, call_input);
    }
    if let Some(secrets) = fields.get("secrets") {
        call.secrets = each(decoder, secrets, call_secret);
    }
    if let Some(outputs) = fields.get("outputs") {
        call.outputs = each(decoder, outputs, call_output);
    }
    call
}

fn each<T>(
    decoder: &mut Decoder<'_>,
    node: &Node,
    decode: impl Fn(&mut Decoder<'_>, &Node) -> Option<T>,
) -> IndexMap<String, T> {
    let mut all = IndexMap::new();
    for (name, key, value) in decoder.named_pairs(node) {
        not_empty(decoder, key, name);
        if let Some(decoded) = decode(decoder, value) {
            all.insert(name.to_owned(), decoded);
        }
    }
    all
}

fn call_input(decoder: &mut Decoder<'_>, node: &Node) -> Option<Input> {
    const KEYS: Variant = Variant { keys: &["description", "type", "required", "default"], required: &["type"] };
    let fields = decoder.only_fields(node, &KEYS)?;
    let kind = fields
        .get("type")
        .and_then(|node| input_kind(decoder, node, &["string", "boolean", "number"]))
        .unwrap_or(InputKind::String);
    let default = fields.get("default").map(|node| {
        let default = decoder.token(node, &SCALAR, Some(&names::RUN));
        if let Some(expected) = super::call::misfit(kind, &default) {
            does_not_fit(decoder, node, &default, expected);
        }
        default
    });
    Some(Input {
        kind,
        description: fields.get("description").and_then(|node| decoder.text(node)),
        deprecation_message: None,
        required: fields.get("required").and_then(|node| decoder.boolean(node)).unwrap_or(false),
        default,
        options: Vec::new(),
    })
}

fn call_secret(decoder: &mut Decoder<'_>, node: &Node) -> Option<CallSecret> {
    const KEYS: Variant = Variant { keys: &["description", "required"], required: &[] };
    if matches!(node.content, Content::Null) {
        return Some(CallSecret::default());
    }
    let fields = decoder.only_fields(node, &KEYS)?;
    Some(CallSecret {
        description: fields.get("description").and_then(|node| decoder.text(node)),
        required: fields.get("required").and_then(|node| decoder.boolean(node)).unwrap_or(false),
    })
}

fn call_output(decoder: &mut Decoder<'_>, node: &Node) -> Option<CallOutput> {
    const KEYS: Variant = Variant { keys: &["description", "value"], required: &["value"] };
    let fields = decoder.only_fields(node, &KEYS)?;
    Some(CallOutput {
        description: fields.get("description").and_then(|node| decoder.text(node)),
        value: fields
            .get("value")
            .map_or(Token::Null, |value| decoder.token(value, &Shape::Text, Some(&names::CALL_OUTPUT))),
    })
}
