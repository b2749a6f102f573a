//! What every request can reach, who sent it, and how a request is refused.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Network;
use crate::drive::{DriveError, Handle};
use crate::engine::record::EnvironmentRules;
use crate::engine::{Answer, Update};
use crate::id::{JobId, RepositoryName, RunId};
use crate::run::RunStatus;
use crate::services::Access;
use crate::store::{AuditRecord, Store, StoreError};
use crate::vault::Vault;

use super::auth::{Auth, Client, Refusal, Role, Via, is_foreign};
use super::metrics::Metrics;
use super::peer::{Origin, Peer};
use super::sealed::BoxKey;
use super::source::{HostDetail, Outside, Source};
use super::wire::{Base, Fragments};

/// How the server behaves towards its clients.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address others reach the server by, if it is not what they ask for: `https://chronos.lan`.
    pub public_url: Option<String>,
    /// The address it listens on, for clients of the unix socket, whose requests name none.
    pub own_url: Option<String>,
    /// `/metrics` without a token.
    pub open_metrics: bool,
    pub trusted_proxies: Vec<Network>,
}

/// Everything requests share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// What an [`App`] is put together from.
pub struct AppParts {
    pub store: Store,
    pub engine: Handle,
    pub vault: Vault,
    pub outside: Outside,
    pub auth: Auth,
    pub clock: Clock,
    pub settings: Settings,
    pub stop: CancellationToken,
}

/// The parts of an [`App`].
pub struct Shared {
    pub(super) source: Source,
    pub(super) vault: Vault,
    pub(super) auth: Auth,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    pub(super) fragments: Fragments,
    /// What is wrong with the configuration that was to be taken.
    pub(super) fault: RwLock<Option<String>>,
    /// Streams end when the server stops.
    pub(super) stop: CancellationToken,
    /// What clients seal secrets for; read or made when first asked for.
    pub(super) box_key: OnceCell<BoxKey>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: AppParts) -> Self {
        let AppParts { store, engine, vault, outside, auth, clock, settings, stop } = parts;
        let source = Source::new(store, engine, outside);
        Self(Arc::new(Shared {
            source,
            vault,
            auth,
            clock,
            settings,
            metrics: Metrics::default(),
            fragments: Fragments::default(),
            fault: RwLock::default(),
            stop,
            box_key: OnceCell::new(),
        }))
    }

    /// The tokens, for commands that make and revoke them.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.0.auth
    }

    /// Says what is known of the hosts besides their load; replaces what was said before.
    pub fn set_hosts(&self, hosts: Vec<HostDetail>) {
        self.0.source.set_hosts(hosts);
    }

    /// What the sender of a request may do with a repository: for routes that other rooms bring.
    #[must_use]
    pub fn access(&self, parts: &Parts, repository: &str) -> Access {
        let Ok(caller) = Caller::recognise(self, parts) else { return Access::Refused };
        match caller.client.role {
            Role::Nobody => Access::Unknown,
            _ if !caller.client.sees(&RepositoryName(repository.to_owned())) => Access::Hidden,
            Role::Viewer => Access::Read,
            Role::Operator | Role::Admin if caller.sent_from_here().is_err() => Access::Read,
            Role::Operator | Role::Admin => Access::Write,
        }
    }

    /// The name of who sent a request.
    #[must_use]
    pub fn who(&self, parts: &Parts) -> Option<String> {
        let caller = Caller::recognise(self, parts).ok()?;
        Some(caller.client.name).filter(|name| !name.is_empty())
    }

    /// The address of this server as the sender of a request knows it.
    #[must_use]
    pub fn base(&self, parts: &Parts) -> String {
        parts.extensions.get::<Peer>().map_or_else(String::new, |peer| {
            base(self, &peer.behind(&parts.headers, &self.settings.trusted_proxies), parts)
        })
    }

    /// Counts what ends, for the metrics, until the server stops. What a restart interrupts is counted by no one.
    pub async fn count_ends(self) {
        let mut updates = self.source.engine.updates();
        // A record may be told of again after its end.
        let mut counted: VecDeque<(RunId, u32, Option<JobId>)> = VecDeque::new();
        loop {
            let update = tokio::select! {
                () = self.stop.cancelled() => return,
                update = updates.recv() => update,
            };
            let (key, conclusion) = match update {
                Ok(Update::Run {
                    run, attempt, status: RunStatus::Completed, conclusion: Some(conclusion), ..
                }) => ((run, attempt, None), conclusion),
                Ok(Update::Job { run, attempt, job, conclusion: Some(conclusion), .. }) => {
                    ((run, attempt, Some(job)), conclusion)
                }
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            if counted.contains(&key) {
                continue;
            }
            counted.push_back(key);
            if counted.len() > 1024 {
                counted.pop_front();
            }
            match key.2 {
                None => self.metrics.run_ended(conclusion),
                Some(job) => {
                    let store = self.source.store.clone();
                    let record = tokio::task::spawn_blocking(move || store.job(job)).await;
                    self.metrics.job_ended(conclusion, record.ok().and_then(Result::ok).flatten().as_ref());
                }
            }
        }
    }

    /// Environments of a repository: those with rules, and those with secrets or variables.
    pub(super) async fn environments(
        &self,
        repository: &RepositoryName,
    ) -> Result<Vec<(String, EnvironmentRules)>, Fault> {
        let mut all = self.source.environments(repository).await?;
        for name in self.vault.environments(repository)? {
            if all.iter().all(|(known, _)| known.to_lowercase() != name) {
                all.push((name, EnvironmentRules::default()));
            }
        }
        Ok(all)
    }

    /// Says that a new configuration could not be taken; `None` when the one in force is the newest.
    pub fn set_fault(&self, fault: Option<String>) {
        *self.0.fault.write().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Writes a line of the audit log. What cannot be recorded must not happen.
    pub(super) async fn audit(&self, client: &Client, action: &str, subject: &str, detail: &str) -> Result<(), Fault> {
        let record = AuditRecord {
            at: self.clock.now(),
            actor: client.name.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        };
        log::info!(actor = client.name.as_str(), action = action, subject = subject; "audited");
        Ok(self.source.store.audit(&record).await?)
    }
}

/// The sender of a request, recognised.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) peer: Peer,
    pub(super) base: Base,
    pub(super) now: Timestamp,
    pub(super) csrf: String,
    /// A page of another site may have made a browser send this.
    foreign: bool,
}

impl Caller {
    pub(super) fn recognise(app: &App, parts: &Parts) -> Result<Self, Fault> {
        let peer = parts.extensions.get::<Peer>().ok_or(Fault::Broken("the connection has no peer".to_owned()))?;
        let peer = peer.behind(&parts.headers, &app.settings.trusted_proxies);
        let now = app.clock.now();
        let client = app.auth.client(now, &peer, &parts.headers).map_err(Fault::Refused)?;
        let base = Base(base(app, &peer, parts));
        let (csrf, foreign) = (app.auth.csrf(&parts.headers), is_foreign(&parts.headers));
        Ok(Self { client, peer, base, now, csrf, foreign })
    }

    /// What this client may not see does not exist; one that showed nothing is asked who it is.
    pub(super) fn see(&self, repository: &RepositoryName) -> Result<(), Fault> {
        self.at_least(Role::Viewer)?;
        if self.client.sees(repository) { Ok(()) } else { Err(Fault::NotFound) }
    }

    pub(super) fn at_least(&self, role: Role) -> Result<(), Fault> {
        match self.client.role {
            Role::Nobody => Err(Fault::Unauthorized),
            have if have >= role => Ok(()),
            _ => Err(Fault::Forbidden(format!("This needs the role {}.", role.as_str()))),
        }
    }

    /// A change of a repository through the API.
    pub(super) fn change(&self, repository: &RepositoryName, role: Role) -> Result<(), Fault> {
        self.see(repository)?;
        self.at_least(role)?;
        self.sent_from_here()
    }

    /// A look at what belongs to no repository: hosts' addresses, tokens, the audit log. For who sees some repositories
    /// only it does not exist.
    pub(super) fn whole(&self, role: Role) -> Result<(), Fault> {
        self.at_least(Role::Viewer)?;
        if !self.client.sees_all() {
            return Err(Fault::NotFound);
        }
        self.at_least(role)
    }

    /// A change of what belongs to no repository, through the API.
    pub(super) fn change_whole(&self, role: Role) -> Result<(), Fault> {
        self.whole(role)?;
        self.sent_from_here()
    }

    /// What the token of a job may not do, whatever its permissions: read names of secrets, approve, share.
    pub(super) fn not_a_job(&self) -> Result<(), Fault> {
        if self.client.via == Via::Job {
            return Err(Fault::Forbidden("Resource not accessible by integration".to_owned()));
        }
        Ok(())
    }

    /// What a browser sends by itself changes nothing: another site's page could have made it do so.
    fn sent_from_here(&self) -> Result<(), Fault> {
        match self.client.via {
            Via::Session => Err(Fault::Forbidden(
                "The API takes changes with a token only, not with the cookie of pages.".to_owned(),
            )),
            Via::Local | Via::Certificate if self.foreign => {
                Err(Fault::Forbidden("A page of another site asked for this change.".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        Self::recognise(app, parts)
    }
}

fn base(app: &App, peer: &Peer, parts: &Parts) -> String {
    if let Some(url) = &app.settings.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    if let (Origin::Local { .. }, Some(url)) = (&peer.origin, &app.settings.own_url) {
        return url.trim_end_matches('/').to_owned();
    }
    let named = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    let host = named.or_else(|| Some(parts.headers.get(header::HOST)?.to_str().ok()?.to_owned()));
    // It is written into answers: only what a host can be may come back.
    let host = host.filter(|host| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b)));
    format!("{}://{}", if peer.tls { "https" } else { "http" }, host.as_deref().unwrap_or("localhost"))
}

/// The whole address a client asked for; a nested route sees the rest of it only.
#[derive(Clone, Debug)]
pub(super) struct Asked(pub(super) http::Uri);

impl Asked {
    pub(super) fn of(parts: &Parts) -> http::Uri {
        parts.extensions.get::<Self>().map_or_else(|| parts.uri.clone(), |asked| asked.0.clone())
    }
}

impl FromRequestParts<App> for Asked {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        Ok(Self(Self::of(parts)))
    }
}

/// Why a request is not answered as wished; becomes GitHub's error shape.
#[derive(Debug)]
pub(super) enum Fault {
    NotFound,
    /// Nobody said who they are.
    Unauthorized,
    Refused(Refusal),
    Forbidden(String),
    Invalid(String),
    Conflict(String),
    TooLarge,
    /// The disk is full.
    NoSpace(String),
    /// Nothing can be accepted now.
    Unavailable(String),
    Broken(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self::NoSpace(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<DriveError> for Fault {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Store(error) => error.into(),
            DriveError::NoSpace(reason) => Self::NoSpace(reason),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl Fault {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Unauthorized | Self::Refused(Refusal::BadCredentials) => StatusCode::UNAUTHORIZED,
            Self::Refused(Refusal::TooManyFailures) => StatusCode::TOO_MANY_REQUESTS,
            Self::Refused(Refusal::ForeignHost) => StatusCode::MISDIRECTED_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::NotFound => "Not Found".to_owned(),
            Self::Unauthorized => "Requires authentication".to_owned(),
            Self::Refused(Refusal::BadCredentials) => "Bad credentials".to_owned(),
            Self::Refused(Refusal::TooManyFailures) => {
                "Too many wrong tokens from your address. Try again in a minute.".to_owned()
            }
            Self::Refused(Refusal::ForeignHost) => {
                "This server is open on loopback only, under its own name.".to_owned()
            }
            Self::TooLarge => "The body is too large.".to_owned(),
            Self::Forbidden(text)
            | Self::Invalid(text)
            | Self::Conflict(text)
            | Self::NoSpace(text)
            | Self::Unavailable(text) => text.clone(),
            Self::Broken(text) => {
                log::error!(error = text.as_str(); "a request failed");
                "Server Error".to_owned()
            }
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = json!({
            "message": self.message(),
            "documentation_url": "https://docs.github.com/rest",
            "status": status.as_u16().to_string(),
        });
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"towline\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE | StatusCode::TOO_MANY_REQUESTS
        ) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}

/// What the engine answered, as success or fault.
pub(super) fn answered(answer: Answer) -> Result<Answer, Fault> {
    match answer {
        Answer::Unknown(_) => Err(Fault::NotFound),
        Answer::Refused(reason) => Err(Fault::Conflict(reason)),
        good => Ok(good),
    }
}

/// The pairs of the query.
pub(super) fn query(parts: &http::Uri) -> Vec<(String, String)> {
    super::form::pairs(parts.query().unwrap_or_default())
}

/// Whether the client asks for this kind of answer.
pub(super) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| value.to_str().is_ok_and(|value| value.contains(kind)))
}
