//! Which secrets a job sees when its workflow was called by another (R3, R4).

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json};

use crate::expr::{NoFunctions, Object, Scope, Value};
use crate::run::order::SecretLevel;
use crate::workflow::model::CallSecrets;

/// The job token passes every call by itself.
const TOKEN: &str = "GITHUB_TOKEN";

/// Secrets, or variables, that turn on debug logging when they are `true` (H8).
const DEBUG: [&str; 2] = ["ACTIONS_STEP_DEBUG", "ACTIONS_RUNNER_DEBUG"];

/// Whether a repository asks for debug logging by a secret or, where there is none of that name, a variable (H8).
#[must_use]
pub(crate) fn wants_debug(secrets: &BTreeMap<String, SecretString>, vars: &Map<String, Json>) -> bool {
    DEBUG.iter().any(|wanted| {
        let secret = secrets.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let value = match secret {
            Some((_, value)) => Some(value.expose_secret()),
            None => {
                vars.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).and_then(|(_, value)| value.as_str())
            }
        };
        value.is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    })
}

/// Whether a secret's value is kept out of the log. Those that turn on debug logging are not: they are `true`, and so is
/// half of such a log (the same exception as in GitHub's runner).
#[must_use]
pub(crate) fn is_masked(name: &str) -> bool {
    !DEBUG.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Takes the secrets of the triggered workflow through each call. A mapping that cannot be evaluated passes nothing
/// for that name: what was checked when the file was read cannot fail here, and a secret is never guessed.
#[must_use]
pub(crate) fn resolve(
    levels: &[SecretLevel],
    mut secrets: BTreeMap<String, SecretString>,
) -> BTreeMap<String, SecretString> {
    for level in levels {
        let token = secrets.iter().find(|(name, _)| name.eq_ignore_ascii_case(TOKEN)).map(|(_, value)| value.clone());
        secrets = match &level.secrets {
            CallSecrets::Inherit => continue,
            CallSecrets::None => BTreeMap::new(),
            CallSecrets::Map(mapping) => {
                let mut contexts = Object::new();
                for (name, value) in &level.contexts {
                    contexts.insert(name.as_str(), Value::from_json(value));
                }
                let known: Map<String, Json> =
                    secrets.iter().map(|(name, value)| (name.clone(), Json::from(value.expose_secret()))).collect();
                contexts.insert("secrets", Value::from_json(&Json::Object(known)));
                match mapping.evaluate(&Scope { contexts: &contexts, functions: &NoFunctions }) {
                    Ok(Value::Object(object)) => passed(&object),
                    _ => BTreeMap::new(),
                }
            }
        };
        if let Some(token) = token {
            secrets.entry(TOKEN.to_owned()).or_insert(token);
        }
    }
    secrets
}

fn passed(object: &Arc<Object>) -> BTreeMap<String, SecretString> {
    let pairs = object.iter().map(|(name, value)| (name.to_owned(), value.to_display_string()));
    pairs.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, SecretString::from(value))).collect()
}
