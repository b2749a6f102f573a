//! Sockets: TCP with and without TLS, unix sockets, sockets passed by systemd; the accept loops and their end.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::app::Asked;
use super::peer::{Origin, Peer};
use super::tls::{Certificates, Offered};

/// The first byte of a client that begins with TLS.
const HANDSHAKE: u8 = 0x16;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Plain HTTP on a TCP address. Meant for loopback and for a reverse proxy in front.
    Http(SocketAddr),
    /// HTTPS on a TCP address.
    Https(SocketAddr),
    /// A unix socket with its file mode. Who may open it is a local administrator.
    Unix { path: PathBuf, mode: u32 },
}

/// Limits of one listener; the same for all.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once over all listeners; more wait in the kernel's backlog.
    pub connections: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// For the first byte, for the head of a request, and for the next one on a kept connection.
    pub header: Duration,
    /// How long a stop waits for requests under way.
    pub grace: Duration,
}

/// How long a stop waits for the first request of a connection that was accepted just before.
const LAST_CALL: Duration = Duration::from_secs(2);

impl Limits {
    /// What a LAN service needs.
    pub const STANDARD: Self = Self {
        connections: 4096,
        handshake: Duration::from_secs(10),
        header: Duration::from_secs(20),
        grace: Duration::from_secs(10),
    };
}

/// An address that is bound, as a client would write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Http(SocketAddr),
    Https(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(address) => write!(f, "http://{address}"),
            Self::Https(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(super) enum Socket {
    Tcp {
        listener: TcpListener,
        tls: bool,
    },
    /// `made` is false for a socket of systemd's, whose file outlives us.
    Unix {
        listener: UnixListener,
        made: bool,
    },
}

impl Socket {
    /// Whether the file of this socket goes when we go.
    pub(super) fn is_made(&self) -> bool {
        matches!(self, Self::Unix { made: true, .. })
    }
}

impl Endpoint {
    /// Whether a socket that is bound already serves this endpoint.
    pub(super) fn is_served_by(&self, bound: &Address) -> bool {
        match (self, bound) {
            (Self::Unix { path, .. }, Address::Unix(bound)) => path == bound,
            (Self::Http(wanted) | Self::Https(wanted), Address::Http(bound) | Address::Https(bound)) => {
                let everywhere = bound.ip().is_unspecified() && (bound.is_ipv6() || wanted.is_ipv4());
                wanted.port() != 0 && wanted.port() == bound.port() && (wanted.ip() == bound.ip() || everywhere)
            }
            _ => false,
        }
    }
}

/// Binds one endpoint.
pub(super) fn bind(endpoint: &Endpoint) -> Result<(Address, Socket), Error> {
    match endpoint {
        Endpoint::Http(address) => tcp(*address, false),
        Endpoint::Https(address) => tcp(*address, true),
        Endpoint::Unix { path, mode } => unix(path, *mode),
    }
}

fn tcp(address: SocketAddr, tls: bool) -> Result<(Address, Socket), Error> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((bound, TcpListener::from_std(listener)?))
    };
    let (bound, listener) = bind().map_err(|source| Error::Bind { address: address.to_string(), source })?;
    Ok((named(bound, tls), Socket::Tcp { listener, tls }))
}

fn named(bound: SocketAddr, tls: bool) -> Address {
    if tls { Address::Https(bound) } else { Address::Http(bound) }
}

/// A socket file that nobody answers is left over from a crash and is replaced; one that answers belongs to a daemon.
fn unix(path: &Path, mode: u32) -> Result<(Address, Socket), Error> {
    let failed = |source| Error::Bind { address: path.display().to_string(), source };
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Error::AlreadyServed { path: path.to_owned() });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok((Address::Unix(path.to_owned()), Socket::Unix { listener, made: true }))
}

/// Sockets that the service manager opened for us and holds across our restarts.
#[derive(Debug, Default)]
pub struct Passed(Vec<(String, PassedSocket)>);

#[derive(Debug)]
enum PassedSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Passed {
    /// Takes what `$LISTEN_FDS` says out of the environment. To be called before there are other threads, since they may
    /// read it.
    ///
    /// # Errors
    /// A descriptor that is no listening stream socket.
    pub fn from_environment() -> std::io::Result<Self> {
        // The names first: the other call forgets everything.
        let names: Vec<String> = sd_notify::listen_fds_with_names()
            .map(|sockets| sockets.map(|(_, name)| name).collect())
            .unwrap_or_default();
        let mut descriptors = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..descriptors.len() {
            let name = names.get(index).cloned().unwrap_or_default();
            // Whose family does not fit stays there to be taken again.
            let socket = match descriptors.take_unix_listener(index) {
                Ok(unix) => unix.map(PassedSocket::Unix),
                Err(_) => descriptors.take_tcp_listener(index)?.map(PassedSocket::Tcp),
            };
            sockets.extend(socket.map(|socket| (name, socket)));
        }
        Ok(Self(sockets))
    }
}

/// Takes sockets over. TCP sockets speak HTTPS unless `tls` is off or they are named `http`.
pub(super) fn adopt(passed: Passed, tls: bool) -> Result<Vec<(Address, Socket)>, Error> {
    let failed = |source: std::io::Error| Error::Bind { address: "a socket of systemd".to_owned(), source };
    let mut sockets = Vec::new();
    for (name, socket) in passed.0 {
        sockets.push(adopt_one(socket, tls && name != "http").map_err(failed)?);
    }
    Ok(sockets)
}

fn adopt_one(socket: PassedSocket, tls: bool) -> std::io::Result<(Address, Socket)> {
    match socket {
        PassedSocket::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let bound = listener.local_addr()?;
            Ok((named(bound, tls), Socket::Tcp { listener: TcpListener::from_std(listener)?, tls }))
        }
        PassedSocket::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
            Ok((Address::Unix(path), Socket::Unix { listener: UnixListener::from_std(listener)?, made: false }))
        }
    }
}

/// What every accept loop shares.
#[derive(Clone)]
pub(super) struct Loop {
    pub(super) router: Router,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) offered: Option<Arc<Offered>>,
    pub(super) limits: Limits,
    pub(super) permits: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Loop {
    /// Accepts until told to stop. A failure to accept (no file descriptors left) is logged and retried, never fatal.
    pub(super) async fn accept(self, socket: Socket) {
        loop {
            let permit = tokio::select! {
                () = self.stop.cancelled() => return,
                permit = Arc::clone(&self.permits).acquire_owned() => permit.expect("the semaphore is never closed"),
            };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept_one(&socket) => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    let this = self.clone();
                    self.tasks.spawn(async move { this.connection(accepted, permit).await });
                }
                Err(error) => {
                    log::warn!(error:% = error; "cannot accept a connection");
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(Duration::from_millis(200)) => {}
                    }
                }
            }
        }
    }

    async fn connection(self, accepted: Accepted, _permit: OwnedSemaphorePermit) {
        match accepted {
            Accepted::Unix(stream) => {
                let origin = match stream.peer_cred() {
                    Ok(credentials) => Origin::Local { uid: credentials.uid(), pid: credentials.pid() },
                    Err(error) => {
                        log::warn!(error:% = error; "cannot read the credentials of a local client");
                        return;
                    }
                };
                self.serve(stream, Peer { origin, tls: false, certificate: None }).await;
            }
            Accepted::Tcp { stream, address, tls } => {
                let _ = stream.set_nodelay(true);
                let origin = Origin::Network(address);
                let plain = Peer { origin: origin.clone(), tls: false, certificate: None };
                let offered = self.offered.as_ref().filter(|_| !tls && address.ip().is_loopback());
                if !tls && offered.is_none() {
                    return self.serve(stream, plain).await;
                }
                let handshake = tokio::time::timeout(self.limits.handshake, async {
                    let mut first = [0];
                    if stream.peek(&mut first).await? != 1 || first[0] != HANDSHAKE {
                        return Ok(Err(stream));
                    }
                    let certificates = match offered {
                        Some(offered) => offered.certificates().await,
                        None => self.certificates.clone(),
                    };
                    match certificates {
                        Some(certificates) => {
                            TlsAcceptor::from(certificates.server_config()).accept(stream).await.map(Ok)
                        }
                        None => Ok(Err(stream)),
                    }
                });
                let handshake = tokio::select! {
                    handshake = handshake => handshake,
                    () = async { self.stop.cancelled().await; tokio::time::sleep(LAST_CALL).await } => return,
                };
                match handshake {
                    Ok(Ok(Ok(stream))) => {
                        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                        let certificate = shown.and_then(super::tls::common_name);
                        self.clone().serve(stream, Peer { origin, tls: true, certificate }).await;
                    }
                    // A browser that speaks plain HTTP to a port with TLS gets no handshake: it is told where to go.
                    Ok(Ok(Err(stream))) if tls => self.clone().redirect(stream).await,
                    Ok(Ok(Err(stream))) => self.clone().serve(stream, plain).await,
                    Ok(Err(error)) => log::debug!(peer:% = address, error:% = error; "TLS handshake failed"),
                    Err(_) => log::debug!(peer:% = address; "TLS handshake took too long"),
                }
            }
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let inner = TowerToHyperService::new(self.router.clone());
        let spoke = CancellationToken::new();
        let first = spoke.clone();
        let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            first.cancel();
            let asked = Asked(request.uri().clone());
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(asked);
            inner.call(request)
        });
        let builder = builder(&self.limits);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.time_to_end(&spoke) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            log::debug!(error:% = error; "connection ended early");
        }
    }

    /// Ends when the connection takes no further request: the server stops, or nothing was ever asked. hyper drops a connection
    /// that has not spoken without an answer, so at a stop its first request gets a moment to arrive: it is on its way, and
    /// no other process will see it.
    async fn time_to_end(&self, spoke: &CancellationToken) {
        let moment = tokio::select! {
            () = self.stop.cancelled() => self.limits.header.min(LAST_CALL),
            silent = tokio::time::timeout(self.limits.header, spoke.cancelled()) => {
                if silent.is_err() {
                    return;
                }
                self.stop.cancelled().await;
                return;
            }
        };
        let _ = tokio::time::timeout(moment, spoke.cancelled()).await;
    }

    async fn redirect(self, stream: TcpStream) {
        let service = hyper::service::service_fn(|request: http::Request<Incoming>| async move {
            Ok::<_, std::convert::Infallible>(to_https(request.headers(), request.uri()))
        });
        let builder = builder(&self.limits).http1_only();
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = connection => {}
            () = tokio::time::sleep(self.limits.header) => {}
        }
    }
}

fn to_https(headers: &http::HeaderMap, uri: &http::Uri) -> http::Response<String> {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let location = host.and_then(|host| http::HeaderValue::from_str(&format!("https://{host}{path}")).ok());
    let mut response = http::Response::new("This port speaks HTTPS.\n".to_owned());
    *response.status_mut() = http::StatusCode::BAD_REQUEST;
    response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    if let Some(location) = location {
        *response.status_mut() = http::StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    response
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(128)
        .max_buf_size(256 * 1024)
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(256)
        .max_header_list_size(64 * 1024);
    builder
}

enum Accepted {
    Tcp { stream: TcpStream, address: SocketAddr, tls: bool },
    Unix(UnixStream),
}

async fn accept_one(socket: &Socket) -> std::io::Result<Accepted> {
    match socket {
        Socket::Tcp { listener, tls } => {
            let (stream, address) = listener.accept().await?;
            Ok(Accepted::Tcp { stream, address, tls: *tls })
        }
        Socket::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
    }
}
