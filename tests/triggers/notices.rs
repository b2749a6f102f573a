//! Notifications: to a web server, to a mail server with and without TLS, and to a program, all real.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use towline::clock::Clock;
use towline::config::{self, Config};
use towline::forge::{Notice, Outbox};
use towline::id::RunId;
use towline::run::Conclusion;
use towline::store::Store;

use super::whole::Whole;

/// What a chat service got: path, headers, body.
type Posts = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

#[derive(Clone, Default)]
struct Chat {
    posts: Posts,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

async fn chat() -> (Chat, String) {
    let chat = Chat::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(posted).with_state(chat.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (chat, url)
}

async fn posted(State(chat): State<Chat>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = String::from_utf8_lossy(&body).into_owned();
    chat.posts.lock().unwrap().push((uri.path().to_owned(), headers, body));
    let status = chat.answers.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}

impl Chat {
    /// Waits for so many posts.
    async fn posts(&self, count: usize) -> Vec<(String, HeaderMap, String)> {
        let wait = async {
            while self.posts.lock().unwrap().len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(super::whole::PATIENCE, wait).await;
        assert!(waited.is_ok(), "{:?}", self.posts.lock().unwrap());
        self.posts.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_hear_of_failures_and_of_their_end() {
    let (chat, url) = chat().await;
    let heard = tempfile::tempdir().unwrap();
    let file = heard.path().join("heard");
    let config = format!(
        "[[notify]]\nurl = '{url}/change'\nsecret = 'hush'\nbranches = ['main']\n\
         [[notify]]\nurl = '{url}/slack'\nshape = 'slack'\non = 'failure'\n\
         [[notify]]\nurl = '{url}/other'\non = 'always'\nrepositories = ['other']\n\
         [[notify]]\nurl = '{url}/recovery'\nshape = 'discord'\non = 'recovery'\nworkflows = ['ci.yml']\n\
         [[notify]]\non = 'always'\ncommand = ['sh', '-c', 'printf \"%s %s\\n\" \"$TOWLINE_CONCLUSION\" \"$TOWLINE_BRANCH\" >> {0}; cat >> {0}; echo >> {0}']\n",
        file.display()
    );
    let mut whole = Whole::start(&config).await;
    let project = whole.project("app");
    let workflow = |code: u8| {
        format!(
            "name: CI\non: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: exit {code}\n"
        )
    };
    let mut told = 0;
    for (round, (code, posts)) in [(0, 0), (1, 2), (0, 2)].into_iter().enumerate() {
        whole.push(&project, &[(".github/workflows/ci.yml", &workflow(code)), ("round", &round.to_string())]).await;
        whole.ended(round + 1).await;
        told += posts;
        chat.posts(told).await;
    }
    let posts = chat.posts(4).await;
    let mut paths: Vec<&str> = posts.iter().map(|(path, ..)| path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/change", "/change", "/recovery", "/slack"]);
    let of = |path: &str| posts.iter().filter(|post| post.0 == path).collect::<Vec<_>>();
    let [(_, headers, body), (.., last)] = of("/change")[..] else { panic!("{posts:?}") };
    let tag = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"hush"), body.as_bytes());
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(headers["x-hub-signature-256"], format!("sha256={tag}").as_str());
    let body: Json = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&body["conclusion"], &body["recovered"], &body["branch"]),
        (&json!("failure"), &json!(false), &json!("main"))
    );
    assert_eq!(body["failed_jobs"], json!(["test"]));
    assert_eq!(body["text"], "local/app: CI failed on main");
    assert!(body["url"].as_str().unwrap().ends_with("/local/app/actions/runs/2"), "{body}");
    let last: Json = serde_json::from_str(last).unwrap();
    assert_eq!((&last["recovered"], &last["text"]), (&json!(true), &json!("local/app: CI works again on main")));
    let slack: Json = serde_json::from_str(&of("/slack")[0].2).unwrap();
    assert!(slack["text"].as_str().unwrap().contains("|local/app: CI failed on main>"), "{slack}");
    assert_eq!(slack["attachments"][0]["color"], "danger");
    let discord: Json = serde_json::from_str(&of("/recovery")[0].2).unwrap();
    assert_eq!(discord["embeds"][0]["title"], "local/app: CI works again on main");
    // Another life looks back and says nothing twice; the next end is told.
    whole.again().await;
    whole.push(&project, &[(".github/workflows/ci.yml", &workflow(2))]).await;
    whole.ended(4).await;
    assert_eq!(chat.posts(6).await.len(), 6);
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    let wait = async {
        while lines().lines().filter(|line| line.ends_with(" main")).count() < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(super::whole::PATIENCE, wait).await.is_ok(), "{}", lines());
    let said = lines();
    let first: Vec<&str> = said.lines().filter(|line| line.ends_with(" main")).collect();
    assert_eq!(first, ["success main", "failure main", "success main", "failure main"]);
    assert!(said.contains("\"run_number\":1"), "{said}");
    whole.end().await;
}

/// A desk with an outbox whose time is set by hand.
struct Desk {
    store: Store,
    config: Arc<Config>,
    time: Arc<Mutex<Timestamp>>,
}

impl Desk {
    fn new(notify: &str) -> Self {
        let file = config::File { path: "t.toml".into(), text: notify.to_owned() };
        let (config, diagnostics) = config::parse(&[file]);
        let config = Arc::new(config.unwrap_or_else(|| panic!("{diagnostics:?}")));
        let time = Arc::new(Mutex::new("2026-11-21T12:00:00Z".parse().unwrap()));
        Self { store: Store::temporary().unwrap(), config, time }
    }

    fn outbox(&self) -> Outbox {
        let config = Arc::clone(&self.config);
        let clock = Clock::Manual(Arc::clone(&self.time));
        Outbox::new(self.store.clone(), clock, Arc::new(|_| None), Arc::new(move || config.notify.clone()))
    }

    fn notice(&self) -> Notice {
        Notice {
            way: towline::forge::way(&self.config.notify[0]),
            repository: "ada/app".into(),
            run: RunId(7),
            run_number: 3,
            attempt: 1,
            workflow: "CI – größer".to_owned(),
            workflow_path: ".github/workflows/ci.yml".to_owned(),
            title: "A change\r\nBcc: everybody@lan".to_owned(),
            event: "push".to_owned(),
            git_ref: "refs/heads/main".to_owned(),
            sha: "a".repeat(40),
            actor: "ada".to_owned(),
            conclusion: Conclusion::Failure,
            recovered: false,
            url: "https://towline.lan/ada/app/actions/runs/7".to_owned(),
            failed_jobs: vec!["test".to_owned()],
            started_at: Some("2026-11-21T11:59:00Z".parse().unwrap()),
            completed_at: Some("2026-11-21T12:00:00Z".parse().unwrap()),
        }
    }
}

#[tokio::test]
async fn a_chat_that_is_down_is_told_later_and_once() {
    let (chat, url) = chat().await;
    let desk = Desk::new(&format!("[[notify]]\nurl = '{url}/topic'\nshape = 'ntfy'\nsecret = 'tk_1'\n"));
    chat.answers.lock().unwrap().extend([502, 429]);
    desk.outbox().put_notice(desk.notice()).await.unwrap();
    let now = *desk.time.lock().unwrap();
    assert_eq!(desk.outbox().turn().await.unwrap(), Some(now + SignedDuration::from_secs(2)));
    *desk.time.lock().unwrap() += SignedDuration::from_secs(2);
    assert_eq!(desk.outbox().turn().await.unwrap(), Some(now + SignedDuration::from_secs(62)));
    *desk.time.lock().unwrap() += SignedDuration::from_secs(60);
    assert_eq!(desk.outbox().turn().await.unwrap(), None);
    desk.outbox().put_notice(desk.notice()).await.unwrap();
    assert_eq!(desk.outbox().turn().await.unwrap(), None);
    let posts = chat.posts(3).await;
    assert_eq!(posts.len(), 3);
    let (path, headers, body) = &posts[2];
    assert_eq!((path.as_str(), headers["authorization"].to_str().unwrap()), ("/topic", "Bearer tk_1"));
    assert!(headers["title"].to_str().unwrap().starts_with("=?UTF-8?B?"), "{headers:?}");
    assert!(body.contains("Failed: test"), "{body}");
    // What is refused for good is shown as dead; a way that is gone takes its letters along.
    chat.answers.lock().unwrap().push_back(404);
    desk.outbox().put_notice(Notice { attempt: 2, ..desk.notice() }).await.unwrap();
    assert_eq!(desk.outbox().turn().await.unwrap(), None);
    assert_eq!(desk.outbox().dead().unwrap()[0].letter.subject(), "ada/app: CI – größer failed on main");
    desk.outbox().put_notice(Notice { attempt: 3, way: "gone".to_owned(), ..desk.notice() }).await.unwrap();
    assert_eq!((desk.outbox().turn().await.unwrap(), desk.outbox().waiting().unwrap()), (None, 0));
}

/// What a mail server got: whether it was encrypted, who signed in, envelope and text.
#[derive(Clone, Debug, Default, PartialEq)]
struct Got {
    encrypted: bool,
    auth: Option<String>,
    from: String,
    to: Vec<String>,
    text: String,
}

/// A mail server for one connection after the other.
struct MailServer {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

impl MailServer {
    async fn start(tls: Option<Arc<rustls::ServerConfig>>, wrapped: bool, refuse: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let list = Arc::clone(&got);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = tls.clone().map(tokio_rustls::TlsAcceptor::from);
                let list = Arc::clone(&list);
                tokio::spawn(async move {
                    let mut got = Got::default();
                    match acceptor {
                        Some(acceptor) if wrapped => {
                            let Ok(stream) = acceptor.accept(socket).await else { return };
                            got.encrypted = true;
                            talk(&mut BufReader::new(stream), &mut got, &list, false, true, refuse).await;
                        }
                        acceptor => {
                            let mut stream = BufReader::new(socket);
                            let offers = acceptor.is_some();
                            if talk(&mut stream, &mut got, &list, offers, true, refuse).await
                                && let Some(acceptor) = acceptor
                                && let Ok(stream) = acceptor.accept(stream.into_inner()).await
                            {
                                got.encrypted = true;
                                talk(&mut BufReader::new(stream), &mut got, &list, false, false, refuse).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, got }
    }
}

/// Speaks SMTP; `true` when the other side wants to go on encrypted.
async fn talk<S: AsyncBufRead + AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    got: &mut Got,
    list: &Arc<Mutex<Vec<Got>>>,
    offers_tls: bool,
    greets: bool,
    refuse: &str,
) -> bool {
    if greets {
        stream.write_all(b"220 sink.lan ESMTP\r\n").await.unwrap();
    }
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return false;
        }
        let word = line.trim_end().to_owned();
        let upper = word.to_ascii_uppercase();
        let answer = if !refuse.is_empty() && upper.starts_with("RCPT") {
            refuse.to_owned()
        } else if upper.starts_with("EHLO") {
            let more = if offers_tls { "250-STARTTLS\r\n" } else { "" };
            format!("250-sink.lan\r\n{more}250-AUTH PLAIN\r\n250 8BITMIME")
        } else if upper == "STARTTLS" {
            stream.write_all(b"220 go ahead\r\n").await.unwrap();
            return true;
        } else if let Some(secret) = word.strip_prefix("AUTH PLAIN ") {
            got.auth = Some(secret.to_owned());
            "235 welcome".to_owned()
        } else if let Some(from) = word.strip_prefix("MAIL FROM:") {
            got.from = from.to_owned();
            "250 ok".to_owned()
        } else if let Some(to) = word.strip_prefix("RCPT TO:") {
            got.to.push(to.to_owned());
            "250 ok".to_owned()
        } else if upper == "DATA" {
            stream.write_all(b"354 go on\r\n").await.unwrap();
            loop {
                line.clear();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line == ".\r\n" {
                    break;
                }
                got.text.push_str(&line);
            }
            list.lock().unwrap().push(got.clone());
            "250 taken".to_owned()
        } else if upper == "QUIT" {
            drop(stream.write_all(b"221 bye\r\n").await);
            return false;
        } else {
            "250 ok".to_owned()
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
    }
}

/// A certificate for `localhost` and the file of its authority, which is itself.
fn certificate(directory: &std::path::Path) -> (Arc<rustls::ServerConfig>, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = directory.join("ca.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), file)
}

fn mail(port: u16, more: &str) -> Desk {
    Desk::new(&format!(
        "[[notify]]\n[notify.mail]\nserver = 'localhost:{port}'\nfrom = 'Towline <ci@lan>'\nto = ['ada@lan', 'Bob <bob@lan>']\n{more}\n"
    ))
}

#[tokio::test]
async fn mail_arrives_encrypted_signed_in_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, authority) = certificate(directory.path());
    let more = format!("authority = '{}'\nuser = 'ci'\npassword = 'hush'", authority.display());
    for (wrapped, more) in [(false, more.clone()), (true, format!("{more}\ntls = 'always'"))] {
        let server = MailServer::start(Some(Arc::clone(&tls)), wrapped, "").await;
        let desk = mail(server.port, &more);
        desk.outbox().put_notice(desk.notice()).await.unwrap();
        assert_eq!(desk.outbox().turn().await.unwrap(), None, "{:?}", desk.outbox().dead());
        let got = server.got.lock().unwrap().clone();
        assert_eq!(got.len(), 1);
        assert!(got[0].encrypted && got[0].auth.is_some(), "{got:?}");
        assert_eq!(got[0].to, ["<ada@lan>", "<bob@lan>"]);
        assert!(got[0].from.starts_with("<ci@lan>"), "{got:?}");
        let (head, _) = got[0].text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Subject: ") && head.contains("To: ada@lan"), "{head}");
        assert!(!head.contains("everybody"), "{head}");
    }
    assert_eq!(desk_dead(&mail(1, &more)).await, 0);
}

/// Letters that died after one turn.
async fn desk_dead(desk: &Desk) -> usize {
    desk.outbox().put_notice(desk.notice()).await.unwrap();
    desk.outbox().turn().await.unwrap();
    desk.outbox().dead().unwrap().len()
}

#[tokio::test]
async fn mail_is_not_sent_in_the_clear_nor_forgotten() {
    // A server without encryption gets nothing unless that is configured.
    let server = MailServer::start(None, false, "").await;
    let desk = mail(server.port, "");
    assert_eq!((desk_dead(&desk).await, desk.outbox().waiting().unwrap()), (0, 1));
    assert!(server.got.lock().unwrap().is_empty());
    let desk = mail(server.port, "tls = 'never'");
    assert_eq!((desk_dead(&desk).await, desk.outbox().waiting().unwrap()), (0, 0));
    assert!(!server.got.lock().unwrap()[0].encrypted);
    // Greylisting passes, an unknown recipient does not.
    for (answer, dead, waiting) in [("450 come back later", 0, 1), ("550 nobody of that name", 1, 0)] {
        let server = MailServer::start(None, false, answer).await;
        let desk = mail(server.port, "tls = 'never'");
        assert_eq!((desk_dead(&desk).await, desk.outbox().waiting().unwrap()), (dead, waiting), "{answer}");
    }
}
