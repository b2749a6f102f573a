//! Signing in and out.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::forge::login;
use crate::server::app::{App, Fault, query};
use crate::server::auth::{Auth, is_foreign};
use crate::server::pages::{self, Chrome};

use super::{Visitor, html, see_other};

/// A path on this server, never another site's address.
fn safe_next(next: Option<&str>) -> String {
    let next = next.unwrap_or("/");
    let good =
        next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.chars().any(char::is_control);
    if good { next.to_owned() } else { "/".to_owned() }
}

/// The form to sign in with.
fn login(app: &App, visitor: &Visitor, status: StatusCode, problem: Option<String>, next: String) -> Response {
    let chrome = Chrome { live: false, ..visitor.chrome("") };
    html(status, &pages::Login { chrome, problem, next, github: app.auth.github().is_some() })
}

pub(super) async fn form(State(app): State<App>, visitor: Visitor) -> Response {
    let next = safe_next(super::form::first(&query(&visitor.uri), "next"));
    login(&app, &visitor, StatusCode::OK, None, next)
}

pub(super) async fn sign_in(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Bytes) -> Response {
    let pairs = super::form::pairs(&String::from_utf8_lossy(&body));
    let next = safe_next(super::form::first(&pairs, "next"));
    if is_foreign(&headers) {
        let problem = "Another site sent this form. Sign in here, if you meant to.".to_owned();
        return login(&app, &visitor, StatusCode::FORBIDDEN, Some(problem), "/".to_owned());
    }
    let token = super::form::first(&pairs, "token").unwrap_or_default();
    match app.auth.sign_in(visitor.caller.now, &visitor.caller.peer, token) {
        Ok(cookie) => with_cookie(see_other(&next), &cookie),
        Err(refusal) => {
            let fault = Fault::Refused(refusal);
            let problem = if fault.status() == StatusCode::UNAUTHORIZED {
                "That token is not known.".to_owned()
            } else {
                fault.message()
            };
            login(&app, &visitor, fault.status(), Some(problem), next)
        }
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Where GitHub sends the browser back to.
fn callback(visitor: &Visitor) -> String {
    format!("{}/login/github/callback", visitor.caller.base.0)
}

/// Sends the browser to GitHub.
pub(super) async fn to_github(State(app): State<App>, visitor: Visitor) -> Response {
    let Some(github) = app.auth.github() else { return visitor.fault(&Fault::NotFound) };
    let next = safe_next(super::form::first(&query(&visitor.uri), "next"));
    let departure = app.auth.depart(visitor.caller.now, &visitor.caller.peer, &next);
    let encode = super::form::encode;
    let to = format!(
        "{}/login/oauth/authorize?client_id={}&redirect_uri={}&state={}&code_challenge={}&code_challenge_method=S256&allow_signup=false",
        github.url,
        encode(&github.client_id),
        encode(&callback(&visitor)),
        departure.state,
        departure.challenge,
    );
    with_cookie(see_other(&to), &departure.cookie)
}

/// The browser comes back with a code. Who it is for is asked of GitHub, and looked up on the list.
pub(super) async fn from_github(State(app): State<App>, visitor: Visitor, headers: HeaderMap) -> Response {
    let Some(github) = app.auth.github() else { return visitor.fault(&Fault::NotFound) };
    let pairs = query(&visitor.uri);
    let given = |name| super::form::first(&pairs, name).unwrap_or_default();
    let (now, peer) = (visitor.caller.now, &visitor.caller.peer);
    let refused = |status, problem: String| login(&app, &visitor, status, Some(problem), "/".to_owned());
    let lost = |problem: String| match app.auth.lost_way(now, peer) {
        Ok(()) => refused(StatusCode::FORBIDDEN, problem),
        Err(refusal) => {
            let fault = Fault::Refused(refusal);
            refused(fault.status(), fault.message())
        }
    };
    let Some(arrival) = app.auth.arrive(now, &headers, given("state")) else {
        return lost("That took too long, or began in another browser. Try again.".to_owned());
    };
    if given("code").is_empty() {
        return refused(StatusCode::FORBIDDEN, "GitHub did not sign you in.".to_owned());
    }
    match login::login_of(&github, given("code"), &arrival.verifier, &callback(&visitor)).await {
        Ok(login) => match app.auth.sign_in_github(now, peer, &login) {
            Some(cookie) => {
                log::info!(actor = login.as_str(), peer:% = peer; "{login} signed in through GitHub");
                with_cookie(see_other(&safe_next(Some(&arrival.next))), &cookie)
            }
            None => lost(format!(
                "You are {login} on GitHub, and not on this server's list. Its administrator adds you to `allow` of [server.github_login]."
            )),
        },
        Err(error) => {
            log::warn!(error:% = error; "a sign-in through GitHub failed");
            refused(StatusCode::BAD_GATEWAY, format!("GitHub could not be asked who you are: {error}"))
        }
    }
}

pub(super) async fn sign_out(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Bytes) -> Response {
    let pairs = super::form::pairs(&String::from_utf8_lossy(&body));
    if !app.auth.csrf_is_good(&headers, super::form::first(&pairs, "csrf").unwrap_or_default()) {
        return visitor.fault(&Fault::Forbidden("Go back, reload the page and sign out again.".to_owned()));
    }
    with_cookie(see_other("/login"), &Auth::sign_out())
}
