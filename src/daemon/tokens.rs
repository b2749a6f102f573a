//! `GITHUB_TOKEN` of jobs whose repository is on GitHub and knows our App: made for the job, allowed what `permissions:`
//! says and no more, kept sealed while the job runs, revoked when it ends. GitHub ends such tokens after an hour: a step of
//! a longer job that begins later is given another one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Source, SourceKind};
use crate::forge::{self, Clients, SourceOf};
use crate::id::JobId;
use crate::run::order::Order;
use crate::store::Store;
use crate::vault::Vault;
use crate::workflow::model::{Permission, Permissions};

/// Tokens that outlive the process, sealed.
const SPACE: &str = "job-tokens";
/// How often GitHub is asked before a job goes on without a token.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);
/// A step begins with a token no older than this, so that the step has most of an hour.
const FRESH: SignedDuration = SignedDuration::from_mins(10);

/// The tokens of jobs that run.
#[derive(Clone)]
pub(super) struct JobTokens {
    pub(super) store: Store,
    pub(super) vault: Vault,
    pub(super) source_of: SourceOf,
    pub(super) clients: Clients,
    pub(super) tracker: TaskTracker,
    pub(super) clock: Clock,
    /// The last of each is the one that steps are given.
    pub(super) known: Arc<Mutex<BTreeMap<JobId, Vec<Made>>>>,
}

/// A token, and since when it is one.
#[derive(Clone)]
pub(super) struct Made {
    token: SecretString,
    at: Timestamp,
}

impl JobTokens {
    /// Whether a job gets a token from a forge.
    pub(super) fn concerns(&self, order: &Order) -> bool {
        self.source(order).is_some()
    }

    /// Has a token ready for a job; one that was picked up keeps the one it has. A job whose token cannot be had goes on
    /// without, and says what it lacks where it needs it.
    pub(super) async fn prepare(&self, order: &Order) {
        let Some(source) = self.source(order) else { return };
        match self.stored(order.job) {
            Ok(Some(made)) => {
                self.known().insert(order.job, vec![made]);
                return;
            }
            Ok(None) => {}
            Err(reason) => log::warn!(job = order.job.0; "the token of job {} cannot be opened: {reason}", order.job),
        }
        for attempt in 1..=TRIES {
            match self.another(&source, order).await {
                Ok(_) => return,
                Err(error) if error.is_transient() && attempt < TRIES => tokio::time::sleep(PAUSE * attempt).await,
                Err(error) => {
                    log::error!(job = order.job.0; "job {} has no GITHUB_TOKEN: {error}", order.job);
                    return;
                }
            }
        }
    }

    /// Another token in place of `current`, if that is one of ours and ends before long. One that cannot be had now is asked
    /// for again with the next step.
    pub(super) async fn renewed(&self, order: &Order, current: &str) -> Option<SecretString> {
        let now = self.clock.now();
        let ours = |made: &Made| made.token.expose_secret() == current;
        let old = |made: &Made| now.duration_since(made.at) >= FRESH || now < made.at;
        if !self.known().get(&order.job)?.last().is_some_and(|made| ours(made) && old(made)) {
            return None;
        }
        let source = self.source(order)?;
        match self.another(&source, order).await {
            Ok(token) => Some(token),
            Err(error) => {
                log::warn!(job = order.job.0; "job {} keeps the token it has: {error}", order.job);
                None
            }
        }
    }

    /// Makes a token and keeps it.
    async fn another(&self, source: &Source, order: &Order) -> Result<SecretString, forge::Error> {
        let token = self.made(source, &permissions(order.permissions.as_ref(), order.is_from_fork())).await?;
        let made = Made { token: token.clone(), at: self.clock.now() };
        if let Err(reason) = self.keep(order.job, &made).await {
            log::warn!(job = order.job.0; "the token of job {} is lost with a restart: {reason}", order.job);
        }
        self.known().entry(order.job).or_default().push(made);
        Ok(token)
    }

    async fn made(&self, source: &Source, wanted: &BTreeMap<String, String>) -> Result<SecretString, forge::Error> {
        match self.clients.of(source)?.job_token(wanted).await {
            Err(error) if error.is_about_credentials() => {
                self.clients.forget(source);
                self.clients.of(source)?.job_token(wanted).await
            }
            made => made,
        }
    }

    /// The token of a job.
    pub(super) fn of(&self, job: JobId) -> Option<SecretString> {
        self.known().get(&job)?.last().map(|made| made.token.clone())
    }

    /// Revokes the token of a job that ended, in the background: it ends by itself within the hour.
    pub(super) fn ended(&self, order: &Order) {
        let Some(all) = self.known().remove(&order.job) else { return };
        let (tokens, job, source) = (self.clone(), order.job, self.source(order));
        self.tracker.spawn(async move {
            // Those that were replaced may serve a step in the background until now.
            let hour = SignedDuration::from_hours(1);
            for made in all.into_iter().filter(|made| tokens.clock.now().duration_since(made.at) < hour) {
                let revoked = match source.as_ref().map(|source| tokens.clients.of(source)) {
                    Some(Ok(client)) => client.revoke(&made.token).await,
                    Some(Err(error)) => Err(error),
                    None => Ok(()),
                };
                if let Err(error) = revoked {
                    log::warn!(job = job.0; "a token of job {job} ends by itself: {error}");
                }
            }
            if let Err(error) = tokens.store.delete(SPACE, &job.to_string()).await {
                log::warn!(job = job.0; "the sealed token of job {job} stays: {error}");
            }
        });
    }

    fn source(&self, order: &Order) -> Option<Source> {
        let source = (self.source_of)(&order.repository)?;
        (source.kind == SourceKind::GitHub && source.app.is_some()).then_some(source)
    }

    fn stored(&self, job: JobId) -> Result<Option<Made>, String> {
        let sealed = self.store.get(SPACE, &job.to_string()).map_err(|error| error.to_string())?;
        let Some(sealed) = sealed else { return Ok(None) };
        let opened = self.vault.open(&name(job), &sealed).map_err(|error| error.to_string())?;
        let text = String::from_utf8(opened.to_vec()).map_err(|error| error.to_string())?;
        // When it was made is in front; of one without that nobody knows, so it is old.
        let (at, token) = text.split_once(' ').unwrap_or(("", &text));
        let at = at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Some(Made { token: SecretString::from(token.to_owned()), at }))
    }

    async fn keep(&self, job: JobId, made: &Made) -> Result<(), String> {
        let text = SecretString::from(format!("{} {}", made.at, made.token.expose_secret()));
        let sealed = self.vault.seal(&name(job), text.expose_secret().as_bytes()).map_err(|error| error.to_string())?;
        self.store.put(SPACE, &job.to_string(), &sealed).await.map_err(|error| error.to_string())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<JobId, Vec<Made>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(job: JobId) -> String {
    format!("job-token/{job}")
}

/// What `permissions:` asks for, in the words of Apps (S4). `*` stands for all that the App has. Without `permissions` a
/// job reads contents and packages, as in a new repository on GitHub; one from a fork only ever reads (T7).
fn permissions(asked: Option<&Permissions>, is_fork: bool) -> BTreeMap<String, String> {
    let word = |level: Permission| match level {
        Permission::None => None,
        Permission::Read => Some("read".to_owned()),
        Permission::Write => Some(if is_fork { "read" } else { "write" }.to_owned()),
    };
    let mut wanted: BTreeMap<String, String> = match asked {
        None => ["contents", "packages"].into_iter().map(|scope| (scope.to_owned(), "read".to_owned())).collect(),
        Some(Permissions::ReadAll) => BTreeMap::from([("*".to_owned(), "read".to_owned())]),
        Some(Permissions::WriteAll) => {
            word(Permission::Write).map(|level| ("*".to_owned(), level)).into_iter().collect()
        }
        Some(Permissions::Scopes(scopes)) => scopes
            .iter()
            // Of the daemon itself, not of GitHub's API.
            .filter(|(scope, _)| !matches!(scope.as_str(), "id-token" | "models" | "copilot-requests"))
            .filter_map(|(scope, level)| Some((scope.replace('-', "_"), word(*level)?)))
            .collect(),
    };
    wanted.insert("metadata".to_owned(), "read".to_owned());
    wanted
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::permissions;
    use crate::workflow::model::{Permission, Permissions};

    #[test]
    fn s4_permissions_become_those_of_an_app() {
        let scopes = IndexMap::from([
            ("contents".to_owned(), Permission::Read),
            ("pull-requests".to_owned(), Permission::Write),
            ("issues".to_owned(), Permission::None),
            ("id-token".to_owned(), Permission::Write),
        ]);
        let asked = Permissions::Scopes(scopes);
        let told = |asked: Option<&Permissions>, fork: bool| {
            let pairs: Vec<String> =
                permissions(asked, fork).iter().map(|(scope, level)| format!("{scope}:{level}")).collect();
            pairs.join(" ")
        };
        assert_eq!(told(Some(&asked), false), "contents:read metadata:read pull_requests:write");
        assert_eq!(told(Some(&asked), true), "contents:read metadata:read pull_requests:read");
        assert_eq!(told(None, false), "contents:read metadata:read packages:read");
        assert_eq!(told(Some(&Permissions::WriteAll), false), "*:write metadata:read");
        assert_eq!(told(Some(&Permissions::Scopes(IndexMap::new())), false), "metadata:read");
    }
}
