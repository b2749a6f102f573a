//! A port on a host's loopback that leads to an address of this machine: how actions there reach the services here.
//!
//! All forwards to one host share one connection, beside those of jobs: an upload never delays a step or its log. When the
//! link breaks the same port is asked for again, since a process that runs has been told it. A server that has not noticed
//! the break still holds the port: its session was started by us, and is ended by us.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::job::Backoff;
use super::pool::Hosts;
use super::ssh::Connection;
use super::{Facts, SshTarget, Target, TransportError, Way};

/// Ports asked for: below those that systems give out by themselves, so that a port is free again after a break.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many of them are tried before the server may choose. A refusal does not say why.
const TRIES: u32 = 3;
/// The time a server may take over a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A forward that is kept open. Dropping it closes the port.
#[derive(Debug)]
pub struct Forward {
    port: u16,
    _stop: DropGuard,
}

impl Forward {
    /// The port on the host's loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Where the forwarded ports of one connection lead.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    ports: Arc<Mutex<HashMap<u32, SocketAddr>>>,
}

impl Routes {
    pub(super) fn to(&self, port: u32) -> Option<SocketAddr> {
        self.lock().get(&port).copied()
    }

    pub(super) fn set(&self, port: u32, to: SocketAddr) {
        self.lock().insert(port, to);
    }

    pub(super) fn remove(&self, port: u32) {
        self.lock().remove(&port);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, SocketAddr>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection to one server that carries forwards. It stays: the next job starts sooner.
#[derive(Debug, Default)]
pub(super) struct Gate {
    current: Option<Arc<Connection>>,
    /// The server's process behind the last connection: it holds the ports as long as it lives.
    session: Option<Session>,
}

/// A process on the host, and when it was started, where that can be known: another may have its number later.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    pid: u32,
    since: String,
}

impl Hosts {
    /// Opens a port on the host's loopback that leads to `to`. `port`: one that was given before, by a process that is no
    /// more; it is asked for until it is had, in the background.
    ///
    /// # Errors
    /// The host cannot be reached, or its SSH server forbids forwarding.
    pub async fn forward(&self, target: &Target, to: SocketAddr, port: Option<u16>) -> Result<Forward, TransportError> {
        let Way::Ssh(ssh) = &target.way else {
            return Err(TransportError::Invalid("this machine needs no forwarding".to_owned()));
        };
        let stop = CancellationToken::new();
        let keeper = Keeper {
            hosts: self.clone(),
            target: target.clone(),
            ssh: (**ssh).clone(),
            to,
            port: port.unwrap_or_default(),
        };
        let (keeper, connection) = match port {
            Some(_) => (keeper, None),
            None => {
                let connection = keeper.connection().await?;
                let port = keeper.first(&connection).await?;
                (Keeper { port, ..keeper }, Some(connection))
            }
        };
        let port = keeper.port;
        self.tracker().spawn(keeper.keep(connection, stop.clone()));
        Ok(Forward { port, _stop: stop.drop_guard() })
    }
}

impl Hosts {
    /// What [`Hosts::probe`] finds, and whether the SSH server forwards ports, which services need: what a person wants to know.
    ///
    /// # Errors
    /// As [`Hosts::probe`].
    pub async fn check(&self, target: &Target) -> Result<Facts, TransportError> {
        let mut facts = self.probe(target).await?;
        if let Way::Ssh(ssh) = &target.way
            && let Some(connection) = self.server(ssh).any()
        {
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
            match tokio::time::timeout(PATIENCE, connection.forward(0, nowhere)).await {
                Ok(Ok(port)) => connection.unforward(port).await,
                Ok(Err(reason)) if !connection.is_closed() => {
                    let error = TransportError::NotForwarded { host: target.name.clone(), reason };
                    facts.obstacles.push(error.to_string());
                }
                _ => {}
            }
        }
        Ok(facts)
    }
}

/// Keeps one forward open.
struct Keeper {
    hosts: Hosts,
    target: Target,
    ssh: SshTarget,
    to: SocketAddr,
    port: u16,
}

impl Keeper {
    /// The connection of all forwards to this host; made when there is none.
    async fn connection(&self) -> Result<Arc<Connection>, TransportError> {
        let server = self.hosts.server(&self.ssh);
        let mut gate = server.gate.lock().await;
        if let Some(connection) = gate.current.take().filter(|connection| !connection.is_closed()) {
            gate.current = Some(Arc::clone(&connection));
            return Ok(connection);
        }
        let connection = server.connect_alone(self.hosts.tracker(), &self.target, &self.ssh).await?;
        let session = session(&connection, self.hosts.tracker(), gate.session.take()).await;
        gate.session = session;
        gate.current = Some(Arc::clone(&connection));
        Ok(connection)
    }

    async fn first(&self, connection: &Connection) -> Result<u16, TransportError> {
        let mut said = String::new();
        for attempt in 0..=TRIES {
            let wanted = if attempt < TRIES { random_port() } else { 0 };
            match self.ask(connection, wanted).await {
                Ok(port) => return Ok(port),
                Err(reason) => said = reason,
            }
            if connection.is_closed() {
                return Err(TransportError::Interrupted { host: self.target.name.clone(), doing: "forwarding a port" });
            }
        }
        Err(TransportError::NotForwarded { host: self.target.name.clone(), reason: said })
    }

    async fn ask(&self, connection: &Connection, port: u16) -> Result<u16, String> {
        match tokio::time::timeout(PATIENCE, connection.forward(port, self.to)).await {
            Ok(result) => result,
            Err(_) => Err("no answer".to_owned()),
        }
    }

    async fn keep(self, mut connection: Option<Arc<Connection>>, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut complained = false;
        loop {
            if let Some(open) = &connection {
                tokio::select! {
                    () = stop.cancelled() => {
                        open.unforward(self.port).await;
                        return;
                    }
                    () = open.closed() => {}
                }
                connection = None;
                backoff = Backoff::default();
            }
            let again = async {
                tokio::time::sleep(backoff.next()).await;
                let connection = self.connection().await.map_err(|error| error.to_string())?;
                self.ask(&connection, self.port).await.map(|_| connection)
            };
            match tokio::select! { () = stop.cancelled() => return, again = again => again } {
                Ok(open) => {
                    connection = Some(open);
                    complained = false;
                }
                Err(reason) if !complained => {
                    log::warn!(host:% = self.target.name; "port {} on {} is not forwarded again yet: {reason}", self.port, self.target.name);
                    complained = true;
                }
                Err(_) => {}
            }
        }
    }
}

/// The server's process behind a connection. The one behind an earlier connection, if it still lives, is ended: with it go
/// the ports that it holds.
async fn session(connection: &Arc<Connection>, tracker: &TaskTracker, before: Option<Session>) -> Option<Session> {
    use super::process::Piece;
    let mut script = "since() { sed 's/.*) //' \"/proc/$1/stat\" 2>/dev/null | cut -d' ' -f20; }\n".to_owned();
    if let Some(Session { pid, since }) = before {
        script.push_str(&format!(
            "if [ \"$(since {pid})\" = '{since}' ]; then\n\
             case $(ps -o comm= -p {pid} 2>/dev/null || cat /proc/{pid}/comm 2>/dev/null) in *sshd*|*dropbear*) kill {pid};; esac\nfi\n"
        ));
    }
    script.push_str("echo \"session $PPID $(since $PPID)\"\nexit\n");
    let ask = async {
        connection.reserve(false, 1);
        let mut process = connection.open(tracker).await.ok()?;
        process.write(script.into()).await;
        let mut said = Vec::new();
        while let Some(piece) = process.next().await {
            if let Piece::Out(bytes) = piece {
                said.extend_from_slice(&bytes);
            }
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        said.lines().find_map(|line| {
            let (pid, since) = line.strip_prefix("session ")?.trim().split_once(' ').unwrap_or((line.get(8..)?, ""));
            let since = since.chars().filter(char::is_ascii_digit).collect();
            Some(Session { pid: pid.trim().parse().ok()?, since })
        })
    };
    tokio::time::timeout(PATIENCE, ask).await.ok().flatten()
}

fn random_port() -> u16 {
    let mut random = [0_u8; 2];
    // Without random numbers the first port is tried thrice, and then the server chooses.
    let _ = aws_lc_rs::rand::fill(&mut random);
    PORTS.start + u16::from_be_bytes(random) % (PORTS.end - PORTS.start)
}
