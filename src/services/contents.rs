//! What GitHub's API says of the objects of a repository: contents, trees, blobs, tags, branches, history, comparisons; and refs
//! that are made, moved and removed. Scripts of actions ask for these.

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::asked::Asked;
use super::opened::{Opened, Writable};
use super::paging::{self, Page};
use super::repositories::{Refusal, Shared, describe_commit, resolve};
use crate::git::{EntryKind, Repository, TreeEntry};

/// The most entries of a tree in one answer, as GitHub has it.
const MOST_ENTRIES: usize = 100_000;
/// The most commits that one of two is told to be ahead or behind.
const MOST_APART: usize = 10_000;
/// The most commits and files of a comparison, as GitHub has it.
const MOST_COMPARED: (usize, usize) = (250, 300);

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
        .route(&format!("{repository}/contents"), get(contents))
        .route(&format!("{repository}/contents/{{*path}}"), get(contents))
}

/// What a question may be narrowed by.
#[derive(Default, Deserialize)]
struct Wanted {
    #[serde(rename = "ref")]
    reference: Option<String>,
    sha: Option<String>,
    recursive: Option<String>,
    per_page: Option<String>,
    page: Option<String>,
}

impl Wanted {
    fn page(&self) -> Page {
        Page::of(self.page.as_deref(), self.per_page.as_deref())
    }
}

/// A page of a list; where there is more, with the address of the next one: clients go by it.
fn paged(at: &Opened, parts: &Parts, page: Page, items: Vec<JsonValue>, more: bool) -> Response {
    let mut response = Json(JsonValue::Array(items)).into_response();
    let next = more.then(|| paging::link(&at.base, &parts.uri, &[(page.number + 1, "next")])).flatten();
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, next);
    }
    response
}

/// A file with its content, or the list of a directory.
async fn contents(at: Opened, Asked(wanted): Asked<Wanted>, parts: Parts) -> Result<Response, Refusal> {
    let commit = resolve(&at.repository, wanted.reference.as_deref().unwrap_or_default()).await?;
    entry(&at, &commit, at.rest.trim_matches('/'), &parts).await
}

async fn entry(at: &Opened, commit: &str, path: &str, parts: &Parts) -> Result<Response, Refusal> {
    let (id, kind, bytes) = read(&at.repository, &format!("{commit}:{path}")).await?;
    let accepts = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let api = at.api();
    if kind == "tree" {
        let entries = at.repository.list_tree(&id, false).await?;
        let entries = entries.iter().map(|entry| {
            let path = [path, entry.path.as_str()].join("/").trim_start_matches('/').to_owned();
            described(&path, kind_of(entry), &entry.id, entry.size.unwrap_or(0), (&api, commit))
        });
        return Ok(Json(JsonValue::Array(entries.collect())).into_response());
    }
    if accepts.contains("raw") {
        return Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response());
    }
    let mut file = described(path, "file", &id, bytes.len() as u64, (&api, commit));
    file["encoding"] = json!("base64");
    file["content"] = json!(in_lines(&bytes));
    Ok(Json(file).into_response())
}

/// An object: its name, its kind and its bytes.
async fn read(repository: &Repository, name: &str) -> Result<(String, String, Vec<u8>), Refusal> {
    let mut objects = repository.objects()?;
    let found = objects.object(name).await?;
    objects.close().await;
    found.ok_or(Refusal::NotFound)
}

fn kind_of(entry: &TreeEntry) -> &'static str {
    match (entry.kind.as_str(), entry.mode.as_str()) {
        ("tree", _) => "dir",
        ("commit", _) => "submodule",
        (_, "120000") => "symlink",
        _ => "file",
    }
}

/// Base64 in lines of 60, as GitHub gives it.
fn in_lines(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    text.as_bytes().chunks(60).flat_map(|line| line.iter().copied().chain([b'\n'])).map(char::from).collect()
}

fn described(path: &str, kind: &str, id: &str, size: u64, (api, commit): (&str, &str)) -> JsonValue {
    let name = path.rsplit('/').next().unwrap_or(path);
    let url = format!("{api}/contents/{path}?ref={commit}");
    let git = format!("{api}/git/{}/{id}", if kind == "dir" { "trees" } else { "blobs" });
    json!({
        "type": kind, "name": name, "path": path, "sha": id, "size": size, "url": url, "git_url": git,
        "html_url": null, "download_url": null, "_links": { "self": url, "git": git, "html": null },
    })
}

async fn readme(at: Opened, Asked(wanted): Asked<Wanted>, parts: Parts) -> Result<Response, Refusal> {
    let commit = resolve(&at.repository, wanted.reference.as_deref().unwrap_or_default()).await?;
    let mut objects = at.repository.objects()?;
    let entries = objects.directory(&commit, "").await?.unwrap_or_default();
    objects.close().await;
    let found = entries.iter().find(|entry| {
        let lower = entry.name.to_ascii_lowercase();
        entry.kind == EntryKind::File && (lower == "readme" || lower.starts_with("readme."))
    });
    entry(&at, &commit, &found.ok_or(Refusal::NotFound)?.name, &parts).await
}

/// Whether a name could mean another object than the one it spells. A branch may have an `@` in its name.
pub(super) fn is_crafted(name: &str) -> bool {
    name.contains(['^', ':', '~', ' ']) || name.contains("@{") || name == "@"
}

async fn object(repository: &Repository, id: &str, wanted: &str) -> Result<(String, Vec<u8>), Refusal> {
    if is_crafted(id) {
        return Err(Refusal::NotFound);
    }
    let name = match wanted {
        // A tree may be named by its commit, or by a branch.
        "tree" => format!("{id}^{{tree}}"),
        _ => id.to_owned(),
    };
    let (id, kind, bytes) = read(repository, &name).await?;
    if kind == wanted { Ok((id, bytes)) } else { Err(Refusal::NotFound) }
}

async fn git_commit(at: Opened) -> Result<Response, Refusal> {
    if !crate::git::is_object_id(&at.rest) {
        return Err(Refusal::NotFound);
    }
    let info = commit_of(&at.repository, &at.rest).await?;
    let mut commit = describe_commit(&info, &at.base, &at.full)["commit"].take();
    let api = at.api();
    commit["sha"] = json!(info.id);
    commit["node_id"] = json!(info.id);
    commit["url"] = json!(format!("{api}/git/commits/{}", info.id));
    commit["html_url"] = JsonValue::Null;
    let parents =
        info.parents.iter().map(|id| json!({ "sha": id, "url": format!("{api}/git/commits/{id}"), "html_url": null }));
    commit["parents"] = parents.collect();
    Ok(Json(commit).into_response())
}

async fn tree(at: Opened, Asked(wanted): Asked<Wanted>) -> Result<Response, Refusal> {
    let sha = match at.rest.as_str() {
        id if crate::git::is_object_id(id) => id.to_owned(),
        name => resolve(&at.repository, name).await?,
    };
    let (id, _) = object(&at.repository, &sha, "tree").await?;
    let api = at.api();
    let entries = at.repository.list_tree(&id, wanted.recursive.is_some()).await?;
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

async fn blob(at: Opened) -> Result<Response, Refusal> {
    let (id, bytes) = object(&at.repository, &at.rest, "blob").await?;
    let (url, content) = (format!("{}/git/blobs/{id}", at.api()), in_lines(&bytes));
    Ok(Json(
        json!({ "sha": id, "node_id": id, "size": bytes.len(), "url": url, "content": content, "encoding": "base64" }),
    )
    .into_response())
}

async fn tag(at: Opened) -> Result<Response, Refusal> {
    let (id, bytes) = object(&at.repository, &at.rest, "tag").await?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let line = |key: &str| head.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    let tagger = crate::git::person(line("tagger "));
    let api = at.api();
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
    if is_crafted(name) {
        return Ok(None);
    }
    let Some(id) = repository.object_of(name).await? else { return Ok(None) };
    let mut objects = repository.objects()?;
    let kind = objects.object(&id).await?.map_or("commit".to_owned(), |(_, kind, _)| kind);
    objects.close().await;
    Ok(Some(json!({
        "ref": name, "node_id": name, "url": format!("{api}/git/{name}"),
        "object": { "type": kind, "sha": id, "url": format!("{api}/git/{kind}s/{id}") },
    })))
}

async fn matching_refs(at: Opened) -> Result<Response, Refusal> {
    let api = at.api();
    let wanted = format!("refs/{}", at.rest);
    let folder = wanted.rsplit_once('/').map_or("refs/", |(folder, _)| folder);
    let mut all = Vec::new();
    for (name, _) in at.repository.objects_under(&format!("{folder}/")).await? {
        if name.starts_with(&wanted) && all.len() < 1000 {
            all.extend(describe_ref(&at.repository, &api, &name).await?);
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

impl NewRef {
    fn read(body: &Bytes) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(|_| Refusal::Invalid("Invalid request."))
    }
}

/// Makes a branch or a tag. As with a push by a job's own token, nothing is started by it (T16).
async fn create_ref(Writable(at): Writable, body: Bytes) -> Result<Response, Refusal> {
    let NewRef { reference, sha, .. } = NewRef::read(&body)?;
    let reference = reference.ok_or(Refusal::Invalid("Invalid request."))?;
    if !reference.starts_with("refs/") || reference.matches('/').count() < 2 {
        return Err(Refusal::Invalid("Reference name must start with 'refs' and have at least two slashes."));
    }
    if at.repository.object_of(&reference).await?.is_some() {
        return Err(Refusal::Invalid("Reference already exists"));
    }
    set_ref(&at, &reference, &sha, StatusCode::CREATED).await
}

async fn set_ref(at: &Opened, reference: &str, sha: &str, status: StatusCode) -> Result<Response, Refusal> {
    let repository = &at.repository;
    let known = crate::git::is_object_id(sha) && repository.object_of(&format!("{sha}^{{object}}")).await?.is_some();
    if !known {
        return Err(Refusal::Invalid("Object does not exist"));
    }
    if let Err(error) = repository.update_ref(reference, sha).await {
        log::warn!("{reference} of {} is not set: {error}", at.full);
        return Err(Refusal::Invalid("Reference cannot be updated"));
    }
    let made = describe_ref(repository, &at.api(), reference).await?.ok_or(Refusal::NotFound)?;
    Ok((status, Json(made)).into_response())
}

async fn update_ref(Writable(at): Writable, body: Bytes) -> Result<Response, Refusal> {
    let NewRef { sha, force, .. } = NewRef::read(&body)?;
    let reference = format!("refs/{}", at.rest);
    let before = at.repository.resolve(&reference).await?;
    let before = before.ok_or(Refusal::Invalid("Reference does not exist"))?;
    if !force && crate::git::is_object_id(&sha) && !at.repository.is_ancestor(&before, &sha).await.unwrap_or(false) {
        return Err(Refusal::Invalid("Update is not a fast forward"));
    }
    set_ref(&at, &reference, &sha, StatusCode::OK).await
}

async fn delete_ref(Writable(at): Writable) -> Result<StatusCode, Refusal> {
    let reference = format!("refs/{}", at.rest);
    if at.repository.object_of(&reference).await?.is_none() || at.repository.delete_ref(&reference).await.is_err() {
        return Err(Refusal::Invalid("Reference does not exist"));
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn branch(at: Opened) -> Result<Response, Refusal> {
    let info = commit_of(&at.repository, &format!("refs/heads/{}", at.rest)).await?;
    let commit = describe_commit(&info, &at.base, &at.full);
    Ok(Json(json!({ "name": at.rest, "commit": commit, "protected": false, "_links": {} })).into_response())
}

pub(super) async fn commit_of(repository: &Repository, name: &str) -> Result<crate::git::CommitInfo, Refusal> {
    if is_crafted(name) {
        return Err(Refusal::NotFound);
    }
    let mut objects = repository.objects()?;
    let info = objects.commit(name).await?;
    objects.close().await;
    info.ok_or(Refusal::NotFound)
}

async fn tags(at: Opened, Asked(wanted): Asked<Wanted>, parts: Parts) -> Result<Response, Refusal> {
    let (api, page) = (at.api(), wanted.page());
    let refs = at.repository.refs("refs/tags/").await?;
    let more = refs.len() > page.skip() + page.size;
    let tags = refs.iter().rev().skip(page.skip()).take(page.size).map(|tag| {
        let name = tag.name.trim_start_matches("refs/tags/");
        json!({
            "name": name, "node_id": tag.name, "commit": { "sha": tag.id, "url": format!("{api}/commits/{}", tag.id) },
            "tarball_url": format!("{api}/tarball/refs/tags/{name}"), "zipball_url": format!("{api}/zipball/refs/tags/{name}"),
        })
    });
    Ok(paged(&at, &parts, page, tags.collect(), more))
}

async fn commits(at: Opened, Asked(wanted): Asked<Wanted>, parts: Parts) -> Result<Response, Refusal> {
    let from = resolve(&at.repository, wanted.sha.as_deref().unwrap_or_default()).await?;
    let page = wanted.page();
    let mut ids = at.repository.history(&[from], page.skip(), page.size + 1).await?;
    let more = ids.len() > page.size;
    ids.truncate(page.size);
    let commits = all_commits(&at, &ids).await?;
    Ok(paged(&at, &parts, page, commits, more))
}

async fn all_commits(at: &Opened, ids: &[String]) -> Result<Vec<JsonValue>, Refusal> {
    let mut objects = at.repository.objects()?;
    let mut all = Vec::new();
    for id in ids {
        all.extend(objects.commit(id).await?.map(|info| describe_commit(&info, &at.base, &at.full)));
    }
    objects.close().await;
    Ok(all)
}

/// `BASE...HEAD`: what HEAD has that BASE has not.
async fn compare(at: Opened) -> Result<Response, Refusal> {
    let repository = &at.repository;
    let (from, to) = at.rest.split_once("...").ok_or(Refusal::NotFound)?;
    let (from, to) = (resolve(repository, from).await?, resolve(repository, to).await?);
    let merge = repository.merge_base(&from, &to).await?.ok_or(Refusal::NotFound)?;
    let ahead = repository.history(&[to.clone(), format!("^{from}")], 0, MOST_APART).await?;
    let behind = repository.history(&[from.clone(), format!("^{to}")], 0, MOST_APART).await?;
    let status = match (ahead.is_empty(), behind.is_empty()) {
        (true, true) => "identical",
        (false, true) => "ahead",
        (true, false) => "behind",
        (false, false) => "diverged",
    };
    let mut shown: Vec<String> = ahead.iter().take(MOST_COMPARED.0).cloned().collect();
    shown.reverse();
    let files = repository.changed_between(&merge, &to).await?;
    let files = files.iter().take(MOST_COMPARED.1).map(|(kind, path)| {
        let status = match kind {
            'A' => "added",
            'D' => "removed",
            _ => "modified",
        };
        json!({ "filename": path, "status": status, "sha": null, "additions": 0, "deletions": 0, "changes": 0 })
    });
    Ok(Json(json!({
        "url": format!("{}/compare/{}", at.api(), at.rest), "status": status,
        "ahead_by": ahead.len(), "behind_by": behind.len(), "total_commits": ahead.len(),
        "base_commit": describe_commit(&commit_of(repository, &from).await?, &at.base, &at.full),
        "merge_base_commit": describe_commit(&commit_of(repository, &merge).await?, &at.base, &at.full),
        "commits": all_commits(&at, &shown).await?,
        "files": files.collect::<Vec<_>>(),
    }))
    .into_response())
}

async fn releases(_: Opened) -> Json<JsonValue> {
    Json(json!([]))
}

#[cfg(test)]
mod tests {
    use super::is_crafted;

    #[test]
    fn names_say_what_they_spell() {
        for name in ["main", "dependabot/npm_and_yarn/@types/node-20", "v1.0", "a@b"] {
            assert!(!is_crafted(name), "{name}");
        }
        for name in ["main^", "main~1", "HEAD:file", "main@{1}", "@", "@{u}", "a b"] {
            assert!(is_crafted(name), "{name}");
        }
    }
}
