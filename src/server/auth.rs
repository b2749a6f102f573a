//! Who may do what: tokens, sessions, certificates, local clients; and what a wrong guess costs.

mod github;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use jiff::{Timestamp, ToSpan};

use crate::config::{self, GitHubLogin};
use crate::id::{RepositoryName, RunId};
use crate::services::{JobClient, Services, shown};
use crate::store::{self, Store, StoreError, TokenRecord};

use super::Error;
use super::peer::{Origin, Peer};

pub use github::Departure;

/// What a client may do, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Nothing: not signed in.
    Nobody,
    /// Reads.
    Viewer,
    /// Starts, cancels, approves.
    Operator,
    /// Everything: hosts, secrets, tokens.
    Admin,
}

impl Role {
    /// The word used in commands and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl From<store::Role> for Role {
    fn from(role: store::Role) -> Self {
        match role {
            store::Role::Viewer => Self::Viewer,
            store::Role::Operator => Self::Operator,
            store::Role::Admin => Self::Admin,
        }
    }
}

impl From<config::Role> for Role {
    fn from(role: config::Role) -> Self {
        match role {
            config::Role::Viewer => Self::Viewer,
            config::Role::Operator => Self::Operator,
            config::Role::Admin => Self::Admin,
        }
    }
}

/// `viewer`, `operator`, `admin`.
///
/// # Errors
/// A sentence that names the roles.
pub fn role(word: &str) -> Result<store::Role, String> {
    match word {
        "viewer" => Ok(store::Role::Viewer),
        "operator" => Ok(store::Role::Operator),
        "admin" => Ok(store::Role::Admin),
        other => Err(format!("{other:?} is not a role; there are viewer, operator and admin")),
    }
}

/// Whether network clients need a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everyone does, except over the unix socket.
    Tokens,
    /// Clients on loopback are administrators. For a demo or a machine with one user; others still need a token.
    OpenOnLoopback,
}

/// Who sends a request, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub name: String,
    pub role: Role,
    /// The repositories this client sees; empty: all.
    pub repositories: Vec<RepositoryName>,
    pub via: Via,
}

/// How a client was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    Nothing,
    /// The unix socket, or loopback where that is open.
    Local,
    Token,
    /// The cookie of the pages.
    Session,
    /// A certificate of the client's.
    Certificate,
    /// The token of a job, for as long as it runs.
    Job,
    /// A share link: one run may be looked at, nothing else.
    Share(RunId),
}

impl Client {
    /// A client that showed nothing.
    #[must_use]
    pub fn nobody() -> Self {
        Self { name: "anonymous".to_owned(), role: Role::Nobody, repositories: Vec::new(), via: Via::Nothing }
    }

    /// Whether no repository is hidden from this client: counts and lists over all of them are its to see.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.role > Role::Nobody && self.repositories.is_empty()
    }

    /// Whether this client may look at a run, as one who sees its repository or by a share link.
    #[must_use]
    pub fn sees_run(&self, repository: &RepositoryName, run: RunId) -> bool {
        self.via == Via::Share(run) || self.sees(repository)
    }

    /// Whether this client may know of a repository. What it may not see does not exist for it.
    #[must_use]
    pub fn sees(&self, repository: &RepositoryName) -> bool {
        self.role > Role::Nobody
            && (self.repositories.is_empty()
                || self.repositories.iter().any(|one| one.as_str().eq_ignore_ascii_case(repository.as_str())))
    }
}

/// Why a client was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A token that is not known, or no longer.
    BadCredentials,
    /// Too many wrong ones from this address.
    TooManyFailures,
    /// The request names a host that is not ours: another site's page may be behind it.
    ForeignHost,
}

/// Who is let in by something else than a token of ours; from the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admissions {
    /// Common name of a certificate → role; `*` stands for all others.
    pub certificates: BTreeMap<String, config::Role>,
    pub github: Option<GitHubLogin>,
}

/// The tokens in the store, and the key of sessions in the state directory.
pub struct Auth {
    mode: Mode,
    /// What a client without a token may do on the network; viewer when reading is open to all.
    anonymous: Role,
    store: Store,
    key: hmac::Key,
    failures: Mutex<HashMap<IpAddr, (u32, Timestamp)>>,
    /// Hosts that requests may name when no token protects them, besides loopback names.
    own_hosts: Vec<String>,
    /// Who knows the tokens of jobs that run.
    jobs: Option<Services>,
    admissions: RwLock<Admissions>,
}

const COOKIE: &str = "towline";
const SHARE_COOKIE: &str = "towline-share";
/// Wrong tokens from one address in a minute before it is answered 429.
const FAILURE_LIMIT: u32 = 20;

impl Auth {
    /// Takes the tokens of `store` and opens (or makes) `session.key` in `folder`.
    ///
    /// # Errors
    /// The key cannot be written.
    pub fn open(
        folder: &Path,
        store: Store,
        mode: Mode,
        open_reads: bool,
        own_hosts: Vec<String>,
    ) -> Result<Self, Error> {
        let key_path = folder.join("session.key");
        let key = match std::fs::read(&key_path) {
            Ok(key) if key.len() == 32 => key,
            _ => {
                let key = random().to_vec();
                super::tls::write(&key_path, &key, 0o600)?;
                key
            }
        };
        Ok(Self {
            mode,
            anonymous: if open_reads { Role::Viewer } else { Role::Nobody },
            store,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            failures: Mutex::default(),
            own_hosts,
            jobs: None,
            admissions: RwLock::default(),
        })
    }

    /// Says who else is let in; whoever is not named any more is out at once.
    pub fn admit(&self, admissions: Admissions) {
        *self.admissions.write().unwrap_or_else(PoisonError::into_inner) = admissions;
    }

    /// Lets jobs in by their tokens.
    #[must_use]
    pub fn with_jobs(self, services: Services) -> Self {
        Self { jobs: Some(services), ..self }
    }

    /// What jobs left and fetch.
    pub(super) fn services(&self) -> Option<&Services> {
        self.jobs.as_ref()
    }

    /// Makes a token and returns its value, which is shown this once. A token of the same name is replaced.
    ///
    /// # Errors
    /// The store cannot be written; nothing changed then.
    pub async fn create(
        &self,
        now: Timestamp,
        name: &str,
        role: store::Role,
        repositories: Vec<RepositoryName>,
        expires_at: Option<Timestamp>,
    ) -> Result<String, StoreError> {
        let value = format!("twl_{}", URL_SAFE_NO_PAD.encode(random()));
        let hash = hashed(&value);
        let before = self.store.tokens()?;
        let record = TokenRecord {
            hash,
            name: name.to_owned(),
            role,
            repositories,
            created_at: now,
            expires_at,
            last_used_at: None,
        };
        self.store.put_token(&record).await?;
        for old in before.iter().filter(|old| old.name == name) {
            self.store.delete_token(&old.hash).await?;
        }
        Ok(value)
    }

    /// Forgets a token; its sessions end with it. Says whether there was one.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn revoke(&self, name: &str) -> Result<bool, StoreError> {
        let mut found = false;
        for token in self.store.tokens()?.iter().filter(|token| token.name == name) {
            self.store.delete_token(&token.hash).await?;
            found = true;
        }
        Ok(found)
    }

    /// Says who sends a request.
    ///
    /// # Errors
    /// A token was shown and is not good, or the request is not meant for us.
    pub fn client(&self, now: Timestamp, peer: &Peer, headers: &HeaderMap) -> Result<Client, Refusal> {
        if let Origin::Local { uid, .. } = peer.origin {
            return Ok(local(&format!("uid:{uid}")));
        }
        let address = match peer.origin {
            Origin::Network(address) => address.ip().to_canonical(),
            Origin::Local { .. } => return Err(Refusal::ForeignHost),
        };
        if let Some(value) = shown(headers) {
            // A job's token is checked apart: what another job on the same loopback guesses wrong must not block it.
            match self.jobs.as_ref().and_then(|jobs| jobs.job_client(&value)) {
                Some(Ok(job)) => return Ok(of_job(job)),
                Some(Err(())) => return Err(Refusal::BadCredentials),
                None => {}
            }
            if self.is_blocked(now, address) {
                return Err(Refusal::TooManyFailures);
            }
            return self.by_token(now, &value).ok_or_else(|| {
                self.failed(now, address);
                Refusal::BadCredentials
            });
        }
        if let Some(client) = cookie(headers, COOKIE).and_then(|cookie| self.by_cookie(now, cookie)) {
            return Ok(client);
        }
        if let Some(client) = peer.certificate.as_deref().and_then(|name| self.by_certificate(name)) {
            return Ok(client);
        }
        if self.mode == Mode::OpenOnLoopback && peer.is_loopback() {
            return if self.names_us(headers) { Ok(local("local")) } else { Err(Refusal::ForeignHost) };
        }
        if self.anonymous == Role::Nobody
            && let Some(run) = cookie(headers, SHARE_COOKIE).and_then(|cookie| self.shared_run(now, cookie))
        {
            return Ok(Client { name: "a share link".to_owned(), via: Via::Share(run), ..Client::nobody() });
        }
        Ok(Client { role: self.anonymous, ..Client::nobody() })
    }

    /// A key that shows one run to whoever has it, until a time. It is signed, not kept: it cannot be taken back.
    #[must_use]
    pub fn share_key(&self, run: RunId, until: Timestamp) -> String {
        let payload = format!("{run}.{}", until.as_second());
        let mac = hmac::sign(&self.key, format!("share.{payload}").as_bytes());
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// The run that a key shows; `None` when it is not ours or its time is over.
    #[must_use]
    pub fn shared_run(&self, now: Timestamp, key: &str) -> Option<RunId> {
        let (payload, mac) = key.rsplit_once('.')?;
        hmac::verify(&self.key, format!("share.{payload}").as_bytes(), &URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        let (run, until) = payload.split_once('.')?;
        let in_time = until.parse::<i64>().ok()? >= now.as_second();
        in_time.then(|| run.parse().ok().map(RunId)).flatten()
    }

    /// The cookie by which a browser keeps such a key.
    #[must_use]
    pub fn share_cookie(peer: &Peer, key: &str) -> String {
        let secure = if peer.tls { "; Secure" } else { "" };
        format!("{SHARE_COOKIE}={key}; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000{secure}")
    }

    /// A page of another site must not reach an open server by a name it controls (DNS rebinding).
    fn names_us(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return true };
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(name, _)| name);
        let name = name.trim_matches(['[', ']']).to_ascii_lowercase();
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.own_hosts.iter().any(|own| own.eq_ignore_ascii_case(&name))
    }

    /// The value has 256 random bits: looking its hash up tells a guesser nothing.
    fn by_token(&self, now: Timestamp, value: &str) -> Option<Client> {
        self.known(now, &hashed(value), Via::Token)
    }

    fn by_cookie(&self, now: Timestamp, cookie: &str) -> Option<Client> {
        let (payload, mac) = cookie.rsplit_once('.')?;
        hmac::verify(&self.key, payload.as_bytes(), &URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        let (who, until) = payload.split_once('.')?;
        if until.parse::<i64>().ok()? < now.as_second() {
            return None;
        }
        match who.strip_prefix(github::PREFIX) {
            Some(login) => self.by_github(login),
            None => self.known(now, who, Via::Session),
        }
    }

    /// A certificate that the handshake has verified.
    fn by_certificate(&self, name: &str) -> Option<Client> {
        let admissions = self.admissions.read().unwrap_or_else(PoisonError::into_inner);
        let roles = &admissions.certificates;
        // Who has no name of their own cannot take that of all others.
        let role = roles.get(name).filter(|_| name != "*").or_else(|| roles.get("*"))?;
        Some(Client { name: name.to_owned(), role: (*role).into(), repositories: Vec::new(), via: Via::Certificate })
    }

    /// The cookie of a session, good for 30 days.
    fn session(&self, now: Timestamp, peer: &Peer, who: &str) -> String {
        let payload = format!("{who}.{}", (now + (24 * 30).hours()).as_second());
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, payload.as_bytes()));
        let secure = if peer.tls { "; Secure" } else { "" };
        format!("{COOKIE}={payload}.{mac}; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000{secure}")
    }

    fn known(&self, now: Timestamp, hash: &str, via: Via) -> Option<Client> {
        let token = match self.store.token(hash) {
            Ok(token) => token?,
            Err(error) => {
                log::error!(error:% = error; "cannot read tokens");
                return None;
            }
        };
        let good = token.expires_at.is_none_or(|until| now < until);
        good.then(|| Client { name: token.name, role: token.role.into(), repositories: token.repositories, via })
    }

    /// Signs an address that may be fetched without credentials until a time.
    #[must_use]
    pub fn sign(&self, path: &str, until: Timestamp) -> String {
        let mac = hmac::sign(&self.key, format!("url.{path}.{}", until.as_second()).as_bytes());
        format!("{path}?until={}&sig={}", until.as_second(), URL_SAFE_NO_PAD.encode(mac))
    }

    /// Whether such an address is ours and still good.
    #[must_use]
    pub fn is_signed(&self, now: Timestamp, path: &str, until: &str, signature: &str) -> bool {
        let in_time = until.parse::<i64>().is_ok_and(|until| now.as_second() <= until);
        let mac = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        in_time && hmac::verify(&self.key, format!("url.{path}.{until}").as_bytes(), &mac).is_ok()
    }

    /// Checks a token for signing in and gives the cookie of the session, good for 30 days.
    ///
    /// # Errors
    /// The token is not good.
    pub fn sign_in(&self, now: Timestamp, peer: &Peer, token: &str) -> Result<String, Refusal> {
        let address = match peer.origin {
            Origin::Network(address) => address.ip().to_canonical(),
            Origin::Local { .. } => return Err(Refusal::BadCredentials),
        };
        if self.is_blocked(now, address) {
            return Err(Refusal::TooManyFailures);
        }
        if self.by_token(now, token.trim()).is_none() {
            self.failed(now, address);
            return Err(Refusal::BadCredentials);
        }
        Ok(self.session(now, peer, &hashed(token.trim())))
    }

    /// The cookie that ends a session.
    #[must_use]
    pub fn sign_out() -> String {
        format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")
    }

    /// What a form must carry so that another site cannot send it. Bound to the session.
    #[must_use]
    pub fn csrf(&self, headers: &HeaderMap) -> String {
        let bound = cookie(headers, COOKIE).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, format!("csrf.{bound}").as_bytes()))
    }

    /// Whether a form was made by us for this session, and sent from our own page.
    #[must_use]
    pub fn csrf_is_good(&self, headers: &HeaderMap, sent: &str) -> bool {
        let site = headers.get("sec-fetch-site");
        let foreign = site.is_some_and(|site| site != "same-origin" && site != "none");
        !foreign && same(&self.csrf(headers), sent)
    }

    fn is_blocked(&self, now: Timestamp, address: IpAddr) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&address).is_some_and(|(count, since)| *count >= FAILURE_LIMIT && now < *since + 1.minute())
    }

    fn failed(&self, now: Timestamp, address: IpAddr) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() > 4096 {
            failures.retain(|_, (_, since)| now < *since + 1.minute());
        }
        let entry = failures.entry(address).or_insert((0, now));
        if now >= entry.1 + 1.minute() {
            *entry = (0, now);
        }
        entry.0 += 1;
        if entry.0 == FAILURE_LIMIT {
            log::warn!(peer:% = address; "too many wrong tokens from one address");
        }
    }
}

/// Whether a page of another site may have made a browser send this. What a browser adds by itself (a certificate, being
/// on this machine) proves nothing then. Programs say nothing of a site.
#[must_use]
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let header = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = header(header::ORIGIN) else { return false };
    let named = origin.split_once("://").map(|(_, host)| host);
    named.is_none() || named != header(header::HOST)
}

fn local(name: &str) -> Client {
    Client { name: name.to_owned(), role: Role::Admin, repositories: Vec::new(), via: Via::Local }
}

/// A job reads its own repository, and changes runs if its permissions say so.
fn of_job(job: JobClient) -> Client {
    let role = if job.may_write("actions") { Role::Operator } else { Role::Viewer };
    Client {
        name: "github-actions[bot]".to_owned(),
        role,
        repositories: vec![RepositoryName(job.repository)],
        via: Via::Job,
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|one| one.trim().strip_prefix(name)?.strip_prefix('='))
}

fn hashed(value: &str) -> String {
    let digest = digest::digest(&digest::SHA256, value.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same(a: &str, b: &str) -> bool {
    constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}
