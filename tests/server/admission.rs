//! Who is let in without a token of ours: certificates of clients, GitHub's word, and what browsers must not be used for.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http::{HeaderMap, Method, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use towline::clock::Clock;
use towline::config::{GitHubLogin, Role, SecretSource};
use towline::server::auth::{Admissions, Mode};
use towline::server::{Address, CertificateSource, Config, Endpoint, Identity, Limits, Passed, Server};

use super::harness::Daemon;

/// An authority and what it issues.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, client: bool) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = if client { Vec::new() } else { vec!["localhost".to_owned()] };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![if client { ExtendedKeyUsagePurpose::ClientAuth } else { ExtendedKeyUsagePurpose::ServerAuth }];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// One request over TLS with the certificate of a client, if any: the whole answer, or why there was none.
fn ask(
    address: SocketAddr,
    trusted: &str,
    shown: Option<&(String, String)>,
    head: &str,
) -> Result<String, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let mut session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    write!(stream, "{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn write(path: &Path, (certificate, key): &(String, String)) -> (std::path::PathBuf, std::path::PathBuf) {
    let files = (path.join("server.pem"), path.join("server.key"));
    std::fs::write(&files.0, certificate).unwrap();
    std::fs::write(&files.1, key).unwrap();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_clients_have_roles_and_certificates_change_without_a_restart() {
    let daemon = Daemon::start(Mode::Tokens).await;
    let folder = tempfile::tempdir().unwrap();
    let (ours, strange) = (Authority::new("lab"), Authority::new("elsewhere"));
    let (certificate, key) = write(folder.path(), &ours.issue("server", false));
    let clients = folder.path().join("clients.pem");
    std::fs::write(&clients, &ours.pem).unwrap();
    let identity = Identity { certificate: CertificateSource::Files { certificate, key }, clients: Some(clients) };
    let config = Config {
        endpoints: vec![Endpoint::Https("127.0.0.1:0".parse().unwrap())],
        passed: Passed::default(),
        authority: None,
        identity: Some(identity.clone()),
        limits: Limits::STANDARD,
    };
    let now = Clock::System.now();
    let bound = Server::bind(now, config).unwrap();
    let [Address::Https(address)] = bound.addresses()[..] else { panic!("one socket") };
    let certificates = bound.certificates().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(bound.serve(towline::server::router(&daemon.app), stop.clone()));
    let roles = [("ada", Role::Operator), ("grafana", Role::Viewer)];
    daemon.app.auth().admit(Admissions {
        certificates: roles.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
        github: None,
    });
    let run = daemon.push("o/r", "by certificate").await;
    let folder = folder;
    tokio::task::spawn_blocking(move || {
        let get = |shown: Option<&(String, String)>| ask(address, &ours.pem, shown, "GET /api/v3/user HTTP/1.1");
        let ada = ours.issue("ada", true);
        assert!(get(Some(&ada)).unwrap().contains("\"login\":\"ada\""), "her name is that of the certificate");
        assert!(get(None).unwrap().starts_with("HTTP/1.1 401"), "who shows none is let in as nobody");
        assert!(get(Some(&ours.issue("mallory", true))).unwrap().starts_with("HTTP/1.1 401"), "who is not named");
        assert!(get(Some(&strange.issue("ada", true))).is_err(), "whom another authority vouches for");
        let cancel = format!("POST /api/v3/repos/o/r/actions/runs/{run}/cancel HTTP/1.1\r\nContent-Length: 0");
        let grafana = ours.issue("grafana", true);
        assert!(ask(address, &ours.pem, Some(&grafana), &cancel).unwrap().starts_with("HTTP/1.1 403"), "a viewer");
        // A page of another site makes a browser send the certificate along.
        for header in ["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"] {
            let answer = ask(address, &ours.pem, Some(&ada), &format!("{cancel}\r\n{header}")).unwrap();
            assert!(answer.starts_with("HTTP/1.1 403"), "{header}: {answer}");
        }
        assert!(ask(address, &ours.pem, Some(&ada), &cancel).unwrap().starts_with("HTTP/1.1 202"));

        // The user renews the certificate, by another authority even: new connections have it, and a broken pair changes nothing.
        assert!(!certificates.reload(now, None).unwrap(), "nothing is new");
        let next = strange.issue("server", false);
        std::fs::write(folder.path().join("server.pem"), &next.0).unwrap();
        assert!(certificates.reload(now, None).is_err(), "the key is that of the old one");
        assert!(get(None).is_ok());
        write(folder.path(), &next);
        assert!(certificates.reload(now, None).unwrap());
        assert!(get(None).is_err(), "the old authority does not vouch for the new one");
        assert!(ask(address, &strange.pem, None, "GET /healthz HTTP/1.1").unwrap().starts_with("HTTP/1.1 200"));
        // Clients of the other authority from now on.
        std::fs::write(folder.path().join("clients.pem"), &strange.pem).unwrap();
        assert!(certificates.reload(now, Some(identity)).unwrap());
        let theirs = strange.issue("ada", true);
        let asked = |shown| ask(address, &strange.pem, Some(shown), "GET /api/v3/user HTTP/1.1");
        assert!(asked(&theirs).unwrap().contains("\"login\":\"ada\""));
        assert!(asked(&ada).is_err());
    })
    .await
    .unwrap();
    stop.cancel();
    served.await.unwrap();
    daemon.end().await;
}

/// What a browser on this machine sends to an open server by itself is no wish of its user's.
#[tokio::test]
async fn another_site_changes_nothing_on_an_open_server() {
    let daemon = Daemon::start(Mode::OpenOnLoopback).await;
    let run = daemon.push("o/r", "stays").await;
    let path = format!("/api/v3/repos/o/r/actions/runs/{run}/cancel");
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let answer = daemon.ask(Method::POST, &path, &[(name, value), ("content-type", "text/plain")], "{}").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    let here = format!("http://{}", daemon.plain);
    assert_eq!(daemon.ask(Method::POST, &path, &[("origin", &here)], "").await.status, StatusCode::ACCEPTED);
    daemon.end().await;
}

#[derive(Default)]
struct GitHub {
    /// What was sent for a token, and what is known of whoever shows it.
    asked: Mutex<Vec<Value>>,
}

/// GitHub's side of the web flow: a code is good once, for the secret and the challenge it was given for.
async fn github() -> (SocketAddr, Arc<GitHub>) {
    async fn token(State(state): State<Arc<GitHub>>, body: String) -> axum::Json<Value> {
        let asked: Value = serde_json::from_str(&body).unwrap();
        let good = asked["client_secret"] == "s3cret" && asked["client_id"] == "app";
        let login = asked["code"].as_str().and_then(|code| code.strip_prefix("code-of-")).map(str::to_owned);
        state.asked.lock().unwrap().push(asked);
        axum::Json(match login.filter(|_| good) {
            Some(login) => json!({"access_token": format!("gho_{login}"), "token_type": "bearer"}),
            None => json!({"error": "bad_verification_code", "error_description": "The code passed is incorrect."}),
        })
    }
    async fn user(headers: HeaderMap) -> (StatusCode, axum::Json<Value>) {
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        match shown.strip_prefix("Bearer gho_") {
            Some(login) => (StatusCode::OK, axum::Json(json!({"login": login}))),
            None => (StatusCode::UNAUTHORIZED, axum::Json(json!({"message": "Bad credentials"}))),
        }
    }
    let state = Arc::new(GitHub::default());
    let router = Router::new()
        .route("/login/oauth/access_token", post(token))
        .route("/api/v3/user", get(user))
        .with_state(Arc::clone(&state));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, state)
}

fn parameter(location: &str, name: &str) -> String {
    let query = location.split_once('?').map_or("", |(_, query)| query);
    let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn github_vouches_for_those_on_the_list() {
    let daemon = Daemon::start(Mode::Tokens).await;
    assert_eq!(daemon.get("/login/github", "").await.status, StatusCode::NOT_FOUND, "it is not configured");
    let (address, github) = github().await;
    let admit = |logins: &[(&str, Role)]| {
        daemon.app.auth().admit(Admissions {
            certificates: BTreeMap::new(),
            github: Some(GitHubLogin {
                url: format!("http://{address}"),
                client_id: "app".into(),
                client_secret: SecretSource::Plain("s3cret".into()),
                allow: logins.iter().map(|(login, role)| ((*login).to_owned(), *role)).collect(),
            }),
        });
    };
    admit(&[("ada", Role::Admin), ("grace", Role::Viewer)]);
    assert!(daemon.get("/login", "").await.text().contains("Sign in with GitHub"));

    // The way there.
    let leave = async || {
        let answer = daemon.get("/login/github?next=%2Fhosts", "").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        let cookie = answer.header("set-cookie").to_owned();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        (answer.header("location").to_owned(), cookie.split(';').next().unwrap().to_owned())
    };
    let (location, way) = leave().await;
    assert!(location.starts_with(&format!("http://{address}/login/oauth/authorize?client_id=app&")), "{location}");
    let callback = format!("http%3A%2F%2F{}%2Flogin%2Fgithub%2Fcallback", daemon.plain.to_string().replace(':', "%3A"));
    assert_eq!(parameter(&location, "redirect_uri"), callback);
    let state = parameter(&location, "state");

    // And back.
    let back = async |code: &str, state: &str, cookie: &str| {
        let path = format!("/login/github/callback?code={code}&state={state}");
        daemon.ask(Method::GET, &path, &[("cookie", cookie)], "").await
    };
    assert_eq!(back("code-of-ada", &state, "").await.status, StatusCode::FORBIDDEN, "another browser");
    assert_eq!(back("code-of-ada", "other", &way).await.status, StatusCode::FORBIDDEN, "another state");
    let wrong = back("stolen", &state, &way).await;
    assert_eq!(wrong.status, StatusCode::BAD_GATEWAY);
    assert!(wrong.text().contains("The code passed is incorrect."), "{}", wrong.text());
    let mallory = back("code-of-mallory", &state, &way).await;
    assert_eq!(mallory.status, StatusCode::FORBIDDEN);
    assert!(mallory.text().contains("You are mallory on GitHub") && mallory.header("set-cookie").is_empty());
    let ada = back("code-of-Ada", &state, &way).await;
    assert_eq!((ada.status, ada.header("location")), (StatusCode::SEE_OTHER, "/hosts"), "{}", ada.text());
    let session = ada.header("set-cookie").split(';').next().unwrap().to_owned();
    let asked = github.asked.lock().unwrap().last().unwrap().clone();
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, asked["code_verifier"].as_str().unwrap().as_bytes());
    use base64::Engine as _;
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest);
    assert_eq!(parameter(&location, "code_challenge"), challenge, "the code is of use to nobody else");

    let page = daemon.ask(Method::GET, "/hosts", &[("cookie", &session)], "").await;
    assert!(page.status.is_success() && page.text().contains("Add a host"), "an administrator");
    admit(&[("grace", Role::Viewer)]);
    let page = daemon.ask(Method::GET, "/hosts", &[("cookie", &session)], "").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "off the list is out at once");

    // Guessing costs.
    let mut last = StatusCode::OK;
    for _ in 0..30 {
        last = back("x", "guess", &way).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    daemon.end().await;
}
