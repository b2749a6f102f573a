//! Repositories over HTTP: git's smart protocol at `/OWNER/NAME`, and what tools ask of GitHub's API about them. Stock
//! checkouts fetch from here.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::Services;
use super::access::{Access, JobClient, shown};
use super::asked::Asked;
use super::contents::{commit_of, describe_ref, is_crafted};
use super::opened::{Opened, full_name};
use crate::git::{self, Repository, Service};

/// The most of a fetch's request: names of commits, never their content.
const LARGEST_REQUEST: usize = 64 << 20;

/// A repository on this machine.
#[derive(Clone, Debug)]
pub struct Served {
    pub git_dir: PathBuf,
    /// It is nobody's mirror: a push to it means something.
    pub writable: bool,
}

/// From `OWNER/NAME` to where it lies.
pub type Find = Arc<dyn Fn(&str) -> Option<Served> + Send + Sync>;
/// What a client without a job's token may do: the request, `OWNER/NAME`, the kind of thing as in `permissions`.
pub type Authorize = Arc<dyn Fn(&Parts, &str, &str) -> Access + Send + Sync>;
/// The address of this server as the client knows it, without a slash at the end.
pub type BaseOf = Arc<dyn Fn(&Parts) -> String + Send + Sync>;

/// The name of the client that sent a request.
pub type WhoOf = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// What is served besides what jobs of the toolkit ask for.
#[derive(Clone)]
pub struct Repositories {
    pub find: Find,
    pub authorize: Authorize,
    pub base: BaseOf,
    pub who: WhoOf,
}

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) services: Services,
    repositories: Repositories,
}

/// Why a request is not answered, in GitHub's shape.
pub(super) enum Refusal {
    Credentials,
    NotFound,
    Forbidden(&'static str),
    Invalid(&'static str),
    Broken(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Credentials => (StatusCode::UNAUTHORIZED, "Bad credentials"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not Found"),
            Self::Forbidden(message) => (StatusCode::FORBIDDEN, message),
            Self::Invalid(message) => (StatusCode::UNPROCESSABLE_ENTITY, message),
            Self::Broken(reason) => {
                log::error!("a request about a repository failed: {reason}");
                (StatusCode::INTERNAL_SERVER_ERROR, "Server Error")
            }
        };
        let body = json!({
            "message": message, "documentation_url": "https://docs.github.com/rest", "status": status.as_u16().to_string(),
        });
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // git asks for a password (and sends the token of a checkout) only when it is challenged like this.
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"towline\""));
        }
        response
    }
}

impl From<git::Error> for Refusal {
    fn from(error: git::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Shared {
    /// What the client may do, and the job it is, if it is one.
    fn allowed(&self, parts: &Parts, repository: &str, scope: &str) -> (Access, Option<JobClient>) {
        match shown(&parts.headers).and_then(|token| self.services.job_client(&token)) {
            Some(Ok(client)) => (client.access(repository, scope), Some(client)),
            Some(Err(())) => (Access::Refused, None),
            None => ((self.repositories.authorize)(parts, repository, scope), None),
        }
    }

    /// Lets those through who may read (`write`: change) this kind of thing.
    pub(super) fn admit(
        &self,
        parts: &Parts,
        repository: &str,
        scope: &str,
        write: bool,
    ) -> Result<Option<JobClient>, Refusal> {
        match self.allowed(parts, repository, scope) {
            (Access::Unknown | Access::Refused, _) => Err(Refusal::Credentials),
            (Access::Hidden, _) => Err(Refusal::NotFound),
            (Access::Read, _) if write => Err(Refusal::Forbidden("Resource not accessible by integration")),
            (Access::Read | Access::Write, client) => Ok(client),
        }
    }

    pub(super) fn repository(&self, name: &str) -> Result<Served, Refusal> {
        (self.repositories.find)(name).ok_or(Refusal::NotFound)
    }

    pub(super) fn base(&self, parts: &Parts) -> String {
        (self.repositories.base)(parts)
    }
}

/// The routes.
pub(super) fn routes(services: &Services, repositories: Repositories) -> Router {
    let archives = "/api/v3/repos/{owner}/{name}";
    Router::new()
        .route("/{owner}/{name}/info/refs", get(advertise))
        .route("/{owner}/{name}/git-upload-pack", post(upload_pack))
        .route("/{owner}/{name}/git-receive-pack", post(receive_pack))
        .route(&format!("{archives}/tarball"), get(tarball))
        .route(&format!("{archives}/tarball/{{*reference}}"), get(tarball))
        .route(&format!("{archives}/zipball/{{*reference}}"), get(zipball))
        .route(&format!("{archives}/commits/{{sha}}"), get(commit))
        .route(&format!("{archives}/git/ref/{{*reference}}"), get(reference))
        .route(&format!("{archives}/branches"), get(branches))
        .merge(super::contents::routes(archives))
        .merge(super::lfs::routes())
        .merge(super::listing::routes())
        .with_state(Shared { services: services.clone(), repositories })
}

/// What the API says of a repository where there is no other API: for `towline exec`.
pub(super) fn descriptions(services: &Services, repositories: Repositories) -> Router {
    Router::new()
        .route("/api/v3/repos/{owner}/{name}", get(describe))
        .merge(super::contents::files("/api/v3/repos/{owner}/{name}"))
        .route("/api/v3/rate_limit", get(rate_limit))
        .route("/api/v3/meta", get(|| async { Json(json!({ "installed_version": "3.99.0" })) }))
        .with_state(Shared { services: services.clone(), repositories })
        .fallback(|| async { Refusal::NotFound })
        .method_not_allowed_fallback(|| async { Refusal::NotFound })
}

/// Files and directories of the repositories of this machine.
pub(super) fn files(services: &Services, repositories: Repositories) -> Router {
    super::contents::files("/api/v3/repos/{owner}/{name}")
        .with_state(Shared { services: services.clone(), repositories })
}

#[derive(Default, Deserialize)]
struct Wanted {
    service: Option<String>,
}

async fn advertise(
    State(shared): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    Asked(wanted): Asked<Wanted>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    let service = wanted.service.as_deref().and_then(Service::from_name);
    let service = service.ok_or(Refusal::Forbidden("Please upgrade your git client."))?;
    let name = full_name(&owner, &name);
    let write = service == Service::ReceivePack;
    shared.admit(&parts, &name, "contents", write)?;
    let served = shared.repository(&name)?;
    if write && !served.writable {
        return Err(Refusal::Forbidden("This repository is a mirror: push to where it comes from."));
    }
    let answer = Repository::at(served.git_dir).advertise(service, protocol(&parts.headers)).await?;
    let kind = format!("application/x-{}-advertisement", service.name());
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache".to_owned())], answer).into_response())
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get("git-protocol").and_then(|value| value.to_str().ok())
}

async fn upload_pack(
    State(shared): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let name = full_name(&owner, &name);
    shared.admit(&parts, &name, "contents", false)?;
    let served = shared.repository(&name)?;
    let body = axum::body::to_bytes(body, LARGEST_REQUEST).await.map_err(|_| Refusal::Forbidden("too large"))?;
    let zipped = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let body = if zipped { unzipped(&body)? } else { body.to_vec() };
    let mut child =
        Repository::at(served.git_dir).converse(Service::UploadPack, protocol(&parts.headers), None).await?;
    let mut input = child.stdin.take().expect("it is piped");
    // Git may begin to answer before it has read everything.
    let write = async move { drop(input.write_all(&body).await) };
    Ok(conversation(Service::UploadPack, child, write))
}

fn unzipped(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    use std::io::Read as _;
    let mut out = Vec::new();
    let limit = LARGEST_REQUEST as u64 + 1;
    let read = flate2::read::GzDecoder::new(bytes).take(limit).read_to_end(&mut out);
    if read.is_err() || out.len() > LARGEST_REQUEST {
        return Err(Refusal::Forbidden("the request cannot be unpacked"));
    }
    Ok(out)
}

async fn receive_pack(
    State(shared): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let name = full_name(&owner, &name);
    let client = shared.admit(&parts, &name, "contents", true)?;
    let served = shared.repository(&name)?;
    if !served.writable {
        return Err(Refusal::Forbidden("This repository is a mirror: push to where it comes from."));
    }
    let who = (shared.repositories.who)(&parts);
    let told = match &client {
        // What a job pushes with its own token starts no run: otherwise it could start itself for ever (T16).
        Some(_) => Some((git::QUIET_PUSH, "1")),
        None => who.as_deref().map(|who| (git::PUSHER, who)),
    };
    let mut child =
        Repository::at(served.git_dir).converse(Service::ReceivePack, protocol(&parts.headers), told).await?;
    let mut input = child.stdin.take().expect("it is piped");
    // All of it before the answer begins: clients of HTTP/1 may stop sending when they are answered.
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| Refusal::Forbidden("the push was broken off"))?;
        if input.write_all(&piece).await.is_err() {
            break;
        }
    }
    drop(input);
    Ok(conversation(Service::ReceivePack, child, std::future::ready(())))
}

/// The child's output as an answer, while its input is written.
fn conversation(
    service: Service,
    child: tokio::process::Child,
    write: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let kind = format!("application/x-{}-result", service.name());
    let body = output(child, write);
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache".to_owned())], body).into_response()
}

/// Input is written within the stream of the output: an answer that nobody reads holds up nothing else.
fn output(mut child: tokio::process::Child, write: impl Future<Output = ()> + Send + 'static) -> Body {
    let stdout = child.stdout.take().expect("it is piped");
    let mut pieces = ReaderStream::with_capacity(stdout, 64 << 10);
    let mut write = Box::pin(write);
    let mut written = false;
    let stream = futures_util::stream::poll_fn(move |context| {
        // Dropping the stream drops the child, and with it what nobody waits for.
        let _ = &child;
        if !written && write.as_mut().poll(context).is_ready() {
            written = true;
        }
        pieces.poll_next_unpin(context)
    });
    Body::from_stream(stream)
}

async fn tarball(at: Opened) -> Result<Response, Refusal> {
    archive(&at, "tar.gz").await
}

async fn zipball(at: Opened) -> Result<Response, Refusal> {
    archive(&at, "zip").await
}

/// The commit that GitHub would take a version for.
pub(super) async fn resolve(repository: &Repository, reference: &str) -> Result<String, Refusal> {
    let candidates = match reference {
        "" => vec!["HEAD".to_owned()],
        full if full.starts_with("refs/") || git::is_object_id(full) => vec![full.to_owned()],
        short => {
            vec![format!("refs/heads/{short}"), format!("refs/tags/{short}"), format!("refs/{short}"), short.to_owned()]
        }
    };
    for candidate in candidates.iter().filter(|name| !is_crafted(name)) {
        if let Some(commit) = repository.resolve(candidate).await? {
            return Ok(commit);
        }
    }
    Err(Refusal::NotFound)
}

async fn archive(at: &Opened, format: &str) -> Result<Response, Refusal> {
    let commit = resolve(&at.repository, &at.rest).await?;
    let top = format!("{}-{}", at.full.replace('/', "-"), &commit[..7.min(commit.len())]);
    let child = at.repository.download(&commit, format, &top)?;
    let kind = if format == "zip" { "application/zip" } else { "application/x-gzip" };
    let named = format!("attachment; filename={top}.{format}");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, named)];
    Ok((headers, output(child, std::future::ready(()))).into_response())
}

/// Every token may know that the repository is there.
async fn describe(
    State(shared): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    parts: Parts,
) -> Result<Json<JsonValue>, Refusal> {
    let full = full_name(&owner, &name);
    shared.admit(&parts, &full, "metadata", false)?;
    let repository = Repository::at(shared.repository(&full)?.git_dir);
    let branch = repository.head_branch().await?.unwrap_or_else(|| "main".to_owned());
    let base = shared.base(&parts);
    let (owner, name) = full.split_once('/').unwrap_or(("", &full));
    Ok(Json(json!({
        "id": 1, "name": name, "full_name": full, "private": true, "visibility": "private", "fork": false,
        "owner": { "login": owner, "id": 1, "type": "User" },
        "default_branch": branch, "html_url": format!("{base}/{full}"), "clone_url": format!("{base}/{full}.git"),
        "url": format!("{base}/api/v3/repos/{full}"), "archived": false, "disabled": false,
        "permissions": { "admin": false, "push": false, "pull": true },
    })))
}

fn signature(person: &git::Person) -> JsonValue {
    json!({ "name": person.name, "email": person.email, "date": person.at.to_string() })
}

async fn commit(at: Opened, parts: Parts) -> Result<Response, Refusal> {
    let id = resolve(&at.repository, &at.rest).await?;
    let accepts = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("sha") {
        return Ok(id.into_response());
    }
    let info = commit_of(&at.repository, &id).await?;
    Ok(Json(describe_commit(&info, &at.base, &at.full)).into_response())
}

/// A commit as the API gives it.
pub(super) fn describe_commit(info: &git::CommitInfo, base: &str, full: &str) -> JsonValue {
    let (id, url) = (&info.id, format!("{base}/api/v3/repos/{full}/commits/{}", info.id));
    json!({
        "sha": id, "node_id": id, "url": url, "html_url": format!("{base}/{full}/commit/{id}"),
        "commit": {
            "message": info.message, "author": signature(&info.author), "committer": signature(&info.committer),
            "tree": { "sha": info.tree, "url": format!("{base}/api/v3/repos/{full}/git/trees/{}", info.tree) },
            "comment_count": 0, "url": url,
            "verification": { "verified": false, "reason": "unsigned", "signature": null, "payload": null },
        },
        "author": null, "committer": null,
        "parents": info.parents.iter().map(|parent| json!({ "sha": parent, "url": "" })).collect::<Vec<_>>(),
    })
}

/// There are no limits, but clients ask.
async fn rate_limit() -> Json<JsonValue> {
    let core = json!({ "limit": 15000, "used": 0, "remaining": 15000, "reset": 4_102_444_800_u64 });
    Json(json!({ "resources": { "core": core, "graphql": core, "search": core }, "rate": core }))
}

async fn reference(at: Opened) -> Result<Json<JsonValue>, Refusal> {
    let found = describe_ref(&at.repository, &at.api(), &format!("refs/{}", at.rest)).await?;
    found.map(Json).ok_or(Refusal::NotFound)
}

async fn branches(at: Opened) -> Result<Json<JsonValue>, Refusal> {
    let (api, refs) = (at.api(), at.repository.refs("refs/heads/").await?);
    let branches = refs.iter().take(100).map(|branch| {
        let name = branch.name.trim_start_matches("refs/heads/");
        json!({ "name": name, "commit": { "sha": branch.id, "url": format!("{api}/commits/{}", branch.id) }, "protected": false })
    });
    Ok(Json(branches.collect()))
}
