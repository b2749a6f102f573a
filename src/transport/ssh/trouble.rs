//! A connection that did not come about: how far it got, what was heard, and what to say of it.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::{SshTarget, TransportError};
use crate::id::HostName;

/// How much of what a server says first is kept: enough for a greeting, or for the answer of a server of another kind.
const MOST_HEARD: usize = 512;
/// How much of that is shown.
const MOST_SHOWN: usize = 120;

/// How far a connection has got. Shared by those who set it up and by who tells that it took too long.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    heard: Vec<u8>,
    /// What the server shows to whoever logs in.
    banner: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// The name is looked up.
    #[default]
    Resolving,
    /// The address is called.
    Calling,
    /// Greetings and keys are exchanged.
    Agreeing,
    LoggingIn,
}

impl Progress {
    pub(super) fn reached(&self, stage: Stage) {
        self.lock().stage = stage;
    }

    pub(super) fn show_banner(&self, text: &str) {
        let mut state = self.lock();
        let room = MOST_HEARD.saturating_sub(state.banner.len());
        // It ends up on somebody's terminal.
        state.banner.extend(text.chars().filter(|c| c.is_whitespace() || !c.is_control()).take(room));
    }

    /// What the server shows to whoever logs in, as the end of a sentence.
    pub(super) fn banner(&self) -> String {
        let state = self.lock();
        let words: Vec<&str> = state.banner.split_whitespace().collect();
        if words.is_empty() { String::new() } else { format!(" (it says: {})", words.join(" ")) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream whose first bytes are kept.
#[derive(Debug)]
pub(super) struct Overheard<S> {
    stream: S,
    progress: Option<Progress>,
}

impl<S> Overheard<S> {
    pub(super) fn new(stream: S, progress: Progress) -> Self {
        Self { stream, progress: Some(progress) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let Some(progress) = &this.progress {
            let mut state = progress.lock();
            let room = MOST_HEARD - state.heard.len();
            let new = buffer.filled().get(before..).unwrap_or_default();
            state.heard.extend(new.iter().take(room));
            if state.heard.len() == MOST_HEARD {
                drop(state);
                this.progress = None;
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// `USER@ADDRESS[:PORT]`, as `towline host add` takes it.
pub(super) fn destination(ssh: &SshTarget) -> String {
    let port = if ssh.port == 22 { String::new() } else { format!(":{}", ssh.port) };
    format!("{}@{}{port}", ssh.user, bracketed(&ssh.address))
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

fn place(ssh: &SshTarget) -> String {
    format!("{}:{}", bracketed(&ssh.address), ssh.port)
}

fn unreachable(host: &HostName, reason: String) -> TransportError {
    TransportError::Unreachable { host: host.clone(), reason }
}

/// The name leads nowhere.
pub(super) fn unresolved(host: &HostName, ssh: &SshTarget, error: &std::io::Error) -> TransportError {
    let text = error.to_string();
    let why = text.rsplit_once(": ").map_or(text.as_str(), |(_, why)| why);
    unreachable(
        host,
        format!(
            "the name {0} does not resolve ({why}). Look at its spelling; `getent hosts {0}` asks as this machine does",
            ssh.address
        ),
    )
}

/// The address does not take the call.
pub(super) fn uncalled(host: &HostName, ssh: &SshTarget, error: &std::io::Error) -> TransportError {
    let place = place(ssh);
    let reason = match error.kind() {
        ErrorKind::ConnectionRefused => format!(
            "nothing listens at {place}. Start sshd there (`sudo systemctl enable --now ssh`), or give its port: {}@{}:PORT",
            ssh.user,
            bracketed(&ssh.address)
        ),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => format!(
            "there is no way to {place} ({error}). Is the machine on, and the address right? `ping {}` tells",
            ssh.address
        ),
        ErrorKind::PermissionDenied => {
            format!(
                "this machine may not call {place} ({error}): a firewall here, or the sandbox of the service, forbids it"
            )
        }
        _ => format!("{place}: {error}"),
    };
    unreachable(host, reason)
}

/// The server in between does not get there.
pub(super) fn not_through(host: &HostName, ssh: &SshTarget, error: &russh::Error) -> TransportError {
    use russh::ChannelOpenFailure;
    let (hop, place) = (ssh.jump.as_ref().map_or_else(String::new, |jump| destination(jump)), place(ssh));
    unreachable(
        host,
        match error {
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => format!(
                "the jump host {hop} forwards no connections. Set `AllowTcpForwarding yes` (or `local`) in its sshd_config, and no \
                 `PermitOpen` that leaves out {place}"
            ),
            other => format!(
                "the jump host {hop} cannot reach {place} ({other}). Is it on, and does its sshd listen there? `nc -vz {} {}` on the jump \
                 host tells",
                ssh.address, ssh.port
            ),
        },
    )
}

/// Nothing more came in time.
pub(super) fn silent(host: &HostName, ssh: &SshTarget, progress: &Progress) -> TransportError {
    let (stage, greeted) = {
        let state = progress.lock();
        (state.stage, !state.heard.is_empty())
    };
    let (place, seconds) = (place(ssh), ssh.connect_timeout.as_secs_f32());
    unreachable(
        host,
        match stage {
            Stage::Resolving => format!(
                "the name {} was not resolved within {seconds} s. Does the name server of this machine answer? `getent hosts {0}` asks it",
                ssh.address
            ),
            Stage::Calling => format!(
                "{place} did not answer within {seconds} s. The machine may be off, the address wrong, or a firewall drops what comes"
            ),
            Stage::Agreeing if !greeted => format!(
                "{place} took the connection, and sent no SSH greeting within {seconds} s. It may be another kind of server, or too \
                 busy; `ssh -v -p {} {}@{}` shows how far it gets. `connect_timeout` gives it longer",
                ssh.port, ssh.user, ssh.address
            ),
            Stage::Agreeing => format!(
                "{place} greeted, and did not agree on keys within {seconds} s. The link may be slow, or lose large packets (MTU); \
                 `connect_timeout` gives it longer"
            ),
            Stage::LoggingIn => format!(
                "{place} did not let us in within {seconds} s{}. Its sshd may look up names (`UseDNS no`), or wait for PAM; \
                 `connect_timeout` gives it longer",
                progress.banner()
            ),
        },
    )
}

/// Greetings or keys did not fit.
pub(super) fn disagreed(host: &HostName, ssh: &SshTarget, error: &russh::Error, progress: &Progress) -> TransportError {
    let heard = progress.lock().heard.clone();
    let place = place(ssh);
    let first: String = String::from_utf8_lossy(&heard)
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|letter| !letter.is_control())
        .take(MOST_SHOWN)
        .collect();
    let is_ssh = heard.windows(4).any(|window| window == b"SSH-");
    let busy = ["Exceeded MaxStartups", "Not allowed at this time"].iter().any(|words| first.contains(words));
    unreachable(
        host,
        if heard.is_empty() {
            format!(
                "{place} closed the connection without a greeting. Too many connections may be waiting there (`MaxStartups` in its \
                 sshd_config), or a rule is against this machine (hosts.deny, fail2ban, `PerSourcePenalties`); its log says which: \
                 `journalctl -u ssh`"
            )
        } else if busy {
            format!(
                "{place} takes no more connections for now ({first}). Try again in a moment; if it stays so, raise `MaxStartups` in its \
                 sshd_config, or look there for who calls so often: `journalctl -u ssh`"
            )
        } else if !is_ssh {
            format!(
                "{place} is no SSH server: it says {first:?}. Give the port of its sshd: {}@{}:PORT",
                ssh.user,
                bracketed(&ssh.address)
            )
        } else if let russh::Error::NoCommonAlgo { kind, ours, theirs } = error {
            format!(
                "{place} ({first}) and we have no {kind:?} algorithm in common: it has {}, we have {}. Update its sshd",
                theirs.join(", "),
                ours.join(", ")
            )
        } else {
            format!("{place} ({first}) broke off before the login: {error}. Its log says why: `journalctl -u ssh`")
        },
    )
}

/// The link broke while logging in.
pub(super) fn broke(host: &HostName, ssh: &SshTarget, progress: &Progress) -> TransportError {
    unreachable(
        host,
        format!(
            "{} broke off while {} was logging in{}. The account may have expired (`sudo chage -l {1}` there), or be barred by PAM or \
             /etc/nologin; the log says which: `journalctl -u ssh`",
            place(ssh),
            ssh.user,
            progress.banner()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::UnknownKey;

    fn target() -> SshTarget {
        SshTarget {
            address: "h.lan".into(),
            port: 22,
            user: "ci".into(),
            identities: Vec::new(),
            agent: false,
            password: None,
            known_hosts: Vec::new(),
            unknown_key: UnknownKey::Refuse,
            jump: None,
            connect_timeout: std::time::Duration::from_secs(1),
        }
    }

    #[test]
    fn what_was_heard_decides_what_is_said() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "without a greeting"),
            (b"Exceeded MaxStartups\r\n", "takes no more connections for now (Exceeded MaxStartups)"),
            (b"HTTP/1.1 400 Bad\x1b[2J\r\nx", "is no SSH server: it says \"HTTP/1.1 400 Bad[2J\". Give the port"),
            (b"SSH-2.0-old\r\n\0\0", "(SSH-2.0-old) broke off before the login"),
            (b"220 mail\r\nSSH-2.0-x\r\n", "broke off before the login"),
        ];
        for (heard, expected) in cases {
            let progress = Progress::default();
            progress.lock().heard = heard.to_vec();
            let error = disagreed(&HostName::from("h"), &target(), &russh::Error::Disconnect, &progress);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_banner_is_shown_without_what_a_terminal_would_obey() {
        let progress = Progress::default();
        progress.show_banner("All \x1b[2Juse\r\nis watched\x07\n");
        assert_eq!(progress.banner(), " (it says: All [2Juse is watched)");
    }

    #[tokio::test]
    async fn only_the_first_bytes_are_kept() {
        let progress = Progress::default();
        let text = vec![b'x'; 2 * MOST_HEARD];
        let mut stream = Overheard::new(&text[..], progress.clone());
        let mut copy = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut copy).await.expect("read");
        assert_eq!((copy, progress.lock().heard.len()), (text, MOST_HEARD));
    }
}
