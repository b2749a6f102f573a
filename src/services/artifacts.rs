//! Artifacts, version 4 and later (P1, P2).

use serde_json::{Value as Json, json};

use super::blobs::Purpose;
use super::records::Artifact;
use super::token::Caller;
use super::twirp::{Arguments, Fault};
use super::{Services, transfer};

/// GitHub's limit per job.
const MOST_PER_JOB: usize = 500;

/// Answers a call; `None` for a method that there is not.
pub(super) fn call(
    services: &Services,
    caller: &Caller,
    method: &str,
    arguments: &Arguments,
) -> Result<Option<Json>, Fault> {
    let run = arguments.needed("workflow_run_backend_id")?;
    if run != caller.run.to_string() {
        return Err(Fault::forbidden(format!("the token is not for run {run}")));
    }
    match method {
        "CreateArtifact" => create(services, caller, arguments),
        "FinalizeArtifact" => finalize(services, caller, arguments),
        "ListArtifacts" => Ok(list(services, caller, arguments)),
        "GetSignedArtifactURL" => {
            let artifact = named(services, caller, arguments)?;
            let url = transfer::download_url(services, caller, "artifact", artifact.id);
            Ok(json!({ "name": artifact.name, "signed_url": url }))
        }
        "DeleteArtifact" => {
            let artifact = named(services, caller, arguments)?;
            services.delete_artifact(artifact.id)?;
            Ok(json!({ "ok": true, "artifact_id": artifact.id.to_string() }))
        }
        _ => return Ok(None),
    }
    .map(Some)
}

fn create(services: &Services, caller: &Caller, arguments: &Arguments) -> Result<Json, Fault> {
    let name = checked_name(arguments.needed("name")?)?;
    let now = services.now();
    let artifacts = services.artifacts(caller.run);
    if artifacts.iter().any(|artifact| artifact.name == name) {
        return Err(Fault::exists("an artifact with this name already exists on the workflow run"));
    }
    if artifacts.iter().filter(|artifact| artifact.job == caller.job).count() >= MOST_PER_JOB {
        return Err(Fault::forbidden(format!("a job has at most {MOST_PER_JOB} artifacts")));
    }
    // The job tries again: what came of its last try is nothing.
    while let Some(old) = services.inner.blobs.upload(|upload| {
        matches!(&upload.purpose, Purpose::Artifact { run, job, name: old, .. }
            if *run == caller.run && *job == caller.job && *old == name)
    }) {
        services.inner.blobs.end(&old.id);
        services.inner.release(old.done.iter().map(|done| done.sha256.as_str()))?;
    }
    // Version 4 packs everything; later ones say what they send.
    let mime = Some(arguments.text("mime_type")).filter(|mime| is_mime(mime));
    let purpose = Purpose::Artifact {
        run: caller.run,
        job: caller.job,
        repository: caller.repository.clone(),
        name,
        mime: mime.unwrap_or_else(|| "application/zip".to_owned()),
        expires_at: arguments.text("expires_at").parse().ok(),
    };
    let upload = services.inner.blobs.begin(purpose, now)?;
    Ok(json!({ "ok": true, "signed_upload_url": transfer::upload_url(services, caller, &upload.id) }))
}

fn finalize(services: &Services, caller: &Caller, arguments: &Arguments) -> Result<Json, Fault> {
    let wanted = arguments.needed("name")?;
    let upload = services.inner.blobs.upload(|upload| {
        matches!(&upload.purpose, Purpose::Artifact { run, job, name, .. }
            if *run == caller.run && *job == caller.job && *name == wanted)
    });
    let Some(upload) = upload else {
        // The answer to an earlier call may have been lost on its way.
        let known = services.artifacts(caller.run).into_iter().find(|artifact| artifact.name == wanted);
        return match known {
            Some(artifact) if artifact.job == caller.job => {
                Ok(json!({ "ok": true, "artifact_id": artifact.id.to_string() }))
            }
            _ => Err(Fault::not_found("no upload of this artifact was begun")),
        };
    };
    let Some(stored) = upload.done.clone() else {
        return Err(Fault::invalid("the artifact's bytes have not been uploaded"));
    };
    if arguments.number("size").is_some_and(|size| size != stored.size) {
        return Err(Fault::invalid(format!("{} bytes were uploaded, not {}", stored.size, arguments.text("size"))));
    }
    let digest = arguments.text("hash");
    if let Some(expected) = digest.strip_prefix("sha256:")
        && !expected.eq_ignore_ascii_case(&stored.sha256)
    {
        return Err(Fault::invalid(format!("the digest of the upload is sha256:{}, not {digest}", stored.sha256)));
    }
    let Purpose::Artifact { run, job, repository, name, mime, expires_at } = upload.purpose else {
        return Err(Fault::not_found("no upload of this artifact was begun"));
    };
    let now = services.now();
    let latest = now + services.inner.settings.artifact_retention;
    let artifact = Artifact {
        id: services.inner.records.next_id(),
        run,
        job,
        repository,
        name,
        mime,
        size: stored.size,
        sha256: stored.sha256,
        created_at: now,
        expires_at: expires_at.filter(|time| *time > now).map_or(latest, |time| time.min(latest)),
    };
    let (id, sha256) = (artifact.id, artifact.sha256.clone());
    let added = services.inner.records.add_artifact(artifact)?;
    services.inner.blobs.end(&upload.id);
    if !added {
        services.inner.release(std::iter::once(sha256.as_str()))?;
        return Err(Fault::exists("an artifact with this name already exists on the workflow run"));
    }
    Ok(json!({ "ok": true, "artifact_id": id.to_string() }))
}

fn list(services: &Services, caller: &Caller, arguments: &Arguments) -> Json {
    let name = Some(arguments.text("name_filter")).filter(|name| !name.is_empty());
    let id = arguments.number("id_filter");
    let artifacts: Vec<Json> = services
        .artifacts(caller.run)
        .into_iter()
        .filter(|artifact| name.as_ref().is_none_or(|name| artifact.name == *name))
        .filter(|artifact| id.is_none_or(|id| artifact.id == id))
        .map(|artifact| {
            json!({
                "workflow_run_backend_id": artifact.run.to_string(),
                "workflow_job_run_backend_id": artifact.job.to_string(),
                "database_id": artifact.id.to_string(),
                "name": artifact.name,
                "size": artifact.size.to_string(),
                "created_at": artifact.created_at.to_string(),
                "digest": format!("sha256:{}", artifact.sha256),
            })
        })
        .collect();
    json!({ "artifacts": artifacts })
}

fn named(services: &Services, caller: &Caller, arguments: &Arguments) -> Result<Artifact, Fault> {
    let name = arguments.needed("name")?;
    let found = services.artifacts(caller.run).into_iter().find(|artifact| artifact.name == name);
    found.ok_or_else(|| Fault::not_found(format!("the run has no artifact {name}")))
}

/// What the toolkit refuses too: the name becomes a file's.
fn checked_name(name: String) -> Result<String, Fault> {
    let bad = |character: char| "\":<>|*?\r\n\\/".contains(character) || character.is_control();
    if name.chars().any(bad) || name.chars().count() > 256 || matches!(name.as_str(), "." | "..") {
        return Err(Fault::invalid("the name of an artifact is at most 256 characters, none of \" : < > | * ? \\ /"));
    }
    Ok(name)
}

/// It becomes a header.
fn is_mime(mime: &str) -> bool {
    mime.len() <= 256 && mime.contains('/') && mime.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
