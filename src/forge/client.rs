//! Requests to forges, all through `octocrab`: it has TLS, redirects, and the tokens of Apps.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use octocrab::Octocrab;
use octocrab::models::{AppId, InstallationId};
use octocrab::service::middleware::retry::RetryConfig;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value as Json, json};

use super::outbox::Letter;
use super::{Deployment, Report, level, shortened};
use crate::config::{self, Source, SourceKind};
use crate::run::Conclusion;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers are small; a forge that sends more is not one.
const LARGEST_ANSWER: usize = 8 << 20;
/// GitHub ends tokens of installations after an hour.
const READING_TOKEN_KEPT: Duration = Duration::from_secs(45 * 60);
/// GitHub takes so many annotations in one request.
const ANNOTATIONS_AT_ONCE: usize = 50;

/// What the buttons of a check are called in what GitHub tells of them.
pub const CANCEL: &str = "cancel";
pub const RERUN_FAILED: &str = "rerun_failed";

/// Why a forge was not told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Secret(#[from] config::Error),
    #[error("the private key of the App cannot be used: {0}")]
    Key(String),
    #[error("\"{0}\" is no address of a forge")]
    Address(String),
    #[error("cannot reach {host}: {reason}")]
    Unreachable { host: String, reason: String },
    #[error("{host} takes no such letter: {reason}")]
    Undeliverable { host: String, reason: String },
    #[error("{host} answered {status}: {message}")]
    Refused { host: String, status: u16, message: String, retry_after: Option<Duration> },
}

impl Error {
    /// Whether trying again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, retry_after, .. } => *status >= 500 || *status == 429 || retry_after.is_some(),
            // A file of a secret may come back.
            Self::Secret(_) => true,
            Self::Key(_) | Self::Address(_) | Self::Undeliverable { .. } => false,
        }
    }

    /// Whether the token may simply have ended.
    #[must_use]
    pub fn is_about_credentials(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    /// How long the forge wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What a forge has of one context already, told as far as it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The number of the check, or the deployment, that it made.
    pub check: Option<u64>,
    /// Annotations it has: it adds those of later requests to them.
    pub annotations: usize,
}

/// The way to the forge of one source.
pub struct Client {
    crab: Octocrab,
    kind: SourceKind,
    /// Where its API is.
    host: String,
    /// `OWNER/NAME`, or the path GitLab wants.
    repository: String,
    is_app: bool,
    /// Of the App in this repository, once it was asked for.
    installation: tokio::sync::OnceCell<Installation>,
    /// The login of the App's own user, once it was asked for.
    bot: tokio::sync::OnceCell<String>,
    /// A token that reads, and since when.
    reading: tokio::sync::Mutex<Option<(tokio::time::Instant, SecretString)>>,
}

/// An App in one repository.
struct Installation {
    id: u64,
    crab: Octocrab,
    /// What it may do there.
    permissions: BTreeMap<String, String>,
}

/// An answer that is not the one we know already.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// To be shown with the next question.
    pub etag: Option<String>,
    /// How long the forge wants not to be asked the same again.
    pub pause: Option<Duration>,
    /// `None`: it is still what it was under the mark that was shown.
    pub body: Option<Json>,
}

impl Client {
    /// Opens the way: as the App when there is one, else with the token.
    ///
    /// # Errors
    /// A secret cannot be read, or the address is none.
    pub fn new(source: &Source) -> Result<Self, Error> {
        let host = api_base(source).ok_or_else(|| Error::Address(source.url.clone().unwrap_or_default()))?;
        let mut builder = Octocrab::builder()
            .base_uri(host.as_str())
            .map_err(|_| Error::Address(host.clone()))?
            .set_connect_timeout(Some(CONNECT_TIMEOUT))
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            // The outbox tries again, with patience and on paper.
            .add_retry_config(RetryConfig::None);
        let app = source.app.as_ref().filter(|_| source.kind == SourceKind::GitHub);
        if let Some(app) = app {
            let key = app.private_key.read()?;
            let key = jsonwebtoken::EncodingKey::from_rsa_pem(key.expose_secret().as_bytes())
                .map_err(|error| Error::Key(error.to_string()))?;
            builder = builder.app(AppId(app.id), key);
        } else if let Some(token) = &source.token {
            builder = builder.personal_token(token.read()?);
        }
        let crab = builder.build().map_err(|error| unreachable_host(&host, &error))?;
        let name = source.name.as_str();
        let repository = if source.kind == SourceKind::GitLab { name.replace('/', "%2F") } else { name.to_owned() };
        Ok(Self {
            crab,
            kind: source.kind,
            host,
            repository,
            is_app: app.is_some(),
            installation: tokio::sync::OnceCell::new(),
            bot: tokio::sync::OnceCell::new(),
            reading: tokio::sync::Mutex::default(),
        })
    }

    /// Tells the forge. `known` grows with every request that was taken, also when a later one is not.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub(super) async fn tell(&self, letter: &Letter, known: &mut Known) -> Result<(), Error> {
        match letter {
            Letter::Report(report) if self.is_app => self.send_check(report, known).await,
            Letter::Report(report) => self.send_status(report).await,
            Letter::Deployment(deployment) => self.deploy(deployment, known).await,
            Letter::Notice(_) => Ok(()),
        }
    }

    async fn send_status(&self, report: &Report) -> Result<(), Error> {
        let state = report.state.status(self.kind);
        let Report { sha, context, url, .. } = report;
        // GitHub cuts nothing itself: it refuses.
        let description = shortened(&report.description, 140);
        let (path, body) = match self.kind {
            SourceKind::GitLab => (
                format!("/projects/{}/statuses/{sha}", self.repository),
                json!({ "state": state, "name": context, "target_url": url, "description": description }),
            ),
            _ => (
                format!("/repos/{}/statuses/{sha}", self.repository),
                json!({ "state": state, "context": context, "target_url": url, "description": description }),
            ),
        };
        let result = self.post(&self.crab, &path, &body).await;
        match result {
            // GitLab refuses to say the same state twice; it has it already then.
            Err(Error::Refused { status: 400, message, .. })
                if self.kind == SourceKind::GitLab && message.contains("Cannot transition status") =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    async fn send_check(&self, report: &Report, known: &mut Known) -> Result<(), Error> {
        let crab = &self.installation().await?.crab;
        let path = format!("/repos/{}/check-runs", self.repository);
        let new = report.annotations.get(known.annotations..).unwrap_or_default();
        let mut batches = new.chunks(ANNOTATIONS_AT_ONCE);
        let first = batches.next().unwrap_or_default();
        let body = check_body(report, first);
        let answer = match known.check {
            Some(number) => {
                let mut body = body;
                if let Some(fields) = body.as_object_mut() {
                    // A check stays with its commit.
                    fields.shift_remove("head_sha");
                }
                self.patch(crab, &format!("{path}/{number}"), &body).await?
            }
            None => self.post(crab, &path, &body).await?,
        };
        let number = answer.get("id").and_then(Json::as_u64).or(known.check).unwrap_or_default();
        known.check = Some(number);
        known.annotations += first.len();
        for batch in batches {
            let output = output(report, batch);
            self.patch(crab, &format!("{path}/{number}"), &json!({ "output": output })).await?;
            known.annotations += batch.len();
        }
        Ok(())
    }

    /// Makes a deployment at GitHub, the first time, and says how it stands. Who may not make any goes without.
    async fn deploy(&self, deployment: &Deployment, known: &mut Known) -> Result<(), Error> {
        let crab = if self.is_app {
            let installation = self.installation().await?;
            if installation.permissions.get("deployments").is_none_or(|level| level != "write") {
                return Ok(());
            }
            &installation.crab
        } else {
            &self.crab
        };
        let path = format!("/repos/{}/deployments", self.repository);
        let number = match known.check {
            Some(number) => number,
            None => {
                let answer = match self.post(crab, &path, &deployment.body()).await {
                    Err(Error::Refused { status: 403 | 404, retry_after: None, message, .. }) => {
                        let environment = &deployment.environment;
                        log::info!("{} is not told of the deployment to {environment}: {message}", self.host);
                        return Ok(());
                    }
                    answer => answer?,
                };
                let Some(number) = answer.get("id").and_then(Json::as_u64) else {
                    let reason = "it named no number of the deployment".to_owned();
                    return Err(Error::Undeliverable { host: self.host.clone(), reason });
                };
                known.check = Some(number);
                number
            }
        };
        self.post(crab, &format!("{path}/{number}/statuses"), &deployment.status()).await.map(drop)
    }

    /// Where something of the repository is in the forge's API; `""`: the repository itself.
    #[must_use]
    pub fn repository_path(&self, rest: &str) -> String {
        let kind = if self.kind == SourceKind::GitLab { "projects" } else { "repos" };
        format!("/{kind}/{}{rest}", self.repository)
    }

    /// Asks for something that is there, with the mark of the last answer.
    ///
    /// # Errors
    /// The forge cannot be reached, or refuses.
    pub async fn fetch(&self, path: &str, etag: Option<&str>) -> Result<Fetched, Error> {
        let crab = if self.is_app { &self.installation().await?.crab } else { &self.crab };
        let mut headers = HeaderMap::new();
        if let Some(etag) = etag.and_then(|etag| etag.parse().ok()) {
            headers.insert(http::header::IF_NONE_MATCH, etag);
        }
        let response = crab._get_with_headers(path, Some(headers)).await;
        let header = |name: &str| response.as_ref().ok()?.headers().get(name)?.to_str().ok().map(str::to_owned);
        let (new, pause) = (header("etag"), header("x-poll-interval").and_then(|seconds| seconds.parse().ok()));
        let pause = pause.map(Duration::from_secs);
        if response.as_ref().is_ok_and(|response| response.status() == StatusCode::NOT_MODIFIED) {
            return Ok(Fetched { etag: new.or_else(|| etag.map(str::to_owned)), pause, body: None });
        }
        Ok(Fetched { etag: new, pause, body: Some(self.answer(response).await?) })
    }

    /// A token for one job: for this repository alone, with the permissions asked for as far as the App has them. `*` asks
    /// for all of them at a level.
    ///
    /// # Errors
    /// GitHub cannot be reached, or refuses.
    pub async fn job_token(&self, wanted: &BTreeMap<String, String>) -> Result<SecretString, Error> {
        let installation = self.installation().await?;
        let mut permissions: BTreeMap<&str, &str> = BTreeMap::new();
        for (scope, granted) in &installation.permissions {
            // What is named counts, not what is said of all.
            let Some(level) = wanted.get(scope).or_else(|| wanted.get("*")) else { continue };
            permissions.insert(scope, if level == "read" || granted == "read" { "read" } else { "write" });
        }
        let name = self.repository.rsplit('/').next().unwrap_or_default();
        let body = json!({ "repositories": [name], "permissions": permissions });
        let path = format!("/app/installations/{}/access_tokens", installation.id);
        let answer = self.post(&self.crab, &path, &body).await?;
        let token = answer.get("token").and_then(Json::as_str).ok_or_else(|| Error::Refused {
            host: self.host.clone(),
            status: 200,
            message: "it gave no token".to_owned(),
            retry_after: None,
        })?;
        Ok(SecretString::from(token.to_owned()))
    }

    /// A token that reads the repository's contents, made anew before it ends.
    ///
    /// # Errors
    /// GitHub cannot be reached, or refuses.
    pub async fn reading_token(&self) -> Result<SecretString, Error> {
        let mut kept = self.reading.lock().await;
        if let Some((made, token)) = &*kept
            && made.elapsed() < READING_TOKEN_KEPT
        {
            return Ok(token.clone());
        }
        let wanted = ["contents", "metadata"].into_iter().map(|scope| (scope.to_owned(), "read".to_owned()));
        let token = self.job_token(&wanted.collect()).await?;
        *kept = Some((tokio::time::Instant::now(), token.clone()));
        Ok(token)
    }

    /// Ends a token that [`Client::job_token`] made.
    ///
    /// # Errors
    /// GitHub cannot be reached, or refuses; the token ends by itself then.
    pub async fn revoke(&self, token: &SecretString) -> Result<(), Error> {
        let crab = Octocrab::builder()
            .base_uri(self.host.as_str())
            .map_err(|_| Error::Address(self.host.clone()))?
            .set_connect_timeout(Some(CONNECT_TIMEOUT))
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .add_retry_config(RetryConfig::None)
            .personal_token(token.expose_secret().to_owned())
            .build()
            .map_err(|error| unreachable_host(&self.host, &error))?;
        self.answer(crab._delete("/installation/token", None::<&()>).await).await.map(drop)
    }

    /// The login under which the App acts: `its-name[bot]`.
    ///
    /// # Errors
    /// GitHub cannot be reached, or refuses.
    pub async fn bot(&self) -> Result<String, Error> {
        let asked = self.bot.get_or_try_init(|| async {
            let app = self.get("/app").await?;
            Ok(format!("{}[bot]", app.get("slug").and_then(Json::as_str).unwrap_or_default()))
        });
        asked.await.cloned()
    }

    /// The App as it is installed in this repository.
    async fn installation(&self) -> Result<&Installation, Error> {
        self.installation
            .get_or_try_init(|| async {
                let answer = self.get(&format!("/repos/{}/installation", self.repository)).await?;
                let id = answer.get("id").and_then(Json::as_u64).ok_or_else(|| Error::Refused {
                    host: self.host.clone(),
                    status: 404,
                    message: "the App is not installed for this repository".to_owned(),
                    retry_after: None,
                })?;
                let crab =
                    self.crab.installation(InstallationId(id)).map_err(|error| unreachable_host(&self.host, &error))?;
                let granted = answer.get("permissions").and_then(Json::as_object).into_iter().flatten();
                let permissions =
                    granted.filter_map(|(scope, level)| Some((scope.clone(), level.as_str()?.to_owned()))).collect();
                Ok(Installation { id, crab, permissions })
            })
            .await
    }

    async fn get(&self, path: &str) -> Result<Json, Error> {
        self.answer(self.crab._get(path).await).await
    }

    async fn post(&self, crab: &Octocrab, path: &str, body: &Json) -> Result<Json, Error> {
        self.answer(crab._post(path, Some(body)).await).await
    }

    async fn patch(&self, crab: &Octocrab, path: &str, body: &Json) -> Result<Json, Error> {
        self.answer(crab._patch(path, Some(body)).await).await
    }

    async fn answer<B>(&self, response: octocrab::Result<Response<B>>) -> Result<Json, Error>
    where
        B: hyper::body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let response = response.map_err(|error| match error {
            // The request for an installation's token was refused.
            octocrab::Error::GitHub { source, .. } => Error::Refused {
                host: self.host.clone(),
                status: source.status_code.as_u16(),
                retry_after: limited(source.status_code, &source.message),
                message: source.message.clone(),
            },
            error => unreachable_host(&self.host, &error),
        })?;
        let (head, body) = response.into_parts();
        let bytes = match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(Error::Unreachable { host: self.host.clone(), reason: error.to_string() }),
        };
        let json: Json = serde_json::from_slice(&bytes).unwrap_or(Json::Null);
        if head.status.is_success() {
            return Ok(json);
        }
        let message = ["message", "error"].iter().find_map(|key| json.get(key)).map(plain).unwrap_or_default();
        Err(Error::Refused {
            host: self.host.clone(),
            status: head.status.as_u16(),
            retry_after: retry_after(head.status, &head.headers).or_else(|| limited(head.status, &message)),
            message: shortened(&message, 300),
        })
    }
}

fn plain(message: &Json) -> String {
    message.as_str().map_or_else(|| message.to_string(), str::to_owned)
}

fn unreachable_host(host: &str, error: &octocrab::Error) -> Error {
    use std::error::Error as _;
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        reason = deeper.to_string();
        source = deeper.source();
    }
    // Errors of octocrab carry a backtrace behind the first line.
    let reason = reason.lines().next().unwrap_or_default().to_owned();
    Error::Unreachable { host: host.to_owned(), reason }
}

/// GitHub's secondary limits may say so in words alone: then a minute is due at least.
fn limited(status: StatusCode, message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    let said = ["rate limit", "abuse detection"].iter().any(|words| message.contains(words));
    (matches!(status.as_u16(), 403 | 429) && said).then_some(Duration::from_secs(60))
}

/// Rate limits: `Retry-After`, or the end of the hour that is used up.
pub(super) fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if !matches!(status.as_u16(), 403 | 429 | 503) {
        return None;
    }
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(seconds.min(24 * 3600)));
    }
    if number("x-ratelimit-remaining") == Some(0) {
        // The forge's own clock, so that ours need not agree.
        let date = headers.get("date").and_then(|date| date.to_str().ok());
        let now = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let reset = number("x-ratelimit-reset").and_then(|at| i64::try_from(at).ok());
        let wait = now.zip(reset).map(|(now, reset)| reset.saturating_sub(now.as_second()).clamp(1, 3600));
        return Some(Duration::from_secs(wait.map_or(60, i64::unsigned_abs)));
    }
    (status == StatusCode::TOO_MANY_REQUESTS).then_some(Duration::from_secs(60))
}

fn check_body(report: &Report, annotations: &[crate::run::report::Annotation]) -> Json {
    let (status, conclusion) = report.state.check();
    let mut body = json!({
        "name": report.context,
        "head_sha": report.sha,
        "status": status,
        "details_url": report.url,
        "external_id": report.external_id,
        "output": output(report, annotations),
        "actions": actions(report.state),
    });
    let time = |time: Timestamp| json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    if let Some(fields) = body.as_object_mut() {
        fields.extend(report.started_at.map(|at| ("started_at".to_owned(), time(at))));
        if let Some(conclusion) = conclusion {
            fields.insert("conclusion".to_owned(), json!(conclusion));
            fields.extend(report.completed_at.map(|at| ("completed_at".to_owned(), time(at))));
        }
    }
    body
}

/// The buttons of a check.
fn actions(state: super::State) -> Json {
    let button = |label: &str, description: &str, identifier: &str| json!([{ "label": label, "description": description, "identifier": identifier }]);
    match state {
        super::State::Queued | super::State::Running => button("Cancel", "Stops the run this check is of", CANCEL),
        super::State::Ended(Conclusion::Success | Conclusion::Neutral | Conclusion::Skipped) => json!([]),
        super::State::Ended(_) => button("Re-run failed jobs", "And all that depend on them", RERUN_FAILED),
    }
}

fn output(report: &Report, annotations: &[crate::run::report::Annotation]) -> Json {
    let annotations: Vec<Json> = annotations
        .iter()
        .map(|annotation| {
            let line = annotation.line.unwrap_or(1);
            let end = annotation.end_line.unwrap_or(line).max(line);
            let mut json = json!({
                "path": annotation.file.as_deref().unwrap_or(".github"),
                "start_line": line,
                "end_line": end,
                "annotation_level": level(annotation.level),
                "message": annotation.message,
            });
            if let Some(fields) = json.as_object_mut() {
                fields.extend(annotation.title.as_ref().map(|title| ("title".to_owned(), json!(title))));
                // Columns are taken only when it is one line.
                if line == end {
                    fields.extend(annotation.column.map(|column| ("start_column".to_owned(), json!(column))));
                    fields.extend(annotation.end_column.map(|column| ("end_column".to_owned(), json!(column))));
                }
            }
            json
        })
        .collect();
    json!({ "title": shortened(&report.description, 250), "summary": shortened(&report.summary, 60_000), "annotations": annotations })
}

/// Where the API of a source is.
fn api_base(source: &Source) -> Option<String> {
    let url = match (&source.url, source.kind) {
        (Some(url), _) => url.as_str(),
        (None, SourceKind::GitHub) => "https://github.com",
        (None, SourceKind::GitLab) => "https://gitlab.com",
        _ => return None,
    };
    let uri: http::Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = uri.authority()?.as_str();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = match source.kind {
        SourceKind::GitHub if host == "github.com" => return Some("https://api.github.com".to_owned()),
        SourceKind::GitHub => "/api/v3",
        SourceKind::GitLab => "/api/v4",
        _ => "/api/v1",
    };
    Some(format!("{scheme}://{host}{path}"))
}
