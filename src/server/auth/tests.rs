use super::*;

fn network(address: &str) -> Peer {
    Peer { origin: Origin::Network(address.parse().unwrap()), tls: true, certificate: None }
}

fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

fn opened(folder: &Path, mode: Mode) -> Auth {
    let store = Store::open(folder).unwrap().0;
    Auth::open(folder, store, mode, false, vec!["ci.lan".into()]).unwrap()
}

fn now() -> Timestamp {
    "2026-11-21T21:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn tokens_are_scoped_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let auth = opened(folder.path(), Mode::Tokens);
    let repository = RepositoryName::from("o/r");
    let value =
        auth.create(now(), "ci", store::Role::Operator, vec![repository], Some(now() + 1.hour())).await.unwrap();
    assert!(!auth.store.tokens().unwrap()[0].hash.contains(&value[4..]), "the value is not kept");
    let peer = network("192.0.2.1:1");
    for scheme in ["token", "Bearer", "bearer"] {
        let client =
            auth.client(now(), &peer, &headers(&[(header::AUTHORIZATION, &format!("{scheme} {value}"))])).unwrap();
        assert_eq!((client.name.as_str(), client.role, &client.via), ("ci", Role::Operator, &Via::Token));
        assert!(client.sees(&"O/R".into()) && !client.sees(&"o/other".into()));
    }
    let shown = headers(&[(header::AUTHORIZATION, &format!("token {value}"))]);
    assert_eq!(auth.client(now() + 2.hours(), &peer, &shown), Err(Refusal::BadCredentials), "it expires");
    assert!(auth.revoke("ci").await.unwrap());
    assert_eq!(auth.client(now(), &peer, &shown), Err(Refusal::BadCredentials));
    assert_eq!(auth.client(now(), &peer, &HeaderMap::new()).unwrap().role, Role::Nobody);
}

#[tokio::test]
async fn guessing_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let auth = opened(folder.path(), Mode::Tokens);
    let wrong = headers(&[(header::AUTHORIZATION, "token nope")]);
    let peer = network("192.0.2.1:1");
    for _ in 0..FAILURE_LIMIT {
        assert_eq!(auth.client(now(), &peer, &wrong), Err(Refusal::BadCredentials));
    }
    assert_eq!(auth.client(now(), &peer, &wrong), Err(Refusal::TooManyFailures));
    assert_eq!(auth.client(now(), &network("192.0.2.2:1"), &wrong), Err(Refusal::BadCredentials), "others are not hit");
    assert_eq!(auth.client(now() + 61.seconds(), &peer, &wrong), Err(Refusal::BadCredentials));
}

#[tokio::test]
async fn sessions_are_bound_to_their_token_and_forms_to_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let auth = opened(folder.path(), Mode::Tokens);
    let value = auth.create(now(), "me", store::Role::Admin, Vec::new(), None).await.unwrap();
    let peer = network("192.0.2.1:1");
    let set = auth.sign_in(now(), &peer, &value).unwrap();
    assert!(set.contains("HttpOnly") && set.contains("Secure") && set.contains("SameSite=Lax"));
    assert!(!set.contains(&value));
    let cookie = set.split(';').next().unwrap().to_owned();
    let session = headers(&[(header::COOKIE, &format!("other=1; {cookie}"))]);
    assert_eq!(auth.client(now(), &peer, &session).unwrap().via, Via::Session);
    let forged = headers(&[(header::COOKIE, &cookie.replace('.', ".9"))]);
    assert_eq!(auth.client(now(), &peer, &forged).unwrap().role, Role::Nobody);
    assert_eq!(auth.client(now() + (24 * 31).hours(), &peer, &session).unwrap().role, Role::Nobody);
    let csrf = auth.csrf(&session);
    assert!(auth.csrf_is_good(&session, &csrf));
    assert!(!auth.csrf_is_good(&HeaderMap::new(), &csrf) && !auth.csrf_is_good(&session, ""));
    let mut foreign = session.clone();
    foreign.insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert!(!auth.csrf_is_good(&foreign, &csrf));
    auth.revoke("me").await.unwrap();
    assert_eq!(auth.client(now(), &peer, &session).unwrap().role, Role::Nobody);
}

#[tokio::test]
async fn a_share_link_shows_one_run_for_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let auth = opened(folder.path(), Mode::Tokens);
    let (peer, repository) = (network("192.0.2.1:1"), RepositoryName::from("o/r"));
    let key = auth.share_key(RunId(7), now() + 1.hour());
    let set = Auth::share_cookie(&peer, &key);
    let session = headers(&[(header::COOKIE, set.split(';').next().unwrap())]);
    let client = auth.client(now(), &peer, &session).unwrap();
    assert_eq!((client.role, &client.via), (Role::Nobody, &Via::Share(RunId(7))));
    assert!(client.sees_run(&repository, RunId(7)) && !client.sees_run(&repository, RunId(8)));
    assert!(!client.sees(&repository) && !client.sees_all());
    assert_eq!(auth.client(now() + 2.hours(), &peer, &session).unwrap().via, Via::Nothing, "its time is over");
    for forged in [key.replacen('7', "8", 1), key.replace('.', ".9"), "7".to_owned(), String::new()] {
        assert_eq!(auth.shared_run(now(), &forged), None, "{forged}");
    }
}

#[tokio::test]
async fn loopback_may_be_open_but_not_to_other_sites() {
    let folder = tempfile::tempdir().unwrap();
    let auth = opened(folder.path(), Mode::OpenOnLoopback);
    let peer = network("127.0.0.1:5");
    for host in ["localhost:7443", "127.0.0.1", "[::1]:80", "towline.localhost", "CI.lan:1"] {
        assert_eq!(auth.client(now(), &peer, &headers(&[(header::HOST, host)])).unwrap().role, Role::Admin, "{host}");
    }
    assert_eq!(auth.client(now(), &peer, &headers(&[(header::HOST, "evil.example")])), Err(Refusal::ForeignHost));
    let far = auth.client(now(), &network("192.0.2.1:5"), &headers(&[(header::HOST, "localhost")]));
    assert_eq!(far.unwrap().role, Role::Nobody);
    assert!(is_foreign(&headers(&[(header::HOST, "localhost:7443"), (header::ORIGIN, "https://evil.example")])));
    assert!(is_foreign(&headers(&[(header::HOST, "localhost:7443"), (header::ORIGIN, "null")])));
    assert!(!is_foreign(&headers(&[(header::HOST, "localhost:7443"), (header::ORIGIN, "http://localhost:7443")])));
    let uid = Peer { origin: Origin::Local { uid: 7, pid: None }, tls: false, certificate: None };
    assert_eq!(auth.client(now(), &uid, &HeaderMap::new()).unwrap().name, "uid:7");
}

#[tokio::test]
async fn certificates_are_let_in_as_the_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let auth = opened(folder.path(), Mode::Tokens);
    let shown = |name: &str| Peer { certificate: Some(name.to_owned()), ..network("192.0.2.1:1") };
    let role = |name: &str| auth.client(now(), &shown(name), &HeaderMap::new()).unwrap().role;
    assert_eq!(role("ada"), Role::Nobody, "nobody is named");
    let roles = |pairs: &[(&str, config::Role)]| Admissions {
        certificates: pairs.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
        github: None,
    };
    auth.admit(roles(&[("ada", config::Role::Admin), ("*", config::Role::Viewer)]));
    assert_eq!((role("ada"), role("bob"), role("*")), (Role::Admin, Role::Viewer, Role::Viewer));
    auth.admit(roles(&[("bob", config::Role::Operator), ("*", config::Role::Admin)]));
    assert_eq!(role("bob"), Role::Operator, "a name of one's own counts before that of all");
    auth.admit(roles(&[("bob", config::Role::Operator)]));
    assert_eq!((role("ada"), role("bob")), (Role::Nobody, Role::Operator));
    let wrong = auth.client(now(), &shown("bob"), &headers(&[(header::AUTHORIZATION, "token nope")]));
    assert_eq!(wrong, Err(Refusal::BadCredentials), "a wrong token is not made good by a certificate");
}

#[tokio::test]
async fn signing_in_through_github_ends_with_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let auth = opened(folder.path(), Mode::Tokens);
    let peer = network("192.0.2.1:1");
    let allow = |logins: &[&str]| Admissions {
        certificates: BTreeMap::new(),
        github: Some(GitHubLogin {
            url: "https://github.com".into(),
            client_id: "id".into(),
            client_secret: config::SecretSource::Plain("s".into()),
            allow: logins.iter().map(|login| ((*login).to_owned(), config::Role::Operator)).collect(),
        }),
    };
    auth.admit(allow(&["ada"]));
    let departure = auth.depart(now(), &peer, "/runs?x=1");
    let cookie = departure.cookie.split(';').next().unwrap().to_owned();
    let sent = headers(&[(header::COOKIE, &cookie)]);
    let back = auth.arrive(now(), &sent, &departure.state).unwrap();
    assert_eq!((back.next.as_str(), back.verifier.len()), ("/runs?x=1", 43));
    assert!(auth.arrive(now(), &sent, "another").is_none(), "a code that another browser asked for");
    assert!(auth.arrive(now(), &HeaderMap::new(), &departure.state).is_none());
    assert!(auth.arrive(now() + 1.hour(), &sent, &departure.state).is_none(), "too late");
    let session = auth.sign_in_github(now(), &peer, "Ada").unwrap();
    let session = headers(&[(header::COOKIE, session.split(';').next().unwrap())]);
    let client = auth.client(now(), &peer, &session).unwrap();
    assert_eq!((client.name.as_str(), client.role, client.via), ("ada", Role::Operator, Via::Session));
    assert!(auth.sign_in_github(now(), &peer, "mallory").is_none());
    auth.admit(allow(&["grace"]));
    assert_eq!(auth.client(now(), &peer, &session).unwrap().role, Role::Nobody, "off the list is out");
}
