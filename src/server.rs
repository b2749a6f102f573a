//! Listeners, TLS, who may do what, the API, streams, metrics and pages.
//!
//! Reads come from the store and from snapshots; writes are inputs to the engine. It never touches a run itself.

mod access;
mod api;
mod app;
mod archive;
mod assets;
pub mod auth;
mod charts;
mod deeds;
mod form;
pub mod format;
pub mod graph;
mod health;
pub mod listen;
mod logs;
mod markdown;
mod metrics;
mod needs;
pub mod pages;
pub mod peer;
mod sealed;
mod site;
pub mod source;
mod streams;
pub mod terminal;
pub mod tls;
pub mod view;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

pub use app::{App, AppParts, Settings};
pub use format::size;
pub use listen::{Address, Endpoint, Limits, Passed};
pub use peer::{Origin, Peer};
pub use source::{DispatchRequest, HostDetail, LetterDeed, Outside, SentEvent, WorkflowFile};
pub use tls::{CertificateSource, Certificates, Identity};

/// What can go wrong before the first request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind { address: String, source: std::io::Error },
    #[error("cannot listen on {}: another daemon answers there", path.display())]
    AlreadyServed { path: PathBuf },
    #[error("cannot listen on {}: the file there is not a socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{} is not what we wrote", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{} holds no usable PEM", path.display())]
    Pem { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("cannot check clients by {}: {reason}", path.display())]
    ClientAuthority { path: PathBuf, reason: String },
    #[error("cannot use the certificate")]
    Tls { source: rustls::Error },
    #[error("cannot issue a certificate")]
    Issue { source: rcgen::Error },
}

/// Everything that is served: pages, the API, health, metrics. Other rooms add their own routes beside it.
pub fn router(app: &App) -> Router {
    site::routes(app).merge(api::routes(app)).merge(health::routes()).with_state(app.clone())
}

/// What to listen on and how.
#[derive(Debug)]
pub struct Config {
    pub endpoints: Vec<Endpoint>,
    /// Served besides the endpoints. An endpoint that one of these serves already is left out.
    pub passed: Passed,
    /// Needed when an endpoint speaks HTTPS; passed TCP sockets do when there is one.
    pub identity: Option<Identity>,
    /// Where the authority lies whose certificate ports without TLS show to clients on loopback that begin with a handshake all
    /// the same: many actions put `https://` before the host of `GITHUB_SERVER_URL`. It is made when the first of them comes.
    pub authority: Option<PathBuf>,
    pub limits: Limits,
}

/// The way in.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Binds every endpoint. Nothing is accepted before [`Bound::serve`], but the kernel already queues connections.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// An address in use or not ours, a certificate that cannot be had.
    pub fn bind(now: Timestamp, config: Config) -> Result<Bound, Error> {
        // What systemd holds comes first: the same address cannot be bound twice.
        let mut sockets = listen::adopt(config.passed, config.identity.is_some())?;
        for endpoint in &config.endpoints {
            if !sockets.iter().any(|(address, _)| endpoint.is_served_by(address)) {
                sockets.push(listen::bind(endpoint)?);
            }
        }
        let tls = sockets.iter().any(|(address, _)| matches!(address, Address::Https(_)));
        let ips: Vec<IpAddr> = sockets.iter().filter_map(|(address, _)| ip_of(address)).collect();
        let certificates = match config.identity {
            Some(identity) if tls => Some(Arc::new(Certificates::load(now, identity, ips)?)),
            None if tls => return Err(Error::Tls { source: rustls::Error::NoCertificatesPresented }),
            _ => None,
        };
        let offered = config.authority.map(|folder| Arc::new(tls::Offered::new(now, folder)));
        Ok(Bound { sockets, certificates, offered, limits: config.limits })
    }
}

impl Server {
    /// Binds a port of loopback for jobs alone; 0 is any. For `authority` see [`Config::authority`].
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind_for_jobs(now: Timestamp, port: u16, authority: PathBuf) -> Result<(SocketAddr, Bound), Error> {
        let config = Config {
            endpoints: vec![Endpoint::Http(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))],
            passed: Passed::default(),
            identity: None,
            authority: Some(authority),
            limits: Limits::STANDARD,
        };
        let bound = Self::bind(now, config)?;
        let here = bound.sockets.iter().find_map(|(address, _)| match address {
            Address::Http(address) => Some(*address),
            _ => None,
        });
        Ok((here.expect("the only socket is one of TCP"), bound))
    }
}

fn ip_of(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Http(address) | Address::Https(address) => Some(address.ip()),
        Address::Unix(_) => None,
    }
}

/// Bound sockets that do not accept yet.
pub struct Bound {
    sockets: Vec<(Address, listen::Socket)>,
    certificates: Option<Arc<Certificates>>,
    offered: Option<Arc<tls::Offered>>,
    limits: Limits,
}

impl Bound {
    /// The addresses, those of systemd first, else in the order of the endpoints, with the ports the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.sockets.iter().map(|(address, _)| address.clone()).collect()
    }

    /// The certificate in use, to reload it.
    #[must_use]
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }

    /// Serves until `stop`, then lets requests under way finish within the grace. A panic in a handler is an answer 500
    /// and a line in the journal. Every request carries a [`Peer`] as an extension.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let router = router
            .layer(RequestBodyTimeoutLayer::new(self.limits.header))
            .layer(CatchPanicLayer::custom(|panic: Box<dyn std::any::Any + Send>| panicked(&*panic)));
        let tasks = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(self.limits.connections));
        let mut files = Vec::new();
        for (address, socket) in self.sockets {
            log::info!(address:% = address; "listening");
            if let Address::Unix(path) = address
                && socket.is_made()
            {
                files.push(path);
            }
            let accept = listen::Loop {
                router: router.clone(),
                certificates: self.certificates.clone(),
                offered: self.offered.clone(),
                limits: self.limits.clone(),
                permits: Arc::clone(&permits),
                stop: stop.clone(),
                tasks: tasks.clone(),
            };
            tasks.spawn(accept.accept(socket));
        }
        stop.cancelled().await;
        tasks.close();
        for path in files {
            let _ = std::fs::remove_file(path);
        }
        if tokio::time::timeout(self.limits.grace, tasks.wait()).await.is_err() {
            log::warn!("some requests did not end in time and were cut");
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> http::Response<axum::body::Body> {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    log::error!(panic = text.unwrap_or("no message"); "a request handler panicked");
    let mut response = http::Response::new(axum::body::Body::from("{\"message\":\"Server Error\"}\n"));
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json; charset=utf-8"));
    response
}
