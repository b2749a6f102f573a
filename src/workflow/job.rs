//! Jobs: those with steps, and those that call a workflow.
//!
//! Pure: no I/O, no clock, no async.

use super::decode::{Decoder, Variant};
use super::file::{concurrency, defaults, permissions};
use super::model::{CallSecrets, Job, JobBody, RunDefaults};
use super::names;
use super::shape::{
    CALL_SECRETS, CALL_WITH, CONTAINER, ENVIRONMENT, JOB_CONCURRENCY, JOB_OUTPUTS, RUNS_ON, SERVICES, SNAPSHOT,
    STRATEGY, Shape, TEXTS,
};
use super::step;
use super::token::Token;
use super::yaml::{Content, Node};
use crate::diagnostic::codes;
use crate::expr::Names;

const STEPS: Variant = Variant {
    keys: &[
        "needs",
        "if",
        "strategy",
        "name",
        "runs-on",
        "timeout-minutes",
        "cancel-timeout-minutes",
        "continue-on-error",
        "container",
        "services",
        "env",
        "environment",
        "permissions",
        "concurrency",
        "outputs",
        "defaults",
        "steps",
        "snapshot",
    ],
    required: &["runs-on"],
};
/// R1.
const CALL: Variant = Variant {
    keys: &["name", "uses", "with", "secrets", "needs", "if", "permissions", "concurrency", "strategy"],
    required: &["uses"],
};

/// Decodes one job. `needs` holds the ids as the file spells them there.
pub(super) fn job(decoder: &mut Decoder<'_>, id: &str, node: &Node) -> Option<Job> {
    let (variant, fields) = decoder.fields(node, &[STEPS, CALL])?;
    let needs = fields.get("needs").map_or_else(Vec::new, |node| decoder.words(node));
    decoder.scope.needs = Some(needs.clone());
    // Outputs and the environment's address are read when all steps have run.
    decoder.scope.steps = Some(step::written_ids(fields.get("steps")));
    let condition = decoder.condition(fields.get("if"), &names::JOB_IF);
    let job_token = |decoder: &mut Decoder<'_>, key: &str, shape: &'static Shape, names: &'static Names| {
        fields.get(key).map(|node| decoder.token(node, shape, Some(names)))
    };
    let body = if variant == 0 {
        let runs_on = job_token(decoder, "runs-on", &RUNS_ON, &names::JOB).unwrap_or(Token::Null);
        if let (Token::Sequence(labels), Some(node)) = (&runs_on, fields.get("runs-on"))
            && labels.is_empty()
        {
            decoder.error(codes::WRONG_TYPE, node.id, "runs-on must name at least one label");
        }
        if let Some(node) = fields.get("runs-on") {
            group(decoder, node, &runs_on);
        }
        if let Some(key) = fields.key("snapshot") {
            if let Some(node) = fields.get("snapshot") {
                let snapshot = decoder.token(node, &SNAPSHOT, None);
                image_version(decoder, node, &snapshot);
            }
            decoder.warning(codes::SNAPSHOT, key.id, "`snapshot` has no effect on your own machines").diagnostic.help =
                Some("GitHub makes an image of its hosted machine; nothing is made here".to_owned());
        }
        JobBody::Steps {
            runs_on,
            container: fields.get("container").map(|node| {
                let container = decoder.token(node, &CONTAINER, Some(&names::JOB));
                image(decoder, node, &container);
                container
            }),
            services: fields.get("services").map(|node| services(decoder, node)),
            steps: fields.get("steps").map_or_else(Vec::new, |node| step::job_steps(decoder, node)),
        }
    } else {
        let uses = fields.get("uses").map_or_else(String::new, |node| call_reference(decoder, node));
        JobBody::Call {
            uses,
            with: fields.get("with").map(|node| decoder.token(node, &CALL_WITH, None)),
            secrets: fields.get("secrets").map_or(CallSecrets::None, |node| call_secrets(decoder, node)),
        }
    };
    let strategy = fields.get("strategy").map(|node| {
        let token = decoder.token(node, &STRATEGY, Some(&names::STRATEGY));
        matrix(decoder, node, &token);
        token
    });
    let job = Job {
        id: id.to_owned(),
        name: job_token(decoder, "name", &Shape::Text, &names::JOB),
        needs,
        condition,
        permissions: fields.get("permissions").and_then(|node| permissions(decoder, node)),
        environment: job_token(decoder, "environment", &ENVIRONMENT, &names::JOB),
        concurrency: fields.get("concurrency").map(|node| {
            let token = decoder.token(node, &JOB_CONCURRENCY, Some(&names::JOB));
            concurrency(decoder, node, &token);
            token
        }),
        strategy,
        env: job_token(decoder, "env", &TEXTS, &names::JOB_ENV),
        defaults: fields
            .get("defaults")
            .map_or_else(RunDefaults::default, |node| defaults(decoder, node, Some(&names::JOB_DEFAULTS))),
        continue_on_error: job_token(decoder, "continue-on-error", &Shape::Bool, &names::JOB),
        timeout_minutes: job_token(decoder, "timeout-minutes", &Shape::Number, &names::JOB),
        cancel_timeout_minutes: job_token(decoder, "cancel-timeout-minutes", &Shape::Number, &names::JOB),
        outputs: fields.get("outputs").map(|node| decoder.token(node, &JOB_OUTPUTS, None)),
        body,
    };
    decoder.scope = super::lint::Scope::default();
    Some(job)
}

/// `uses` of a call job: `./path.yml`, `$/path.yml`, or `owner/repo/path.yml@ref` (S18).
fn call_reference(decoder: &mut Decoder<'_>, node: &Node) -> String {
    let Some(uses) = decoder.word(node) else { return String::new() };
    let is_workflow = |path: &str| path.ends_with(".yml") || path.ends_with(".yaml");
    let path = uses.strip_prefix("./").or_else(|| uses.strip_prefix("$/"));
    let (valid, mend) = match (path, uses.split_once('@')) {
        (Some(path), _) if path.contains('@') => (false, "a local workflow is read at the running commit: drop `@ref`"),
        (Some(path), _) => (is_workflow(path), "the path of a workflow ends with `.yml` or `.yaml`"),
        (None, Some((place, reference))) => {
            let parts: Vec<&str> = place.splitn(3, '/').collect();
            let complete = parts.len() == 3 && parts.iter().all(|part| !part.is_empty()) && !reference.is_empty();
            (complete && is_workflow(place), "expected `owner/repository/.github/workflows/file.yml@ref`")
        }
        (None, None) => (false, "expected `./.github/workflows/file.yml` or `owner/repository/path/file.yml@ref`"),
    };
    if !valid {
        decoder
            .error(codes::USES, node.id, format!("'{}' is no reference to a workflow", super::decode::shortened(&uses)))
            .diagnostic
            .help = Some(mend.to_owned());
    }
    uses
}

fn call_secrets(decoder: &mut Decoder<'_>, node: &Node) -> CallSecrets {
    match &node.content {
        Content::Text(text) if text == "inherit" => CallSecrets::Inherit,
        Content::Map(_) => CallSecrets::Map(decoder.token(node, &CALL_SECRETS, None)),
        _ => {
            decoder.wrong_type(node, "`inherit`, or a mapping of secrets");
            CallSecrets::None
        }
    }
}

fn services(decoder: &mut Decoder<'_>, node: &Node) -> Token {
    let services = decoder.token(node, &SERVICES, Some(&names::JOB));
    if let (Token::Mapping(tokens), Content::Map(nodes)) = (&services, &node.content)
        && tokens.len() == nodes.len()
    {
        for ((_, service), (_, node)) in tokens.iter().zip(nodes) {
            image(decoder, node, service);
        }
    }
    services
}

/// A container that is written out has an image.
fn image(decoder: &mut Decoder<'_>, node: &Node, container: &Token) {
    let named = match container {
        Token::String(image) => Some(image.as_str()),
        Token::Mapping(_) if !container.is_dynamic() => match container.get("image") {
            Some(Token::String(image)) => Some(image.as_str()),
            Some(_) => return,
            None => None,
        },
        _ => return,
    };
    if named.is_none_or(|image| image == "docker://") {
        decoder.error(codes::MISSING_KEY, node.id, "Container image cannot be empty").diagnostic.help =
            Some("name an image, as in `image: debian:12`".to_owned());
    }
}

/// A group of runners is a name, or one below `organization/` or `enterprise/` (S5).
fn group(decoder: &mut Decoder<'_>, node: &Node, runs_on: &Token) {
    let (Some(Token::String(name)), Some(place)) = (runs_on.get("group"), node.get("group")) else { return };
    let Some((level, rest)) = name.split_once('/') else { return };
    if rest.is_empty() {
        decoder.error(codes::WRONG_TYPE, place.id, format!("Invalid runs-on group name '{name}'."));
    } else if rest.contains('/') || !["org", "organization", "ent", "enterprise"].contains(&level) {
        decoder.error(
            codes::WRONG_TYPE,
            place.id,
            format!(
                "Invalid runs-on group name '{name}'. Please use 'organization/' or 'enterprise/' prefix to target a \
                 single runner group."
            ),
        );
    }
}

/// The version of an image is that of a major version.
fn image_version(decoder: &mut Decoder<'_>, node: &Node, snapshot: &Token) {
    let Some(Token::String(version)) = snapshot.get("version") else { return };
    let major = version.strip_suffix(".*").unwrap_or_default();
    if major.is_empty() || !major.bytes().all(|byte| byte.is_ascii_digit()) || major.parse::<i32>().is_err() {
        let message = format!("Expected format '{{major-version}}.*' Actual '{version}'");
        decoder.error(codes::WRONG_TYPE, node.id, message).diagnostic.help = Some("write for example `1.*`".to_owned());
    }
}

/// What GitHub refuses about a matrix that is written out (M1, M2). What holds expressions is looked at when they have
/// values.
fn matrix(decoder: &mut Decoder<'_>, strategy: &Node, token: &Token) {
    let Some(Node { content: Content::Map(pairs), id }) = strategy.get("matrix") else { return };
    let mut vectors = Vec::new();
    let mut included = false;
    for (key, value) in pairs {
        let Some(name) = key.text() else { continue };
        if name == "include" {
            included |= !matches!(&value.content, Content::List(items) if items.is_empty());
            continue;
        }
        if name == "exclude" {
            continue;
        }
        vectors.push(name);
        if matches!(&value.content, Content::List(values) if values.is_empty()) {
            decoder
                .error(codes::MATRIX, value.id, format!("Matrix vector '{name}' does not contain any values"))
                .diagnostic
                .help = Some("add a value, or remove the vector".to_owned());
        }
    }
    if vectors.is_empty() && !included {
        decoder.error(codes::MATRIX, *id, "Matrix must define at least one vector");
    }
    if token.is_dynamic() {
        return;
    }
    let entries = |wanted: &'static str| {
        pairs.iter().filter(move |(key, _)| key.text() == Some(wanted)).flat_map(|(_, value)| match &value.content {
            Content::List(items) => items.as_slice(),
            _ => &[],
        })
    };
    for entry in entries("exclude") {
        let Content::Map(filter) = &entry.content else { continue };
        if filter.is_empty() {
            decoder.error(codes::MATRIX, entry.id, "Matrix exclude filter must not be empty");
        }
        for (key, _) in filter {
            let Some(name) = key.text() else { continue };
            if !vectors.iter().any(|vector| crate::expr::equal_ignoring_case(vector, name)) {
                let problem = decoder.unknown_name(codes::MATRIX, key, name, vectors.iter().copied());
                problem.diagnostic.message =
                    format!("Matrix exclude key '{name}' does not match any key within the matrix");
            }
        }
    }
    for entry in entries("include") {
        if matches!(&entry.content, Content::Map(values) if values.is_empty()) {
            decoder.error(codes::MATRIX, entry.id, "Matrix include mapping does not contain any values");
        }
    }
}
