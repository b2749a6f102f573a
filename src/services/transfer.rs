//! The bytes themselves: uploads as Azure's block blobs take them, downloads with ranges, both at signed addresses.

use std::io::SeekFrom;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::token::Caller;
use super::{Services, ServicesError, random_name};

/// How long a signed address holds: a large upload over a slow line must end in it.
const SIGNED_SECONDS: i64 = 6 * 3600;

/// The largest list of blocks: 50,000 of them, with their tags.
const LARGEST_LIST: usize = 8 * 1024 * 1024;

#[derive(Deserialize)]
pub(super) struct Signed {
    until: i64,
    sig: String,
    comp: Option<String>,
    blockid: Option<String>,
}

pub(super) fn upload_url(services: &Services, caller: &Caller, id: &str) -> String {
    signed_url(services, caller, "upload", id)
}

pub(super) fn download_url(services: &Services, caller: &Caller, kind: &'static str, id: u64) -> String {
    signed_url(services, caller, kind, &id.to_string())
}

/// Where an artifact is had as an archive, also one that was kept as a bare file.
pub(super) fn archive_url(services: &Services, base: &str, id: u64) -> String {
    let until = services.now().as_second() + SIGNED_SECONDS;
    let signature = services.inner.keys.signature("archive", &id.to_string(), until);
    format!("{base}/_services/archive/{id}?until={until}&sig={signature}")
}

fn signed_url(services: &Services, caller: &Caller, purpose: &str, id: &str) -> String {
    let until = services.now().as_second() + SIGNED_SECONDS;
    let signature = services.inner.keys.signature(purpose, id, until);
    format!("{}/_services/{purpose}/{id}?until={until}&sig={signature}", caller.base)
}

fn is_signed(services: &Services, purpose: &str, id: &str, signed: &Signed) -> bool {
    services.inner.keys.is_signed(purpose, id, signed.until, &signed.sig, services.now())
}

fn forbidden() -> Response {
    (StatusCode::FORBIDDEN, "the signature is wrong or over its time").into_response()
}

pub(super) async fn upload(
    State(services): State<Services>,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !is_signed(&services, "upload", &id, &signed) {
        return forbidden();
    }
    if let Err(error) = services.inner.make_room(length(&headers)) {
        return super::twirp::Fault::from(error).into_response();
    }
    let blobs = &services.inner.blobs;
    let taken = match (signed.comp.as_deref(), &signed.blockid) {
        (Some("block"), Some(block)) => blobs.put_block(&id, block, length(&headers), body).await,
        (Some("blocklist"), _) => match block_list(body).await {
            Ok(blocks) => blobs.put_block_list(&id, &blocks).await,
            Err(error) => Err(error),
        },
        (None, _) => blobs.put_whole(&id, body).await,
        _ => return (StatusCode::BAD_REQUEST, "only block, blocklist and whole uploads are known").into_response(),
    };
    match taken {
        Ok(()) => (StatusCode::CREATED, azure_headers(&services)).into_response(),
        Err(error) => super::twirp::Fault::from(error).into_response(),
    }
}

/// How many bytes a request says it brings.
pub(super) fn length(headers: &HeaderMap) -> u64 {
    headers.get(axum::http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// What the SDK expects of a block blob.
fn azure_headers(services: &Services) -> HeaderMap {
    let now = http_date(services.now());
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("etag", &format!("\"{}\"", random_name()));
    set("last-modified", &now);
    set("date", &now);
    set("x-ms-request-id", &random_name());
    set("x-ms-version", "2024-11-04");
    set("x-ms-request-server-encrypted", "true");
    headers
}

/// `<BlockList><Latest>ID</Latest>…</BlockList>`: base64 ids between tags that we need not tell apart.
async fn block_list(body: Body) -> Result<Vec<String>, ServicesError> {
    let broken = |reason: String| ServicesError::Broken { reason };
    let bytes = axum::body::to_bytes(body, LARGEST_LIST).await.map_err(|error| broken(error.to_string()))?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|error| broken(error.to_string()))?;
    let mut blocks = Vec::new();
    for tag in ["Latest", "Uncommitted", "Committed"] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        for piece in text.split(open.as_str()).skip(1) {
            let Some((id, _)) = piece.split_once(close.as_str()) else {
                return Err(broken("the list of blocks is not complete".to_owned()));
            };
            blocks.push(id.trim().to_owned());
        }
    }
    if blocks.is_empty() {
        return Err(broken("the list of blocks is empty".to_owned()));
    }
    Ok(blocks)
}

pub(super) async fn artifact(
    State(services): State<Services>,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
) -> Response {
    if !is_signed(&services, "artifact", &id, &signed) {
        return forbidden();
    }
    let Some(artifact) = id.parse().ok().and_then(|id| services.artifact(id)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let ending = if artifact.mime == "application/zip" && !artifact.name.ends_with(".zip") { ".zip" } else { "" };
    send(&services, &artifact.sha256, &artifact.mime, &format!("{}{ending}", artifact.name), &headers).await
}

/// An artifact as a zip. One that was kept as a bare file becomes an archive with that file.
pub(super) async fn archive(
    State(services): State<Services>,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
) -> Response {
    if !is_signed(&services, "archive", &id, &signed) {
        return forbidden();
    }
    let Some(artifact) = id.parse().ok().and_then(|id| services.artifact(id)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let name = format!("{}.zip", artifact.name);
    if artifact.mime == "application/zip" {
        return send(&services, &artifact.sha256, &artifact.mime, &name, &headers).await;
    }
    let path = services.inner.blobs.path(&artifact.sha256);
    let entry = artifact.name.clone();
    let head = tokio::task::spawn_blocking(move || super::zip::stored(&path, &entry, artifact.created_at)).await;
    let Ok(Ok((before, after))) = head else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let Ok(file) = tokio::fs::File::open(services.inner.blobs.path(&artifact.sha256)).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let length = before.len() as u64 + artifact.size + after.len() as u64;
    let whole = std::io::Cursor::new(before).chain(file).chain(std::io::Cursor::new(after));
    let body = Body::from_stream(ReaderStream::with_capacity(whole, 256 * 1024));
    let mut response = (StatusCode::OK, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

pub(super) async fn cache(
    State(services): State<Services>,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
) -> Response {
    if !is_signed(&services, "cache", &id, &signed) {
        return forbidden();
    }
    let Some(cache) = id.parse().ok().and_then(|id| services.inner.records.cache(id)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    send(&services, &cache.sha256, "application/octet-stream", "cache", &headers).await
}

async fn send(services: &Services, sha256: &str, mime: &str, name: &str, request: &HeaderMap) -> Response {
    let Ok(mut file) = tokio::fs::File::open(services.inner.blobs.path(sha256)).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let size = match file.metadata().await {
        Ok(data) => data.len(),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let asked = request.get(header::RANGE).or_else(|| request.get("x-ms-range")).and_then(|value| value.to_str().ok());
    let (status, from, to) = match asked.and_then(single_range) {
        None => (StatusCode::OK, 0, size),
        Some((from, _)) if from >= size => {
            let of = format!("bytes */{size}");
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, of)]).into_response();
        }
        Some((from, last)) => (StatusCode::PARTIAL_CONTENT, from, last.map_or(size, |last| (last + 1).min(size))),
    };
    if file.seek(SeekFrom::Start(from)).await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(to - from), 256 * 1024));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("content-type", mime);
    set("content-length", &(to - from).to_string());
    set("accept-ranges", "bytes");
    set("etag", &format!("\"{sha256}\""));
    set("x-ms-blob-type", "BlockBlob");
    set("x-ms-version", "2024-11-04");
    let plain = |character: char| character.is_ascii() && !character.is_ascii_control() && character != '"';
    let name: String = name.chars().map(|character| if plain(character) { character } else { '_' }).collect();
    set("content-disposition", &format!("attachment; filename=\"{name}\""));
    if status == StatusCode::PARTIAL_CONTENT {
        set("content-range", &format!("bytes {from}-{}/{size}", to - 1));
    }
    response
}

/// `bytes=3-` or `bytes=3-9`; anything else is answered with the whole.
fn single_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let to = if to.is_empty() { None } else { Some(to.parse().ok()?) };
    to.is_none_or(|to| to >= from).then_some((from, to))
}

fn http_date(time: jiff::Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
