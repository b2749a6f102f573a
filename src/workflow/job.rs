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
        if let Some(key) = fields.key("snapshot") {
            job_token(decoder, "snapshot", &SNAPSHOT, &names::JOB);
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
        matrix(decoder, node);
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
    if matches!(container, Token::Mapping(_)) && !container.is_dynamic() && container.get("image").is_none() {
        decoder.error(codes::MISSING_KEY, node.id, "Container image cannot be empty").diagnostic.help =
            Some("add `image:` here".to_owned());
    }
}

/// What GitHub refuses about a matrix that is written out (M1).
fn matrix(decoder: &mut Decoder<'_>, strategy: &Node) {
    let Some(Node { content: Content::Map(pairs), .. }) = strategy.get("matrix") else { return };
    for (key, value) in pairs {
        let (Some(name), Content::List(values)) = (key.text(), &value.content) else { continue };
        if values.is_empty() && name != "include" && name != "exclude" {
            decoder
                .error(codes::MATRIX, value.id, format!("Matrix vector '{name}' does not contain any values"))
                .diagnostic
                .help = Some("add a value, or remove the vector".to_owned());
        }
    }
}
