//! Events that no push and no webhook brings: dispatches, schedules, chained runs (T10–T13).

use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::context::api_urls;
use super::push::base_payload;
use super::{ChangedFiles, Event, ref_name};
use crate::id::RepositoryName;
use crate::workflow::model::{Dispatch, Input, InputKind};
use crate::workflow::token::Token;

/// GitHub takes so many inputs (T11).
pub const MAX_INPUTS: usize = 25;
/// Characters of a repository dispatch's event type, its top-level keys, and characters of its payload (T12).
const MAX_EVENT_TYPE: usize = 100;
const MAX_PAYLOAD_KEYS: usize = 10;
const MAX_PAYLOAD: usize = 65_535;

/// Where an event without a push happens.
#[derive(Clone, Debug)]
pub struct Place {
    pub repository: RepositoryName,
    /// Full ref.
    pub git_ref: String,
    pub sha: String,
    /// Short name.
    pub default_branch: String,
    pub actor: String,
    pub server_url: String,
}

/// Inputs of a dispatch, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DispatchInputs {
    /// `inputs`: typed.
    pub typed: Map<String, Json>,
    /// `github.event.inputs`: always strings.
    pub strings: Map<String, Json>,
    /// Deprecated inputs that were given.
    pub warnings: Vec<String>,
}

/// Checks what was given against what the workflow declares: unknown names, missing required ones, types, choices;
/// defaults are filled in (T11).
///
/// # Errors
/// One sentence per fault.
pub fn check_inputs(dispatch: &Dispatch, given: &IndexMap<String, Json>) -> Result<DispatchInputs, Vec<String>> {
    let mut faults = Vec::new();
    let mut checked = DispatchInputs::default();
    let find = |name: &str| given.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    for name in given.keys() {
        if !dispatch.inputs.keys().any(|declared| declared.eq_ignore_ascii_case(name)) {
            let known: Vec<&str> = dispatch.inputs.keys().map(String::as_str).collect();
            let known =
                if known.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", known.join(", ")) };
            faults.push(format!("unexpected input '{name}': {known}"));
        }
    }
    if given.len() > MAX_INPUTS {
        faults.push(format!("{} inputs were given, at most {MAX_INPUTS} are allowed", given.len()));
    }
    for (name, input) in &dispatch.inputs {
        let value = find(name);
        if value.is_some()
            && let Some(message) = &input.deprecation_message
        {
            checked.warnings.push(format!("Input '{name}' is deprecated: {message}"));
        }
        let default = input.default.as_ref().and_then(plain);
        match value.cloned().filter(|value| !value.is_null()).or(default) {
            None if input.required => faults.push(format!("required input '{name}' is not given")),
            None => {
                let empty = zero(input);
                checked.strings.insert(name.clone(), json!(as_text(&empty)));
                checked.typed.insert(name.clone(), empty);
            }
            Some(value) => match convert(input, &value) {
                Ok(value) => {
                    checked.strings.insert(name.clone(), json!(as_text(&value)));
                    checked.typed.insert(name.clone(), value);
                }
                Err(expected) => faults.push(format!("input '{name}' is {expected}, not '{}'", as_text(&value))),
            },
        }
    }
    if faults.is_empty() { Ok(checked) } else { Err(faults) }
}

/// What an input is when neither it nor a default is given.
fn zero(input: &Input) -> Json {
    match input.kind {
        InputKind::Boolean => json!(false),
        InputKind::Choice => input.options.first().map_or(json!(""), |first| json!(first)),
        _ => json!(""),
    }
}

/// A value of the declared type, or what was expected.
fn convert(input: &Input, value: &Json) -> Result<Json, String> {
    let text = as_text(value);
    match input.kind {
        InputKind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" => Ok(json!(true)),
            "false" => Ok(json!(false)),
            _ => Err("true or false".to_owned()),
        },
        InputKind::Number => {
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            number.map(number_json).ok_or_else(|| "a number".to_owned())
        }
        InputKind::Choice if !input.options.is_empty() && !input.options.contains(&text) => {
            Err(format!("one of {}", input.options.join(", ")))
        }
        _ => Ok(json!(text)),
    }
}

/// A number as JSON, without a fraction when it has none.
fn number_json(number: f64) -> Json {
    #[expect(clippy::cast_possible_truncation, reason = "the fraction is zero and the range is checked")]
    if number.fract() == 0.0 && number.abs() < 9e15 { json!(number as i64) } else { json!(number) }
}

fn plain(token: &Token) -> Option<Json> {
    match token {
        Token::Bool(bool) => Some(json!(bool)),
        Token::Number(number) => Some(number_json(*number)),
        Token::String(text) => Some(json!(text)),
        _ => None,
    }
}

fn as_text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `workflow_dispatch` for one workflow file.
#[must_use]
pub fn workflow_dispatch(now: Timestamp, place: &Place, workflow: &str, inputs: &DispatchInputs) -> Event {
    let mut event = at_place(now, place, "workflow_dispatch");
    let set = event.payload.as_object_mut().expect("an event's payload is an object");
    set.insert("ref".to_owned(), json!(place.git_ref));
    set.insert("workflow".to_owned(), json!(workflow));
    set.insert("inputs".to_owned(), Json::Object(inputs.strings.clone()));
    event.workflow = Some(workflow.to_owned());
    event
}

/// `schedule` for one workflow file; `cron` as written (T10).
#[must_use]
pub fn schedule(now: Timestamp, place: &Place, workflow: &str, cron: &str) -> Event {
    let mut event = at_place(now, place, "schedule");
    let set = event.payload.as_object_mut().expect("an event's payload is an object");
    set.insert("schedule".to_owned(), json!(cron));
    set.insert("workflow".to_owned(), json!(workflow));
    event.workflow = Some(workflow.to_owned());
    event
}

/// `repository_dispatch` (T12).
///
/// # Errors
/// A sentence: a limit of the event type or of the payload was exceeded.
pub fn repository_dispatch(
    now: Timestamp,
    place: &Place,
    event_type: &str,
    client_payload: Json,
) -> Result<Event, String> {
    if event_type.is_empty() || event_type.chars().count() > MAX_EVENT_TYPE {
        return Err(format!("event_type must have 1 to {MAX_EVENT_TYPE} characters"));
    }
    let keys = match &client_payload {
        Json::Null => 0,
        Json::Object(object) => object.len(),
        _ => return Err("client_payload must be an object".to_owned()),
    };
    if keys > MAX_PAYLOAD_KEYS {
        return Err(format!("client_payload has {keys} top-level keys, at most {MAX_PAYLOAD_KEYS} are allowed"));
    }
    if client_payload.to_string().chars().count() > MAX_PAYLOAD {
        return Err(format!("client_payload has more than {MAX_PAYLOAD} characters"));
    }
    let mut event = at_place(now, place, "repository_dispatch");
    let set = event.payload.as_object_mut().expect("an event's payload is an object");
    set.insert("action".to_owned(), json!(event_type));
    set.insert("branch".to_owned(), json!(place.default_branch));
    set.insert("client_payload".to_owned(), client_payload);
    event.action = Some(event_type.to_owned());
    Ok(event)
}

/// A run that was made, began or ended, as the event `workflow_run` sees it (T13).
#[derive(Clone, Copy, Debug)]
pub struct ChainedRun<'a> {
    /// `requested`, `in_progress`, `completed`.
    pub action: &'a str,
    pub run: &'a Chained,
    /// The event that started it.
    pub event: &'a Event,
}

/// What `workflow_run` tells of a run.
#[derive(Clone, Debug)]
pub struct Chained {
    pub id: u64,
    pub number: u64,
    pub attempt: u32,
    pub workflow: String,
    pub workflow_path: String,
    pub title: String,
    pub conclusion: Option<&'static str>,
    pub actor: String,
    pub triggering_actor: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub updated_at: Timestamp,
}

/// `workflow_run`.
#[must_use]
pub fn workflow_run(now: Timestamp, place: &Place, chained: &ChainedRun<'_>) -> Event {
    let mut event = at_place(now, place, "workflow_run");
    let ChainedRun { run, event: cause, .. } = *chained;
    let (status, conclusion) = match chained.action {
        "completed" => ("completed", run.conclusion),
        "in_progress" => ("in_progress", None),
        _ => ("queued", None),
    };
    let branch = cause.head_ref.as_deref().unwrap_or_else(|| ref_name(&cause.git_ref));
    let head_sha = cause.payload.pointer("/pull_request/head/sha").and_then(Json::as_str).unwrap_or(&cause.sha);
    let server = place.server_url.trim_end_matches('/');
    let page = format!("{server}/{}/actions/runs/{}", place.repository, run.id);
    let address = format!("{}/repos/{}/actions/runs/{}", api_urls(server).0, place.repository, run.id);
    let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    // GitHub lists pull requests of the repository itself, never those of forks.
    let pull_requests: Vec<Json> = match cause.payload.get("pull_request") {
        Some(pull) if !cause.is_from_fork() => vec![json!({
            "id": pull.get("id"),
            "number": pull.get("number").or_else(|| cause.payload.get("number")),
            "url": pull.get("url"),
            "head": { "ref": cause.head_ref, "sha": head_sha },
            "base": { "ref": cause.base_ref, "sha": pull.pointer("/base/sha") },
        })],
        _ => Vec::new(),
    };
    let repository = event.payload.get("repository").cloned().unwrap_or_default();
    let set = event.payload.as_object_mut().expect("an event's payload is an object");
    set.insert("action".to_owned(), json!(chained.action));
    set.insert("workflow".to_owned(), json!({ "name": run.workflow, "path": run.workflow_path, "state": "active" }));
    set.insert(
        "workflow_run".to_owned(),
        json!({
            "id": run.id,
            "name": run.workflow,
            "path": run.workflow_path,
            "display_title": run.title,
            "run_number": run.number,
            "run_attempt": run.attempt,
            "event": cause.name,
            "status": status,
            "conclusion": conclusion,
            "head_branch": branch,
            "head_sha": head_sha,
            "head_commit": cause.payload.get("head_commit"),
            "pull_requests": pull_requests,
            "actor": { "login": run.actor },
            "triggering_actor": { "login": run.triggering_actor },
            "created_at": time(run.created_at),
            "run_started_at": run.started_at.map(time),
            "updated_at": time(run.updated_at),
            "html_url": page,
            "url": address,
            "jobs_url": format!("{address}/jobs"),
            "logs_url": format!("{address}/logs"),
            "artifacts_url": format!("{address}/artifacts"),
            "rerun_url": format!("{address}/rerun"),
            "cancel_url": format!("{address}/cancel"),
            "repository": repository,
            "head_repository": cause.payload.pointer("/pull_request/head/repo").or(Some(&repository)),
        }),
    );
    event.action = Some(chained.action.to_owned());
    event
}

fn at_place(now: Timestamp, place: &Place, name: &str) -> Event {
    let payload = base_payload(&place.repository, &place.default_branch, &place.server_url, &place.actor);
    Event {
        name: name.to_owned(),
        action: None,
        payload: Json::Object(payload),
        repository: place.repository.clone(),
        git_ref: place.git_ref.clone(),
        sha: place.sha.clone(),
        head_ref: None,
        base_ref: None,
        actor: place.actor.clone(),
        default_branch: place.default_branch.clone(),
        changed_files: ChangedFiles::Unknown,
        head_message: None,
        received_at: now,
        delivery: None,
        workflow: None,
        server_url: place.server_url.clone(),
    }
}

#[cfg(test)]
impl Place {
    pub(crate) fn example() -> Self {
        Self {
            repository: RepositoryName("octo/hello".to_owned()),
            git_ref: "refs/heads/main".to_owned(),
            sha: "1".repeat(40),
            default_branch: "main".to_owned(),
            actor: "mona".to_owned(),
            server_url: "https://github.com".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use jiff::Timestamp;
    use serde_json::{Value as Json, json};

    use super::{
        Chained, ChainedRun, Place, check_inputs, repository_dispatch, schedule, workflow_dispatch, workflow_run,
    };
    use crate::workflow::model::{Dispatch, Input, InputKind};
    use crate::workflow::token::Token;

    fn input(kind: InputKind, required: bool, default: Option<Token>) -> Input {
        Input {
            kind,
            description: None,
            deprecation_message: None,
            required,
            default,
            options: if kind == InputKind::Choice { vec!["a".into(), "b".into()] } else { Vec::new() },
        }
    }

    fn given(pairs: &[(&str, Json)]) -> IndexMap<String, Json> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn t11_inputs_are_typed_but_strings_in_the_event() {
        let dispatch = Dispatch {
            inputs: IndexMap::from([
                ("debug".to_owned(), input(InputKind::Boolean, false, Some(Token::Bool(true)))),
                ("count".to_owned(), input(InputKind::Number, true, None)),
                ("kind".to_owned(), input(InputKind::Choice, false, None)),
                ("note".to_owned(), input(InputKind::String, false, None)),
            ]),
        };
        let inputs = check_inputs(&dispatch, &given(&[("COUNT", json!("4")), ("note", json!("x"))])).expect("accepted");
        assert_eq!(Json::Object(inputs.typed), json!({ "debug": true, "count": 4, "kind": "a", "note": "x" }));
        assert_eq!(Json::Object(inputs.strings), json!({ "debug": "true", "count": "4", "kind": "a", "note": "x" }));

        let faults =
            check_inputs(&dispatch, &given(&[("debug", json!("maybe")), ("kind", json!("z")), ("other", json!(1))]))
                .expect_err("refused");
        assert_eq!(
            faults,
            [
                "unexpected input 'other': it takes debug, count, kind, note",
                "input 'debug' is true or false, not 'maybe'",
                "required input 'count' is not given",
                "input 'kind' is one of a, b, not 'z'",
            ]
        );
    }

    #[test]
    fn t10_schedule_tells_its_cron_string() {
        let event = schedule(Timestamp::UNIX_EPOCH, &Place::example(), "w.yml", "5 4 * * *");
        assert_eq!(event.payload["schedule"], "5 4 * * *");
        assert_eq!(event.workflow.as_deref(), Some("w.yml"));
        let event = workflow_dispatch(Timestamp::UNIX_EPOCH, &Place::example(), "w.yml", &Default::default());
        assert_eq!(event.payload["ref"], "refs/heads/main");
    }

    #[test]
    fn t12_limits_of_repository_dispatch() {
        let check = |kind: &str, payload: Json| {
            repository_dispatch(Timestamp::UNIX_EPOCH, &Place::example(), kind, payload).is_ok()
        };
        let keys = |count: usize| Json::Object((0..count).map(|key| (key.to_string(), json!(1))).collect());
        assert!(check(&"x".repeat(100), keys(10)));
        assert!(!check(&"x".repeat(101), keys(1)));
        assert!(!check("x", keys(11)));
        assert!(!check("x", json!({ "a": "y".repeat(65_535) })));
        assert!(!check("x", json!([])));
    }

    #[test]
    fn t13_a_chained_run_tells_of_the_first() {
        let cause = schedule(Timestamp::UNIX_EPOCH, &Place::example(), "w.yml", "5 4 * * *");
        let run = Chained {
            id: 9,
            number: 2,
            attempt: 1,
            workflow: "Build".to_owned(),
            workflow_path: "w.yml".to_owned(),
            title: "t".to_owned(),
            conclusion: Some("failure"),
            actor: "mona".to_owned(),
            triggering_actor: "mona".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        let chained = ChainedRun { action: "completed", run: &run, event: &cause };
        let event = workflow_run(Timestamp::UNIX_EPOCH, &Place::example(), &chained);
        assert_eq!(event.payload["workflow_run"]["conclusion"], "failure");
        assert_eq!(event.payload["workflow_run"]["head_branch"], "main");
        assert_eq!(event.action.as_deref(), Some("completed"));
    }
}
