//! Asks GitHub who somebody is, with the code that their browser brought (OAuth's web flow with PKCE).

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};

use super::{Error, http as web};
use crate::config::GitHubLogin;

/// What is read of an answer.
const LARGEST_ANSWER: usize = 1 << 20;

/// The login of whoever a code is for. The token that GitHub gives for it is forgotten at once.
///
/// # Errors
/// GitHub cannot be reached, does not take the code, or the secret cannot be read.
pub(crate) async fn login_of(
    github: &GitHubLogin,
    code: &str,
    verifier: &str,
    redirect_uri: &str,
) -> Result<String, Error> {
    let secret = github.client_secret.read()?;
    let asked = json!({
        "client_id": github.client_id,
        "client_secret": secret.expose_secret(),
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    });
    let answer = ask(Method::POST, format!("{}/login/oauth/access_token", github.url), None, &asked).await?;
    // GitHub says what is wrong in an answer of 200.
    let Some(token) = answer["access_token"].as_str() else {
        let reason = answer["error_description"].as_str().or(answer["error"].as_str()).unwrap_or("no token");
        return Err(Error::Undeliverable { host: github.url.clone(), reason: super::shortened(reason, 300) });
    };
    let user = ask(Method::GET, format!("{}/user", api(&github.url)), Some(token), &Json::Null).await?;
    match user["login"].as_str() {
        Some(login) if !login.is_empty() && login.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) => {
            Ok(login.to_owned())
        }
        _ => Err(Error::Undeliverable { host: github.url.clone(), reason: "it named no login".to_owned() }),
    }
}

/// Where the API of a GitHub is.
fn api(url: &str) -> String {
    if url == "https://github.com" { "https://api.github.com".to_owned() } else { format!("{url}/api/v3") }
}

async fn ask(method: Method, url: String, token: Option<&str>, body: &Json) -> Result<Json, Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(&url)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("towline/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let content = if body.is_null() {
        Bytes::new()
    } else {
        request = request.header(header::CONTENT_TYPE, "application/json");
        Bytes::from(body.to_string())
    };
    let request = request.body(Full::new(content)).map_err(|_| Error::Address(url.clone()))?;
    let host = request.uri().authority().map_or_else(String::new, ToString::to_string);
    let (head, body) = web::open(request).await?.into_parts();
    let read = tokio::time::timeout(web::ANSWER_TIMEOUT, Limited::new(body, LARGEST_ANSWER).collect()).await;
    let bytes = read.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let json: Json = serde_json::from_slice(&bytes).unwrap_or_default();
    if head.status.is_success() {
        return Ok(json);
    }
    let message = super::shortened(json["message"].as_str().unwrap_or_default(), 300);
    Err(Error::Refused { host, status: head.status.as_u16(), message, retry_after: None })
}
