//! What GitHub's API says of the objects of a repository: contents, trees, blobs, tags, branches, history, comparisons; and refs
//! that are made, moved and removed. Scripts of actions ask for these.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::repositories::{Refusal, Shared, describe_commit, full_name, opened, resolve};
use crate::git::{EntryKind, Objects, Repository};

type Named = Path<(String, String)>;
type With = Path<(String, String, String)>;

/// The most entries of a tree in one answer, as GitHub has it.
const MOST_ENTRIES: usize = 100_000;

pub(super) fn routes(repository: &str) -> Router<Shared> {
    let at = |path: &str| format!("{repository}{path}");
    Router::new()
        .route(&at("/readme"), get(readme))
        .route(&at("/git/refs"), post(create_ref))
        .route(&at("/git/refs/{*reference}"), patch(update_ref).delete(delete_ref))
        .route(&at("/git/matching-refs/{*reference}"), get(matching_refs))
        .route(&at("/git/commits/{sha}"), get(git_commit))
        .route(&at("/git/trees/{sha}"), get(tree))
        .route(&at("/git/blobs/{sha}"), get(blob))
        .route(&at("/git/tags/{sha}"), get(tag))
        .route(&at("/branches/{*branch}"), get(branch))
        .route(&at("/tags"), get(tags))
        .route(&at("/commits"), get(commits))
        .route(&at("/compare/{*range}"), get(compare))
        // There are none here, which is an answer.
        .route(&at("/releases"), get(releases))
}

/// Files and directories. A server that has workflow files of repositories that are elsewhere has routes of this name itself.
pub(super) fn files(repository: &str) -> Router<Shared> {
    Router::new()
        .route(&format!("{repository}/contents"), get(top))
        .route(&format!("{repository}/contents/{{*path}}"), get(contents))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "ref")]
    reference: Option<String>,
    sha: Option<String>,
    recursive: Option<String>,
    per_page: Option<usize>,
    page: Option<usize>,
}

impl Asked {
    fn page(&self) -> (usize, usize) {
        let size = self.per_page.unwrap_or(30).clamp(1, 100);
        (size, self.page.unwrap_or(1).max(1).saturating_sub(1).saturating_mul(size))
    }
}

/// A page of a list; where there is more, with the address of the next one: clients go by it.
fn paged(shared: &Shared, parts: &Parts, asked: &Asked, items: Vec<JsonValue>, more: bool) -> Response {
    let mut response = Json(JsonValue::Array(items)).into_response();
    if more {
        let others = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("page="));
        let query: Vec<String> =
            others.map(str::to_owned).chain([format!("page={}", asked.page.unwrap_or(1).max(1) + 1)]).collect();
        let link = format!("<{}{}?{}>; rel=\"next\"", shared.base(parts), parts.uri.path(), query.join("&"));
        if let Ok(link) = link.parse() {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

fn refused(status: StatusCode, message: &str) -> Response {
    let body = json!({
        "message": message, "documentation_url": "https://docs.github.com/rest", "status": status.as_u16().to_string(),
    });
    (status, Json(body)).into_response()
}

fn api(shared: &Shared, parts: &Parts, repository: &str) -> String {
    format!("{}/api/v3/repos/{repository}", shared.base(parts))
}

async fn top(
    shared: State<Shared>,
    Path((owner, name)): Named,
    asked: Query<Asked>,
    parts: Parts,
) -> Result<Response, Refusal> {
    contents(shared, Path((owner, name, String::new())), asked, parts).await
}

/// A file with its content, or the list of a directory.
async fn contents(
    State(shared): State<Shared>,
    Path((owner, name, path)): With,
    Query(asked): Query<Asked>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let commit = resolve(&repository, asked.reference.as_deref().unwrap_or_default()).await?;
    let mut objects = repository.objects()?;
    let answer = entry(&mut objects, &commit, path.trim_matches('/'), &api(&shared, &parts, &full), &parts).await;
    objects.close().await;
    answer
}

async fn entry(objects: &mut Objects, commit: &str, path: &str, api: &str, parts: &Parts) -> Result<Response, Refusal> {
    let (id, kind, bytes) = objects.object(&format!("{commit}:{path}")).await?.ok_or(Refusal::NotFound)?;
    let accepts = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind == "tree" {
        let entries = objects.directory(commit, path).await?.unwrap_or_default();
        let entries = entries.iter().map(|entry| {
            let path = [path, entry.name.as_str()].join("/").trim_start_matches('/').to_owned();
            let kind = match entry.kind {
                EntryKind::Directory => "dir",
                EntryKind::Link => "symlink",
                EntryKind::Submodule => "submodule",
                EntryKind::File | EntryKind::Executable => "file",
            };
            described(&entry.name, &path, kind, &entry.id, 0, (api, commit))
        });
        return Ok(Json(JsonValue::Array(entries.collect())).into_response());
    }
    if accepts.contains("raw") {
        return Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response());
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut file = described(name, path, "file", &id, bytes.len(), (api, commit));
    file["encoding"] = json!("base64");
    file["content"] = json!(in_lines(&bytes));
    Ok(Json(file).into_response())
}

/// Base64 in lines of 60, as GitHub gives it.
fn in_lines(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    text.as_bytes().chunks(60).flat_map(|line| line.iter().copied().chain([b'\n'])).map(char::from).collect()
}

fn described(name: &str, path: &str, kind: &str, id: &str, size: usize, (api, commit): (&str, &str)) -> JsonValue {
    let url = format!("{api}/contents/{path}?ref={commit}");
    let git = format!("{api}/git/{}/{id}", if kind == "dir" { "trees" } else { "blobs" });
    json!({
        "type": kind, "name": name, "path": path, "sha": id, "size": size, "url": url, "git_url": git,
        "html_url": null, "download_url": null, "_links": { "self": url, "git": git, "html": null },
    })
}

async fn readme(
    State(shared): State<Shared>,
    Path((owner, name)): Named,
    Query(asked): Query<Asked>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let commit = resolve(&repository, asked.reference.as_deref().unwrap_or_default()).await?;
    let mut objects = repository.objects()?;
    let entries = objects.directory(&commit, "").await?.unwrap_or_default();
    let found = entries.iter().find(|entry| {
        let lower = entry.name.to_ascii_lowercase();
        entry.kind == EntryKind::File && (lower == "readme" || lower.starts_with("readme."))
    });
    let answer = match found {
        Some(found) => entry(&mut objects, &commit, &found.name, &api(&shared, &parts, &full), &parts).await,
        None => Err(Refusal::NotFound),
    };
    objects.close().await;
    answer
}

async fn object(repository: &Repository, id: &str, wanted: &str) -> Result<(String, Vec<u8>), Refusal> {
    let name = match wanted {
        // A tree may be named by its commit, or by a branch.
        "tree" => format!("{id}^{{tree}}"),
        _ => id.to_owned(),
    };
    if id.contains(['^', ':', '~', '@', ' ']) {
        return Err(Refusal::NotFound);
    }
    let mut objects = repository.objects()?;
    let found = objects.object(&name).await?;
    objects.close().await;
    let (id, kind, bytes) = found.ok_or(Refusal::NotFound)?;
    if kind == wanted { Ok((id, bytes)) } else { Err(Refusal::NotFound) }
}

async fn git_commit(
    State(shared): State<Shared>,
    Path((owner, name, sha)): With,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let mut objects = repository.objects()?;
    let info = objects.commit(&sha).await?;
    objects.close().await;
    let info = info.filter(|_| crate::git::is_object_id(&sha)).ok_or(Refusal::NotFound)?;
    let mut commit = describe_commit(&info, &shared.base(&parts), &full)["commit"].take();
    let api = api(&shared, &parts, &full);
    commit["sha"] = json!(info.id);
    commit["node_id"] = json!(info.id);
    commit["url"] = json!(format!("{api}/git/commits/{}", info.id));
    commit["html_url"] = JsonValue::Null;
    let parents =
        info.parents.iter().map(|id| json!({ "sha": id, "url": format!("{api}/git/commits/{id}"), "html_url": null }));
    commit["parents"] = parents.collect();
    Ok(Json(commit).into_response())
}

async fn tree(
    State(shared): State<Shared>,
    Path((owner, name, sha)): With,
    Query(asked): Query<Asked>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let sha = if crate::git::is_object_id(&sha) { sha } else { resolve(&repository, &sha).await? };
    let (id, _) = object(&repository, &sha, "tree").await?;
    let api = api(&shared, &parts, &full);
    let deep = asked.recursive.is_some();
    let entries = repository.list_tree(&id, deep).await?;
    let truncated = entries.len() > MOST_ENTRIES;
    let shown: Vec<_> = entries
        .iter()
        .take(MOST_ENTRIES)
        .map(|entry| {
            let place = if entry.kind == "tree" { "trees" } else { "blobs" };
            let mut shown = json!({ "path": entry.path, "mode": entry.mode, "type": entry.kind, "sha": entry.id });
            if entry.kind != "commit" {
                shown["url"] = json!(format!("{api}/git/{place}/{}", entry.id));
            }
            if let Some(size) = entry.size {
                shown["size"] = json!(size);
            }
            shown
        })
        .collect();
    Ok(Json(json!({ "sha": id, "url": format!("{api}/git/trees/{id}"), "tree": shown, "truncated": truncated }))
        .into_response())
}

async fn blob(State(shared): State<Shared>, Path((owner, name, sha)): With, parts: Parts) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let (id, bytes) = object(&repository, &sha, "blob").await?;
    let url = format!("{}/git/blobs/{id}", api(&shared, &parts, &full));
    let content = in_lines(&bytes);
    Ok(Json(
        json!({ "sha": id, "node_id": id, "size": bytes.len(), "url": url, "content": content, "encoding": "base64" }),
    )
    .into_response())
}

async fn tag(State(shared): State<Shared>, Path((owner, name, sha)): With, parts: Parts) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let (id, bytes) = object(&repository, &sha, "tag").await?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let line = |key: &str| head.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    let tagger = crate::git::person(line("tagger "));
    let api = api(&shared, &parts, &full);
    let (kind, target) = (line("type "), line("object "));
    Ok(Json(json!({
        "node_id": id, "sha": id, "url": format!("{api}/git/tags/{id}"), "tag": line("tag "), "message": message,
        "tagger": { "name": tagger.name, "email": tagger.email, "date": tagger.at.to_string() },
        "object": { "type": kind, "sha": target, "url": format!("{api}/git/{kind}s/{target}") },
        "verification": { "verified": false, "reason": "unsigned", "signature": null, "payload": null },
    }))
    .into_response())
}

pub(super) async fn describe_ref(repository: &Repository, api: &str, name: &str) -> Result<Option<JsonValue>, Refusal> {
    let Some(id) = repository.object_of(name).await? else { return Ok(None) };
    let mut objects = repository.objects()?;
    let kind = objects.object(&id).await?.map_or("commit".to_owned(), |(_, kind, _)| kind);
    objects.close().await;
    Ok(Some(json!({
        "ref": name, "node_id": name, "url": format!("{api}/git/{name}"),
        "object": { "type": kind, "sha": id, "url": format!("{api}/git/{kind}s/{id}") },
    })))
}

async fn matching_refs(
    State(shared): State<Shared>,
    Path((owner, name, reference)): With,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let api = api(&shared, &parts, &full);
    let wanted = format!("refs/{reference}");
    let folder = wanted.rsplit_once('/').map_or("refs/", |(folder, _)| folder);
    let mut all = Vec::new();
    for (name, _) in repository.objects_under(&format!("{folder}/")).await? {
        if name.starts_with(&wanted) && all.len() < 1000 {
            all.extend(describe_ref(&repository, &api, &name).await?);
        }
    }
    Ok(Json(JsonValue::Array(all)).into_response())
}

#[derive(Deserialize)]
struct NewRef {
    #[serde(rename = "ref")]
    reference: Option<String>,
    sha: String,
    #[serde(default)]
    force: bool,
}

async fn writable(shared: &Shared, parts: &Parts, owner: &str, name: &str) -> Result<(String, Repository), Refusal> {
    let full = full_name(owner, name);
    shared.admit(parts, &full, "contents", true)?;
    let served = shared.repository(&full)?;
    if !served.writable {
        return Err(Refusal::Forbidden("This repository is a mirror: change it where it comes from."));
    }
    Ok((full, Repository::at(served.git_dir)))
}

/// Makes a branch or a tag. As with a push by a job's own token, nothing is started by it (T16).
async fn create_ref(
    State(shared): State<Shared>,
    Path((owner, name)): Named,
    parts: Parts,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (full, repository) = writable(&shared, &parts, &owner, &name).await?;
    let Ok(NewRef { reference: Some(reference), sha, .. }) = serde_json::from_slice::<NewRef>(&body) else {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid request."));
    };
    if !reference.starts_with("refs/") || reference.matches('/').count() < 2 {
        return Ok(refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Reference name must start with 'refs' and have at least two slashes.",
        ));
    }
    if repository.object_of(&reference).await?.is_some() {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "Reference already exists"));
    }
    set_ref(&shared, &parts, &full, &repository, &reference, &sha, StatusCode::CREATED).await
}

async fn set_ref(
    shared: &Shared,
    parts: &Parts,
    full: &str,
    repository: &Repository,
    reference: &str,
    sha: &str,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let known = crate::git::is_object_id(sha) && repository.object_of(&format!("{sha}^{{object}}")).await?.is_some();
    if !known {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "Object does not exist"));
    }
    if repository.update_ref(reference, sha).await.is_err() {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "Reference cannot be updated"));
    }
    let made = describe_ref(repository, &api(shared, parts, full), reference).await?.ok_or(Refusal::NotFound)?;
    Ok((status, Json(made)).into_response())
}

async fn update_ref(
    State(shared): State<Shared>,
    Path((owner, name, reference)): With,
    parts: Parts,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (full, repository) = writable(&shared, &parts, &owner, &name).await?;
    let Ok(NewRef { sha, force, .. }) = serde_json::from_slice::<NewRef>(&body) else {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid request."));
    };
    let reference = format!("refs/{reference}");
    let Some(before) = repository.resolve(&reference).await? else {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "Reference does not exist"));
    };
    if !force && crate::git::is_object_id(&sha) && !repository.is_ancestor(&before, &sha).await.unwrap_or(false) {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "Update is not a fast forward"));
    }
    set_ref(&shared, &parts, &full, &repository, &reference, &sha, StatusCode::OK).await
}

async fn delete_ref(
    State(shared): State<Shared>,
    Path((owner, name, reference)): With,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (_, repository) = writable(&shared, &parts, &owner, &name).await?;
    let reference = format!("refs/{reference}");
    if repository.object_of(&reference).await?.is_none() || repository.delete_ref(&reference).await.is_err() {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "Reference does not exist"));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn branch(
    State(shared): State<Shared>,
    Path((owner, name, branch)): With,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let info = commit_of(&repository, &format!("refs/heads/{branch}")).await?;
    let commit = describe_commit(&info, &shared.base(&parts), &full);
    Ok(Json(json!({ "name": branch, "commit": commit, "protected": false, "_links": {} })).into_response())
}

async fn commit_of(repository: &Repository, name: &str) -> Result<crate::git::CommitInfo, Refusal> {
    if name.contains(['^', ':', '~', '@', ' ']) {
        return Err(Refusal::NotFound);
    }
    let mut objects = repository.objects()?;
    let info = objects.commit(name).await?;
    objects.close().await;
    info.ok_or(Refusal::NotFound)
}

async fn tags(
    State(shared): State<Shared>,
    Path((owner, name)): Named,
    Query(asked): Query<Asked>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let api = api(&shared, &parts, &full);
    let (size, skip) = asked.page();
    let refs = repository.refs("refs/tags/").await?;
    let more = refs.len() > skip.saturating_add(size);
    let tags = refs.iter().rev().skip(skip).take(size).map(|tag| {
        let name = tag.name.trim_start_matches("refs/tags/");
        json!({
            "name": name, "node_id": tag.name, "commit": { "sha": tag.id, "url": format!("{api}/commits/{}", tag.id) },
            "tarball_url": format!("{api}/tarball/refs/tags/{name}"), "zipball_url": format!("{api}/zipball/refs/tags/{name}"),
        })
    });
    let tags = tags.collect();
    Ok(paged(&shared, &parts, &asked, tags, more))
}

async fn commits(
    State(shared): State<Shared>,
    Path((owner, name)): Named,
    Query(asked): Query<Asked>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let from = resolve(&repository, asked.sha.as_deref().unwrap_or_default()).await?;
    let (size, skip) = asked.page();
    let mut ids = repository.history(&[from], skip, size + 1).await?;
    let more = ids.len() > size;
    ids.truncate(size);
    let commits = all_commits(&repository, &ids, &shared.base(&parts), &full).await?;
    Ok(paged(&shared, &parts, &asked, commits, more))
}

async fn all_commits(
    repository: &Repository,
    ids: &[String],
    base: &str,
    full: &str,
) -> Result<Vec<JsonValue>, Refusal> {
    let mut objects = repository.objects()?;
    let mut all = Vec::new();
    for id in ids {
        all.extend(objects.commit(id).await?.map(|info| describe_commit(&info, base, full)));
    }
    objects.close().await;
    Ok(all)
}

/// `BASE...HEAD`: what HEAD has that BASE has not.
async fn compare(
    State(shared): State<Shared>,
    Path((owner, name, range)): With,
    parts: Parts,
) -> Result<Response, Refusal> {
    let (full, repository) = opened(&shared, &parts, &owner, &name, "contents").await?;
    let (from, to) = range.split_once("...").ok_or(Refusal::NotFound)?;
    let (from, to) = (resolve(&repository, from).await?, resolve(&repository, to).await?);
    let merge = repository.merge_base(&from, &to).await?.ok_or(Refusal::NotFound)?;
    let ahead = repository.history(&[to.clone(), format!("^{from}")], 0, 10_000).await?;
    let behind = repository.history(&[from.clone(), format!("^{to}")], 0, 10_000).await?;
    let status = match (ahead.is_empty(), behind.is_empty()) {
        (true, true) => "identical",
        (false, true) => "ahead",
        (true, false) => "behind",
        (false, false) => "diverged",
    };
    let base = shared.base(&parts);
    let mut shown: Vec<String> = ahead.iter().take(250).cloned().collect();
    shown.reverse();
    let files = repository.changed_between(&merge, &to).await?;
    let files = files.iter().take(300).map(|(kind, path)| {
        let status = match kind {
            'A' => "added",
            'D' => "removed",
            _ => "modified",
        };
        json!({ "filename": path, "status": status, "sha": null, "additions": 0, "deletions": 0, "changes": 0 })
    });
    let api = api(&shared, &parts, &full);
    Ok(Json(json!({
        "url": format!("{api}/compare/{range}"), "status": status, "ahead_by": ahead.len(), "behind_by": behind.len(),
        "total_commits": ahead.len(),
        "base_commit": describe_commit(&commit_of(&repository, &from).await?, &base, &full),
        "merge_base_commit": describe_commit(&commit_of(&repository, &merge).await?, &base, &full),
        "commits": all_commits(&repository, &shown, &base, &full).await?,
        "files": files.collect::<Vec<_>>(),
    }))
    .into_response())
}

async fn releases(State(shared): State<Shared>, Path((owner, name)): Named, parts: Parts) -> Result<Response, Refusal> {
    opened(&shared, &parts, &owner, &name, "contents").await?;
    Ok(Json(json!([])).into_response())
}
