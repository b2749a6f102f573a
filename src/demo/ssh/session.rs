//! One connection of a demo host: its channels, the commands they run, and forwarded ports.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use super::Shared;

pub(super) struct Session {
    shared: Arc<Shared>,
    peer: SocketAddr,
    /// Opened, and not yet told what to run.
    waiting: HashMap<ChannelId, Channel<Msg>>,
    /// Ports and sockets forwarded for this client, by what it calls them.
    forwards: HashMap<String, CancellationToken>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, peer: SocketAddr) -> Self {
        Self { shared, peer, waiting: HashMap::new(), forwards: HashMap::new() }
    }

    fn start(
        &mut self,
        id: ChannelId,
        script: Option<&[u8]>,
        session: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.waiting.remove(&id) else { return session.channel_failure(id) };
        let child = match self.command(script).spawn() {
            Ok(child) => child,
            Err(error) => {
                log::warn!("demo host: cannot start sh: {error}");
                return session.channel_failure(id);
            }
        };
        session.channel_success(id)?;
        self.shared.tasks.spawn(attend(channel, child));
        Ok(())
    }

    fn command(&self, script: Option<&[u8]>) -> Command {
        use std::os::unix::ffi::OsStrExt as _;
        let shared = &self.shared;
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        // A session of its own keeps the command from this terminal's signals; a group does nearly as well.
        let setsid = std::env::split_paths(&path).map(|directory| directory.join("setsid")).find(|file| file.is_file());
        let mut command = match &setsid {
            Some(setsid) => {
                let mut command = Command::new(setsid);
                command.arg("/bin/sh");
                command
            }
            None => {
                let mut command = Command::new("/bin/sh");
                command.process_group(0);
                command
            }
        };
        if let Some(script) = script {
            command.arg("-c").arg(std::ffi::OsStr::from_bytes(script));
        }
        command
            .env_clear()
            .env("HOME", &shared.home)
            .env("USER", &shared.user)
            .env("LOGNAME", &shared.user)
            .env("SHELL", "/bin/sh")
            .env("PATH", path)
            .env("SSH_CONNECTION", format!("{} {} 127.0.0.1 22", self.peer.ip(), self.peer.port()))
            .current_dir(&shared.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl Handler for Session {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let known = key.public_key.key_data() == self.shared.accepted_key.key_data();
        Ok(if known && user == self.shared.user { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.waiting.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut russh::server::Session) -> Result<(), Self::Error> {
        self.waiting.remove(&id);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        script: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.start(id, Some(script), session)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut russh::server::Session) -> Result<(), Self::Error> {
        self.start(id, None, session)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        let Ok(port) = u16::try_from(port) else { return Ok(()) };
        match TcpStream::connect((host, port)).await {
            Ok(mut socket) => {
                reply.accept().await;
                self.shared.tasks.spawn(async move {
                    let mut stream = channel.into_stream();
                    drop(tokio::io::copy_bidirectional(&mut stream, &mut socket).await);
                });
            }
            // Dropping the reply refuses the channel.
            Err(error) => log::debug!("demo host: cannot reach {host}:{port}: {error}"),
        }
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut russh::server::Session,
    ) -> Result<bool, Self::Error> {
        // As with OpenSSH's `GatewayPorts no`: loopback, whatever was asked for.
        let wanted = u16::try_from(*port).unwrap_or(0);
        let Ok(listener) = TcpListener::bind(("127.0.0.1", wanted)).await else { return Ok(false) };
        *port = listener.local_addr().map_or(0, |address| u32::from(address.port()));
        let (bound, address, handle) = (*port, address.to_owned(), session.handle());
        let stop = CancellationToken::new();
        self.forwards.insert(format!("{address}:{bound}"), stop.clone());
        let tasks = self.shared.tasks.clone();
        self.shared.tasks.spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((mut socket, peer)) = listener.accept().await {
                let channel = handle
                    .channel_open_forwarded_tcpip(address.clone(), bound, peer.ip().to_string(), u32::from(peer.port()))
                    .await;
                // Nobody at the other end any more.
                let Ok(channel) = channel else { return };
                tasks.spawn(async move {
                    let mut stream = channel.into_stream();
                    drop(tokio::io::copy_bidirectional(&mut stream, &mut socket).await);
                });
            }
        }));
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut russh::server::Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.forwards.remove(&format!("{address}:{port}")).map(|stop| stop.cancel()).is_some())
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut russh::server::Session,
    ) -> Result<bool, Self::Error> {
        let Ok(listener) = UnixListener::bind(path) else { return Ok(false) };
        let (bound, handle, tasks) = (path.to_owned(), session.handle(), self.shared.tasks.clone());
        let stop = CancellationToken::new();
        self.forwards.insert(bound.clone(), stop.clone());
        self.shared.tasks.spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut socket: UnixStream = socket;
                let Ok(channel) = handle.channel_open_forwarded_streamlocal(bound.clone()).await else { return };
                tasks.spawn(async move {
                    let mut stream = channel.into_stream();
                    drop(tokio::io::copy_bidirectional(&mut stream, &mut socket).await);
                });
            }
        }));
        Ok(true)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut russh::server::Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.forwards.remove(path).map(|stop| stop.cancel()).is_some())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for stop in self.forwards.values() {
            stop.cancel();
        }
    }
}

/// Carries bytes between a channel and its command until either ends. The command is never killed: closing a channel
/// closes its streams, and what the command makes of that is its own affair.
async fn attend(channel: Channel<Msg>, mut child: Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (reader, writer) = channel.split();
    let writer = Arc::new(writer);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let output = async {
        let ended = async {
            let status = child.wait().await;
            report(&writer, status).await;
        };
        tokio::join!(send(stdout, &writer, None), send(stderr, &writer, Some(1)), ended);
        drop(writer.eof().await);
    };
    tokio::select! {
        () = output => drop(writer.close().await),
        // Dropping `output` closes the pipes; the runtime reaps the command when it ends.
        () = receive(reader, stdin, group) => drop(writer.close().await),
    }
}

async fn report(writer: &ChannelWriteHalf<Msg>, status: std::io::Result<std::process::ExitStatus>) {
    use std::os::unix::process::ExitStatusExt as _;
    let code = match status {
        // The shell of a real host would say it so.
        Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(_) => 255,
    };
    drop(writer.exit_status(code.unsigned_abs()).await);
}

/// Output of the command to the client, at the client's pace.
async fn send(from: Option<impl AsyncRead + Unpin>, to: &ChannelWriteHalf<Msg>, kind: Option<u32>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 32 << 10];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        let bytes = bytes::Bytes::copy_from_slice(&buffer[..length]);
        let sent = match kind {
            None => to.data_bytes(bytes).await,
            Some(kind) => to.extended_data_bytes(kind, bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Input of the client to the command. Ends when the channel is closed or the connection gone.
///
/// What the command does not read yet is kept here: the channel must be drained at once, or it would hold up every
/// other channel of the connection.
async fn receive(mut from: ChannelReadHalf, stdin: Option<ChildStdin>, group: Option<Pid>) {
    let mut stdin = stdin;
    let mut pending = bytes::BytesMut::new();
    let mut at_end = false;
    loop {
        if at_end && pending.is_empty() {
            stdin = None;
        }
        let message = match &mut stdin {
            Some(pipe) if !pending.is_empty() => tokio::select! {
                message = from.wait() => message,
                written = pipe.write(&pending) => {
                    match written {
                        Ok(length) => drop(pending.split_to(length)),
                        // The command closed its input; what comes is thrown away.
                        Err(_) => stdin = None,
                    }
                    continue;
                }
            },
            _ => from.wait().await,
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                if stdin.is_some() {
                    pending.extend_from_slice(&data);
                }
            }
            Some(ChannelMsg::Eof) => at_end = true,
            Some(ChannelMsg::Signal { signal }) => {
                if let (Some(group), Some(signal)) = (group, number(&signal)) {
                    kill_process_group(group, signal)
                        .unwrap_or_else(|error| log::debug!("demo host: no signal: {error}"));
                }
            }
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
}

fn number(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::HUP => Signal::HUP,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::QUIT => Signal::QUIT,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        _ => return None,
    })
}
