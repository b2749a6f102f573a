//! SSH servers, through russh, whose types do not leave this file and its children.
//!
//! Three rules against what was seen to go wrong: every channel is drained at once by its own task; every channel is closed
//! explicitly (dropping one leaks a session on the server); host keys are checked by our own reader of known_hosts.

mod authenticate;
mod server_key;
mod trouble;

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Preferred, cipher, client};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::forward::Routes;
use super::process::{Piece, Process};
use super::{SshTarget, TransportError};
use crate::id::HostName;

use server_key::{Checker, ConnectError};
use trouble::{Overheard, Progress, Stage};

/// A server that says nothing for three of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long a channel that we close is drained for.
const CLOSING: Duration = Duration::from_secs(30);
/// How long a process may take to end by itself when nobody listens to it any more.
const LEAVING: Duration = Duration::from_secs(5);
/// Where forwarded ports listen: for the host's own processes only.
const LOOPBACK: &str = "127.0.0.1";
/// How long the opening of a channel may take.
const OPENING: Duration = Duration::from_secs(30);

/// One SSH connection, logged in.
pub(super) struct Connection {
    handle: client::Handle<Checker>,
    /// Channels in use or being opened.
    channels: Arc<AtomicUsize>,
    /// Whether one channel has it alone.
    alone: Arc<AtomicBool>,
    /// Whether it takes no more channels.
    retired: AtomicBool,
    /// Where ports of the host that we asked for lead.
    routes: Routes,
    /// Cancelled when the link is gone.
    closed: CancellationToken,
    /// The connection to the jump host that carries this one.
    _through: Option<Box<Connection>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connection").field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, checks the server's key and logs in.
    pub(super) fn connect<'a>(
        tracker: &'a TaskTracker,
        host: &'a HostName,
        ssh: &'a SshTarget,
    ) -> Pin<Box<dyn Future<Output = Result<Self, TransportError>> + Send + 'a>> {
        Box::pin(async move {
            // The way there has a time of its own.
            let through = match &ssh.jump {
                None => None,
                Some(jump) => Some(Box::new(Self::connect(tracker, host, jump).await?)),
            };
            let progress = Progress::default();
            let set_up = Self::set_up(tracker, host, ssh, through, progress.clone());
            match tokio::time::timeout(ssh.connect_timeout, set_up).await {
                Ok(result) => result,
                Err(_) => Err(trouble::silent(host, ssh, &progress)),
            }
        })
    }

    async fn set_up(
        tracker: &TaskTracker,
        host: &HostName,
        ssh: &SshTarget,
        through: Option<Box<Self>>,
        progress: Progress,
    ) -> Result<Self, TransportError> {
        let (routes, closed) = (Routes::default(), CancellationToken::new());
        let checker = Checker::new(host, ssh, progress.clone())?.forwarding(
            routes.clone(),
            closed.clone().drop_guard(),
            tracker.clone(),
        );
        let config = Arc::new(client::Config {
            nodelay: true,
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: 3,
            inactivity_timeout: None,
            preferred: Preferred {
                // Measured: aes128-gcm moves 1.8 times what chacha20 does at 0.6 of the work; russh does not offer it by itself.
                cipher: Cow::Borrowed(&[
                    cipher::AES_128_GCM,
                    cipher::AES_256_GCM,
                    cipher::CHACHA20_POLY1305,
                    cipher::AES_256_CTR,
                ]),
                key: checker.key_algorithms(),
                host_key_certificates: checker.certificate_algorithms(),
                ..Preferred::default()
            },
            ..client::Config::default()
        });
        let handle = match &through {
            None => {
                let stream = call(host, ssh, &progress).await?;
                progress.reached(Stage::Agreeing);
                client::connect_stream(config, Overheard::new(stream, progress.clone()), checker).await
            }
            Some(through) => {
                let channel = through
                    .handle
                    .channel_open_direct_tcpip(ssh.address.clone(), u32::from(ssh.port), "127.0.0.1", 0)
                    .await
                    .map_err(|error| trouble::not_through(host, ssh, &error))?;
                progress.reached(Stage::Agreeing);
                client::connect_stream(config, Overheard::new(channel.into_stream(), progress.clone()), checker).await
            }
        };
        let mut handle = handle.map_err(|error| match error {
            ConnectError::Key(error) => *error,
            ConnectError::Russh(error) => trouble::disagreed(host, ssh, &error, &progress),
        })?;
        progress.reached(Stage::LoggingIn);
        authenticate::log_in(&mut handle, host, ssh, &progress).await?;
        Ok(Self {
            handle,
            channels: Arc::default(),
            alone: Arc::default(),
            retired: AtomicBool::new(false),
            routes,
            closed,
            _through: through,
        })
    }

    /// Whether the link is gone, or no more channels are wanted and none is left.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed() || (self.retired.load(Ordering::SeqCst) && self.channels.load(Ordering::SeqCst) == 0)
    }

    /// Returns when the link is gone.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Asks the server to listen on its loopback (0: on a port of its choice) and to bring what connects there to `to`.
    pub(super) async fn forward(&self, port: u16, to: SocketAddr) -> Result<u16, String> {
        // Known before the answer: the first client may be faster than it.
        if port != 0 {
            self.routes.set(u32::from(port), to);
        }
        match self.handle.tcpip_forward(LOOPBACK, u32::from(port)).await {
            Ok(given) => {
                let given = if port == 0 { u16::try_from(given).unwrap_or_default() } else { port };
                self.routes.set(u32::from(given), to);
                Ok(given)
            }
            Err(error) => {
                self.routes.remove(u32::from(port));
                Err(match error {
                    russh::Error::RequestDenied => "the request was denied".to_owned(),
                    other => other.to_string(),
                })
            }
        }
    }

    /// Ends a forward.
    pub(super) async fn unforward(&self, port: u16) {
        // A link that is gone has taken it along.
        let _ = self.handle.cancel_tcpip_forward(LOOPBACK, u32::from(port)).await;
        self.routes.remove(u32::from(port));
    }

    pub(super) fn is_idle(&self) -> bool {
        self.channels.load(Ordering::SeqCst) == 0
    }

    /// Takes no more channels; those in use go on.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Counts a channel that is about to be opened, if there is room for it. Only the pool calls this, under its lock.
    pub(super) fn reserve(&self, alone: bool, most: usize) -> bool {
        let used = self.channels.load(Ordering::SeqCst);
        let taken = self.alone.load(Ordering::SeqCst) && used > 0;
        if self.retired.load(Ordering::SeqCst) || self.handle.is_closed() || taken || used >= most {
            return false;
        }
        self.alone.store(alone, Ordering::SeqCst);
        self.channels.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Opens the channel that was reserved and runs `exec /bin/sh` in it: the one command that every login shell understands.
    pub(super) async fn open(self: &Arc<Self>, tracker: &TaskTracker) -> Result<Process, String> {
        let used = Used(Arc::clone(self));
        let opening = async {
            let channel = self.handle.channel_open_session().await?;
            channel.exec(true, "exec /bin/sh").await?;
            Ok::<_, russh::Error>(channel)
        };
        let channel = match tokio::time::timeout(OPENING, opening).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("no answer".to_owned()),
        };
        let (reader, writer) = channel.split();
        let writer = Arc::new(writer);
        let (input, lines) = mpsc::channel(16);
        let (pieces, output) = mpsc::channel(64);
        tracker.spawn(feed(lines, Arc::clone(&writer)));
        tracker.spawn(drain(reader, writer, pieces, used));
        Ok(Process::new(input, output))
    }
}

/// A counted channel.
struct Used(Arc<Connection>);

impl Drop for Used {
    fn drop(&mut self) {
        self.0.channels.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Our end of the process's standard input.
async fn feed(mut lines: mpsc::Receiver<Bytes>, writer: Arc<ChannelWriteHalf<client::Msg>>) {
    while let Some(bytes) = lines.recv().await {
        if writer.data_bytes(bytes).await.is_err() {
            return;
        }
    }
    // The other side may be gone already.
    let _ = writer.eof().await;
}

/// Takes all that the process says, and closes the channel when nobody listens any more.
async fn drain(
    mut reader: ChannelReadHalf,
    writer: Arc<ChannelWriteHalf<client::Msg>>,
    pieces: mpsc::Sender<Piece>,
    used: Used,
) {
    loop {
        let message = tokio::select! {
            message = reader.wait() => message,
            () = pieces.closed() => break,
        };
        let piece = match message {
            None => break,
            Some(ChannelMsg::Data { data }) => Piece::Out(data),
            Some(ChannelMsg::ExtendedData { data, .. }) => Piece::Err(data),
            Some(ChannelMsg::ExitStatus { exit_status }) => Piece::Exit(i32::try_from(exit_status).unwrap_or(255)),
            Some(ChannelMsg::ExitSignal { .. }) => Piece::Exit(255),
            Some(ChannelMsg::Failure) => Piece::Exit(126),
            Some(_) => continue,
        };
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    drop(pieces);
    let mut rest = async || while reader.wait().await.is_some() {};
    // The end of its input ends what runs there, and then the server closes the channel. Were it closed from here, nobody would
    // tell when the server is done with it (russh forgets a channel when it closes it), and its place would be free late.
    if tokio::time::timeout(LEAVING, rest()).await.is_err() {
        // An error here means that the link is gone, and the channel with it.
        let _ = writer.close().await;
        let _ = tokio::time::timeout(CLOSING, rest()).await;
    }
    drop(used);
}

/// The address, at the other end of a stream.
async fn call(host: &HostName, ssh: &SshTarget, progress: &Progress) -> Result<tokio::net::TcpStream, TransportError> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((ssh.address.as_str(), ssh.port))
        .await
        .map_err(|error| trouble::unresolved(host, ssh, &error))?
        .collect();
    progress.reached(Stage::Calling);
    let stream =
        tokio::net::TcpStream::connect(&addresses[..]).await.map_err(|error| trouble::uncalled(host, ssh, &error))?;
    // Without it small messages wait 40 ms for each other.
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("nodelay: {error}");
    }
    Ok(stream)
}
