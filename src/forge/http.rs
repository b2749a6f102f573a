//! A small HTTPS client for addresses that are no forge: notifications and relays.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// What is read of an answer: enough for a reason.
const LARGEST_ANSWER: usize = 64 << 10;

type Https = hyper_rustls::HttpsConnector<HttpConnector>;

/// Connects with the authorities this machine trusts.
fn client() -> Result<Client<Https, Full<Bytes>>, Error> {
    let mut plain = HttpConnector::new();
    plain.set_connect_timeout(Some(CONNECT_TIMEOUT));
    plain.enforce_http(false);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|error| Error::Unreachable { host: "the network".to_owned(), reason: error.to_string() })?
        .https_or_http()
        .enable_http1()
        .wrap_connector(plain);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Sends a request; the answer's head is there when this ends, its body is still open.
pub(crate) async fn open(request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
    let host = request.uri().authority().map_or_else(String::new, ToString::to_string);
    let unreachable = |reason: String| Error::Unreachable { host: host.clone(), reason };
    match tokio::time::timeout(ANSWER_TIMEOUT, client()?.request(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(unreachable(deepest(&error))),
        Err(_) => Err(unreachable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
    }
}

/// Sends a request and reads the answer; anything but success is an error with what the server said.
pub(super) async fn send(request: Request<Full<Bytes>>) -> Result<(), Error> {
    let host = request.uri().authority().map_or_else(String::new, ToString::to_string);
    let (head, body) = open(request).await?.into_parts();
    let read = tokio::time::timeout(ANSWER_TIMEOUT, Limited::new(body, LARGEST_ANSWER).collect()).await;
    if head.status.is_success() {
        return Ok(());
    }
    let said = read.ok().and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default();
    let said: String = String::from_utf8_lossy(&said).chars().filter(|c| !c.is_control()).collect();
    let retry_after = super::client::retry_after(head.status, &head.headers);
    Err(Error::Refused { host, status: head.status.as_u16(), message: super::shortened(&said, 300), retry_after })
}

/// The last cause of an error: the others only say that something failed.
pub(super) fn deepest(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        reason = deeper.to_string();
        source = deeper.source();
    }
    reason
}
