//! Steps of jobs and of composite actions: kinds, ids, and what they refer to (S11, S14, S18).
//!
//! Pure: no I/O, no clock, no async.

use std::collections::{HashMap, HashSet};

use super::decode::{Decoder, Variant, shortened};
use super::expression;
use super::file::{identifier, not_reserved};
use super::lint;
use super::model::{ActionReference, Step, StepBody};
use super::names;
use super::shape::{Shape, TEXTS};
use super::token::Token;
use super::yaml::{Content, Node};
use crate::diagnostic::codes;
use crate::expr::{MAX_LENGTH, Names};

/// The longest id GitHub makes up.
const LONGEST_ID: usize = 100;

const JOB_STEPS: [Variant; 6] = [
    Variant {
        keys: &[
            "name",
            "id",
            "if",
            "timeout-minutes",
            "run",
            "continue-on-error",
            "env",
            "working-directory",
            "shell",
            "background",
        ],
        required: &["run"],
    },
    Variant {
        keys: &["name", "id", "if", "continue-on-error", "timeout-minutes", "uses", "with", "env", "background"],
        required: &["uses"],
    },
    Variant { keys: &["name", "id", "continue-on-error", "wait"], required: &["wait"] },
    Variant { keys: &["name", "id", "continue-on-error", "wait-all"], required: &["wait-all"] },
    Variant { keys: &["name", "id", "continue-on-error", "cancel"], required: &["cancel"] },
    Variant { keys: &["parallel"], required: &["parallel"] },
];
const COMPOSITE_STEPS: [Variant; 2] = [
    Variant {
        keys: &["name", "id", "if", "run", "shell", "env", "continue-on-error", "working-directory"],
        required: &["run"],
    },
    Variant { keys: &["name", "id", "if", "uses", "with", "env", "continue-on-error"], required: &["uses"] },
];

/// Whose steps they are: which keys and names they know.
struct Dialect {
    variants: &'static [Variant],
    condition: &'static Names,
    names: &'static Names,
    /// Where `shell` may hold expressions.
    shell: Option<&'static Names>,
}

/// The steps of a job.
pub(super) fn job_steps(decoder: &mut Decoder<'_>, node: &Node) -> Vec<Step> {
    let dialect = Dialect { variants: &JOB_STEPS, condition: &names::STEP_IF, names: &names::STEP, shell: None };
    all(decoder, node, &dialect)
}

/// The steps of a composite action (A3, X7).
pub(super) fn composite_steps(decoder: &mut Decoder<'_>, node: &Node) -> Vec<Step> {
    let dialect = Dialect {
        variants: &COMPOSITE_STEPS,
        condition: &names::COMPOSITE_IF,
        names: &names::COMPOSITE,
        shell: Some(&names::COMPOSITE),
    };
    all(decoder, node, &dialect)
}

fn all(decoder: &mut Decoder<'_>, node: &Node, dialect: &Dialect) -> Vec<Step> {
    let mut ids = Ids::default();
    let after = decoder.scope.steps.take();
    decoder.scope.steps = Some(Vec::new());
    let mut steps = list(decoder, node, dialect, &mut ids);
    decoder.scope.steps = after;
    // Written ids are taken first, wherever they stand: a made-up one never displaces them.
    name_the_rest(&mut steps, &mut ids);
    steps
}

fn list(decoder: &mut Decoder<'_>, node: &Node, dialect: &Dialect, ids: &mut Ids) -> Vec<Step> {
    let items = decoder.items(node, "a list of steps");
    items.iter().filter_map(|item| step(decoder, item, dialect, ids)).collect()
}

fn step(decoder: &mut Decoder<'_>, node: &Node, dialect: &Dialect, ids: &mut Ids) -> Option<Step> {
    let (variant, fields) = decoder.fields(node, dialect.variants)?;
    let names = dialect.names;
    let id = fields.get("id").and_then(|node| {
        let id = decoder.word(node)?;
        take_id(decoder, node, &id, ids);
        Some(id)
    });
    let background = fields.get("background").and_then(|node| decoder.boolean(node)).unwrap_or(false);
    let token = |decoder: &mut Decoder<'_>, key: &str, shape: &'static Shape| {
        fields.get(key).map(|node| decoder.token(node, shape, Some(names)))
    };
    let control = variant >= 2;
    if variant == 0 && dialect.shell.is_some() && fields.get("run").is_some() && fields.get("shell").is_none() {
        decoder
            .warning(codes::COMPOSITE_SHELL, node.id, "a `run` step of a composite action has no `shell`")
            .diagnostic
            .help = Some("add `shell: bash`: GitHub's runner refuses the step without it".to_owned());
    }
    let body = match variant {
        0 => StepBody::Run {
            script: fields.get("run").map_or(Token::Null, |node| {
                let script = decoder.token(node, &Shape::Text, Some(names));
                length(decoder, node, &script);
                lint::script(decoder, node, &script);
                script
            }),
            shell: fields.get("shell").map(|node| {
                let shell = decoder.token(node, &Shape::NonEmpty, dialect.shell);
                lint::shell(decoder, node, &shell);
                shell
            }),
            working_directory: token(decoder, "working-directory", &Shape::Text),
        },
        1 => StepBody::Uses {
            uses: fields.get("uses").map_or_else(no_reference, |node| reference(decoder, node)),
            with: fields.get("with").map(|node| with(decoder, node, names, fields.get("uses").and_then(Node::text))),
        },
        2 => StepBody::Wait(fields.get("wait").map_or_else(Vec::new, |node| targets(decoder, node, ids))),
        3 => {
            if let Some(node) = fields.get("wait-all") {
                match node.content {
                    Content::Null | Content::Bool(true) => {}
                    Content::Bool(false) => {
                        decoder
                            .error(codes::WRONG_TYPE, node.id, "The value of 'wait-all' must be true or omitted")
                            .diagnostic
                            .help = Some("write `wait-all:` alone, or remove the step".to_owned());
                    }
                    _ => decoder.wrong_type(node, "nothing, or `true`"),
                }
            }
            StepBody::WaitAll
        }
        4 => StepBody::Cancel(fields.get("cancel").map_or_else(String::new, |node| {
            let target = decoder.word(node).unwrap_or_default();
            known_target(decoder, node, &target, ids);
            target
        })),
        _ => StepBody::Parallel(fields.get("parallel").map_or_else(Vec::new, |node| list(decoder, node, dialect, ids))),
    };
    let step = Step {
        explicit_id: id.is_some(),
        id: id.unwrap_or_default(),
        name: token(decoder, "name", &Shape::Text),
        condition: if control { expression::always() } else { decoder.condition(fields.get("if"), dialect.condition) },
        env: token(decoder, "env", &TEXTS),
        continue_on_error: token(decoder, "continue-on-error", &Shape::Bool),
        timeout_minutes: token(decoder, "timeout-minutes", &Shape::Number),
        background,
        body,
    };
    if step.explicit_id {
        // Known from here on: no step can wait for itself.
        ids.written.push((step.id.clone(), background));
        if let Some(known) = &mut decoder.scope.steps {
            known.push(step.id.clone());
        }
    }
    Some(step)
}

/// Scripts are as long as expressions at most (S19); one with an expression in it is one, and measured as such.
fn length(decoder: &mut Decoder<'_>, node: &Node, script: &Token) {
    let Token::String(text) = script else { return };
    if text.len() > MAX_LENGTH && text.encode_utf16().count() > MAX_LENGTH {
        decoder
            .error(codes::SCRIPT_LENGTH, node.id, format!("the script is longer than {MAX_LENGTH} characters"))
            .diagnostic
            .help = Some("put the script into a file of the repository, and run that".to_owned());
    }
}

/// The inputs of an action; one known action takes a script.
fn with(decoder: &mut Decoder<'_>, node: &Node, names: &'static Names, uses: Option<&str>) -> Token {
    let token = decoder.token(node, &TEXTS, Some(names));
    if uses.is_some_and(|uses| uses.to_ascii_lowercase().starts_with("actions/github-script@"))
        && let (Some(place), Some(script)) = (node.get("script"), token.get("script"))
    {
        lint::script(decoder, place, script);
    }
    token
}

/// The ids written in a list of steps, those inside `parallel` included.
pub(super) fn written_ids(steps: Option<&Node>) -> Vec<String> {
    let Some(Node { content: Content::List(items), .. }) = steps else { return Vec::new() };
    let mut ids = Vec::new();
    for item in items {
        ids.extend(item.get("id").and_then(Node::text).map(str::to_owned));
        ids.extend(written_ids(item.get("parallel")));
    }
    ids
}

/// The ids of one job or action, which compare without case.
#[derive(Default)]
struct Ids {
    taken: HashSet<String>,
    /// Written ids in file order, and whether their step runs in the background.
    written: Vec<(String, bool)>,
    /// How often each made-up id has been wanted.
    attempts: HashMap<String, usize>,
}

fn take_id(decoder: &mut Decoder<'_>, node: &Node, id: &str, ids: &mut Ids) {
    if !identifier(decoder, node, id) || !not_reserved(decoder, node, id) {
        return;
    }
    if !ids.taken.insert(id.to_lowercase()) {
        decoder
            .error(
                codes::DUPLICATE_KEY,
                node.id,
                format!("The identifier '{id}' may not be used more than once within the same scope."),
            )
            .diagnostic
            .help = Some("ids compare without case; give this step another one".to_owned());
    }
}

fn targets(decoder: &mut Decoder<'_>, node: &Node, ids: &Ids) -> Vec<String> {
    let targets = decoder.words(node);
    for (at, target) in targets.iter().enumerate() {
        let place = match &node.content {
            Content::List(items) => items.get(at).unwrap_or(node),
            _ => node,
        };
        known_target(decoder, place, target, ids);
    }
    targets
}

/// `wait` and `cancel` name a step before them that runs in the background.
fn known_target(decoder: &mut Decoder<'_>, node: &Node, target: &str, ids: &Ids) {
    if target.is_empty() {
        return;
    }
    match ids.written.iter().find(|(id, _)| id.eq_ignore_ascii_case(target)) {
        Some((_, true)) => {}
        Some((_, false)) => {
            decoder
                .warning(codes::BACKGROUND_STEP, node.id, format!("step '{target}' does not run in the background"))
                .diagnostic
                .help = Some("add `background: true` to it".to_owned());
        }
        None => {
            let background = ids.written.iter().filter(|(_, background)| *background).map(|(id, _)| id.as_str());
            let problem = decoder.unknown_name(codes::BACKGROUND_STEP, node, target, background);
            problem.diagnostic.message = format!("no step before this one has the id '{}'", shortened(target));
        }
    }
}

/// Gives an id to each step without one, as GitHub does: `__run`, `__run_2`, `__actions_checkout`, …
fn name_the_rest(steps: &mut [Step], ids: &mut Ids) {
    for step in steps {
        if let StepBody::Parallel(inner) = &mut step.body {
            name_the_rest(inner, ids);
        }
        if !step.explicit_id {
            step.id = ids.make_up(&stem(&step.body));
        }
    }
}

fn stem(body: &StepBody) -> String {
    match body {
        StepBody::Run { .. } => "run".to_owned(),
        StepBody::Uses { uses, .. } => match uses {
            ActionReference::Repository { owner, name, .. } => format!("{owner}/{name}"),
            ActionReference::Workspace(_) | ActionReference::SameRepository(_) => "self".to_owned(),
            ActionReference::Image(image) => image.clone(),
        },
        StepBody::Wait(_) => "wait".to_owned(),
        StepBody::WaitAll => "wait-all".to_owned(),
        StepBody::Cancel(_) => "cancel".to_owned(),
        StepBody::Parallel(_) => "parallel".to_owned(),
    }
}

impl Ids {
    fn make_up(&mut self, stem: &str) -> String {
        let stem: String = "__"
            .chars()
            .chain(stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }))
            .collect();
        // Counting goes on where it stopped, so that thousands of steps cost thousands of tries and not their square.
        let mut attempt = self.attempts.get(&stem).copied().unwrap_or(0);
        loop {
            attempt += 1;
            let suffix = if attempt == 1 { String::new() } else { format!("_{attempt}") };
            let mut id: String = stem.chars().take(LONGEST_ID - suffix.len()).collect();
            id.push_str(&suffix);
            if self.taken.insert(id.to_lowercase()) {
                self.attempts.insert(stem, attempt);
                return id;
            }
        }
    }
}

/// `uses` of a step.
fn reference(decoder: &mut Decoder<'_>, node: &Node) -> ActionReference {
    let Some(uses) = decoder.word(node) else { return no_reference() };
    parse_reference(&uses).unwrap_or_else(|| {
        let problem = decoder.error(
            codes::USES,
            node.id,
            format!("Expected format {{org}}/{{repo}}[/path]@ref. Actual '{}'", shortened(&uses)),
        );
        problem.diagnostic.help = Some(mend_reference(&uses));
        no_reference()
    })
}

/// Stands for a faulty reference; a file with a fault has no model, so nobody sees it.
fn no_reference() -> ActionReference {
    ActionReference::Image(String::new())
}

fn mend_reference(uses: &str) -> String {
    if uses.starts_with("docker:") {
        "write the image behind `docker://`".to_owned()
    } else if uses.contains('/') && !uses.contains('@') && !uses.starts_with('.') {
        format!("say which version, for example `{uses}@v4`")
    } else {
        "an action is `owner/repository@ref`, `./path` in the workspace, `$/path` in this repository, or \
         `docker://image`"
            .to_owned()
    }
}

/// Reads the `uses` of a step (S18).
#[must_use]
pub fn parse_reference(uses: &str) -> Option<ActionReference> {
    if let Some(image) = uses.strip_prefix("docker://") {
        return (!image.is_empty()).then(|| ActionReference::Image(image.to_owned()));
    }
    if uses.starts_with("./") || uses.starts_with(".\\") {
        return Some(ActionReference::Workspace(uses.to_owned()));
    }
    if let Some(path) = uses.strip_prefix("$/") {
        return (!uses.contains('@')).then(|| ActionReference::SameRepository(path.trim_end_matches('/').to_owned()));
    }
    let (place, reference) = uses.split_once('@')?;
    if reference.is_empty() || reference.contains('@') {
        return None;
    }
    let mut parts = place.split(['/', '\\']).filter(|part| !part.is_empty());
    let (owner, name) = (parts.next()?, parts.next()?);
    let illegal = |part: &str| part.contains(['$', ':']) || part.chars().all(|c| c == '.');
    if illegal(owner) || illegal(name) || place.starts_with(['/', '.']) {
        return None;
    }
    Some(ActionReference::Repository {
        owner: owner.to_owned(),
        name: name.to_owned(),
        path: parts.collect::<Vec<_>>().join("/"),
        reference: reference.to_owned(),
    })
}
