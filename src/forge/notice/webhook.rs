//! Notices by HTTP, in the shapes that chat services read.

use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};

use super::super::{Error, http as client, shortened};
use super::Notice;
use crate::config::{SecretSource, WebhookShape};
use crate::event::ref_name;

/// Posts a notice. With a secret the body is signed as GitHub signs its webhooks; for ntfy it is the access token.
pub(super) async fn send(
    notice: &Notice,
    url: &str,
    shape: WebhookShape,
    secret: Option<&SecretSource>,
) -> Result<(), Error> {
    let secret = secret.map(SecretSource::read).transpose()?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::USER_AGENT, concat!("towline/", env!("CARGO_PKG_VERSION")))
        .header("x-towline-event", "run")
        .header("x-towline-delivery", format!("{}-{}-{}", notice.run, notice.attempt, notice.way));
    let body = match shape {
        WebhookShape::Plain => plain(notice).to_string(),
        WebhookShape::Slack => slack(notice).to_string(),
        WebhookShape::Discord => discord(notice).to_string(),
        WebhookShape::Ntfy => {
            request = request
                .header("title", header_text(&notice.headline()))
                .header("priority", if notice.is_good() { "default" } else { "high" })
                .header("tags", if notice.is_good() { "white_check_mark" } else { "x" })
                .header("click", notice.url.as_str());
            notice.details()
        }
    };
    let content_type = if shape == WebhookShape::Ntfy { "text/plain; charset=utf-8" } else { "application/json" };
    request = request.header(header::CONTENT_TYPE, content_type);
    if let Some(secret) = secret {
        request = match shape {
            WebhookShape::Ntfy => request.header(header::AUTHORIZATION, format!("Bearer {}", secret.expose_secret())),
            _ => request.header("x-hub-signature-256", signature(secret.expose_secret(), &body)),
        };
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|_| Error::Address(host(url)))?;
    client::send(request).await
}

fn signature(secret: &str, body: &str) -> String {
    use aws_lc_rs::hmac;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// Only the host: the path of a chat service's address is its password.
fn host(url: &str) -> String {
    url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default()
}

/// Everything, in our own words.
pub(super) fn plain(notice: &Notice) -> Json {
    json!({
        "text": notice.headline(),
        "repository": notice.repository,
        "workflow": notice.workflow,
        "workflow_path": notice.workflow_path,
        "run_id": notice.run.0,
        "run_number": notice.run_number,
        "run_attempt": notice.attempt,
        "title": notice.title,
        "event": notice.event,
        "ref": notice.git_ref,
        "branch": ref_name(&notice.git_ref),
        "sha": notice.sha,
        "actor": notice.actor,
        "conclusion": notice.conclusion,
        "recovered": notice.recovered,
        "failed_jobs": notice.failed_jobs,
        "url": notice.url,
        "started_at": notice.started_at,
        "completed_at": notice.completed_at,
    })
}

fn slack(notice: &Notice) -> Json {
    // Slack reads these three as markup.
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({
        "text": format!("<{}|{}>", notice.url, safe(&notice.headline())),
        "attachments": [{
            "color": if notice.is_good() { "good" } else { "danger" },
            "text": safe(&notice.details()),
            "fallback": safe(&notice.headline()),
        }],
    })
}

fn discord(notice: &Notice) -> Json {
    json!({
        "embeds": [{
            "title": shortened(&notice.headline(), 256),
            "url": notice.url,
            "description": shortened(&notice.details(), 4096),
            "color": if notice.is_good() { 0x002e_a043 } else { 0x00da_3633 },
        }],
        // A title that says @everyone wakes nobody.
        "allowed_mentions": { "parse": [] },
    })
}

/// Headers are ASCII; what is not is encoded as in mail.
fn header_text(text: &str) -> String {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return text.to_owned();
    }
    let text: String = text.chars().filter(|character| !character.is_control()).collect();
    format!("=?UTF-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::header_text;

    #[test]
    fn headers_stay_ascii() {
        assert_eq!(header_text("CI failed"), "CI failed");
        assert_eq!(header_text("für\r\nx"), "=?UTF-8?B?ZsO8cng=?=");
    }
}
