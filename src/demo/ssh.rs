//! An SSH host inside this process: a server on loopback whose sessions run `sh` here, with a home of their own.
//!
//! What a client can see follows OpenSSH: a command outlives its channel and its connection, a channel ends when its
//! command has ended and nobody holds its output any more, `env` and `pty` are refused, signals go to the group.

mod session;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{PrivateKey, PublicKey};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use session::Session;

/// Why a host could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make a key")]
    Key { source: russh::keys::ssh_key::Error },
    #[error("no random numbers for a key")]
    Random,
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot listen on loopback")]
    Listen { source: std::io::Error },
}

/// A running host. It stops when it is dropped; what it runs goes on, as on any machine whose sshd is stopped.
#[derive(Debug)]
pub struct Host {
    address: SocketAddr,
    user: String,
    home: PathBuf,
    identity: PathBuf,
    known_hosts: PathBuf,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// What all connections of a host know.
#[derive(Debug)]
struct Shared {
    home: PathBuf,
    user: String,
    accepted_key: PublicKey,
    config: Arc<russh::server::Config>,
    /// Refuses new connections: the network is down.
    unreachable: AtomicBool,
    /// The sockets of live connections, to be cut.
    connections: Mutex<BTreeMap<u64, std::net::TcpStream>>,
    next: AtomicU64,
    tasks: TaskTracker,
}

impl Host {
    /// Starts a host on a random port of loopback. `directory` gets `home` (the home of its user), `id_ed25519` (a
    /// client key, the only one it takes) and `known_hosts` (its own key).
    ///
    /// # Errors
    /// When files cannot be written or no port is free.
    pub async fn start(directory: &Path, user: &str) -> Result<Self, Error> {
        let home = directory.join("home");
        let write = |path: &Path, source| Error::Write { path: path.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).map_err(|source| write(&home, source))?;
        let home = home.canonicalize().map_err(|source| write(&home, source))?;
        let host_key = new_key("host")?;
        let client_key = new_key(user)?;
        let identity = directory.join("id_ed25519");
        let text = client_key.to_openssh(LineEnding::LF).map_err(|source| Error::Key { source })?;
        private_file(&identity, text.as_bytes()).map_err(|source| write(&identity, source))?;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|source| Error::Listen { source })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { source })?;
        let known_hosts = directory.join("known_hosts");
        let public = host_key.public_key().to_openssh().map_err(|source| Error::Key { source })?;
        let line = format!("[{}]:{} {public}\n", address.ip(), address.port());
        std::fs::write(&known_hosts, line).map_err(|source| write(&known_hosts, source))?;

        let config = russh::server::Config {
            keys: vec![host_key],
            methods: russh::MethodSet::from(&[russh::MethodKind::PublicKey][..]),
            auth_rejection_time: Duration::from_millis(100),
            auth_rejection_time_initial: Some(Duration::ZERO),
            inactivity_timeout: None,
            nodelay: true,
            ..russh::server::Config::default()
        };
        let shared = Arc::new(Shared {
            home: home.clone(),
            user: user.to_owned(),
            accepted_key: client_key.public_key().clone(),
            config: Arc::new(config),
            unreachable: AtomicBool::new(false),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        });
        let stop = CancellationToken::new();
        shared.tasks.spawn(accept(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self { address, user: user.to_owned(), home, identity, known_hosts, shared, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The user to log in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The home of its user.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The private key it takes.
    #[must_use]
    pub fn identity(&self) -> &Path {
        &self.identity
    }

    /// A file that knows its host key.
    #[must_use]
    pub fn known_hosts(&self) -> &Path {
        &self.known_hosts
    }

    /// Cuts every connection at once, without a word, as a pulled cable does once the peer notices.
    pub fn cut(&self) {
        for socket in self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).values() {
            drop(socket.shutdown(std::net::Shutdown::Both));
        }
    }

    /// Whether new connections are taken. Turning it off cuts the ones there are.
    pub fn set_reachable(&self, reachable: bool) {
        self.shared.unreachable.store(!reachable, Ordering::SeqCst);
        if !reachable {
            self.cut();
        }
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // Out of descriptors, or the peer went away: neither ends a server.
        let Ok((socket, peer)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        if shared.unreachable.load(Ordering::SeqCst) {
            continue;
        }
        let connection = serve(socket, peer, Arc::clone(&shared));
        shared.tasks.spawn(connection);
    }
}

async fn serve(socket: tokio::net::TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    drop(socket.set_nodelay(true));
    // A second handle of the same socket, so that it can be cut from outside.
    let Ok(socket) = socket.into_std() else { return };
    let Ok(copy) = socket.try_clone() else { return };
    let Ok(socket) = tokio::net::TcpStream::from_std(socket) else { return };
    let number = shared.next.fetch_add(1, Ordering::SeqCst);
    shared.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(number, copy);
    let session = Session::new(Arc::clone(&shared), peer);
    let ended = match russh::server::run_stream(Arc::clone(&shared.config), socket, session).await {
        Ok(running) => running.await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        log::debug!("demo host: a connection ended: {error}");
    }
    shared.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
}

fn new_key(comment: &str) -> Result<PrivateKey, Error> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| Error::Random)?;
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    PrivateKey::new(pair, comment).map_err(|source| Error::Key { source })
}

fn private_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests;
