//! Peers and yardsticks: an exec channel without any of our protocol, and the way from bytes to a stamped log.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use russh::client::{self, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{ChannelMsg, Preferred, cipher};
use towline::toolkit::command::Settings;
use towline::toolkit::mask::Masks;
use towline::toolkit::matcher::Matchers;
use towline::toolkit::output::StepOutput;
use towline::toolkit::stamp::Lines;

use super::sshd::{self, Sshd};

struct Anyone;

impl client::Handler for Anyone {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// A connection that runs commands as they are.
pub(crate) struct Plain(Handle<Anyone>);

impl Plain {
    pub(crate) async fn connect(server: &Sshd) -> Self {
        let config = client::Config {
            nodelay: true,
            preferred: Preferred { cipher: std::borrow::Cow::Borrowed(&[cipher::AES_128_GCM]), ..Preferred::default() },
            ..client::Config::default()
        };
        let address = ("127.0.0.1", server.port());
        let mut handle = client::connect(Arc::new(config), address, Anyone).await.expect("connected");
        let key = load_secret_key(server.path("id"), None).expect("a key");
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        assert!(handle.authenticate_publickey(sshd::user(), key).await.expect("an answer").success());
        Self(handle)
    }

    pub(crate) async fn exec(&self, command: &str) {
        let mut channel = self.0.channel_open_session().await.expect("a channel");
        channel.exec(true, command).await.expect("asked");
        let mut code = None;
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::ExitStatus { exit_status } = message {
                code = Some(exit_status);
            }
        }
        assert_eq!(code, Some(0));
    }
}

/// Masks, commands and time stamps, as a job's log gets them.
pub(crate) struct Stamped {
    output: StepOutput,
    masks: Masks,
    lines: Lines,
    effects: Vec<towline::toolkit::output::Effect>,
}

impl Stamped {
    pub(crate) fn new() -> Self {
        Self {
            output: StepOutput::new(Settings::default(), &Matchers::default()),
            masks: ["s3cr3t-password", "another-token-0123456789"].into_iter().collect(),
            lines: Lines::new(jiff::Timestamp::now()),
            effects: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, bytes: &[u8], log: &mut File) {
        self.lines.at(jiff::Timestamp::now());
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.output.feed(rest, &mut self.masks, &mut self.lines, &mut self.effects);
            rest = &rest[taken..];
            log.write_all(self.lines.bytes()).expect("written");
            self.lines.clear();
        }
    }
}

/// Established connections of this process to a port.
pub(crate) fn connections(port: u16) -> usize {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let wanted = format!(":{port:04X}");
    text.lines()
        .filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 3 && words[2].ends_with(&wanted) && words[3] == "01"
        })
        .count()
}
