//! Reusable workflows: what a call names, which texts must be fetched before a run can start, and the inputs they get
//! (R1–R7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::matrix::boolean;
use super::{Material, Refused, parse};
use crate::expr::{NoFunctions, Object, Scope, Value};
use crate::id::RepositoryName;
use crate::workflow::model::{
    CallInterface, CallSecrets, Input, InputKind, JobBody, Permission, Permissions, Workflow,
};
use crate::workflow::token::Token;

/// Workflows in a row, the triggered one not counted (R6).
pub const MAX_DEPTH: usize = 10;
/// Different files that a run may call (R6).
pub const MAX_FILES: usize = 50;

/// The text of a reusable workflow, fetched before the run starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledWorkflow {
    pub text: String,
    /// The repository and the commit it was read from.
    pub repository: RepositoryName,
    pub sha: String,
}

/// The files that a run calls, by [`CallTarget::key`].
pub type Called = BTreeMap<String, CalledWorkflow>;

/// A file that is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallTarget {
    /// `owner/name` and the ref; `None` when the file lies in the run's own repository at its own commit.
    pub elsewhere: Option<(String, String)>,
    /// Path in that repository.
    pub path: String,
}

impl CallTarget {
    /// The key of [`crate::run::RunSpec::called`]: `./path` or `owner/name/path@ref`.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.elsewhere {
            None => format!("./{}", self.path),
            Some((repository, reference)) => format!("{repository}/{}@{reference}", self.path),
        }
    }
}

/// What `uses` of a job names, said by the file with this key (`None`: the triggered file). `./` and `$/` mean the
/// repository and commit of the file that says it.
///
/// # Errors
/// The reference has no known form.
pub fn resolve(uses: &str, from: Option<&str>) -> Result<CallTarget, String> {
    if let Some(path) = uses.strip_prefix("./").or_else(|| uses.strip_prefix("$/")) {
        let home = from.map(|key| resolve(key, None)).transpose()?;
        return Ok(CallTarget { elsewhere: home.and_then(|home| home.elsewhere), path: path.to_owned() });
    }
    let (place, reference) = uses
        .rsplit_once('@')
        .filter(|(_, reference)| !reference.is_empty())
        .ok_or_else(|| format!("the workflow '{uses}' names no ref: use 'owner/repository/path@ref' or './path'"))?;
    let mut parts = place.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(owner), Some(name), Some(path)) if !owner.is_empty() && !name.is_empty() && !path.is_empty() => {
            Ok(CallTarget { elsewhere: Some((format!("{owner}/{name}"), reference.to_owned())), path: path.to_owned() })
        }
        _ => Err(format!("the workflow '{uses}' is not of the form 'owner/repository/path@ref'")),
    }
}

/// The files that a workflow calls, directly or through others, whose texts are not in `called` yet. Fetch them and ask
/// again until none is missing. Targets that are refused (too deep, too many) are not asked for.
#[must_use]
pub fn missing(workflow_path: &str, workflow_text: &str, called: &BTreeMap<String, CalledWorkflow>) -> Vec<CallTarget> {
    let Ok(workflow) = parse(workflow_path, workflow_text) else { return Vec::new() };
    let mut wanted = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut level = vec![(None, workflow)];
    // Breadth first, one level of calls per turn; a file is read once however often it is called.
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for (key, workflow) in &level {
            for target in targets(workflow, key.as_deref()).filter_map(Result::ok) {
                let target_key = target.key();
                if !seen.insert(target_key.clone()) || seen.len() > MAX_FILES {
                    continue;
                }
                match called.get(&target_key) {
                    None => {
                        wanted.insert(target);
                    }
                    Some(file) => {
                        if let Ok(workflow) = parse(&target.path, &file.text) {
                            next.push((Some(target_key), workflow));
                        }
                    }
                }
            }
        }
        level = next;
    }
    wanted.into_iter().collect()
}

fn targets<'a>(workflow: &'a Workflow, key: Option<&'a str>) -> impl Iterator<Item = Result<CallTarget, String>> + 'a {
    workflow.jobs.values().filter_map(move |job| match &job.body {
        JobBody::Call { uses, .. } => Some(resolve(uses, key)),
        JobBody::Steps { .. } => None,
    })
}

/// Reads every file that is called and checks that it may be (R1–R7).
pub(super) fn load(workflow: &Workflow, material: &Material<'_>) -> Result<BTreeMap<String, Arc<Workflow>>, Refused> {
    let mut loading = Loading { material, loaded: BTreeMap::new(), checked: BTreeMap::new() };
    loading.file(None, workflow, None, 0)?;
    Ok(loading.loaded)
}

struct Loading<'a> {
    material: &'a Material<'a>,
    loaded: BTreeMap<String, Arc<Workflow>>,
    /// Key and permissions that were checked already, with the depth below it: many calls of one file cost one check.
    checked: BTreeMap<(String, String), usize>,
}

impl Loading<'_> {
    /// Checks the calls of one file. `allowed` is what its callers leave it. Gives the levels of calls below it.
    fn file(
        &mut self,
        key: Option<&str>,
        workflow: &Workflow,
        allowed: Option<&Permissions>,
        depth: usize,
    ) -> Result<usize, Refused> {
        let mut below = 0;
        for job in workflow.jobs.values() {
            let JobBody::Call { uses, with, secrets } = &job.body else { continue };
            let target = resolve(uses, key).map_err(Refused::because)?;
            let target_key = target.key();
            if depth + 1 > MAX_DEPTH {
                return Err(too_deep());
            }
            if self.material.partial && target.elsewhere.is_some() && !self.material.called.contains_key(&target_key) {
                continue;
            }
            let granted = job.permissions.as_ref().or(workflow.permissions.as_ref()).or(allowed);
            let memo = (target_key.clone(), format!("{granted:?}"));
            if let Some(known) = self.checked.get(&memo) {
                below = below.max(known + 1);
                if depth + below > MAX_DEPTH {
                    return Err(too_deep());
                }
                continue;
            }
            let callee = match self.loaded.get(&target_key) {
                Some(callee) => Arc::clone(callee),
                None => self.read(&target, &target_key, uses)?,
            };
            let interface = callee.on.call.as_ref().ok_or_else(|| {
                Refused::because(format!("Error calling workflow '{uses}'. It has no 'on.workflow_call'."))
            })?;
            check_inputs(with.as_ref(), interface)?;
            check_secrets(secrets, interface)?;
            if let Some(granted) = granted {
                check_permissions(uses, &callee, granted)?;
            }
            let granted = granted.cloned();
            let levels = self.file(Some(&target_key), &callee, granted.as_ref(), depth + 1)?;
            self.checked.insert(memo, levels);
            below = below.max(levels + 1);
        }
        Ok(below)
    }

    fn read(&mut self, target: &CallTarget, key: &str, uses: &str) -> Result<Arc<Workflow>, Refused> {
        let file =
            self.material.called.get(key).ok_or_else(|| {
                Refused::because(format!("Error calling workflow '{uses}'. The workflow was not found."))
            })?;
        if self.loaded.len() >= MAX_FILES {
            return Err(Refused::because(format!("a run may call at most {MAX_FILES} different workflows")));
        }
        let workflow = self.material.files.read(&target.path, &file.text).map_err(|refused| Refused {
            message: format!("Error calling workflow '{uses}'. {}", refused.message),
            ..refused
        })?;
        self.loaded.insert(key.to_owned(), Arc::clone(&workflow));
        Ok(workflow)
    }
}

fn too_deep() -> Refused {
    Refused::because(format!("Nested reusable workflow depth exceeded {MAX_DEPTH}."))
}

/// The written-out pairs of `with` or `secrets`; `None` when the names are only known at run time.
fn written_pairs(token: Option<&Token>) -> Option<Vec<(&str, &Token)>> {
    match token {
        None => Some(Vec::new()),
        Some(Token::Mapping(pairs)) => {
            let written = pairs.iter().map(|(key, value)| match key {
                Token::String(name) => Some((name.as_str(), value)),
                _ => None,
            });
            written.collect()
        }
        Some(_) => None,
    }
}

/// Names of inputs, and types of values that are written out (R2). Others are checked when they are known.
fn check_inputs(with: Option<&Token>, interface: &CallInterface) -> Result<(), Refused> {
    let Some(given) = written_pairs(with) else { return Ok(()) };
    for (name, value) in &given {
        let input = declared(interface, name).ok_or_else(|| {
            Refused::because(format!("Invalid input, {name} is not defined in the referenced workflow."))
        })?;
        let fits = match (input.kind, value) {
            (_, Token::Expression(_)) => true,
            (InputKind::Boolean, value) => matches!(value, Token::Bool(_)),
            (InputKind::Number, value) => matches!(value, Token::Number(_)),
            _ => true,
        };
        if !fits {
            let text = if let Token::String(text) = value { text.as_str() } else { "" };
            return Err(Refused::because(format!("Unexpected value '{text}' of input '{name}'")));
        }
    }
    for (name, input) in &interface.inputs {
        if input.required && !given.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            return Err(Refused::because(format!("Input {name} is required, but not provided while calling.")));
        }
    }
    Ok(())
}

/// Names of secrets: required ones must be passed, and only declared ones may be (R2, R3).
fn check_secrets(secrets: &CallSecrets, interface: &CallInterface) -> Result<(), Refused> {
    let token = match secrets {
        CallSecrets::Inherit => return Ok(()),
        CallSecrets::None => None,
        CallSecrets::Map(token) => Some(token),
    };
    let Some(given) = written_pairs(token) else { return Ok(()) };
    let is_declared = |name: &str| interface.secrets.keys().any(|declared| declared.eq_ignore_ascii_case(name));
    // A called workflow that declares no secrets at all takes what it is given, as other runners have it.
    let strict = !interface.secrets.is_empty();
    if let Some((name, _)) = given.iter().find(|(name, _)| strict && !is_declared(name)) {
        return Err(Refused::because(format!("Invalid secret, {name} is not defined in the referenced workflow.")));
    }
    for (name, secret) in &interface.secrets {
        if secret.required && !given.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            return Err(Refused::because(format!("Secret {name} is required, but not provided while calling.")));
        }
    }
    Ok(())
}

fn declared<'a>(interface: &'a CallInterface, name: &str) -> Option<&'a Input> {
    interface.inputs.iter().find(|(declared, _)| declared.eq_ignore_ascii_case(name)).map(|(_, input)| input)
}

/// `inputs` of a called workflow: what the caller gives, else defaults, else the empty value of the type (R2).
///
/// # Errors
/// A sentence: an unknown, missing or ill-typed input, or an expression that cannot be evaluated.
pub fn inputs(
    interface: &CallInterface,
    with: Option<&Token>,
    caller: &Object,
    callee: &Object,
) -> Result<Map<String, Json>, String> {
    let scope = Scope { contexts: caller, functions: &NoFunctions };
    let given = match with {
        Some(token) => token.evaluate(&scope).map_err(|error| error.to_string())?,
        None => Value::Null,
    };
    if let Some(name) =
        given.as_object().and_then(|given| given.keys().find(|name| declared(interface, name).is_none()))
    {
        return Err(format!("Invalid input, {name} is not defined in the referenced workflow."));
    }
    let scope = Scope { contexts: callee, functions: &NoFunctions };
    let mut inputs = Map::new();
    for (name, input) in &interface.inputs {
        let value = match given.get(name) {
            Some(value) => Some(value.clone()),
            None => match &input.default {
                Some(default) => Some(default.evaluate(&scope).map_err(|error| error.to_string())?),
                None if input.required => {
                    return Err(format!("Input {name} is required, but not provided while calling."));
                }
                None => None,
            },
        };
        let value =
            typed(input.kind, value).map_err(|found| format!("Unexpected value '{found}' of input '{name}'"))?;
        inputs.insert(name.clone(), value.to_json());
    }
    Ok(inputs)
}

/// A value of the declared type, or the text of the one that is none.
fn typed(kind: InputKind, value: Option<Value>) -> Result<Value, String> {
    let Some(value) = value else {
        return Ok(match kind {
            InputKind::Boolean => Value::Bool(false),
            InputKind::Number => Value::Number(0.0),
            _ => Value::from(""),
        });
    };
    let text = value.to_display_string();
    match kind {
        InputKind::Boolean => boolean(&value).map(Value::Bool).ok_or(text),
        InputKind::Number => {
            let number = value.to_number();
            if number.is_nan() || text.is_empty() { Err(text) } else { Ok(Value::Number(number)) }
        }
        _ if value.is_primitive() => Ok(Value::from(text)),
        _ => Err(text),
    }
}

/// Every scope of `permissions`, in the order of GitHub's messages.
pub const SCOPES: [&str; 13] = [
    "actions",
    "checks",
    "contents",
    "deployments",
    "discussions",
    "issues",
    "packages",
    "pages",
    "pull-requests",
    "repository-projects",
    "statuses",
    "security-events",
    "id-token",
];

/// What permissions say of one scope.
#[must_use]
pub fn level(permissions: &Permissions, scope: &str) -> Permission {
    match permissions {
        Permissions::ReadAll => Permission::Read,
        Permissions::WriteAll => Permission::Write,
        Permissions::Scopes(scopes) => scopes.get(scope).copied().unwrap_or(Permission::None),
    }
}

/// A called workflow and its jobs may not ask for more than the call was given (R7).
fn check_permissions(uses: &str, callee: &Workflow, granted: &Permissions) -> Result<(), Refused> {
    let asks = callee.permissions.iter().map(|asked| (format!("The workflow '{uses}'"), asked)).chain(
        callee.jobs.values().filter_map(|job| {
            let name = match &job.name {
                Some(Token::String(name)) => name,
                _ => &job.id,
            };
            job.permissions.as_ref().map(|asked| (format!("The nested job '{name}'"), asked))
        }),
    );
    for (who, asked) in asks {
        let over: Vec<&str> =
            scopes_of(asked).into_iter().filter(|scope| level(asked, scope) > level(granted, scope)).collect();
        if !over.is_empty() {
            let list = |permissions: &Permissions| {
                let entries = over.iter().map(|scope| format!("{scope}: {}", level_name(level(permissions, scope))));
                entries.collect::<Vec<_>>().join(", ")
            };
            return Err(Refused::because(format!(
                "Error calling workflow '{uses}'. {who} is requesting '{}', but is only allowed '{}'.",
                list(asked),
                list(granted)
            )));
        }
    }
    Ok(())
}

/// The scopes of GitHub's list, then others that are named.
fn scopes_of(permissions: &Permissions) -> Vec<&str> {
    let mut scopes = SCOPES.to_vec();
    if let Permissions::Scopes(named) = permissions {
        scopes.extend(named.keys().map(String::as_str).filter(|name| !SCOPES.contains(name)));
    }
    scopes
}

fn level_name(level: Permission) -> &'static str {
    match level {
        Permission::None => "none",
        Permission::Read => "read",
        Permission::Write => "write",
    }
}

/// What a file's own permissions leave of those it was given: never more than either (R7).
#[must_use]
pub fn shrink(own: Option<&Permissions>, given: Option<&Permissions>) -> Option<Permissions> {
    let (Some(own), Some(given)) = (own, given) else { return own.or(given).cloned() };
    let least = |scope: &str| level(own, scope).min(level(given, scope));
    Some(match (own, given) {
        (Permissions::WriteAll, other) | (other, Permissions::WriteAll) => other.clone(),
        (Permissions::ReadAll, Permissions::ReadAll) => Permissions::ReadAll,
        (Permissions::Scopes(scopes), _) | (_, Permissions::Scopes(scopes)) => {
            Permissions::Scopes(scopes.keys().map(|scope| (scope.clone(), least(scope))).collect())
        }
    })
}
