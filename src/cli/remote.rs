//! Commands that talk to a daemon: over its socket, or to an address with a token.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Paths;

/// Where the daemon is.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Target {
    /// Address of a daemon elsewhere; without it the socket of this machine's.
    #[arg(long, env = "TOWLINE_URL", value_name = "URL", global = true)]
    url: Option<String>,
    /// Token for that address.
    #[arg(long, env = "TOWLINE_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// PEM file of the authority to trust for that address (`ca.pem` of the daemon).
    #[arg(long, env = "TOWLINE_CA", value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// The socket, when it is not where it usually is.
    #[arg(long, env = "TOWLINE_SOCKET", value_name = "FILE", global = true)]
    socket: Option<PathBuf>,
}

/// What is asked of a daemon, and where it is: the arguments of most commands.
#[derive(Debug, clap::Args)]
pub(super) struct Asking<C: clap::Subcommand> {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: C,
}

impl<C: clap::Subcommand> Asking<C> {
    /// Runs the command and says the exit code.
    pub(super) fn run<F: Future<Output = Result<u8>>>(self, execute: impl FnOnce(Target, C) -> F) -> u8 {
        block(execute(self.target, self.command))
    }
}

impl Target {
    /// Sends one request and gives the answer, its body still open.
    pub(super) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Response<Incoming>> {
        let Some(url) = &self.url else {
            let socket = self.socket.clone().unwrap_or_else(usual_socket);
            let stream = UnixStream::connect(&socket).await.with_context(|| {
                format!(
                    "no daemon answers at {}; start it with `towline serve`, or name one with --url",
                    socket.display()
                )
            })?;
            return self.over(stream, "localhost", method, path, body).await;
        };
        let uri: http::Uri = url.parse().with_context(|| format!("{url:?} is not an address"))?;
        let host = uri.host().ok_or_else(|| anyhow!("{url:?} names no host"))?.to_owned();
        let tls = uri.scheme_str() != Some("http");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let authority = uri.authority().map_or(host.as_str(), http::uri::Authority::as_str);
        let bare = host.trim_matches(['[', ']']);
        let stream =
            TcpStream::connect((bare, port)).await.with_context(|| format!("cannot connect to {authority}"))?;
        if !tls {
            return self.over(stream, authority, method, path, body).await;
        }
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.client_config()?));
        let name = ServerName::try_from(bare.to_owned())?;
        let stream = connector.connect(name, stream).await.with_context(|| {
            format!("{authority} is not trusted; give its ca.pem with --ca, or run `towline trust` there")
        })?;
        self.over(stream, authority, method, path, body).await
    }

    fn client_config(&self) -> Result<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        // The system's bundle under its usual names, and the file that was given.
        let usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
        let bundle = usual.into_iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        let given = match &self.ca {
            Some(path) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
            None => Vec::new(),
        };
        for certificate in CertificateDer::pem_slice_iter(&bundle).flatten() {
            // One odd certificate of a bundle must not spoil the others.
            let _ = roots.add(certificate);
        }
        for certificate in CertificateDer::pem_slice_iter(&given) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Response<Incoming>> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // The connection lives as long as the answer is read; its end is the answer's end.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        request = request.header(header::USER_AGENT, concat!("towline/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("token {token}"));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        Ok(sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?)
    }

    /// A request whose answer is JSON or nothing; an error answer becomes an error with its message.
    pub(super) async fn json(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        let value: Value =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or_default() };
        if status.is_success() {
            return Ok(value);
        }
        match status {
            StatusCode::UNAUTHORIZED => bail!("the daemon wants a token: set TOWLINE_TOKEN"),
            _ => bail!("{}", value["message"].as_str().unwrap_or(status.as_str())),
        }
    }

    /// Follows the redirect of a download and writes what comes to `out`.
    pub(super) async fn download(&self, path: &str, mut out: impl std::io::Write) -> Result<u64> {
        let mut response = self.send(Method::GET, path, None).await?;
        if response.status().is_redirection() {
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let uri: http::Uri = location.context("a redirect without an address")?.parse()?;
            let path = uri.path_and_query().context("a redirect without a path")?.to_string();
            response = self.send(Method::GET, &path, None).await?;
        }
        if !response.status().is_success() {
            bail!("the daemon answered {}", response.status());
        }
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                out.write_all(&data)?;
                length += data.len() as u64;
            }
        }
        out.flush()?;
        Ok(length)
    }

    /// The repository named, or the only one there is.
    pub(super) async fn repository(&self, named: Option<&String>) -> Result<String> {
        if let Some(name) = named {
            return Ok(name.clone());
        }
        let all = self.json(Method::GET, "/api/v3/user/repos?per_page=100", None).await?;
        let names: Vec<&str> =
            all.as_array().into_iter().flatten().filter_map(|one| one["full_name"].as_str()).collect();
        match names[..] {
            [one] => Ok(one.to_owned()),
            [] => bail!("the daemon knows no repository yet"),
            _ => bail!("name a repository with --repo; there are {}", names.join(", ")),
        }
    }
}

/// The socket of the user's own daemon, else of the system's: members of its group may open that one.
pub(super) fn usual_socket() -> PathBuf {
    if let Some(named) = std::env::var_os("TOWLINE_SOCKET") {
        return PathBuf::from(named);
    }
    let own = Paths::from_environment().socket();
    let system = PathBuf::from("/run/towline/towline.sock");
    if !own.exists() && system.exists() { system } else { own }
}

/// Runs a command on a small runtime and turns its end into an exit code; errors go to standard error.
pub(super) fn block(work: impl Future<Output = Result<u8>>) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    super::output::exit_code(runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(work)))
}

/// A segment or a value in an address, percent-encoded.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
