//! What no well-behaved client shows: limits, forgeries, races, restarts.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::{Value as Json, json};
use towline::services::Job;

use super::client::{Answer, call, send};
use super::{Served, serve};

fn token(served: &Served, run: u64, job: u64, reference: &str) -> String {
    served.services.variables(&served.job(run, job, reference)).actions["ACTIONS_RUNTIME_TOKEN"].clone()
}

fn artifact(run: u64, name: &str) -> Json {
    json!({"workflow_run_backend_id": run.to_string(), "workflow_job_run_backend_id": "2", "name": name, "version": 4})
}

async fn upload(served: &Served, token: &str, name: &str, bytes: &[u8]) -> Answer {
    let created = call(&served.base, token, "ArtifactService", "CreateArtifact", artifact(1, name)).await;
    if created.status != StatusCode::OK {
        return created;
    }
    let url = created.json()["signed_upload_url"].as_str().unwrap().to_owned();
    let put = send(Method::PUT, &url, &[("x-ms-blob-type", "BlockBlob")], bytes.to_vec()).await;
    if put.status != StatusCode::CREATED {
        return put;
    }
    let mut arguments = artifact(1, name);
    arguments["size"] = bytes.len().to_string().into();
    call(&served.base, token, "ArtifactService", "FinalizeArtifact", arguments).await
}

#[tokio::test]
async fn artifacts_are_kept_apart_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |_| {}).await;
    let one = token(&served, 1, 2, "refs/heads/main");
    let done = upload(&served, &one, "a", b"hello").await;
    assert_eq!(done.status, StatusCode::OK, "{}", String::from_utf8_lossy(&done.body));
    // The same bytes again need no room; the same name is refused.
    assert_eq!(upload(&served, &one, "b", b"hello").await.status, StatusCode::OK);
    let again = upload(&served, &one, "a", b"other").await;
    assert_eq!((again.status, &again.json()["code"]), (StatusCode::CONFLICT, &json!("already_exists")));
    // Another run sees nothing of it, and cannot ask for this one.
    let other = token(&served, 9, 2, "refs/heads/main");
    let list = call(&served.base, &other, "ArtifactService", "ListArtifacts", artifact(9, "")).await;
    assert_eq!(list.json(), json!({"artifacts": []}));
    let list = call(&served.base, &other, "ArtifactService", "ListArtifacts", artifact(1, "")).await;
    assert_eq!(list.status, StatusCode::FORBIDDEN);

    drop(served);
    let served = serve(directory.path(), |_| {}).await;
    let artifacts = served.services.artifacts(1);
    assert_eq!(artifacts.iter().map(|artifact| artifact.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    // The token of before the restart still holds.
    let url = call(&served.base, &one, "ArtifactService", "GetSignedArtifactURL", artifact(1, "a")).await;
    let url = url.json()["signed_url"].as_str().unwrap().replace("http://127.0.0.1:", "");
    let url = format!("{}{}", served.base, &url[url.find('/').unwrap()..]);
    let whole = send(Method::GET, &url, &[], Vec::new()).await;
    assert_eq!((whole.status, whole.body.as_slice()), (StatusCode::OK, b"hello".as_slice()));
    assert_eq!(whole.headers["content-type"], "application/zip");
    assert_eq!(whole.headers["content-disposition"], "attachment; filename=\"a.zip\"");
    let part = send(Method::GET, &url, &[("range", "bytes=1-2")], Vec::new()).await;
    assert_eq!((part.status, part.body.as_slice()), (StatusCode::PARTIAL_CONTENT, b"el".as_slice()));
    assert_eq!(part.headers["content-range"], "bytes 1-2/5");
    let beyond = send(Method::GET, &url, &[("range", "bytes=9-")], Vec::new()).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);

    // The bytes go with the last artifact that has them.
    let blob = served.services.blob(&artifacts[0].sha256);
    assert!(served.services.delete_artifact(artifacts[0].id).unwrap() && blob.exists());
    served.pass(Duration::from_secs(91 * 24 * 3600));
    served.services.sweep().unwrap();
    assert!(served.services.artifacts(1).is_empty() && !blob.exists());
}

#[tokio::test]
async fn uploads_come_in_blocks_in_any_order() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |_| {}).await;
    let one = token(&served, 1, 2, "refs/heads/main");
    let created = call(&served.base, &one, "ArtifactService", "CreateArtifact", artifact(1, "a")).await.json();
    let url = created["signed_upload_url"].as_str().unwrap();
    for (id, bytes) in [("Mg==", "two"), ("MQ==", "one"), ("Mg==", "TWO")] {
        let url = format!("{url}&comp=block&blockid={}", id.replace('=', "%3D"));
        assert_eq!(send(Method::PUT, &url, &[], bytes).await.status, StatusCode::CREATED);
    }
    let list = |ids: &[&str]| {
        let ids: String = ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
        format!("<?xml version=\"1.0\"?><BlockList>{ids}</BlockList>")
    };
    let commit = format!("{url}&comp=blocklist");
    assert_eq!(send(Method::PUT, &commit, &[], list(&["Mw=="])).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(send(Method::PUT, &commit, &[], "<BlockList><Latest>x").await.status, StatusCode::BAD_REQUEST);
    let done = send(Method::PUT, &commit, &[], list(&["MQ==", "Mg=="])).await;
    assert_eq!(done.status, StatusCode::CREATED);
    for header in ["etag", "last-modified", "date", "x-ms-request-id", "x-ms-version", "x-ms-request-server-encrypted"]
    {
        assert!(done.headers.contains_key(header), "{header}");
    }
    let mut arguments = artifact(1, "a");
    arguments["size"] = "7".into();
    let wrong = call(&served.base, &one, "ArtifactService", "FinalizeArtifact", arguments.clone()).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    arguments["size"] = "6".into();
    arguments["hash"] = format!("sha256:{}", "0".repeat(64)).into();
    let wrong = call(&served.base, &one, "ArtifactService", "FinalizeArtifact", arguments.clone()).await;
    assert!(wrong.json()["msg"].as_str().unwrap().contains("the digest of the upload is sha256:"));
    arguments.as_object_mut().unwrap().remove("hash");
    let right = call(&served.base, &one, "ArtifactService", "FinalizeArtifact", arguments.clone()).await;
    // An answer that got lost is given again.
    let again = call(&served.base, &one, "ArtifactService", "FinalizeArtifact", arguments).await;
    assert_eq!((right.status, right.json()), (StatusCode::OK, again.json()));
    let blob = served.services.blob(&served.services.artifacts(1)[0].sha256);
    assert_eq!(std::fs::read(blob).unwrap(), b"oneTWO");
}

/// The id of a block as GitHub's clients make it: `+` and `=` have a meaning in an address.
fn numbered(index: usize) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("5f0c{index:044}"))
}

async fn put_block(url: &str, index: usize, bytes: &str) {
    let url = format!("{url}&comp=block&blockid={}", numbered(index).replace('+', "%2B").replace('=', "%3D"));
    assert_eq!(send(Method::PUT, &url, &[], bytes.to_owned()).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn numbered_blocks_become_what_their_list_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut served = serve(directory.path(), |_| {}).await;
    let one = token(&served, 1, 2, "refs/heads/main");
    // What is put, and in which order the list has it; `None`: the server is started anew.
    type Put = Option<(usize, &'static str)>;
    let cases: [(&[Put], &[usize], &str); 8] = [
        (&[Some((0, "aaaa")), Some((1, "bbbb")), Some((2, "c"))], &[0, 1, 2], "aaaabbbbc"),
        (&[Some((1, "bbbb")), Some((2, "c")), None, Some((0, "aaaa"))], &[0, 1, 2], "aaaabbbbc"),
        (&[Some((2, "c")), Some((1, "bbbb")), Some((0, "aaaa"))], &[0, 1, 2], "aaaabbbbc"),
        (&[Some((0, "aaaa")), Some((1, "bbbb")), Some((2, "cccc"))], &[0, 1], "aaaabbbb"),
        (&[Some((0, "aaaa")), Some((1, "bbbb"))], &[1, 0, 1], "bbbbaaaabbbb"),
        (&[Some((0, "aaaa")), Some((1, "bbbb")), Some((0, "AA")), None], &[0, 1], "AAbbbb"),
        (&[Some((0, "aaaa")), Some((1, "b")), Some((2, "cccc"))], &[0, 1, 2], "aaaabcccc"),
        (&[Some((0, "aaaa")), Some((7, "hhhh")), None], &[0, 7], "aaaahhhh"),
    ];
    for (number, (puts, order, expected)) in cases.iter().enumerate() {
        let name = format!("n{number}");
        let created = call(&served.base, &one, "ArtifactService", "CreateArtifact", artifact(1, &name)).await.json();
        let path = created["signed_upload_url"].as_str().unwrap()[served.base.len()..].to_owned();
        for put in *puts {
            match put {
                Some((index, bytes)) => put_block(&format!("{}{path}", served.base), *index, bytes).await,
                None => {
                    drop(served);
                    served = serve(directory.path(), |_| {}).await;
                }
            }
        }
        let list: String = order.iter().map(|index| format!("<Latest>{}</Latest>", numbered(*index))).collect();
        let commit = format!("{}{path}&comp=blocklist", served.base);
        let done = send(Method::PUT, &commit, &[], format!("<BlockList>{list}</BlockList>")).await;
        assert_eq!(done.status, StatusCode::CREATED, "{name}: {}", String::from_utf8_lossy(&done.body));
        // The digest is the client's own, so that a wrong one of ours is refused here.
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, expected.as_bytes());
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut arguments = artifact(1, &name);
        arguments["size"] = expected.len().to_string().into();
        arguments["hash"] = format!("sha256:{digest}").into();
        let ended = call(&served.base, &one, "ArtifactService", "FinalizeArtifact", arguments).await;
        assert_eq!(ended.status, StatusCode::OK, "{name}: {}", String::from_utf8_lossy(&ended.body));
        assert_eq!(std::fs::read_to_string(served.services.blob(&digest)).unwrap(), *expected, "{name}");
    }
    let uploads = std::fs::read_dir(directory.path().join("uploads")).unwrap().count();
    assert_eq!(uploads, 0, "nothing is left of uploads that ended");
}

#[tokio::test]
async fn a_block_that_breaks_off_can_be_sent_again() {
    use tokio::io::AsyncWriteExt as _;
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |settings| settings.bytes = 100).await;
    let one = token(&served, 1, 2, "refs/heads/main");
    let created = call(&served.base, &one, "ArtifactService", "CreateArtifact", artifact(1, "a")).await.json();
    let url = created["signed_upload_url"].as_str().unwrap();
    // Each of them takes most of the room while it lasts, and gives it back.
    for _ in 0..3 {
        let address = served.base.trim_start_matches("http://");
        let mut broken = tokio::net::TcpStream::connect(address).await.unwrap();
        let target = format!("{}&comp=block&blockid={}", &url[served.base.len()..], numbered(0).replace('=', "%3D"));
        let head = format!("PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n{}", "x".repeat(59));
        broken.write_all(head.as_bytes()).await.unwrap();
        drop(broken);
    }
    // What broke off is over when its place is free: until then this one has a file of its own, which is as good.
    let bytes = "y".repeat(60);
    let put = format!("{url}&comp=block&blockid={}", numbered(0).replace('=', "%3D"));
    while send(Method::PUT, &put, &[], bytes.clone()).await.status != StatusCode::CREATED {
        tokio::task::yield_now().await;
    }
    let list = format!("<BlockList><Latest>{}</Latest></BlockList>", numbered(0));
    // An answer that got lost is given again.
    for _ in 0..2 {
        let done = send(Method::PUT, &format!("{url}&comp=blocklist"), &[], list.clone()).await;
        assert_eq!(done.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&done.body));
    }
    let arguments = artifact(1, "a");
    let ended = call(&served.base, &one, "ArtifactService", "FinalizeArtifact", arguments).await;
    assert_eq!(ended.status, StatusCode::OK, "{}", String::from_utf8_lossy(&ended.body));
    let kept = served.services.artifacts(1);
    assert_eq!(std::fs::read_to_string(served.services.blob(&kept[0].sha256)).unwrap(), bytes);
}

#[tokio::test]
async fn forged_and_expired_tokens_and_addresses_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |_| {}).await;
    let one = token(&served, 1, 2, "refs/heads/main");
    let variables = served.services.variables(&served.job(1, 2, "refs/heads/main"));
    let identity = variables.all["ACTIONS_ID_TOKEN_REQUEST_TOKEN"].clone();
    let mut forged = one.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    for bad in ["", "x", "a.b.c", &forged, &identity] {
        let answer = call(&served.base, bad, "ArtifactService", "ListArtifacts", artifact(1, "")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bad}");
    }
    let created = call(&served.base, &one, "ArtifactService", "CreateArtifact", artifact(1, "a")).await.json();
    let url = created["signed_upload_url"].as_str().unwrap();
    for bad in [url.replace("sig=", "sig=0"), url.replace("until=", "until=1"), url.replace("/upload/", "/upload/x")] {
        assert_eq!(send(Method::PUT, &bad, &[], "x").await.status, StatusCode::FORBIDDEN, "{bad}");
    }
    assert_eq!(send(Method::GET, &url.replace("/upload/", "/artifact/"), &[], "").await.status, StatusCode::FORBIDDEN);
    for bad in ["../x", "a/b", "a\nb", "a:b"] {
        let answer = call(&served.base, &one, "ArtifactService", "CreateArtifact", artifact(1, bad)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(
        call(&served.base, &one, "ArtifactService", "Nothing", artifact(1, "a")).await.status,
        StatusCode::NOT_FOUND
    );
    served.pass(Duration::from_secs(7 * 3600));
    assert_eq!(send(Method::PUT, url, &[], "x").await.status, StatusCode::FORBIDDEN);
    let late = call(&served.base, &one, "ArtifactService", "ListArtifacts", artifact(1, "")).await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_full_disk_is_told_and_frees_itself() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |settings| settings.bytes = 1000).await;
    let one = token(&served, 1, 2, "refs/heads/main");
    assert_eq!(upload(&served, &one, "a", &[1; 900]).await.status, StatusCode::OK);
    let full = upload(&served, &one, "b", &[2; 200]).await;
    assert_eq!(full.status, StatusCode::INSUFFICIENT_STORAGE);
    served.services.delete_artifact(served.services.artifacts(1)[0].id).unwrap();
    assert_eq!(upload(&served, &one, "b", &[2; 200]).await.status, StatusCode::OK);
}

async fn save(served: &Served, token: &str, key: &str, bytes: &[u8]) -> Json {
    let arguments = json!({"key": key, "version": "v"});
    let created = call(&served.base, token, "CacheService", "CreateCacheEntry", arguments).await.json();
    let Some(url) = created["signed_upload_url"].as_str().filter(|url| !url.is_empty()) else { return created };
    assert_eq!(send(Method::PUT, url, &[], bytes.to_vec()).await.status, StatusCode::CREATED);
    let arguments = json!({"key": key, "version": "v", "sizeBytes": bytes.len().to_string()});
    call(&served.base, token, "CacheService", "FinalizeCacheEntryUpload", arguments).await.json()
}

async fn restore(served: &Served, token: &str, key: &str, others: &[&str]) -> String {
    let arguments = json!({"key": key, "restore_keys": others, "version": "v"});
    let found = call(&served.base, token, "CacheService", "GetCacheEntryDownloadURL", arguments).await.json();
    found["matched_key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn caches_are_found_by_scope_and_prefix_and_go_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |settings| settings.cache_bytes = 1000).await;
    let main = token(&served, 1, 2, "refs/heads/main");
    let branch = token(&served, 2, 3, "refs/heads/x");
    let other = token(&served, 3, 4, "refs/heads/y");
    for (token, key) in [(&main, "k-1"), (&main, "k-2"), (&branch, "k-3")] {
        assert_eq!(save(&served, token, key, key.as_bytes()).await["ok"], json!(true), "{key}");
        served.pass(Duration::from_secs(1));
    }
    assert_eq!(save(&served, &main, "k-1", b"again").await["code"], json!("already_exists"));
    assert_eq!(restore(&served, &branch, "k-1", &[]).await, "k-1");
    assert_eq!(restore(&served, &branch, "k-", &[]).await, "k-3");
    assert_eq!(restore(&served, &branch, "none", &["zzz", "k-"]).await, "k-3");
    assert_eq!(restore(&served, &other, "k-", &[]).await, "k-2");
    assert_eq!(restore(&served, &other, "k-3", &[]).await, "");
    // Room is made by what was not read for the longest time.
    served.pass(Duration::from_secs(1));
    assert_eq!(restore(&served, &main, "k-1", &[]).await, "k-1");
    assert_eq!(save(&served, &main, "large", &[7; 995]).await["ok"], json!(true));
    assert_eq!(restore(&served, &main, "k-2", &[]).await, "");
    assert_eq!(restore(&served, &main, "k-1", &[]).await, "k-1");
    served.pass(Duration::from_secs(8 * 24 * 3600));
    served.services.sweep().unwrap();
    assert!(served.services.caches("acme/app").is_empty());
}

/// BuildKit's cache (`type=gha`) and docker's toolkit go by what the token says of itself; the first refuses one that lacks any of it.
#[tokio::test]
async fn tokens_say_which_caches_they_are_for() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |_| ()).await;
    let claims = |job: &Job| -> Json {
        let token = &served.services.variables(job).actions["ACTIONS_RUNTIME_TOKEN"];
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice(&claims).unwrap()
    };
    let (main, pull) = ("refs/heads/main", "refs/pull/7/merge");
    let both = json!([{"Scope": pull, "Permission": 3}, {"Scope": main, "Permission": 1}]);
    for (reference, controls) in [(main, json!([{"Scope": main, "Permission": 3}])), (pull, both)] {
        let said = claims(&served.job(1, 2, reference));
        assert_eq!(serde_json::from_str::<Json>(said["ac"].as_str().unwrap()).unwrap(), controls);
        let now = served.time.lock().unwrap().as_second();
        assert!(said["nbf"].as_i64().unwrap() < now && now < said["exp"].as_i64().unwrap(), "{said}");
    }
}

#[tokio::test]
async fn caches_make_room_before_an_upload_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |settings| settings.bytes = 1000).await;
    let one = token(&served, 1, 2, "refs/heads/main");
    for (key, byte) in [("old", 1), ("new", 2)] {
        assert_eq!(save(&served, &one, key, &[byte; 300]).await["ok"], json!(true));
        served.pass(Duration::from_secs(1));
    }
    assert_eq!(restore(&served, &one, "old", &[]).await, "old");
    // The one that was read last stays.
    assert_eq!(upload(&served, &one, "a", &[3; 600]).await.status, StatusCode::OK);
    assert_eq!(served.services.caches("acme/app").iter().map(|cache| cache.key.as_str()).collect::<Vec<_>>(), ["old"]);
    // What cannot be had by that takes nothing away.
    assert_eq!(upload(&served, &one, "b", &[4; 800]).await.status, StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(restore(&served, &one, "old", &[]).await, "old");
}

#[tokio::test]
async fn two_jobs_that_save_one_key_do_not_mix() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |_| {}).await;
    let main = token(&served, 1, 2, "refs/heads/main");
    let arguments = json!({"key": "k", "version": "v"});
    let one = call(&served.base, &main, "CacheService", "CreateCacheEntry", arguments.clone()).await.json();
    let two = call(&served.base, &main, "CacheService", "CreateCacheEntry", arguments.clone()).await.json();
    for (url, bytes) in [(&one, "first"), (&two, "other")] {
        let url = url["signed_upload_url"].as_str().unwrap();
        assert_eq!(send(Method::PUT, url, &[], bytes).await.status, StatusCode::CREATED);
    }
    let finalized = call(&served.base, &main, "CacheService", "FinalizeCacheEntryUpload", arguments.clone()).await;
    assert_eq!(finalized.status, StatusCode::OK);
    let second = call(&served.base, &main, "CacheService", "FinalizeCacheEntryUpload", arguments).await;
    assert_eq!(second.status, StatusCode::CONFLICT);
    assert_eq!(served.services.caches("acme/app").len(), 1);
}
