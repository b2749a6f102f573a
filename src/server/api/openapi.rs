//! The OpenAPI document of what is served here.

use axum::Json;
use serde_json::{Map, Value, json};

/// Method, path below `/api/v3`, what it does, whether it answers a list in pages, success.
type Operation = (&'static str, &'static str, &'static str, bool, u16);

const OPERATIONS: &[Operation] = &[
    ("get", "/", "Where things are", false, 200),
    ("get", "/meta", "The server's version", false, 200),
    ("get", "/user", "Who asks", false, 200),
    ("get", "/rate_limit", "Limits, which are not enforced", false, 200),
    ("get", "/user/repos", "Repositories", true, 200),
    ("get", "/repos/{owner}/{repo}", "A repository", false, 200),
    ("get", "/repos/{owner}/{repo}/commits/{ref}/check-runs", "The jobs of a commit", true, 200),
    ("get", "/repos/{owner}/{repo}/commits/{ref}/status", "The state of a commit", false, 200),
    ("get", "/repos/{owner}/{repo}/check-runs/{check_run_id}", "A job as a check run", false, 200),
    ("get", "/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations", "Its annotations", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/runs", "Runs", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}", "A run", false, 200),
    ("delete", "/repos/{owner}/{repo}/actions/runs/{run_id}", "Deletes a finished run", false, 204),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}", "An attempt", false, 200),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}/jobs", "Its jobs", true, 200),
    (
        "get",
        "/repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}/logs",
        "Its logs as zip",
        false,
        302,
    ),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/jobs", "The jobs of a run", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/logs", "The logs of a run as zip", false, 302),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/artifacts", "The artifacts of a run", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/timing", "How long a run took", false, 200),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/pending_deployments", "Environments waited for", false, 200),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/pending_deployments", "Approves or rejects", false, 200),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/cancel", "Cancels a run", false, 202),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/force-cancel", "Cancels without always()", false, 202),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/rerun", "Runs all jobs again", false, 201),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/rerun-failed-jobs", "Runs failed jobs again", false, 201),
    ("post", "/repos/{owner}/{repo}/actions/runs/{run_id}/approve", "Lets a run from a fork go", false, 201),
    ("get", "/repos/{owner}/{repo}/actions/jobs/{job_id}", "A job", false, 200),
    ("get", "/repos/{owner}/{repo}/actions/jobs/{job_id}/logs", "A job's log; follow=1 streams it", false, 302),
    ("post", "/repos/{owner}/{repo}/actions/jobs/{job_id}/rerun", "Runs a job again", false, 201),
    ("get", "/repos/{owner}/{repo}/actions/artifacts", "Artifacts", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/caches", "Caches", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/workflows", "Workflows", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/workflows/{workflow_id}", "A workflow by id or file name", false, 200),
    ("get", "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/runs", "Its runs", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/timing", "Its billable time: none", false, 200),
    ("post", "/repos/{owner}/{repo}/dispatches", "Sends a repository_dispatch", false, 204),
    ("post", "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/dispatches", "Starts it", false, 204),
    ("put", "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/enable", "Enables it", false, 204),
    ("put", "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/disable", "Disables it", false, 204),
    ("get", "/repos/{owner}/{repo}/actions/runners", "Hosts as runners", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/permissions", "Whether workflows run", false, 200),
    ("get", "/repos/{owner}/{repo}/actions/secrets", "Names of secrets of a repository", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/secrets/public-key", "What secrets are sealed for", false, 200),
    ("get", "/repos/{owner}/{repo}/actions/secrets/{entry}", "When a secret was set", false, 200),
    ("put", "/repos/{owner}/{repo}/actions/secrets/{entry}", "Sets a secret, sealed", false, 201),
    ("delete", "/repos/{owner}/{repo}/actions/secrets/{entry}", "Removes a secret", false, 204),
    ("get", "/repos/{owner}/{repo}/actions/variables", "Variables of a repository", true, 200),
    ("post", "/repos/{owner}/{repo}/actions/variables", "Makes a variable", false, 201),
    ("get", "/repos/{owner}/{repo}/actions/variables/{entry}", "A variable", false, 200),
    ("patch", "/repos/{owner}/{repo}/actions/variables/{entry}", "Changes a variable", false, 204),
    ("delete", "/repos/{owner}/{repo}/actions/variables/{entry}", "Removes a variable", false, 204),
    (
        "get",
        "/repos/{owner}/{repo}/environments/{environment}/secrets",
        "Names of secrets of an environment",
        true,
        200,
    ),
    (
        "get",
        "/repos/{owner}/{repo}/environments/{environment}/secrets/public-key",
        "What secrets are sealed for",
        false,
        200,
    ),
    ("get", "/repos/{owner}/{repo}/environments/{environment}/secrets/{entry}", "When a secret was set", false, 200),
    ("put", "/repos/{owner}/{repo}/environments/{environment}/secrets/{entry}", "Sets a secret, sealed", false, 201),
    ("delete", "/repos/{owner}/{repo}/environments/{environment}/secrets/{entry}", "Removes a secret", false, 204),
    ("get", "/repos/{owner}/{repo}/environments/{environment}/variables", "Variables of an environment", true, 200),
    ("post", "/repos/{owner}/{repo}/environments/{environment}/variables", "Makes a variable", false, 201),
    ("get", "/repos/{owner}/{repo}/environments/{environment}/variables/{entry}", "A variable", false, 200),
    ("patch", "/repos/{owner}/{repo}/environments/{environment}/variables/{entry}", "Changes a variable", false, 204),
    ("delete", "/repos/{owner}/{repo}/environments/{environment}/variables/{entry}", "Removes a variable", false, 204),
    ("get", "/repos/{owner}/{repo}/actions/organization-secrets", "Secrets of all repositories", true, 200),
    ("get", "/repos/{owner}/{repo}/actions/organization-variables", "Variables of all repositories", true, 200),
    ("get", "/repos/{owner}/{repo}/environments", "Environments with their rules", true, 200),
    ("get", "/repos/{owner}/{repo}/environments/{environment}", "An environment", false, 200),
    ("put", "/repos/{owner}/{repo}/environments/{environment}", "Sets the rules of an environment", false, 200),
    ("delete", "/repos/{owner}/{repo}/environments/{environment}", "Removes them", false, 204),
    ("get", "/repos/{owner}/{repo}/actions/runs/{run_id}/approvals", "What reviewers said", false, 200),
    ("post", "/towline/runs/{run_id}/share", "A link that shows this run", false, 201),
    ("get", "/towline/deliveries/{number}", "A delivery with what came", false, 200),
    ("post", "/towline/deliveries/{number}/replay", "Handles it once more", false, 201),
    ("get", "/towline/outbox", "What forges and people are still to be told", false, 200),
    ("post", "/towline/outbox/{letter}/retry", "Sends a letter now", false, 204),
    ("delete", "/towline/outbox/{letter}", "Throws a letter away", false, 204),
    ("get", "/towline/schedules", "Schedules with their next times", false, 200),
    ("post", "/towline/scripts", "Runs a script on hosts, now", false, 201),
    ("get", "/towline/hosts", "Hosts with their slots", false, 200),
    ("put", "/towline/hosts/{host}/drain", "Takes no new jobs, ends what runs", false, 204),
    ("delete", "/towline/hosts/{host}/drain", "Takes jobs again", false, 204),
    ("put", "/towline/hosts/{host}/pause", "Pauses a host", false, 204),
    ("delete", "/towline/hosts/{host}/pause", "Resumes a host", false, 204),
    ("get", "/towline/queue", "Waiting jobs, each with its reason", false, 200),
    ("put", "/towline/queue/pause", "Pauses the queue", false, 204),
    ("delete", "/towline/queue/pause", "Resumes the queue", false, 204),
    ("get", "/towline/runs", "Runs of all repositories", true, 200),
    ("get", "/towline/runs/{run_id}", "A run with its jobs", false, 200),
    ("put", "/towline/runs/{run_id}/pause", "Keeps waiting jobs from starting", false, 204),
    ("delete", "/towline/runs/{run_id}/pause", "Resumes a run", false, 204),
    ("get", "/towline/jobs/{job_id}/why", "Why a job waits", false, 200),
    ("get", "/towline/jobs/{job_id}/place", "Where a job works, and the way there", false, 200),
    ("post", "/towline/jobs/{job_id}/release", "Lets a held job end", false, 204),
    ("get", "/towline/deliveries", "What came in", true, 200),
    ("get", "/towline/audit", "Who did what", true, 200),
    ("get", "/towline/secrets", "Names of secrets, for all or of a repository", false, 200),
    ("put", "/towline/secrets/{name}", "Sets a secret", false, 204),
    ("delete", "/towline/secrets/{name}", "Removes a secret", false, 204),
    ("get", "/towline/variables", "Variables, for all or of a repository", false, 200),
    ("put", "/towline/variables/{name}", "Sets a variable", false, 204),
    ("delete", "/towline/variables/{name}", "Removes a variable", false, 204),
    ("get", "/towline/environments", "Environments of a repository with their rules", false, 200),
    ("put", "/towline/environments/{name}", "Sets the rules of an environment", false, 204),
    ("delete", "/towline/environments/{name}", "Removes the rules of an environment", false, 204),
    ("post", "/towline/master-key/rotate", "Seals everything under a new master key", false, 200),
    ("get", "/towline/export", "The whole state as lines of JSON", false, 200),
    ("get", "/towline/tokens", "Tokens, without their values", false, 200),
    ("post", "/towline/tokens", "Makes a token", false, 201),
    ("delete", "/towline/tokens/{name}", "Revokes a token", false, 204),
];

pub(super) async fn document() -> Json<Value> {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let (method, path, ..) = operation;
        let item = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        item[*method] = described(operation);
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {"title": "Towline", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "MIT OR Apache-2.0"}},
        "servers": [{"url": "/api/v3"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"error": {
                "type": "object", "required": ["message"],
                "properties": {"message": {"type": "string"}, "documentation_url": {"type": "string"}, "status": {"type": "string"}},
            }},
        },
    }))
}

fn described((method, path, summary, paged, success): &Operation) -> Value {
    let mut parameters: Vec<Value> = path
        .split(['{', '}'])
        .skip(1)
        .step_by(2)
        .map(|name| {
            let number = matches!(name, "run_id" | "job_id" | "check_run_id" | "attempt_number" | "number");
            let kind = if number {
                json!({"type": "integer", "minimum": 0})
            } else {
                json!({"type": "string", "minLength": 1})
            };
            json!({"name": name, "in": "path", "required": true, "schema": kind})
        })
        .collect();
    if *paged {
        for (name, most) in [("page", 1_000_000), ("per_page", 100)] {
            let schema = json!({"type": "integer", "minimum": 1, "maximum": most});
            parameters.push(json!({"name": name, "in": "query", "schema": schema}));
        }
    }
    let error = json!({"description": "Why not", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}}});
    let mut responses = Map::new();
    let good = match success {
        200 if *path == "/towline/export" => {
            json!({"description": "Lines of JSON", "content": {"application/x-ndjson": {"schema": {}}}})
        }
        200..=202 => json!({"description": "Done", "content": {"application/json": {"schema": {}}}}),
        _ => json!({"description": "Done"}),
    };
    responses.insert(success.to_string(), good);
    responses.insert("4XX".to_owned(), error.clone());
    responses.insert("5XX".to_owned(), error);
    let id: String =
        format!("{method}{path}").chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut operation =
        json!({"operationId": id, "summary": summary, "parameters": parameters, "responses": responses});
    if matches!(*method, "post" | "put" | "patch") {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": {"type": "object"}}}});
    }
    operation
}
