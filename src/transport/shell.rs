//! A connection to the launcher on a host: requests on its standard input, answers marked on its standard output.

use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Buf, Bytes, BytesMut};
use tokio::time::timeout;

use super::process::{Piece, Process};
use super::step::quoted;
use super::{JobSpec, Output, Target, TransportError, Way};

/// What we bring to a host.
const LAUNCHER: &str = include_str!("launcher.sh");
/// What finds out why a host cannot be written on.
const TROUBLE: &str = include_str!("trouble.sh");
/// The time a login shell may take over its start-up files, in times of the connection's own: 60 s where nothing else is said.
const LOGIN_TIMES: u32 = 6;
/// The same on this machine.
const LOGIN_TIME: Duration = Duration::from_secs(60);
/// How long the host may look for the reason of a failure.
const EXPLAINING: Duration = Duration::from_secs(10);
/// The time the launcher may take over a request, which is never the running time of a step.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The most a small command may say.
const MOST_OUTPUT: usize = 256 * 1024 * 1024;
/// The longest text that travels inside a request, as quoted: for shells that read their program in blocks, and for those that
/// read it byte by byte.
const INLINE_QUICK: usize = 96 * 1024;
const INLINE_SLOW: usize = 3 * 1024;
/// What is kept of the noise of a login that fails.
const MOST_NOISE: usize = 16 * 1024;

/// What is wanted of the launcher.
#[derive(Clone, Copy)]
pub(super) enum Mode<'a> {
    /// The requests of a job, which is made if it is not there and `create`.
    Job { key: &'a str, owner: &'a str, create: bool },
    /// Small commands outside of any job.
    Scratch,
    /// A spool from an offset on: after the first answer the stream is the spool. `tools` says whose `tail` the host has.
    Follow { key: &'a str, lane: &'a str, offset: u64, tools: &'a str },
}

/// The launcher's refusals that are states of the job, not faults.
#[derive(Debug)]
pub(super) enum OpenError {
    Transport(TransportError),
    /// The machine restarted since the job was opened.
    Rebooted,
    /// There is no such job, or no such lane yet.
    Gone,
    Absent,
}

impl From<TransportError> for OpenError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// The name of the launcher by its content: another version is another file.
pub(super) fn launcher_name() -> String {
    let digest = digest::digest(&digest::SHA256, LAUNCHER.as_bytes());
    let hex: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("launcher-{hex}")
}

/// The root directory as a word of the host's shell.
fn root_word(root: &str) -> String {
    match root.strip_prefix("~/") {
        Some(rest) => format!("\"$HOME\"/{}", quoted(rest)),
        None => quoted(root),
    }
}

/// A launcher that answers.
#[derive(Debug)]
pub(super) struct Shell {
    target: Target,
    process: Process,
    mark: String,
    held: BytesMut,
    errors: BytesMut,
    /// Whether the job was there already.
    pub(super) attached: bool,
    /// The directory this shell works in.
    pub(super) dir: String,
    /// The longest quoted text that a request may hold.
    inline: usize,
}

impl Shell {
    /// Brings the launcher if it is not there, and starts it.
    pub(super) async fn open(target: &Target, process: Process, mode: Mode<'_>) -> Result<Self, OpenError> {
        let mut shell = Self {
            target: target.clone(),
            process,
            mark: JobSpec::new_nonce(),
            held: BytesMut::new(),
            errors: BytesMut::new(),
            attached: false,
            dir: String::new(),
            inline: INLINE_SLOW,
        };
        let patience = match &target.way {
            Way::Local => LOGIN_TIME,
            Way::Ssh(ssh) => ssh.connect_timeout * LOGIN_TIMES,
        };
        match timeout(patience, shell.bootstrap(mode)).await {
            Ok(result) => result.map(|()| shell),
            Err(_) => Err(shell
                .unusable(format!(
                    "the login shell of {} did not come to an end of its start-up files within {} s{}. One of them waits: ~/.bashrc, \
                     ~/.profile, ~/.zshenv, config.fish and what they call have to leave when nobody is there \
                     (`case $- in *i*) ;; *) return ;; esac`); `connect_timeout` gives a slow one longer",
                    shell.user(),
                    patience.as_secs_f32(),
                    shell.noise()
                ))
                .into()),
        }
    }

    /// Whose shell it is.
    fn user(&self) -> &str {
        match &self.target.way {
            Way::Local => "this machine",
            Way::Ssh(ssh) => &ssh.user,
        }
    }

    fn unusable(&self, reason: String) -> TransportError {
        TransportError::Unusable { host: self.target.name.clone(), reason }
    }

    async fn bootstrap(&mut self, mode: Mode<'_>) -> Result<(), OpenError> {
        let mark = self.mark.clone();
        // The shell of a job reads its requests as its program: texts come with them without another process.
        let start = match mode {
            Mode::Job { key, owner, create } => {
                let how = if create { "create" } else { "attach" };
                format!("set -- control {mark} {key} {owner} {how};. \"$l\"")
            }
            Mode::Scratch => format!("set -- control {mark} '' '';. \"$l\""),
            Mode::Follow { key, lane, offset, tools } => {
                // bash crashes when what it sources reads the standard input that it reads itself.
                format!(
                    "set -- follow {mark} {key} {lane} {offset} {};case ${{BASH_VERSION-}} in '') . \"$l\";; *) exec /bin/sh \"$l\" \"$@\";; esac",
                    quoted(tools)
                )
            }
        };
        let root = root_word(&self.target.root);
        let name = launcher_name();
        // One line: some shells read their input by the block, and what follows must not be in it.
        let first = format!(
            "umask 077;r={root};l=$r/{name};if [ -f \"$l\" ];then {start};else printf '\\036%s need\\n' {mark};fi\n"
        );
        self.write(first.into()).await;
        let mut words = self.answer("logging in").await?;
        if words.first().is_some_and(|word| word == "need") {
            let upload = format!(
                "if mkdir -p \"$r/jobs\" && cat >\"$l.$$\" <<'END-{mark}'\n{LAUNCHER}END-{mark}\nthen mv \"$l.$$\" \"$l\"; {start}\n\
                 else printf '\\036%s failed cannot write in %s\\n' {mark} \"$r\"; fi\n"
            );
            self.write(upload.into()).await;
            words = self.answer("bringing the launcher").await?;
        }
        match words.first().map(String::as_str) {
            Some("ready") => {
                self.attached = words.get(1).is_some_and(|how| how == "attached");
                self.inline = if words.get(2).is_some_and(|pace| pace == "quick") { INLINE_QUICK } else { INLINE_SLOW };
                self.dir = words.get(3..).unwrap_or_default().join(" ");
                Ok(())
            }
            Some("following") => Ok(()),
            Some("rebooted") => Err(OpenError::Rebooted),
            Some("gone") => Err(OpenError::Gone),
            Some("absent") => Err(OpenError::Absent),
            Some("foreign") => Err(TransportError::ForeignJob {
                host: self.target.name.clone(),
                key: match mode {
                    Mode::Job { key, .. } | Mode::Follow { key, .. } => key.to_owned(),
                    Mode::Scratch => String::new(),
                },
            }
            .into()),
            _ => {
                let failure = printable(&words.get(1..).unwrap_or_default().join(" "));
                let reason = match self.explain().await {
                    Some(why) => format!("{failure}: {why}"),
                    None => format!("{failure}{}", self.noise()),
                };
                Err(self.unusable(reason).into())
            }
        }
    }

    /// Why nothing can be written there, found out by a shell that waits for its next line.
    async fn explain(&mut self) -> Option<String> {
        let script = format!("{{\nmark={}\nd={}\n{TROUBLE}}}\n", self.mark, root_word(&self.target.root));
        self.write(script.into()).await;
        let words = timeout(EXPLAINING, self.answer("looking for the reason")).await.ok()?.ok()?;
        let text = printable(&words.get(1..).unwrap_or_default().join(" "));
        (words.first().is_some_and(|word| word == "trouble") && !text.is_empty()).then_some(text)
    }

    async fn write(&mut self, bytes: Bytes) {
        // A closed input shows as an end of the output: that is where it is dealt with.
        let _ = self.process.write(bytes).await;
    }

    /// What the host said that was no answer, for a message.
    fn noise(&self) -> String {
        let text = String::from_utf8_lossy(if self.errors.is_empty() { &self.held } else { &self.errors });
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.last() {
            None => String::new(),
            Some(last) => format!(" (it said: {})", printable(last).chars().take(300).collect::<String>()),
        }
    }

    /// The words of the next answer. Everything before it is noise of start-up files.
    async fn answer(&mut self, doing: &'static str) -> Result<Vec<String>, TransportError> {
        let start = format!("\u{1e}{} ", self.mark).into_bytes();
        let mut exit = None;
        loop {
            if let Some(at) = find(&self.held, &start) {
                let text = &self.held[at + start.len()..];
                if let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let words = String::from_utf8_lossy(&text[..end]).split(' ').map(str::to_owned).collect();
                    self.held.advance(at + start.len() + end + 1);
                    return Ok(words);
                }
            } else if self.held.len() > MOST_NOISE {
                let surplus = self.held.len() - MOST_NOISE;
                self.held.advance(surplus);
            }
            if let Some(code) = exit {
                if doing == "logging in" {
                    return Err(self.unusable(format!(
                        "the login shell of {user} ended with code {code}{}. Give the account one that runs commands: `sudo usermod -s \
                         /bin/sh {user}` there; no `ForceCommand` of sshd_config and no `command=` of authorized_keys may stand before it",
                        self.noise(),
                        user = self.user()
                    )));
                }
                return Err(self.interrupted(doing));
            }
            match self.process.next().await {
                Some(Piece::Out(bytes)) => self.held.extend_from_slice(&bytes),
                Some(Piece::Err(bytes)) => {
                    if self.errors.len() < MOST_NOISE {
                        self.errors.extend_from_slice(&bytes);
                    }
                }
                Some(Piece::Exit(code)) => {
                    // Its last words may come after its end.
                    self.drain().await;
                    exit = Some(code);
                }
                None => return Err(self.interrupted(doing)),
            }
        }
    }

    /// What was said before the end, for the message.
    async fn drain(&mut self) {
        while let Ok(Some(piece)) = timeout(Duration::from_secs(1), self.process.next()).await {
            match piece {
                Piece::Out(bytes) if self.held.len() < MOST_NOISE => self.held.extend_from_slice(&bytes),
                Piece::Err(bytes) if self.errors.len() < MOST_NOISE => self.errors.extend_from_slice(&bytes),
                _ => {}
            }
        }
    }

    fn interrupted(&self, doing: &'static str) -> TransportError {
        TransportError::Interrupted { host: self.target.name.clone(), doing }
    }

    /// One request and its answer. After an error the shell is of no more use.
    pub(super) async fn request(
        &mut self,
        line: &str,
        payload: Option<&[u8]>,
        doing: &'static str,
    ) -> Result<Vec<String>, TransportError> {
        let text = match payload {
            None => String::new(),
            Some(payload) => match self.inline(payload) {
                Some(text) => text,
                None => {
                    self.send(payload, doing).await?;
                    "p=\n".to_owned()
                }
            },
        };
        // A request that is cut off is no program: the brace is missing.
        self.write(format!("{{ {text}{line}\n}}\n").into()).await;
        self.answer_in_time(doing).await
    }

    /// The assignment that brings a text with a request; `None` when it is too long, or holds what a shell may change.
    fn inline(&self, payload: &[u8]) -> Option<String> {
        let plain = |byte: u8| byte >= 0x20 && byte != 0x7f || matches!(byte, b'\n' | b'\t');
        if payload.is_empty() || payload.len() > self.inline || !payload.iter().copied().all(plain) {
            return None;
        }
        let text = format!("p={}\n", quoted(std::str::from_utf8(payload).ok()?));
        (text.len() <= self.inline).then_some(text)
    }

    /// Brings bytes into the file that the next request takes them from.
    async fn send(&mut self, payload: &[u8], doing: &'static str) -> Result<(), TransportError> {
        self.write(format!("{{ fetch {}\n}}\n", payload.len()).into()).await;
        let words = self.answer_in_time(doing).await?;
        self.good(&words, "go", doing)?;
        self.write(Bytes::copy_from_slice(payload)).await;
        let words = self.answer_in_time(doing).await?;
        self.good(&words, "fetched", doing)
    }

    async fn answer_in_time(&mut self, doing: &'static str) -> Result<Vec<String>, TransportError> {
        match timeout(ANSWER_TIME, self.answer(doing)).await {
            Ok(words) => words,
            Err(_) => Err(self.interrupted(doing)),
        }
    }

    fn good(&self, words: &[String], good: &str, doing: &str) -> Result<(), TransportError> {
        if words.first().is_some_and(|word| word == good) {
            return Ok(());
        }
        Err(TransportError::Failed {
            host: self.target.name.clone(),
            doing: doing.to_owned(),
            reason: words.get(1..).unwrap_or_default().join(" "),
        })
    }

    /// A request whose only good answer is one word.
    pub(super) async fn expect(
        &mut self,
        line: &str,
        payload: Option<&[u8]>,
        good: &str,
        doing: &'static str,
    ) -> Result<(), TransportError> {
        let words = self.request(line, payload, doing).await?;
        self.good(&words, good, doing)
    }

    /// Runs a script in the launcher's directory.
    pub(super) async fn exec(&mut self, script: &str, stdin: &[u8]) -> Result<Output, TransportError> {
        const DOING: &str = "running a command";
        let token = JobSpec::new_nonce();
        let mut request = String::from("{ ");
        let input = if stdin.is_empty() { "-" } else { "input" };
        if !stdin.is_empty() {
            match self.inline(stdin) {
                Some(text) => request.push_str(&text),
                None => {
                    self.send(stdin, DOING).await?;
                    request.push_str("p=\n");
                }
            }
            request.push_str("input\n");
        }
        match self.inline(script.as_bytes()) {
            Some(text) => request.push_str(&text),
            None => {
                if !stdin.is_empty() {
                    // One text at a time can be fetched: the first is taken before the second comes.
                    request.push_str("}\n");
                    self.write(std::mem::replace(&mut request, String::from("{ ")).into()).await;
                }
                self.send(script.as_bytes(), DOING).await?;
                request.push_str("p=\n");
            }
        }
        request.push_str(&format!("run {token} {input}\n}}\n"));
        self.errors.clear();
        self.held.clear();
        self.write(request.into()).await;
        let end = format!("\u{1e}{token} ").into_bytes();
        let failure = format!("\u{1e}{} failed ", self.mark).into_bytes();
        let (mut status, mut stdout, mut stderr) = (None, None, None);
        let mut looked = [0, 0];
        loop {
            if stdout.is_none()
                && let Some((at, text)) = closing(&self.held, &end, looked[0])
            {
                status = text.parse().ok();
                stdout = Some(self.held[..at].to_vec());
            }
            if stderr.is_none()
                && let Some((at, _)) = closing(&self.errors, &end, looked[1])
            {
                stderr = Some(self.errors[..at].to_vec());
            }
            if let (Some(stdout), Some(stderr)) = (&mut stdout, &mut stderr) {
                self.held.clear();
                self.errors.clear();
                return Ok(Output {
                    status: status.unwrap_or(255),
                    stdout: std::mem::take(stdout),
                    stderr: std::mem::take(stderr),
                });
            }
            if let Some((_, reason)) = closing(&self.held, &failure, 0).filter(|_| self.held.starts_with(&failure)) {
                self.held.clear();
                let reason = self.explain().await.unwrap_or(reason);
                return Err(TransportError::Failed { host: self.target.name.clone(), doing: DOING.to_owned(), reason });
            }
            // The end is looked for only in what is new, and in as much before it as an end may have begun in.
            looked = [self.held.len().saturating_sub(64), self.errors.len().saturating_sub(64)];
            if self.held.len() + self.errors.len() > MOST_OUTPUT {
                return Err(TransportError::Failed {
                    host: self.target.name.clone(),
                    doing: DOING.to_owned(),
                    reason: format!("it said more than {} MiB", MOST_OUTPUT >> 20),
                });
            }
            match self.process.next().await {
                Some(Piece::Out(bytes)) => self.held.extend_from_slice(&bytes),
                Some(Piece::Err(bytes)) => self.errors.extend_from_slice(&bytes),
                Some(Piece::Exit(_)) | None => return Err(self.interrupted(DOING)),
            }
        }
    }

    /// Hands the channel over to a script: what it says and hears from now on is the stream.
    pub(super) async fn become_script(mut self, script: &str) -> Result<(Bytes, Process), TransportError> {
        let script = format!("rm -f -- \"$0\"\n{script}");
        self.expect("become", Some(script.as_bytes()), "becoming", "opening a stream").await?;
        Ok(self.into_stream())
    }

    /// The stream after the first answer, and what of it has arrived.
    pub(super) fn into_stream(self) -> (Bytes, Process) {
        (self.held.freeze(), self.process)
    }
}

/// What a host says, without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Where a closing line begins, and its text, when all of it is there.
fn closing(held: &[u8], start: &[u8], from: usize) -> Option<(usize, String)> {
    let at = from + find(&held[from..], start)?;
    let text = &held[at + start.len()..];
    let end = text.iter().position(|&byte| byte == b'\n')?;
    Some((at, String::from_utf8_lossy(&text[..end]).into_owned()))
}

/// The first place of `needle`, which begins with a byte that is rare.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&byte| byte == needle[0]) {
        let at = from + at;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}
