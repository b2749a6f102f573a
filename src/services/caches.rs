//! Caches, in the protocols of today (Twirp, P3) and of before (REST).

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::blobs::{Purpose, Upload};
use super::records::Cache;
use super::token::Caller;
use super::twirp::{self, Arguments, Fault};
use super::{Services, transfer};

/// GitHub's limits.
const LONGEST_KEY: usize = 512;
const MOST_KEYS: usize = 10;

/// With this GitHub's client knows that it may not, rather than that somebody else was first.
const DENIED: &str = "cache write denied:";
const TAKEN: &str = "cache entry with the same key, version, and scope already exists";

/// Answers a Twirp call; `None` for a method that there is not.
pub(super) fn call(
    services: &Services,
    caller: &Caller,
    method: &str,
    arguments: &Arguments,
) -> Result<Option<JsonValue>, Fault> {
    let key = checked_key(arguments.needed("key")?)?;
    let version = arguments.needed("version")?;
    match method {
        "CreateCacheEntry" => {
            // The client prints the message as a warning and goes on: a cache that cannot be saved fails nobody.
            let refused = |message: String| json!({ "ok": false, "signed_upload_url": "", "message": message });
            match reserve(services, caller, key, version) {
                Ok(Some(upload)) => {
                    let url = transfer::upload_url(services, caller, &upload.id);
                    Ok(Some(json!({ "ok": true, "signed_upload_url": url, "message": "" })))
                }
                // Not only refused: BuildKit goes on where it hears that somebody else was first.
                Ok(None) => Err(Fault::exists(TAKEN)),
                Err(Refused::ReadOnly) => Ok(Some(refused(format!("{DENIED} this job may not save caches")))),
                Err(Refused::Fault(fault)) => Err(fault),
            }
        }
        "FinalizeCacheEntryUpload" => {
            let upload = pending(services, caller, &key, &version)?;
            let entry = commit(services, upload, arguments.number("size_bytes"))?;
            Ok(Some(json!({ "ok": true, "entry_id": entry.to_string(), "message": "" })))
        }
        "GetCacheEntryDownloadURL" => {
            let keys = all_keys(key, arguments.texts("restore_keys"))?;
            let found = find(services, caller, &keys, &version)?;
            Ok(Some(match found {
                Some(cache) => {
                    let url = transfer::download_url(services, caller, "cache", cache.id);
                    json!({ "ok": true, "signed_download_url": url, "matched_key": cache.key })
                }
                None => json!({ "ok": false, "signed_download_url": "", "matched_key": "" }),
            }))
        }
        _ => Ok(None),
    }
}

#[derive(Deserialize)]
pub(super) struct Find {
    keys: String,
    version: String,
}

pub(super) async fn find_v1(
    State(services): State<Services>,
    Query(question): Query<Find>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let caller = twirp::caller(&services, &headers)?;
    let mut keys = question.keys.split(',').map(|key| key.trim().to_owned());
    let first = checked_key(keys.next().unwrap_or_default())?;
    let keys = all_keys(first, keys.collect())?;
    let Some(cache) = find(&services, &caller, &keys, &question.version)? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let body = json!({
        "cacheKey": cache.key,
        "scope": cache.scope,
        "creationTime": cache.created_at.to_string(),
        "archiveLocation": transfer::download_url(&services, &caller, "cache", cache.id),
    });
    Ok(Json(body).into_response())
}

pub(super) async fn reserve_v1(
    State(services): State<Services>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let caller = twirp::caller(&services, &headers)?;
    let arguments = twirp::arguments(body).await?;
    let key = checked_key(arguments.needed("key")?)?;
    let upload = match reserve(&services, &caller, key, arguments.needed("version")?) {
        Ok(Some(upload)) => upload,
        Ok(None) => return Err(Fault::exists(TAKEN)),
        Err(Refused::ReadOnly) => return Err(Fault::forbidden("this job may not save caches")),
        Err(Refused::Fault(fault)) => return Err(fault),
    };
    let Purpose::Cache { number, .. } = upload.purpose else { return Err(Fault::not_found("no such cache")) };
    Ok((StatusCode::CREATED, Json(json!({ "cacheId": number }))).into_response())
}

pub(super) async fn write_v1(
    State(services): State<Services>,
    Path(number): Path<u64>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Fault> {
    let upload = reserved_v1(&services, number, &headers)?;
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // `bytes 0-241/*`
    let range = range.strip_prefix("bytes ").and_then(|range| range.split('/').next()?.split_once('-'));
    let Some(offset) = range.and_then(|(from, _)| from.trim().parse().ok()) else {
        return Err(Fault::invalid("Content-Range is missing or wrong"));
    };
    if offset > services.inner.settings.bytes {
        return Err(Fault::invalid("Content-Range is beyond what there is room for"));
    }
    services.inner.make_room(transfer::length(&headers))?;
    services.inner.blobs.put_range(&upload.id, offset, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn commit_v1(
    State(services): State<Services>,
    Path(number): Path<u64>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Fault> {
    let upload = reserved_v1(&services, number, &headers)?;
    let size = twirp::arguments(body).await?.number("size");
    services.inner.blobs.finish_ranges(&upload.id).await?;
    let upload = services.inner.blobs.upload(|known| known.id == upload.id);
    commit(&services, upload.ok_or_else(|| Fault::not_found("no such cache"))?, size)?;
    Ok(StatusCode::NO_CONTENT)
}

fn reserved_v1(services: &Services, id: u64, headers: &HeaderMap) -> Result<Upload, Fault> {
    let caller = twirp::caller(services, headers)?;
    let found = services.inner.blobs.upload(|upload| {
        matches!(&upload.purpose, Purpose::Cache { number, repository, scope, .. }
            if *number == id && *repository == caller.repository && Some(scope) == caller.write.as_ref())
    });
    found.ok_or_else(|| Fault::not_found(format!("cache {id} was not reserved")))
}

enum Refused {
    ReadOnly,
    Fault(Fault),
}

/// Begins an upload, unless the key is taken or another job is saving it now.
fn reserve(services: &Services, caller: &Caller, key: String, version: String) -> Result<Option<Upload>, Refused> {
    let Some(scope) = caller.write.clone() else { return Err(Refused::ReadOnly) };
    let repository = caller.repository.clone();
    let inner = &services.inner;
    if inner.records.has_cache(&repository, &scope, &key, &version) {
        return Ok(None);
    }
    let number = inner.records.next_id();
    let purpose = Purpose::Cache { number, repository, scope, key, version };
    inner.blobs.begin(purpose, services.now()).map(Some).map_err(|error| Refused::Fault(error.into()))
}

fn pending(services: &Services, caller: &Caller, wanted: &str, same: &str) -> Result<Upload, Fault> {
    let found = services.inner.blobs.upload(|upload| {
        matches!(&upload.purpose, Purpose::Cache { repository, scope, key, version, .. }
            if *repository == caller.repository && Some(scope) == caller.write.as_ref() && key == wanted && version == same)
            && upload.done.is_some()
    });
    found.ok_or_else(|| Fault::not_found("no upload of this cache has ended"))
}

/// Makes a record of an upload. Of two jobs that saved one key, the first wins.
fn commit(services: &Services, upload: Upload, size: Option<u64>) -> Result<u64, Fault> {
    let inner = &services.inner;
    let (Some(stored), Purpose::Cache { number, repository, scope, key, version }) = (upload.done, upload.purpose)
    else {
        return Err(Fault::invalid("the cache's bytes have not been uploaded"));
    };
    if size.is_some_and(|size| size != stored.size) {
        inner.blobs.end(&upload.id);
        inner.release(std::iter::once(stored.sha256.as_str()))?;
        return Err(Fault::invalid(format!("{} bytes were uploaded, not {}", stored.size, size.unwrap_or_default())));
    }
    let cache = Cache::new(number, (repository, scope, key, version), stored, services.now());
    let sha256 = cache.sha256.clone();
    let (added, gone) = inner.records.add_cache(cache, inner.settings.cache_bytes)?;
    inner.blobs.end(&upload.id);
    inner.release(gone.iter().map(String::as_str).chain((!added).then_some(sha256.as_str())))?;
    if added { Ok(number) } else { Err(Fault::exists(TAKEN)) }
}

fn find(services: &Services, caller: &Caller, keys: &[String], version: &str) -> Result<Option<Cache>, Fault> {
    let records = &services.inner.records;
    Ok(records.find_cache(&caller.repository, &caller.scopes(), keys, version, services.now())?)
}

fn all_keys(first: String, others: Vec<String>) -> Result<Vec<String>, Fault> {
    if others.len() >= MOST_KEYS {
        return Err(Fault::invalid(format!("at most {MOST_KEYS} keys are looked for")));
    }
    let mut keys = vec![first];
    for key in others {
        keys.push(checked_key(key)?);
    }
    Ok(keys)
}

fn checked_key(key: String) -> Result<String, Fault> {
    if key.is_empty() || key.chars().count() > LONGEST_KEY || key.contains(',') {
        return Err(Fault::invalid(format!("a key has 1 to {LONGEST_KEY} characters and no comma")));
    }
    Ok(key)
}
