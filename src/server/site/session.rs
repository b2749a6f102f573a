//! Signing in and out.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::server::app::{App, Fault, query};
use crate::server::auth::Auth;
use crate::server::pages::{self, Chrome};

use super::{Visitor, html, see_other};

/// A path on this server, never another site's address.
fn safe_next(next: Option<&str>) -> String {
    let next = next.unwrap_or("/");
    let good =
        next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.chars().any(char::is_control);
    if good { next.to_owned() } else { "/".to_owned() }
}

pub(super) async fn form(visitor: Visitor) -> Response {
    let next = safe_next(super::form::first(&query(&visitor.uri), "next"));
    let chrome = Chrome { live: false, ..visitor.chrome("") };
    html(StatusCode::OK, &pages::Login { chrome, problem: None, next })
}

pub(super) async fn sign_in(State(app): State<App>, visitor: Visitor, body: Bytes) -> Response {
    let pairs = super::form::pairs(&String::from_utf8_lossy(&body));
    let next = safe_next(super::form::first(&pairs, "next"));
    let token = super::form::first(&pairs, "token").unwrap_or_default();
    match app.auth.sign_in(visitor.caller.now, &visitor.caller.peer, token) {
        Ok(cookie) => {
            let mut response = see_other(&next);
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(refusal) => {
            let fault = Fault::Refused(refusal);
            let problem = if fault.status() == StatusCode::UNAUTHORIZED {
                "That token is not known.".to_owned()
            } else {
                fault.message()
            };
            let chrome = Chrome { live: false, ..visitor.chrome("") };
            html(fault.status(), &pages::Login { chrome, problem: Some(problem), next })
        }
    }
}

pub(super) async fn sign_out(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Bytes) -> Response {
    let pairs = super::form::pairs(&String::from_utf8_lossy(&body));
    if !app.auth.csrf_is_good(&headers, super::form::first(&pairs, "csrf").unwrap_or_default()) {
        return visitor.fault(&Fault::Forbidden("Go back, reload the page and sign out again.".to_owned()));
    }
    let mut response = see_other("/login");
    if let Ok(cookie) = HeaderValue::from_str(&Auth::sign_out()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
