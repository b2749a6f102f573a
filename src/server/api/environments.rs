//! Environments: their rules, what waits for them, and what reviewers said.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::engine::record::EnvironmentRules;
use crate::id::{RepositoryName, stable_id};
use crate::server::access::OwnerName;
use crate::server::app::{App, Asked, Caller, Fault, query};
use crate::server::auth::Role;
use crate::server::view::{RunView, Status};
use crate::server::{access, deeds, form, format, wire};

use super::lists::{self, Page};

fn id(repository: &RepositoryName, name: &str) -> u64 {
    stable_id(&["environment", repository.as_str(), &name.to_lowercase()])
}

/// An environment as other objects name it.
fn named(caller: &Caller, repository: &RepositoryName, name: &str) -> Value {
    let id = id(repository, name);
    let url = format!("{}/api/v3/repos/{repository}/environments/{}", caller.base.0, form::encode(name));
    let html = format!("{}/{repository}/settings#environments", caller.base.0);
    json!({"id": id, "node_id": format!("EN_{id}"), "name": name, "url": url, "html_url": html})
}

fn reviewers(caller: &Caller, rules: &EnvironmentRules) -> Vec<Value> {
    let reviewer = |login: &String| json!({"type": "User", "reviewer": wire::user(&caller.base, login)});
    rules.reviewers.iter().map(reviewer).collect()
}

/// An environment with its rules.
fn whole(caller: &Caller, repository: &RepositoryName, name: &str, rules: &EnvironmentRules) -> Value {
    let mut value = named(caller, repository, name);
    let mut protection = Vec::new();
    let rule = |kind: &str| {
        let id = stable_id(&["rule", repository.as_str(), name, kind]);
        json!({"id": id, "node_id": format!("GA_{id}"), "type": kind})
    };
    if rules.wait_minutes > 0 {
        let mut one = rule("wait_timer");
        one["wait_timer"] = rules.wait_minutes.into();
        protection.push(one);
    }
    if !rules.reviewers.is_empty() {
        let mut one = rule("required_reviewers");
        one["prevent_self_review"] = rules.prevent_self_review.into();
        one["reviewers"] = reviewers(caller, rules).into();
        protection.push(one);
    }
    if !rules.branches.is_empty() {
        protection.push(rule("branch_policy"));
        value["deployment_branch_policy"] = json!({"protected_branches": false, "custom_branch_policies": true});
        value["branches"] = rules.branches.clone().into();
    } else {
        value["deployment_branch_policy"] = Value::Null;
    }
    value["protection_rules"] = protection.into();
    // When it was made is not kept.
    value["created_at"] = "1970-01-01T00:00:00Z".into();
    value["updated_at"] = "1970-01-01T00:00:00Z".into();
    value
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(path): Path<OwnerName>,
) -> Result<Response, Fault> {
    let repository = access::repository(&app, &caller, path).await?;
    let page = Page::of(&query(&uri));
    let (part, total) = lists::part(app.environments(&repository).await?, page);
    let items = part.iter().map(|(name, rules)| whole(&caller, &repository, name, rules)).collect();
    Ok(lists::answer(&caller, &uri, page, total, "environments", items))
}

type EnvironmentPath = (String, String, String);

pub(super) async fn one(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, environment)): Path<EnvironmentPath>,
) -> Result<Json<Value>, Fault> {
    let repository = access::repository(&app, &caller, (owner, name)).await?;
    let all = app.environments(&repository).await?;
    let found = all.iter().find(|(name, _)| name.eq_ignore_ascii_case(&environment)).ok_or(Fault::NotFound)?;
    Ok(Json(whole(&caller, &repository, &found.0, &found.1)))
}

/// GitHub names reviewers by number; here they are named by `login`, and branches by `branches`.
pub(super) async fn set(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, environment)): Path<EnvironmentPath>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let repository = access::repository(&app, &caller, (owner, name)).await?;
    caller.change(&repository, Role::Admin)?;
    let wish: Value = if body.is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?
    };
    let texts = |value: &Value, field: Option<&str>| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|one| field.map_or(one, |field| &one[field]).as_str()).map(str::to_owned).collect()
    };
    let reviewers = texts(&wish["reviewers"], Some("login"));
    if reviewers.len() != wish["reviewers"].as_array().map_or(0, Vec::len) {
        return Err(Fault::Invalid(
            "Each of reviewers needs a login: there are no accounts with numbers here.".to_owned(),
        ));
    }
    let wait = wish["wait_timer"].as_u64().unwrap_or(0);
    let rules = EnvironmentRules {
        reviewers,
        prevent_self_review: wish["prevent_self_review"].as_bool().unwrap_or(false),
        wait_minutes: u32::try_from(wait)
            .ok()
            .filter(|minutes| *minutes <= 43_200)
            .ok_or_else(|| Fault::Invalid("wait_timer is between 0 and 43200 minutes".to_owned()))?,
        branches: texts(&wish["branches"], None),
    };
    deeds::set_environment(&app, &caller, &repository, &environment, Some(rules.clone())).await?;
    Ok(Json(whole(&caller, &repository, &environment, &rules)))
}

pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, environment)): Path<EnvironmentPath>,
) -> Result<StatusCode, Fault> {
    let repository = access::repository(&app, &caller, (owner, name)).await?;
    caller.change(&repository, Role::Admin)?;
    let all = app.environments(&repository).await?;
    let found = all.iter().find(|(name, _)| name.eq_ignore_ascii_case(&environment)).ok_or(Fault::NotFound)?;
    deeds::set_environment(&app, &caller, &repository, &found.0, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The environments that jobs of a run wait for.
async fn waited_for(app: &App, run: &RunView) -> Result<Vec<String>, Fault> {
    let jobs = app.source.jobs(run).await?;
    let waiting = jobs.iter().filter(|job| job.status == Status::Waiting && job.conclusion.is_none());
    let mut names: Vec<String> = waiting.filter_map(|job| job.environment.clone()).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

type RunPath = (String, String, u64);

pub(super) async fn pending(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, run)): Path<RunPath>,
) -> Result<Json<Value>, Fault> {
    let run = access::run(&app, &caller, (owner, name), run).await?;
    let all = app.environments(&run.repository).await?;
    let items: Vec<Value> = waited_for(&app, &run)
        .await?
        .iter()
        .map(|name| {
            let rules = all.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, rules)| rules.clone());
            let rules = rules.unwrap_or_default();
            let may = deeds::may_review(&caller.client, &rules, &run);
            json!({
                "environment": named(&caller, &run.repository, name),
                "wait_timer": rules.wait_minutes,
                "wait_timer_started_at": (rules.wait_minutes > 0).then(|| format::api(run.started_at)),
                "current_user_can_approve": may,
                "reviewers": reviewers(&caller, &rules),
            })
        })
        .collect();
    Ok(Json(items.into()))
}

pub(super) async fn review(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, run)): Path<RunPath>,
    body: Bytes,
) -> Result<Response, Fault> {
    let run = access::run(&app, &caller, (owner, name), run).await?;
    caller.change(&run.repository, Role::Operator)?;
    let wish: Value = serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?;
    let approved = match wish["state"].as_str() {
        Some("approved") => true,
        Some("rejected") => false,
        _ => return Err(Fault::Invalid("state must be approved or rejected".to_owned())),
    };
    let ids: Vec<u64> = wish["environment_ids"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let waiting = waited_for(&app, &run).await?;
    let chosen: Vec<&String> = waiting.iter().filter(|name| ids.contains(&id(&run.repository, name))).collect();
    if chosen.is_empty() {
        return Err(Fault::Invalid("None of these environments is waited for.".to_owned()));
    }
    let mut deployments = Vec::new();
    for environment in chosen {
        let comment = wish["comment"].as_str().unwrap_or_default();
        deeds::review(&app, &caller, &run, environment, approved, comment).await?;
        deployments.push(deployment(&caller, &run, environment));
    }
    Ok(Json(deployments).into_response())
}

/// What GitHub answers to a review: the deployments it let go.
fn deployment(caller: &Caller, run: &RunView, environment: &str) -> Value {
    let id = stable_id(&["deployment", &run.id.to_string(), environment]);
    let repository = format!("{}/api/v3/repos/{}", caller.base.0, run.repository);
    json!({
        "url": format!("{repository}/deployments/{id}"), "id": id, "node_id": format!("DE_{id}"), "sha": run.sha,
        "ref": run.branch(), "task": "deploy", "payload": {}, "original_environment": environment,
        "environment": environment, "description": null, "creator": wire::user(&caller.base, &run.triggering_actor),
        "created_at": format::api(run.started_at), "updated_at": format::api(caller.now),
        "statuses_url": format!("{repository}/deployments/{id}/statuses"), "repository_url": repository,
    })
}

/// What reviewers said, oldest first.
pub(super) async fn approvals(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, run)): Path<RunPath>,
) -> Result<Json<Value>, Fault> {
    let run = access::run(&app, &caller, (owner, name), run).await?;
    let items: Vec<Value> = run
        .reviews
        .iter()
        .map(|review| {
            let mut environment = named(&caller, &run.repository, &review.environment);
            environment["created_at"] = format::api(run.created_at).into();
            environment["updated_at"] = format::api(review.at).into();
            json!({
                "state": if review.approved { "approved" } else { "rejected" },
                "comment": review.comment,
                "environments": [environment],
                "user": wire::user(&caller.base, &review.reviewer),
            })
        })
        .collect();
    Ok(Json(items.into()))
}
