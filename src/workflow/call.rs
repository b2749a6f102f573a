//! Jobs that call workflows: the called files, their interfaces, and what they may ask for (R1–R8).
//!
//! Pure: no I/O, no clock, no async. Files come through a function that the caller gives.

use std::rc::Rc;

use super::decode::{Decoder, Problem};
use super::file::SCOPES;
use super::model::{CallInterface, CallSecrets, InputKind, Job, JobBody, Permission, Permissions, Workflow};
use super::place::Places;
use super::token::Token;
use super::yaml::{Content, Node};
use super::{Limits, decode_text, located};
use crate::diagnostic::{Diagnostic, codes, nearest};

/// A workflow that has been read together with its text.
pub(super) struct Loaded {
    /// As the user names it, or as `uses` names it.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) root: Node,
    pub(super) model: Workflow,
}

/// Where a workflow's own `./` paths lead.
#[derive(Clone)]
enum Home {
    Here,
    /// `owner/repository` and the ref.
    Elsewhere(String, String),
}

struct Walk<'a> {
    files: &'a dyn Fn(&str) -> Option<String>,
    limits: &'a Limits,
    diagnostics: Vec<Diagnostic>,
    calls: usize,
    jobs: usize,
    /// What was read before, by name; `None` for a file that is faulty.
    read: std::collections::HashMap<String, Option<Rc<Loaded>>>,
}

/// What the chain of callers leaves to the called workflow.
#[derive(Clone)]
struct Grant(Option<Permissions>);

/// Checks every call that starts from this workflow.
pub(super) fn check(root: &Loaded, files: &dyn Fn(&str) -> Option<String>, limits: &Limits) -> Vec<Diagnostic> {
    let mut walk =
        Walk { files, limits, diagnostics: Vec::new(), calls: 0, jobs: 0, read: std::collections::HashMap::new() };
    let grant = Grant(limits.default_permissions.clone());
    walk.workflow(root, &Home::Here, &grant, 0);
    if walk.jobs > limits.jobs {
        let message = format!("The workflow may not contain more than {} jobs", limits.jobs);
        walk.diagnostics.push(Diagnostic::error(codes::CALL_LIMIT, &root.path, message));
    }
    walk.diagnostics
}

impl Walk<'_> {
    fn workflow(&mut self, caller: &Loaded, home: &Home, grant: &Grant, depth: usize) {
        for (id, job) in &caller.model.jobs {
            self.jobs += 1;
            let JobBody::Call { uses, .. } = &job.body else { continue };
            let Some(node) = caller.root.get("jobs").and_then(|jobs| jobs.get(id)) else { continue };
            let granted =
                Grant(job.permissions.clone().or_else(|| caller.model.permissions.clone()).or_else(|| grant.0.clone()));
            self.calls += 1;
            if self.calls > self.limits.calls {
                if self.calls == self.limits.calls + 1 {
                    let message = format!("a run may call at most {} workflows", self.limits.calls);
                    self.report(caller, node.get("uses").unwrap_or(node), codes::CALL_LIMIT, message, None);
                }
                return;
            }
            self.call(caller, home, (id, job, node), uses, &granted, depth);
        }
    }

    fn call(
        &mut self,
        caller: &Loaded,
        home: &Home,
        (id, job, node): (&str, &Job, &Node),
        uses: &str,
        granted: &Grant,
        depth: usize,
    ) {
        let at = node.get("uses").unwrap_or(node);
        if depth + 1 > self.limits.nesting {
            let message = format!("Nested reusable workflow depth exceeded {}.", self.limits.nesting);
            self.report(caller, at, codes::CALL_LIMIT, message, None);
            return;
        }
        let (name, called_home) = resolve(uses, home);
        if !self.read.contains_key(&name) {
            let Some(text) = (self.files)(&name) else {
                if matches!(called_home, Home::Here) {
                    let problem = Diagnostic::warning(
                        codes::CALLED_FILE,
                        &caller.path,
                        format!("the workflow '{name}' cannot be found"),
                    );
                    let help = "local workflows are looked for from the root of the repository";
                    self.push(caller, at, problem.help(help));
                }
                return;
            };
            let loaded = self.load(caller, at, uses, &name, text);
            self.read.insert(name.clone(), loaded);
        }
        let Some(called) = self.read.get(&name).cloned().flatten() else { return };
        let Some(interface) = called.model.on.call.as_ref() else {
            let message = format!("the workflow '{uses}' cannot be called: `on.workflow_call` is missing");
            let help = Some("add `workflow_call:` under its `on:`".to_owned());
            self.report(caller, at, codes::CALLED_FILE, message, help);
            return;
        };
        self.inputs(caller, node, at, job, interface);
        self.secrets(caller, node, at, job, interface);
        self.permissions(caller, (id, node), uses, &called, granted);
        self.workflow(&called, &called_home, granted, depth + 1);
    }

    fn load(&mut self, caller: &Loaded, at: &Node, uses: &str, name: &str, text: String) -> Option<Rc<Loaded>> {
        match decode_text(name, &text, self.limits.depth, super::file::workflow) {
            (Some((root, model)), _) => Some(Rc::new(Loaded { path: name.to_owned(), text, root, model })),
            (None, faults) => {
                let first = faults.into_iter().find(Diagnostic::is_error);
                let message = format!("Error from called workflow {uses}");
                let mut problem = Diagnostic::error(codes::CALLED_FILE, &caller.path, message);
                if let Some(first) = first {
                    let place = first.span.map_or_else(String::new, |span| {
                        format!(" (Line: {}, Col: {})", span.start.line, span.start.column)
                    });
                    problem.message = format!("{}: {name}{place}: {}", problem.message, first.message);
                    problem.help = first.help;
                }
                self.push(caller, at, problem);
                None
            }
        }
    }

    fn inputs(&mut self, caller: &Loaded, node: &Node, at: &Node, job: &Job, interface: &CallInterface) {
        let JobBody::Call { with, .. } = &job.body else { return };
        let given = plain_pairs(with.as_ref(), node.get("with"));
        for (name, token, place) in &given {
            let Some((_, input)) = interface.inputs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
                let message = format!("Invalid input, {name} is not defined in the referenced workflow.");
                let help = suggestion(name, interface.inputs.keys());
                self.report(caller, place, codes::CALL_INPUT, message, help);
                continue;
            };
            if let Some(expected) = misfit(input.kind, token) {
                let message = format!("Unexpected value '{}'", token.plain_text().unwrap_or_default());
                let help = Some(format!("the input `{name}` asks for {expected}"));
                self.report(caller, place, codes::CALL_INPUT, message, help);
            }
        }
        if with.as_ref().is_some_and(has_open_keys) {
            return;
        }
        for (name, input) in &interface.inputs {
            if input.required && !given.iter().any(|(known, ..)| known.eq_ignore_ascii_case(name)) {
                let message = format!("Input {name} is required, but not provided while calling.");
                self.report(caller, at, codes::CALL_INPUT, message, Some(format!("add `{name}:` under `with:`")));
            }
        }
    }

    fn secrets(&mut self, caller: &Loaded, node: &Node, at: &Node, job: &Job, interface: &CallInterface) {
        let JobBody::Call { secrets, .. } = &job.body else { return };
        let token = match secrets {
            CallSecrets::Inherit => return,
            CallSecrets::None => None,
            CallSecrets::Map(token) => Some(token),
        };
        let given = plain_pairs(token, node.get("secrets"));
        for (name, _, place) in &given {
            if !interface.secrets.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                let message = format!("Invalid secret, {name} is not defined in the referenced workflow.");
                let help = suggestion(name, interface.secrets.keys());
                self.report(caller, place, codes::CALL_SECRET, message, help);
            }
        }
        if token.is_some_and(has_open_keys) {
            return;
        }
        for (name, secret) in &interface.secrets {
            if secret.required && !given.iter().any(|(known, ..)| known.eq_ignore_ascii_case(name)) {
                let message = format!("Secret {name} is required, but not provided while calling.");
                let help = format!("add `{name}:` under `secrets:`, or `secrets: inherit`");
                self.report(caller, at, codes::CALL_SECRET, message, Some(help));
            }
        }
    }

    /// R7: neither the called file nor one of its jobs may ask for more than the calling job has.
    fn permissions(
        &mut self,
        caller: &Loaded,
        (id, node): (&str, &Node),
        uses: &str,
        called: &Loaded,
        Grant(granted): &Grant,
    ) {
        let Some(granted) = granted else { return };
        let key = caller.root.get("jobs").and_then(|jobs| key_node(jobs, id)).unwrap_or(node);
        let mut ask = |who: String, asked: &Permissions| {
            let (mut wanted, mut allowed) = (Vec::new(), Vec::new());
            for (scope, _) in SCOPES {
                let (ask, grant) = (level(asked, scope), level(granted, scope));
                if ask > grant {
                    wanted.push(format!("{scope}: {}", level_name(ask)));
                    allowed.push(format!("{scope}: {}", level_name(grant)));
                }
            }
            if wanted.is_empty() {
                return;
            }
            let message = format!(
                "Error calling workflow '{uses}'. {who} is requesting '{}', but is only allowed '{}'.",
                wanted.join(", "),
                allowed.join(", ")
            );
            let help = format!("grant it under `permissions:` of job `{id}`, or ask for less in the called workflow");
            self.report(caller, key, codes::CALL_PERMISSIONS, message, Some(help));
        };
        if let Some(asked) = &called.model.permissions {
            ask(format!("The workflow '{uses}'"), asked);
        }
        for (id, job) in &called.model.jobs {
            if let Some(asked) = &job.permissions {
                let name = job.name.as_ref().and_then(Token::plain_text).unwrap_or_else(|| id.clone());
                ask(format!("The nested job '{name}'"), asked);
            }
        }
    }

    fn report(&mut self, file: &Loaded, at: &Node, code: &'static str, message: String, help: Option<String>) {
        let mut diagnostic = Diagnostic::error(code, &file.path, message);
        diagnostic.help = help;
        self.push(file, at, diagnostic);
    }

    fn push(&mut self, file: &Loaded, at: &Node, diagnostic: Diagnostic) {
        let places = Places::lazy(&file.text);
        let mut decoder = Decoder::new(&file.path);
        decoder.push(diagnostic, super::yaml::At::Node(at.id));
        let located = decoder.into_problems().into_iter().map(|problem: Problem| located(problem, &file.text, &places));
        self.diagnostics.extend(located);
    }
}

/// What the type of an input of a call asks for, if a value that is written out is something else (R2).
pub(super) fn misfit(kind: InputKind, value: &Token) -> Option<&'static str> {
    match (kind, value) {
        (_, Token::Expression(_)) | (InputKind::Boolean, Token::Bool(_)) | (InputKind::Number, Token::Number(_)) => {
            None
        }
        (InputKind::Boolean, _) => Some("`true` or `false`, without quotes"),
        (InputKind::Number, _) => Some("a number, without quotes"),
        _ => None,
    }
}

/// The name under which a called file is asked for: a path from the root of this repository, or `owner/repo/path@ref`.
fn resolve(uses: &str, home: &Home) -> (String, Home) {
    if let Some(path) = uses.strip_prefix("./").or_else(|| uses.strip_prefix("$/")) {
        return match home {
            Home::Here => (path.to_owned(), Home::Here),
            Home::Elsewhere(repository, reference) => (format!("{repository}/{path}@{reference}"), home.clone()),
        };
    }
    let (place, reference) = uses.split_once('@').unwrap_or((uses, ""));
    let repository: Vec<&str> = place.splitn(3, '/').take(2).collect();
    (uses.to_owned(), Home::Elsewhere(repository.join("/"), reference.to_owned()))
}

/// The written-out pairs of a mapping, with the nodes of their values.
fn plain_pairs<'n>(token: Option<&'n Token>, node: Option<&'n Node>) -> Vec<(String, &'n Token, &'n Node)> {
    let (Some(Token::Mapping(pairs)), Some(node)) = (token, node) else { return Vec::new() };
    let Content::Map(nodes) = &node.content else { return Vec::new() };
    pairs
        .iter()
        .zip(nodes)
        .filter_map(|((key, value), (_, node))| match key {
            Token::String(name) => Some((name.clone(), value, node)),
            _ => None,
        })
        .collect()
}

/// Whether the names are known only when the file runs.
fn has_open_keys(token: &Token) -> bool {
    match token {
        Token::Mapping(pairs) => pairs.iter().any(|(key, _)| !matches!(key, Token::String(_))),
        Token::Expression(_) => true,
        _ => false,
    }
}

fn key_node<'n>(mapping: &'n Node, name: &str) -> Option<&'n Node> {
    match &mapping.content {
        Content::Map(pairs) => pairs.iter().find(|(key, _)| key.text() == Some(name)).map(|(key, _)| key),
        _ => None,
    }
}

fn suggestion<'k>(name: &str, known: impl Iterator<Item = &'k String>) -> Option<String> {
    let known: Vec<&str> = known.map(String::as_str).collect();
    Some(match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "the called workflow declares none".to_owned(),
        None => format!("the called workflow declares {}", known.join(", ")),
    })
}

fn level(permissions: &Permissions, scope: &str) -> Permission {
    match permissions {
        Permissions::ReadAll => Permission::Read,
        Permissions::WriteAll => Permission::Write,
        Permissions::Scopes(scopes) => scopes.get(scope).copied().unwrap_or(Permission::None),
    }
}

fn level_name(level: Permission) -> &'static str {
    match level {
        Permission::None => "none",
        Permission::Read => "read",
        Permission::Write => "write",
    }
}
