//! Secrets, variables and environments; tokens; the audit log. Values of secrets only come in.

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use jiff::SignedDuration;

use crate::engine::record::EnvironmentRules;
use crate::id::RepositoryName;
use crate::server::access::OwnerName;
use crate::server::api::lists::Page;
use crate::server::app::{App, Caller, Fault, query};
use crate::server::auth::{self, Role};
use crate::server::pages::{self, LevelCard};
use crate::server::{access, deeds};
use crate::vault::{Kind, Level};

use super::{Sent, Visitor, html};

fn card(
    app: &App,
    repository: Option<&RepositoryName>,
    environment: Option<(String, EnvironmentRules)>,
) -> Result<LevelCard, Fault> {
    let level = level(repository.cloned(), environment.as_ref().map(|(name, _)| name.clone()));
    let (name, rules) = environment.map_or((None, None), |(name, rules)| (Some(name), Some(rules)));
    let (secrets, variables) = (app.vault.list(Kind::Secret, &level)?, app.vault.list(Kind::Variable, &level)?);
    Ok(LevelCard { environment: name, rules, secrets, variables })
}

fn level(repository: Option<RepositoryName>, environment: Option<String>) -> Level {
    match (repository, environment) {
        (Some(repository), Some(environment)) => Level::Environment(repository, environment),
        (Some(repository), None) => Level::Repository(repository),
        (None, _) => Level::Global,
    }
}

/// What all repositories share, and the way to each of them.
pub(super) async fn all(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.caller.at_least(Role::Operator)?;
        let mut repositories = app.source.repositories().await?;
        repositories.retain(|one| visitor.caller.client.sees(one) && one.as_str() != deeds::SCRIPTS);
        let sees_all = visitor.caller.client.sees_all();
        let levels = if sees_all { vec![card(&app, None, None)?] } else { Vec::new() };
        let may_change = sees_all && visitor.caller.client.role >= Role::Admin;
        Ok(pages::Settings {
            chrome: visitor.chrome("Settings"),
            repository: None,
            repositories,
            levels,
            may_change,
            may_rule: false,
        })
    };
    visitor.show(page.await)
}

pub(super) async fn of_repository(State(app): State<App>, visitor: Visitor, Path(path): Path<OwnerName>) -> Response {
    let page = async {
        let repository = access::repository(&app, &visitor.caller, path).await?;
        visitor.caller.at_least(Role::Operator)?;
        let mut levels = vec![card(&app, Some(&repository), None)?];
        for environment in app.environments(&repository).await? {
            levels.push(card(&app, Some(&repository), Some(environment))?);
        }
        Ok(pages::Settings {
            chrome: visitor.chrome("Settings"),
            repository: Some(repository),
            repositories: Vec::new(),
            levels,
            may_change: true,
            may_rule: visitor.caller.client.role >= Role::Admin,
        })
    };
    visitor.show(page.await)
}

/// The repository whose settings are to be changed, and by whom it may be.
async fn changed(app: &App, caller: &Caller, path: Option<OwnerName>) -> Result<Option<RepositoryName>, Fault> {
    let Some(path) = path else {
        caller.whole(Role::Admin)?;
        return Ok(None);
    };
    Ok(Some(access::repository(app, caller, path).await?))
}

fn back_to(repository: Option<&RepositoryName>) -> String {
    repository.map_or_else(|| "/settings".to_owned(), pages::settings_path)
}

async fn value(app: &App, sent: &Sent, path: Option<OwnerName>, kind: Kind) -> Response {
    let done = async {
        let repository = changed(app, sent.caller(), path).await?;
        let back = back_to(repository.as_ref());
        let environment = Some(sent.text("environment").to_owned()).filter(|name| !name.is_empty());
        let (level, name) = (level(repository, environment), sent.text("name").trim());
        if sent.text("remove").is_empty() {
            // A browser sends line ends of its own.
            let value = sent.text("value").replace("\r\n", "\n");
            deeds::set_value(app, sent.caller(), kind, &level, name, &value).await?;
        } else {
            deeds::remove_value(app, sent.caller(), kind, &level, name).await?;
        }
        Ok(back)
    };
    sent.back(done.await)
}

pub(super) async fn secret(State(app): State<App>, Path(path): Path<OwnerName>, sent: Sent) -> Response {
    value(&app, &sent, Some(path), Kind::Secret).await
}

pub(super) async fn variable(State(app): State<App>, Path(path): Path<OwnerName>, sent: Sent) -> Response {
    value(&app, &sent, Some(path), Kind::Variable).await
}

pub(super) async fn global_secret(State(app): State<App>, sent: Sent) -> Response {
    value(&app, &sent, None, Kind::Secret).await
}

pub(super) async fn global_variable(State(app): State<App>, sent: Sent) -> Response {
    value(&app, &sent, None, Kind::Variable).await
}

pub(super) async fn environment(State(app): State<App>, Path(path): Path<OwnerName>, sent: Sent) -> Response {
    let done = async {
        let repository = access::repository(&app, sent.caller(), path).await?;
        sent.caller().at_least(Role::Admin)?;
        let words = |name: &str| {
            sent.text(name)
                .split([',', '\n', ' ', '\r'])
                .map(str::trim)
                .filter(|one| !one.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let wait = sent.text("wait").trim();
        let rules = sent.text("remove").is_empty().then(|| {
            Ok::<_, Fault>(EnvironmentRules {
                reviewers: words("reviewers"),
                prevent_self_review: !sent.text("prevent_self_review").is_empty(),
                wait_minutes: if wait.is_empty() { Some(0) } else { wait.parse().ok() }
                    .ok_or_else(|| Fault::Invalid("The wait is a number of minutes.".to_owned()))?,
                branches: words("branches"),
            })
        });
        let name = sent.text("environment").trim();
        deeds::set_environment(&app, sent.caller(), &repository, name, rules.transpose()?).await?;
        Ok(pages::settings_path(&repository))
    };
    sent.back(done.await)
}

async fn token_page(app: &App, visitor: &Visitor, made: Option<(String, String)>) -> Result<pages::Tokens, Fault> {
    visitor.caller.whole(Role::Admin)?;
    let mut tokens = app.source.store.tokens()?;
    tokens.sort_by(|a, b| a.name.cmp(&b.name));
    let repositories = app.source.repositories().await?;
    Ok(pages::Tokens { chrome: visitor.chrome("Settings"), tokens, repositories, made })
}

pub(super) async fn tokens(State(app): State<App>, visitor: Visitor) -> Response {
    visitor.show(token_page(&app, &visitor, None).await)
}

/// Makes a token; the answer is the only page that ever shows it.
pub(super) async fn create_token(State(app): State<App>, sent: Sent) -> Response {
    let done = async {
        sent.caller().whole(Role::Admin)?;
        let role = auth::role(sent.text("role")).map_err(Fault::Invalid)?;
        let days: i64 = sent.text("days").parse().unwrap_or(0);
        let expires_at = (days > 0)
            .then(|| sent.caller().now.checked_add(SignedDuration::from_hours(days.saturating_mul(24))))
            .transpose()
            .map_err(|_| Fault::Invalid("That is too far away.".to_owned()))?;
        let chosen = sent.pairs.iter().filter(|(name, value)| name == "repository" && !value.is_empty());
        let repositories = chosen.map(|(_, value)| RepositoryName(value.clone())).collect();
        let name = sent.text("name").trim().to_owned();
        let value = deeds::create_token(&app, sent.caller(), &name, role, repositories, expires_at).await?;
        token_page(&app, &sent.visitor, Some((name, value))).await
    };
    match done.await {
        Ok(page) => html(StatusCode::CREATED, &page),
        Err(fault) => sent.visitor.fault(&fault),
    }
}

pub(super) async fn revoke_token(State(app): State<App>, sent: Sent) -> Response {
    let done = async {
        sent.caller().whole(Role::Admin)?;
        deeds::revoke_token(&app, sent.caller(), sent.text("name")).await?;
        Ok("/tokens".to_owned())
    };
    sent.back(done.await)
}

pub(super) async fn audit(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.caller.whole(Role::Admin)?;
        let pairs = query(&visitor.uri);
        let page = Page { size: 100, ..Page::of(&pairs) };
        let mut lines = app.source.audit_log(page.skip(), page.size + 1).await?;
        let more = lines.len() > page.size;
        lines.truncate(page.size);
        Ok(pages::Audit {
            chrome: visitor.chrome("Settings"),
            lines,
            previous: (page.number > 1).then(|| format!("?page={}", page.number - 1)),
            next: more.then(|| format!("?page={}", page.number + 1)),
        })
    };
    visitor.show(page.await)
}

/// Leads a browser that has the key of a share link to its run, and lets it look at that run only.
pub(super) async fn shared(State(app): State<App>, visitor: Visitor, Path(key): Path<String>) -> Response {
    let found = async {
        let run = app.auth.shared_run(visitor.caller.now, &key).ok_or(Fault::NotFound)?;
        app.source.run(run).await?.ok_or(Fault::NotFound)
    };
    match found.await {
        Ok(run) => {
            let mut response = super::see_other(&pages::run_path(&run));
            let cookie = auth::Auth::share_cookie(&visitor.caller.peer, &key);
            if let Ok(cookie) = http::HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(http::header::SET_COOKIE, cookie);
            }
            response
        }
        Err(Fault::NotFound) => visitor.message(
            StatusCode::NOT_FOUND,
            "This link shows nothing",
            "It was cut, its time is over, or the run is gone. Ask who sent it for another.",
        ),
        Err(fault) => visitor.fault(&fault),
    }
}

/// Makes a share link; the answer shows it.
pub(super) async fn share(
    State(app): State<App>,
    Path((owner, name, id)): Path<super::runs::RunPath>,
    sent: Sent,
) -> Response {
    let done = async {
        let run = access::run(&app, sent.caller(), (owner, name), id).await?;
        let hours = sent.text("hours").parse::<i64>().unwrap_or(24 * 7).clamp(1, 24 * 90);
        let path = deeds::share(&app, sent.caller(), &run, hours).await?;
        let chrome = pages::Chrome { live: false, ..sent.visitor.chrome("Runs") };
        let link = format!("{}{path}", sent.caller().base.0);
        Ok(pages::Shared { until: sent.caller().now + SignedDuration::from_hours(hours), chrome, run, link })
    };
    sent.visitor.show(done.await)
}
