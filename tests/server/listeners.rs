//! Sockets, TLS, limits, the end of a server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;
use towline::clock::Clock;
use towline::server::{Address, CertificateSource, Config, Endpoint, Error, Identity, Limits, Peer, Server};

fn router() -> Router {
    Router::new()
        .route("/who", get(|Extension(peer): Extension<Peer>| async move { format!("{peer} tls={}", peer.tls) }))
        .route("/panic", get(|| async { panic!("oh no") as String }))
}

fn own(folder: &Path) -> Identity {
    let certificate = CertificateSource::Own { folder: folder.join("tls"), names: vec!["towline.test".into()] };
    Identity { certificate, clients: None }
}

fn config(folder: &Path) -> Config {
    Config {
        endpoints: vec![
            Endpoint::Http("127.0.0.1:0".parse().unwrap()),
            Endpoint::Https("127.0.0.1:0".parse().unwrap()),
            Endpoint::Unix { path: folder.join("run/towline.sock"), mode: 0o660 },
        ],
        identity: Some(own(folder)),
        authority: Some(folder.join("jobs")),
        passed: towline::server::Passed::default(),
        limits: Limits { header: Duration::from_millis(300), ..Limits::STANDARD },
    }
}

/// One request on a connection of its own; head and body of the answer.
fn ask(stream: &mut (impl Read + Write), path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: towline.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn tls(address: std::net::SocketAddr, authority: &str, name: &'static str) -> Result<String, std::io::Error> {
    tls_over(TcpStream::connect(address).unwrap(), authority, name)
}

fn tls_over(mut socket: TcpStream, authority: &str, name: &'static str) -> Result<String, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    write!(stream, "GET /who HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_listener_answers_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let now = Clock::System.now();
    let bound = Server::bind(now, config(folder.path())).unwrap();
    let [Address::Http(plain), Address::Https(secure), Address::Unix(path)] = &bound.addresses()[..] else {
        panic!("{:?}", bound.addresses())
    };
    let (plain, secure, path) = (*plain, *secure, path.clone());
    let certificates = bound.certificates().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(bound.serve(router(), stop.clone()));
    let jobs = folder.path().join("jobs");

    tokio::task::spawn_blocking(move || {
        let who = ask(&mut TcpStream::connect(plain).unwrap(), "/who");
        assert!(who.ends_with("127.0.0.1 tls=false"), "{who}");
        let uid = rustix::process::getuid().as_raw();
        let who = ask(&mut UnixStream::connect(&path).unwrap(), "/who");
        assert!(who.ends_with(&format!("uid:{uid} tls=false")), "{who}");

        let authority = certificates.authority().unwrap();
        let who = tls(secure, &authority, "towline.test").unwrap();
        assert!(who.ends_with("127.0.0.1 tls=true"), "{who}");
        assert!(tls(secure, &authority, "elsewhere.test").is_err(), "a name that is not in the certificate");
        assert!(!certificates.reload(now, None).unwrap(), "nothing is new");
        tls(secure, &authority, "localhost").unwrap();

        // TLS on the plain port has an authority of its own, which is made for the first who asks.
        assert!(!jobs.exists(), "nobody asked");
        assert!(tls(plain, &authority, "towline.localhost").is_err(), "the server's own authority is another");
        let of_jobs = std::fs::read_to_string(jobs.join("ca.pem")).unwrap();
        let who = tls(plain, &of_jobs, "towline.localhost").unwrap();
        assert!(who.ends_with("127.0.0.1 tls=true"), "{who}");
        assert!(ask(&mut TcpStream::connect(plain).unwrap(), "/who").ends_with("tls=false"));

        // Plain HTTP on the TLS port is told where to go.
        let told = ask(&mut TcpStream::connect(secure).unwrap(), "/who?x=1");
        assert!(told.starts_with("HTTP/1.1 308"), "{told}");
        assert!(told.contains("location: https://towline.test/who?x=1"), "{told}");

        // A panic is an answer.
        let panicked = ask(&mut TcpStream::connect(plain).unwrap(), "/panic");
        assert!(panicked.starts_with("HTTP/1.1 500"), "{panicked}");

        // A client that never says anything is cut by the server, and so is a head that never ends.
        let mut silent = TcpStream::connect(plain).unwrap();
        let _ = silent.read_to_end(&mut Vec::new());
        let mut slow = TcpStream::connect(plain).unwrap();
        slow.write_all(b"GET /who HTTP/1.1\r\nHost:").unwrap();
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest);

        // Neither does a head of a megabyte reach a handler.
        let mut large = TcpStream::connect(plain).unwrap();
        let _ = large.write_all(format!("GET /who HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes());
        let mut line = String::new();
        let _ = BufReader::new(large).read_line(&mut line);
        assert!(line.is_empty() || line.starts_with("HTTP/1.1 431"), "{line}");
    })
    .await
    .unwrap();

    stop.cancel();
    served.await.unwrap();
    assert!(!folder.path().join("run/towline.sock").exists(), "the socket file goes with the server");
    assert!(TcpStream::connect(plain).is_err());
}

/// Who connected before the end is served, whatever was said until then; who never says anything is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_those_who_just_connected() {
    let folder = tempfile::tempdir().unwrap();
    let bound =
        Server::bind(Clock::System.now(), Config { limits: Limits::STANDARD, ..config(folder.path()) }).unwrap();
    let [Address::Http(plain), Address::Https(secure), Address::Unix(path)] = &bound.addresses()[..] else {
        panic!("{:?}", bound.addresses())
    };
    let (plain, secure, path) = (*plain, *secure, path.clone());
    let authority = bound.certificates().unwrap().authority().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(bound.serve(router(), stop.clone()));

    tokio::task::spawn_blocking(move || {
        let mut spoken = TcpStream::connect(plain).unwrap();
        let mut local = UnixStream::connect(&path).unwrap();
        // Its handshake has not begun.
        let encrypted = TcpStream::connect(secure).unwrap();
        let silent = TcpStream::connect(plain).unwrap();
        // One listener accepts in order: the answer to a later client says that those before it are in.
        ask(&mut TcpStream::connect(plain).unwrap(), "/who");
        ask(&mut UnixStream::connect(&path).unwrap(), "/who");
        tls(secure, &authority, "towline.test").unwrap();
        stop.cancel();
        while TcpStream::connect(plain).is_ok() {
            std::thread::yield_now();
        }
        assert!(ask(&mut spoken, "/who").starts_with("HTTP/1.1 200"));
        assert!(ask(&mut local, "/who").starts_with("HTTP/1.1 200"));
        let answer = tls_over(encrypted, &authority, "towline.test").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(silent);
    })
    .await
    .unwrap();
    served.await.unwrap();
}

#[tokio::test]
async fn a_socket_file_is_taken_over_only_from_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let now = Clock::System.now();
    let path = folder.path().join("towline.sock");
    let config = |path: &Path| Config {
        endpoints: vec![Endpoint::Unix { path: path.to_owned(), mode: 0o600 }],
        identity: None,
        authority: None,
        passed: towline::server::Passed::default(),
        limits: Limits::STANDARD,
    };
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let living = Server::bind(now, config(&path)).unwrap();
    assert!(matches!(Server::bind(now, config(&path)), Err(Error::AlreadyServed { .. })));
    drop(living);
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(now, config(&file)), Err(Error::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn the_authority_survives_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let now = Clock::System.now();
    let authority =
        |now| Server::bind(now, config(folder.path())).unwrap().certificates().unwrap().authority().unwrap();
    let first = authority(now);
    let leaf = std::fs::read(folder.path().join("tls/server.pem")).unwrap();
    assert_eq!(authority(now), first);
    assert_eq!(
        std::fs::read(folder.path().join("tls/server.pem")).unwrap(),
        leaf,
        "the same certificate while it is good"
    );
    let later = now + std::time::Duration::from_secs(380 * 86400);
    assert_eq!(authority(later), first);
    assert_ne!(std::fs::read(folder.path().join("tls/server.pem")).unwrap(), leaf, "a new one before the old one ends");
    for key in ["tls/ca.key", "tls/server.key"] {
        let mode = std::fs::metadata(folder.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}
