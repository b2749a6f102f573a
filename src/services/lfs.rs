//! Contents of git-lfs over HTTP, where git-lfs itself keeps them in a bare repository: `lfs/objects`. What a checkout with
//! `lfs: true` fetches, and what a push sends.

use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::opened::full_name;
use super::repositories::{Refusal, Shared};
use crate::git::{Pointer, Repository};

const KIND: &str = "application/vnd.git-lfs+json";
/// The most of a question: names and sizes alone.
const LARGEST_QUESTION: usize = 16 << 20;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/{owner}/{name}/info/lfs/objects/batch", post(batch))
        .route("/{owner}/{name}/info/lfs/objects/{oid}", get(download).put(upload))
}

#[derive(Deserialize)]
struct Batch {
    operation: String,
    objects: Vec<Wanted>,
    #[serde(default)]
    hash_algo: Option<String>,
}

#[derive(Deserialize)]
struct Wanted {
    oid: String,
    size: u64,
}

fn told(status: StatusCode, body: JsonValue) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(KIND));
    response
}

/// Where the content of a name is kept, below a git directory.
fn place(oid: &str) -> Option<String> {
    let good = oid.len() == 64 && oid.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    good.then(|| Pointer { path: String::new(), oid: oid.to_owned(), executable: false }.place())
}

/// A content in one of these git directories.
fn find(lenders: &[PathBuf], oid: &str) -> Option<PathBuf> {
    let place = place(oid)?;
    lenders.iter().map(|lender| lender.join(&place)).find(|path| path.is_file())
}

/// Tells where each content is to be had, or to be brought.
async fn batch(
    State(shared): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let full = full_name(&owner, &name);
    // Who may not even read sends no long questions.
    shared.admit(&parts, &full, "contents", false)?;
    let body = axum::body::to_bytes(body, LARGEST_QUESTION).await.map_err(|_| Refusal::Forbidden("too large"))?;
    let Ok(asked) = serde_json::from_slice::<Batch>(&body) else {
        return Ok(told(StatusCode::UNPROCESSABLE_ENTITY, json!({ "message": "this is no batch request" })));
    };
    let brings = asked.operation == "upload";
    shared.admit(&parts, &full, "contents", brings)?;
    if asked.hash_algo.as_deref().is_some_and(|algorithm| algorithm != "sha256") {
        return Ok(told(StatusCode::CONFLICT, json!({ "message": "only sha256 is known" })));
    }
    let served = shared.repository(&full)?;
    if brings && !served.writable {
        return Err(Refusal::Forbidden("This repository is a mirror: push to where it comes from."));
    }
    let (base, lenders) = (shared.base(&parts), Repository::at(&served.git_dir).lenders());
    // Whoever may ask may fetch: with the same words.
    let proof = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let objects: Vec<JsonValue> = asked
        .objects
        .iter()
        .map(|wanted| {
            let found = find(&lenders, &wanted.oid);
            let href = format!("{base}/{full}.git/info/lfs/objects/{}", wanted.oid);
            let mut action = json!({ "href": href });
            if let Some(proof) = &proof {
                action["header"] = json!({ "Authorization": proof });
            }
            let mut answer = json!({ "oid": wanted.oid, "size": wanted.size, "authenticated": true });
            match (brings, found.is_some(), place(&wanted.oid).is_some()) {
                (_, _, false) => answer["error"] = json!({ "code": 422, "message": "this is no name of a content" }),
                (false, true, _) => answer["actions"] = json!({ "download": action }),
                (false, false, _) => answer["error"] = json!({ "code": 404, "message": "Object does not exist" }),
                // What is there needs not be brought again.
                (true, true, _) => {}
                (true, false, _) => answer["actions"] = json!({ "upload": action }),
            }
            answer
        })
        .collect();
    Ok(told(StatusCode::OK, json!({ "transfer": "basic", "objects": objects, "hash_algo": "sha256" })))
}

async fn download(
    State(shared): State<Shared>,
    Path((owner, name, oid)): Path<(String, String, String)>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let full = full_name(&owner, &name);
    shared.admit(&parts, &full, "contents", false)?;
    let lenders = Repository::at(shared.repository(&full)?.git_dir).lenders();
    let path = find(&lenders, &oid).ok_or(Refusal::NotFound)?;
    let broken = |error: std::io::Error| Refusal::Broken(format!("{}: {error}", path.display()));
    let file = tokio::fs::File::open(&path).await.map_err(broken)?;
    let length = file.metadata().await.map_err(broken)?.len();
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, 128 << 10))).into_response())
}

/// Takes a content in; what does not have the digest it is named by is refused.
async fn upload(
    State(shared): State<Shared>,
    Path((owner, name, oid)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let full = full_name(&owner, &name);
    shared.admit(&parts, &full, "contents", true)?;
    let served = shared.repository(&full)?;
    let Some(place) = place(&oid).filter(|_| served.writable) else { return Err(Refusal::NotFound) };
    let path = served.git_dir.join(place);
    let directory = path.parent().unwrap_or(&served.git_dir).to_owned();
    let broken = |error: std::io::Error| Refusal::Broken(format!("{}: {error}", path.display()));
    tokio::fs::create_dir_all(&directory).await.map_err(broken)?;
    let partial = Partial::in_directory(&directory);
    let mut file = tokio::fs::File::create_new(&partial.0).await.map_err(broken)?;
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| Refusal::Forbidden("the upload was broken off"))?;
        digest.update(&piece);
        file.write_all(&piece).await.map_err(broken)?;
    }
    file.sync_all().await.map_err(broken)?;
    let found: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != oid {
        return Ok(told(StatusCode::UNPROCESSABLE_ENTITY, json!({ "message": "the content has another digest" })));
    }
    tokio::fs::rename(&partial.0, &path).await.map_err(broken)?;
    Ok(StatusCode::OK.into_response())
}

/// A file under another name until it is whole: nobody sees half of it, and nothing is left of a broken upload.
struct Partial(PathBuf);

impl Partial {
    fn in_directory(directory: &FilePath) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(directory.join(format!("partial-{}-{count}", std::process::id())))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was given its name.
        drop(std::fs::remove_file(&self.0));
    }
}
