//! GitHub's JSON: views to the shapes of its REST API. Every field that the schema requires is there; addresses point back
//! at this server.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value as Json, json};

use crate::id::{RepositoryName, RunId, stable_id, user_number};
use crate::run::Conclusion;
use crate::run::report::{Annotation, AnnotationLevel, StepState};

use super::format;
use super::pages::{job_path, run_path, workflow_path};
use super::view::{HostState, HostView, JobView, RunView, WorkflowView};

/// Where clients reach this server: `https://chronos.lan:7443`, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base(pub(super) String);

impl Base {
    fn api(&self) -> String {
        format!("{}/api/v3", self.0)
    }

    fn repository(&self, repository: &RepositoryName) -> String {
        format!("{}/repos/{repository}", self.api())
    }
}

/// GitHub's global ids are opaque text; ours say what they name.
fn node_id(kind: &str, id: impl std::fmt::Display) -> String {
    format!("{kind}_{id}")
}

/// A person, or what acts like one.
#[must_use]
pub(super) fn user(base: &Base, login: &str) -> Json {
    let url = format!("{}/users/{}", base.api(), super::form::encode(login));
    let id = user_number(login);
    json!({
        "login": login,
        "id": id,
        "node_id": node_id("U", id),
        "avatar_url": format!("{}/assets/icon.svg", base.0),
        "gravatar_id": "",
        "url": url,
        "html_url": format!("{}/runs?actor={}", base.0, super::form::encode(login)),
        "followers_url": format!("{url}/followers"),
        "following_url": format!("{url}/following{{/other_user}}"),
        "gists_url": format!("{url}/gists{{/gist_id}}"),
        "starred_url": format!("{url}/starred{{/owner}}{{/repo}}"),
        "subscriptions_url": format!("{url}/subscriptions"),
        "organizations_url": format!("{url}/orgs"),
        "repos_url": format!("{url}/repos"),
        "events_url": format!("{url}/events{{/privacy}}"),
        "received_events_url": format!("{url}/received_events"),
        "type": "User",
        "site_admin": false,
    })
}

/// The addresses every repository object has: field, path below the repository.
const REPOSITORY_URLS: [(&str, &str); 39] = [
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
    ("git_url", ".git"),
    ("clone_url", ".git"),
    ("ssh_url", ".git"),
];

/// A repository as runs carry it.
#[must_use]
pub(super) fn repository(base: &Base, name: &RepositoryName) -> Json {
    let url = base.repository(name);
    let id = name.number();
    let mut object = Map::new();
    object.insert("id".into(), id.into());
    object.insert("node_id".into(), node_id("R", id).into());
    object.insert("name".into(), name.name().into());
    object.insert("full_name".into(), format!("{}/{}", name.owner(), name.name()).into());
    object.insert("owner".into(), user(base, name.owner()));
    object.insert("private".into(), true.into());
    object.insert("html_url".into(), format!("{}/{}/{}/actions", base.0, name.owner(), name.name()).into());
    object.insert("description".into(), Json::Null);
    object.insert("fork".into(), false.into());
    object.insert("url".into(), url.clone().into());
    for (field, path) in REPOSITORY_URLS {
        let text = if path == ".git" {
            format!("{}/{}/{}.git", base.0, name.owner(), name.name())
        } else {
            format!("{url}{path}")
        };
        object.insert(field.into(), text.into());
    }
    Json::Object(object)
}

/// A repository as `GET /repos/O/R` answers: the same with what clients look at before they act.
#[must_use]
pub(super) fn full_repository(
    base: &Base,
    name: &RepositoryName,
    default_branch: &str,
    may_push: bool,
    may_admin: bool,
) -> Json {
    let mut json = repository(base, name);
    let more = json!({
        "default_branch": default_branch, "visibility": "private", "archived": false, "disabled": false,
        "has_issues": false, "has_projects": false, "has_wiki": false, "has_pages": false, "has_downloads": false,
        "has_discussions": false, "is_template": false, "forks": 0, "forks_count": 0, "stargazers_count": 0,
        "watchers": 0, "watchers_count": 0, "size": 0, "open_issues": 0, "open_issues_count": 0, "topics": [],
        "homepage": null, "language": null, "license": null, "mirror_url": null, "network_count": 0,
        "subscribers_count": 0, "allow_forking": false, "svn_url": format!("{}/{name}", base.0),
        "created_at": "1970-01-01T00:00:00Z", "updated_at": "1970-01-01T00:00:00Z", "pushed_at": "1970-01-01T00:00:00Z",
        "permissions": {"admin": may_admin, "maintain": may_admin, "push": may_push, "triage": may_push, "pull": true},
    });
    if let (Json::Object(object), Json::Object(more)) = (&mut json, more) {
        object.extend(more);
    }
    json
}

/// What of a run is its own: all but the repository and the people.
fn own(base: &Base, run: &RunView) -> Json {
    let repository_url = base.repository(&run.repository);
    let url = format!("{repository_url}/actions/runs/{}", run.id);
    let previous = (run.attempt > 1).then(|| format!("{url}/attempts/{}", run.attempt - 1));
    let person = json!({"name": run.actor, "email": format!("{}@users.noreply.localhost", run.actor)});
    json!({
        "id": run.id.0,
        "name": run.workflow.name,
        "node_id": node_id("WFR", run.id),
        "head_branch": run.branch(),
        "head_sha": run.sha,
        "path": run.workflow.path,
        "display_title": run.title,
        "run_number": run.number,
        "event": run.event,
        "status": run.status.as_str(),
        "conclusion": run.conclusion.map(Conclusion::as_str),
        "workflow_id": run.workflow.id,
        "check_suite_id": run.id.0,
        "check_suite_node_id": node_id("CS", run.id),
        "url": url,
        "html_url": format!("{}{}", base.0, run_path(run)),
        "pull_requests": [],
        "created_at": format::api(run.created_at),
        "updated_at": format::api(run.updated_at),
        "run_attempt": run.attempt,
        "referenced_workflows": [],
        "run_started_at": format::api(run.started_at),
        "jobs_url": format!("{url}/jobs"),
        "logs_url": format!("{url}/logs"),
        "check_suite_url": format!("{repository_url}/check-suites/{}", run.id),
        "artifacts_url": format!("{url}/artifacts"),
        "cancel_url": format!("{url}/cancel"),
        "rerun_url": format!("{url}/rerun"),
        "previous_attempt_url": previous,
        "workflow_url": format!("{repository_url}/actions/workflows/{}", run.workflow.id),
        "head_commit": {
            "id": run.sha, "tree_id": run.sha, "message": run.title, "timestamp": format::api(run.created_at),
            "author": person, "committer": person,
        },
    })
}

/// A run.
#[must_use]
pub(super) fn run(base: &Base, run: &RunView) -> Json {
    let mut json = own(base, run);
    json["actor"] = user(base, &run.actor);
    json["triggering_actor"] = user(base, &run.triggering_actor);
    json["repository"] = repository(base, &run.repository);
    json["head_repository"] = json["repository"].clone();
    json
}

/// What was made before and is asked for again.
#[derive(Default)]
pub(super) struct Fragments {
    /// Objects that stand in every run, as text: repositories and people, which have many addresses.
    objects: RwLock<HashMap<(String, String), Arc<str>>>,
    /// Attempts of runs as they were answered last: whoever watches one asks every few seconds.
    runs: RwLock<HashMap<(String, RunId, u32), Known>>,
}

/// A run as it was, and what it was as JSON.
struct Known {
    run: RunView,
    text: Bytes,
    tag: HeaderValue,
}

/// Fragments of a kind that are kept: clients choose the name of this server that is in them.
const MOST_FRAGMENTS: usize = 512;

/// The entity tag of a text. Weak: a proxy may compress what it stands for.
pub(super) fn entity_tag(text: &[u8]) -> HeaderValue {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
    let hex: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("W/\"{hex}\"")).expect("hexadecimal digits may stand in a header")
}

impl Fragments {
    /// A run as text, the same as that of [`run`].
    #[must_use]
    pub(super) fn run(&self, base: &Base, run: &RunView) -> String {
        let repository = self.get(base, run.repository.as_str(), || repository(base, &run.repository));
        // A space tells a person from a repository of the same name.
        let person = |login: &str| self.get(base, &format!("{login} "), || user(base, login));
        let mut text = own(base, run).to_string();
        text.pop();
        for (field, object) in [
            ("actor", &person(&run.actor)),
            ("triggering_actor", &person(&run.triggering_actor)),
            ("repository", &repository),
            ("head_repository", &repository),
        ] {
            text.extend([",\"", field, "\":", object]);
        }
        text.push('}');
        text
    }

    /// A run as an answer: its text and the tag of it.
    pub(super) fn answer(&self, base: &Base, run: &RunView) -> (Bytes, HeaderValue) {
        let key = (base.0.clone(), run.id, run.attempt);
        if let Some(known) = self.runs.read().unwrap_or_else(PoisonError::into_inner).get(&key)
            && known.run == *run
        {
            return (known.text.clone(), known.tag.clone());
        }
        let text = Bytes::from(self.run(base, run));
        let tag = entity_tag(&text);
        let mut all = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_FRAGMENTS {
            all.clear();
        }
        all.insert(key, Known { run: run.clone(), text: text.clone(), tag: tag.clone() });
        (text, tag)
    }

    fn get(&self, base: &Base, name: &str, make: impl FnOnce() -> Json) -> Arc<str> {
        let key = (base.0.clone(), name.to_owned());
        if let Some(known) = self.objects.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(known);
        }
        let made: Arc<str> = make().to_string().into();
        let mut all = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_FRAGMENTS {
            all.clear();
        }
        all.insert(key, Arc::clone(&made));
        made
    }
}

/// The number of a host among runners. Clients keep those in 32 bits, and some in 31.
fn runner_id(host: &str) -> u64 {
    (stable_id(&["host", host]) & 0x7fff_ffff).max(1)
}

/// A job with its steps.
#[must_use]
pub(super) fn job(base: &Base, run: &RunView, job: &JobView) -> Json {
    let repository_url = base.repository(&run.repository);
    let status = match job.status {
        // A job knows four of the words.
        super::view::Status::Requested | super::view::Status::Pending => "queued",
        other => other.as_str(),
    };
    let started = job.started_at.unwrap_or(job.created_at);
    json!({
        "id": job.id.0,
        "run_id": run.id.0,
        "workflow_name": run.workflow.name,
        "head_branch": run.branch(),
        "run_url": format!("{repository_url}/actions/runs/{}", run.id),
        "run_attempt": job.attempt,
        "node_id": node_id("CR", job.id),
        "head_sha": run.sha,
        "url": format!("{repository_url}/actions/jobs/{}", job.id),
        "html_url": format!("{}{}", base.0, job_path(&run.repository, &run.id, &job.id)),
        "status": status,
        "conclusion": job.conclusion.map(Conclusion::as_str),
        "created_at": format::api(job.created_at),
        "started_at": format::api(started),
        "completed_at": job.completed_at.map(format::api),
        "name": job.name,
        "steps": job.steps.iter().map(|one| step(job, one)).collect::<Vec<_>>(),
        "check_run_url": format!("{repository_url}/check-runs/{}", job.id),
        "labels": job.labels,
        "runner_id": job.host.as_ref().map(|host| runner_id(host.as_str())),
        "runner_name": job.host.as_ref().map(crate::id::HostName::as_str),
        "runner_group_id": job.host.as_ref().map(|_| 1),
        "runner_group_name": job.host.as_ref().map(|_| "Default"),
    })
}

fn step(job: &JobView, step: &StepState) -> Json {
    let over = job.completed_at.is_some();
    let status = match (step.conclusion, step.started_at) {
        (Some(_), _) => "completed",
        (None, _) if over => "completed",
        (None, Some(_)) => "in_progress",
        (None, None) => "queued",
    };
    // A step that its job never reached counts as skipped once the job is over.
    let conclusion = step.conclusion.or(over.then_some(Conclusion::Skipped));
    json!({
        "name": step.name,
        "status": status,
        "conclusion": conclusion.map(Conclusion::as_str),
        "number": step.number,
        "started_at": step.started_at.map(format::api),
        "completed_at": step.completed_at.map(format::api),
    })
}

/// A job as a check run.
#[must_use]
pub(super) fn check_run(base: &Base, run: &RunView, job: &JobView) -> Json {
    let url = format!("{}/check-runs/{}", base.repository(&run.repository), job.id);
    let html = format!("{}{}", base.0, job_path(&run.repository, &run.id, &job.id));
    let status = match job.status {
        super::view::Status::Requested | super::view::Status::Pending => "queued",
        other => other.as_str(),
    };
    json!({
        "id": job.id.0, "name": job.name, "node_id": node_id("CR", job.id), "head_sha": run.sha,
        "external_id": job.id.to_string(), "url": url, "html_url": html, "details_url": html,
        "status": status, "conclusion": job.conclusion.map(Conclusion::as_str),
        "started_at": format::api(job.started_at.unwrap_or(job.created_at)),
        "completed_at": job.completed_at.map(format::api),
        "output": {
            "title": null, "summary": null, "text": null, "annotations_count": job.annotations.len(),
            "annotations_url": format!("{url}/annotations"),
        },
        "check_suite": {"id": run.id.0}, "app": null, "pull_requests": [],
    })
}

/// An annotation of a check run. `gh` shows `path#start_line`; a missing place is the run itself, as on GitHub.
#[must_use]
pub(super) fn annotation(base: &Base, run: &RunView, note: &Annotation) -> Json {
    let path = note.file.as_deref().unwrap_or(".github");
    let line = note.line.unwrap_or(1);
    json!({
        "path": path,
        "blob_href": format!("{}/contents/{path}?ref={}", base.repository(&run.repository), run.sha),
        "start_line": line,
        "start_column": note.column,
        "end_line": note.end_line.unwrap_or(line),
        "end_column": note.end_column.or(note.column),
        "annotation_level": match note.level {
            AnnotationLevel::Notice => "notice",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Failure => "failure",
        },
        "title": note.title.as_deref().unwrap_or_default(),
        "message": note.message,
        "raw_details": "",
    })
}

/// A workflow.
#[must_use]
pub(super) fn workflow(base: &Base, view: &WorkflowView) -> Json {
    let id = view.workflow.id;
    json!({
        "id": id,
        "node_id": node_id("W", id),
        "name": view.workflow.name,
        "path": view.workflow.path,
        "state": if view.enabled { "active" } else { "disabled_manually" },
        "created_at": format::api(view.created_at),
        "updated_at": format::api(view.updated_at),
        "url": format!("{}/actions/workflows/{id}", base.repository(&view.repository)),
        "html_url": format!("{}{}", base.0, workflow_path(&view.repository, &view.workflow)),
        "badge_url": format!("{}{}/badge.svg", base.0, workflow_path(&view.repository, &view.workflow)),
    })
}

/// A host as a self-hosted runner.
#[must_use]
pub(super) fn runner(host: &HostView) -> Json {
    let os = host.facts.iter().find(|(name, _)| name == "system").map_or("unknown", |(_, value)| value.as_str());
    let labels: Vec<Json> = host
        .labels
        .iter()
        .map(|label| json!({"id": stable_id(&["label", label]), "name": label, "type": "custom"}))
        .collect();
    json!({
        "id": runner_id(host.name.as_str()),
        "runner_group_id": 1,
        "name": host.name.as_str(),
        "os": os,
        "status": if matches!(host.state, HostState::Offline | HostState::Unknown) { "offline" } else { "online" },
        "busy": !host.jobs.is_empty(),
        "labels": labels,
    })
}
