//! `action.yml`: read as leniently as GitHub's runner reads it (A1–A4).
//!
//! Pure: no I/O, no clock, no async.

use indexmap::IndexMap;

use super::decode::{Decoder, Fields, Variant};
use super::model::{Action, ActionInput, ActionRuns};
use super::names;
use super::shape::{ARGS, Shape, TEXTS};
use super::step;
use super::token::Token;
use super::yaml::{Content, Node};
use crate::diagnostic::codes;

/// What `using` may be, with the keys of each kind. Unknown keys of `runs` are refused, as by the runner.
const DOCKER: Variant = Variant {
    keys: &["using", "image", "entrypoint", "args", "env", "pre-entrypoint", "pre-if", "post-entrypoint", "post-if"],
    required: &["image"],
};
const NODE: Variant = Variant { keys: &["using", "main", "pre", "pre-if", "post", "post-if"], required: &["main"] };
const COMPOSITE: Variant = Variant { keys: &["using", "steps"], required: &["steps"] };
const KINDS: &[&str] = &["composite", "docker", "node12", "node16", "node20", "node24"];

/// Decodes an action file.
pub(super) fn action(decoder: &mut Decoder<'_>, root: &Node) -> Option<Action> {
    let fields = Fields { pairs: decoder.named_pairs(root) };
    let runs = match fields.get("runs") {
        Some(node) => runs(decoder, node),
        None => {
            if matches!(root.content, Content::Map(_)) {
                decoder.error(codes::MISSING_KEY, root.id, "Required property is missing: runs").diagnostic.help =
                    Some("an action says how it runs: `using`, and `main`, `image` or `steps`".to_owned());
            }
            None
        }
    };
    advise(decoder, root, &fields);
    let text = |decoder: &mut Decoder<'_>, key: &str| fields.get(key).and_then(|node| decoder.text(node));
    let (name, description) = (text(decoder, "name"), text(decoder, "description"));
    Some(Action {
        name,
        description,
        inputs: fields.get("inputs").map_or_else(IndexMap::new, |node| inputs(decoder, node)),
        outputs: fields.get("outputs").map_or_else(IndexMap::new, |node| outputs(decoder, node)),
        runs: runs?,
    })
}

/// What the marketplace asks for and no run needs.
fn advise(decoder: &mut Decoder<'_>, root: &Node, fields: &Fields<'_>) {
    const KNOWN: &[&str] = &["name", "description", "author", "inputs", "outputs", "runs", "branding"];
    for key in ["name", "description"] {
        if fields.get(key).is_none() && matches!(root.content, Content::Map(_)) {
            decoder.warning(codes::ACTION_METADATA, root.id, format!("the action has no `{key}`")).diagnostic.help =
                Some(format!("add `{key}:`; GitHub shows it, and publishing needs it"));
        }
    }
    for (name, key, _) in &fields.pairs {
        if !KNOWN.contains(name) {
            let near = crate::diagnostic::nearest(name, KNOWN.iter().copied());
            decoder
                .warning(codes::ACTION_METADATA, key.id, format!("`{name}` is no key of an action file"))
                .diagnostic
                .help = near.map(|near| format!("did you mean `{near}`?"));
        }
    }
}

fn inputs(decoder: &mut Decoder<'_>, node: &Node) -> IndexMap<String, ActionInput> {
    let mut inputs = IndexMap::new();
    if matches!(node.content, Content::Null) {
        return inputs;
    }
    for (name, _, value) in decoder.named_pairs(node) {
        let mut input = ActionInput::default();
        if !matches!(value.content, Content::Null) {
            for (key, _, value) in decoder.named_pairs(value) {
                match key {
                    "description" => input.description = decoder.text(value),
                    "deprecationMessage" => input.deprecation_message = decoder.text(value),
                    // The runner takes any spelling; only a true one asks for the input.
                    "required" => {
                        input.required = match &value.content {
                            Content::Bool(required) => *required,
                            Content::Text(text) => text.eq_ignore_ascii_case("true"),
                            _ => false,
                        }
                    }
                    "default" => {
                        input.default = Some(decoder.token(value, &Shape::Text, Some(&names::ACTION_INPUT)));
                    }
                    _ => {}
                }
            }
        }
        inputs.insert(name.to_owned(), input);
    }
    inputs
}

fn outputs(decoder: &mut Decoder<'_>, node: &Node) -> IndexMap<String, Option<Token>> {
    const KEYS: Variant = Variant { keys: &["description", "value"], required: &[] };
    let mut outputs = IndexMap::new();
    if matches!(node.content, Content::Null) {
        return outputs;
    }
    for (name, _, value) in decoder.named_pairs(node) {
        let value = match &value.content {
            Content::Null => None,
            _ => decoder.only_fields(value, &KEYS).and_then(|fields| {
                fields.get("value").map(|node| decoder.token(node, &Shape::Text, Some(&names::ACTION_OUTPUT)))
            }),
        };
        outputs.insert(name.to_owned(), value);
    }
    outputs
}

fn runs(decoder: &mut Decoder<'_>, node: &Node) -> Option<ActionRuns> {
    let using = match node.get("using") {
        Some(using) => decoder.word(using)?,
        None => {
            let message = format!(
                "Missing 'using' value. 'using' requires {}.",
                "'composite', 'docker', 'node12', 'node16', 'node20' or 'node24'"
            );
            if matches!(node.content, Content::Map(_)) {
                decoder.error(codes::ACTION_USING, node.id, message).diagnostic.help =
                    Some("add `using: composite`, or the kind that fits the other keys".to_owned());
            } else {
                decoder.wrong_type(node, "a mapping with `using`");
            }
            return None;
        }
    };
    let kind = using.to_ascii_lowercase();
    if kind == "composite" {
        let fields = decoder.only_fields(node, &COMPOSITE)?;
        let steps = fields.get("steps").map_or_else(Vec::new, |node| step::composite_steps(decoder, node));
        return Some(ActionRuns::Composite { steps });
    }
    if kind == "docker" {
        return docker(decoder, node);
    }
    if !kind.starts_with("node") || !KINDS.contains(&kind.as_str()) {
        let at = node.get("using").unwrap_or(node);
        decoder.unknown_name(codes::ACTION_USING, at, &using, KINDS.iter().copied());
        return None;
    }
    let fields = decoder.only_fields(node, &NODE)?;
    let word = |decoder: &mut Decoder<'_>, key: &str| fields.get(key).and_then(|node| decoder.word(node));
    Some(ActionRuns::JavaScript {
        using,
        main: word(decoder, "main").unwrap_or_default(),
        pre: word(decoder, "pre"),
        pre_if: decoder.hook_condition(fields.get("pre-if"), &names::ACTION_IF),
        post: word(decoder, "post"),
        post_if: decoder.hook_condition(fields.get("post-if"), &names::ACTION_IF),
    })
}

fn docker(decoder: &mut Decoder<'_>, node: &Node) -> Option<ActionRuns> {
    let fields = decoder.only_fields(node, &DOCKER)?;
    let word = |decoder: &mut Decoder<'_>, key: &str| fields.get(key).and_then(|node| decoder.word(node));
    Some(ActionRuns::Docker {
        image: word(decoder, "image").unwrap_or_default(),
        args: fields.get("args").map(|node| decoder.token(node, &ARGS, None)),
        env: fields.get("env").map(|node| decoder.token(node, &TEXTS, Some(&names::ACTION_CONTAINER))),
        entrypoint: word(decoder, "entrypoint"),
        pre_entrypoint: word(decoder, "pre-entrypoint"),
        pre_if: decoder.hook_condition(fields.get("pre-if"), &names::ACTION_IF),
        post_entrypoint: word(decoder, "post-entrypoint"),
        post_if: decoder.hook_condition(fields.get("post-if"), &names::ACTION_IF),
    })
}
