//! The token of a job: `github.token`, where no forge gave one. It opens this daemon's own API and repositories, as far as
//! the job's `permissions` say, and as long as the job runs (G5).

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::{Job, Services};

/// How such tokens begin: as those of GitHub's apps, so that masks and scanners know them.
const PREFIX: &str = "ghs_";

/// A job that shows its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobClient {
    pub run: u64,
    pub job: u64,
    /// `OWNER/NAME`: no other repository exists for it.
    pub repository: String,
    permissions: BTreeMap<String, String>,
}

impl JobClient {
    /// What it may do with this kind of thing of this repository: `contents`, `actions`, … (S4).
    #[must_use]
    pub fn access(&self, repository: &str, scope: &str) -> Access {
        if !self.repository.eq_ignore_ascii_case(repository) {
            return Access::Hidden;
        }
        match self.permissions.get(scope).map(String::as_str) {
            Some("write") => Access::Write,
            Some("read") => Access::Read,
            // Every token may know that the repository is there.
            _ if scope == "metadata" => Access::Read,
            _ => Access::Hidden,
        }
    }

    /// Whether it may change this kind of thing.
    #[must_use]
    pub fn may_write(&self, scope: &str) -> bool {
        self.permissions.get(scope).is_some_and(|level| level == "write")
    }
}

/// What a client may do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It has not said who it is.
    Unknown,
    /// It showed something that is not good.
    Refused,
    /// For this client there is no such thing.
    Hidden,
    Read,
    Write,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    run: u64,
    job: u64,
    repository: String,
    permissions: BTreeMap<String, String>,
    #[serde(rename = "use")]
    purpose: String,
}

/// A job that runs: while this is held, its token is good.
pub struct Running {
    services: Services,
    job: u64,
    given: Option<String>,
}

/// Jobs that run, and tokens that they were given by others for us.
#[derive(Default)]
pub(super) struct Live {
    jobs: BTreeMap<u64, usize>,
    given: BTreeMap<String, (u64, JobClient)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut live = self.services.live();
        if let Some(count) = live.jobs.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                live.jobs.remove(&self.job);
            }
        }
        if let Some(given) = &self.given
            && live.given.get(given).is_some_and(|(job, _)| *job == self.job)
        {
            live.given.remove(given);
        }
    }
}

impl Services {
    /// The job runs: its token is good until what is given back is dropped. `given`: another token that means the same as
    /// the job's own, which comes after it.
    #[must_use]
    pub fn running(&self, job: u64, given: Option<(&str, &str)>) -> Running {
        *self.live().jobs.entry(job).or_default() += 1;
        let client = given.and_then(|(_, own)| self.job_client(own)?.ok());
        let given = given.map(|(given, _)| given.to_owned()).filter(|_| client.is_some());
        if let (Some(given), Some(client)) = (&given, client) {
            self.live().given.insert(given.clone(), (job, client));
        }
        Running { services: self.clone(), job, given }
    }

    pub(super) fn runs(&self, job: u64) -> bool {
        self.live().jobs.contains_key(&job)
    }

    pub(super) fn job_token(&self, job: &Job) -> String {
        let claims = Claims {
            run: job.run,
            job: job.job,
            repository: job.repository.clone(),
            permissions: job.permissions.clone(),
            purpose: "job".to_owned(),
        };
        format!("{PREFIX}{}", self.inner.keys.sign(&claims))
    }

    /// Who shows this token, if it is a job's that runs. `Err`: it is a job's, but that job is over, or it is forged.
    ///
    /// # Errors
    /// Nothing but the fact.
    pub fn job_client(&self, token: &str) -> Option<Result<JobClient, ()>> {
        if let Some((_, client)) = self.live().given.get(token) {
            return Some(Ok(client.clone()));
        }
        let claims = token.strip_prefix(PREFIX)?;
        let known: Option<Claims> = self.inner.keys.verify(claims);
        let good = known.filter(|claims| claims.purpose == "job" && self.runs(claims.job));
        Some(good.ok_or(()).map(|claims| JobClient {
            run: claims.run,
            job: claims.job,
            repository: claims.repository,
            permissions: claims.permissions,
        }))
    }

    /// What a request may do by the job token it shows.
    #[must_use]
    pub fn job_access(&self, headers: &HeaderMap, repository: &str, scope: &str) -> Access {
        match shown(headers).map(|token| self.job_client(&token)) {
            None => Access::Unknown,
            Some(Some(Ok(client))) => client.access(repository, scope),
            Some(None | Some(Err(()))) => Access::Refused,
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.inner.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The token a request shows, in any of the ways that git and API clients have.
#[must_use]
pub fn shown(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let pair = String::from_utf8(decoded).ok()?;
    let (user, password) = pair.split_once(':')?;
    // `https://TOKEN@host` and `TOKEN:x-oauth-basic` put it first.
    let token = if password.is_empty() || password == "x-oauth-basic" { user } else { password };
    Some(token.to_owned())
}
