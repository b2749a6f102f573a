//! Forges that are asked: Gitea and GitLab beside their webhooks, who moved a branch on GitHub, and a forge that is away.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use towline::clock::Clock;
use towline::store::DeliveryState;
use towline::triggers::poll;
use towline::triggers::schedules::Schedules;

use super::daemon::{Daemon, commit, git};
use super::github::GitHub;
use super::webhooks::{deliver_signed, post, settled, sign};

const ON: &str = "on: [push, pull_request]\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n";

fn project() -> (tempfile::TempDir, String) {
    let project = tempfile::tempdir().unwrap();
    git(project.path(), &["init", "-q"]);
    let head = commit(project.path(), &[(".github/workflows/ci.yml", ON)], "first");
    (project, head)
}

/// Lists of a forge's API by their path.
type Lists = Arc<Mutex<Vec<(&'static str, Json)>>>;

async fn forge() -> (Lists, String) {
    let lists: Lists = Arc::default();
    let known = Arc::clone(&lists);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router =
        axum::Router::new().fallback(move |uri: Uri| {
            let found =
                known.lock().unwrap().iter().find(|(path, _)| *path == uri.path()).map(|(_, list)| list.clone());
            async move {
                found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |list| axum::Json(list).into_response())
            }
        });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (lists, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gitea_and_gitlab_are_asked_and_tell_and_nothing_runs_twice() {
    let (lists, url) = forge().await;
    let (project, head) = project();
    let repository = json!({ "full_name": "ada/app", "default_branch": "main", "html_url": format!("{url}/ada/app") });
    let lab = json!({
        "id": 1, "name": "app", "path_with_namespace": "ada/app", "default_branch": "main",
        "web_url": format!("{url}/ada/app"), "http_url_to_repo": format!("{url}/ada/app.git"),
    });
    for (kind, list) in
        [("gitea", "/api/v1/repos/ada/app/pulls"), ("gitlab", "/api/v4/projects/ada%2Fapp/merge_requests")]
    {
        *lists.lock().unwrap() = vec![(list, json!([])), ("/api/v4/projects/ada%2Fapp", lab.clone())];
        let daemon = Daemon::new(&format!(
            "[[source]]\nname = 'ada/app'\nkind = '{kind}'\nurl = '{url}/ada/app.git'\npath = '{}'\ntoken = 't'\ntriggers = ['webhook', 'poll']\nwebhook_secret = 'hush'\n",
            project.path().display()
        ));
        let source = daemon.triggers.source("ada/app").unwrap();
        let address = daemon.serve_webhooks().await;
        let look = async || poll::look(&daemon.triggers, &source).await.unwrap();
        assert_eq!(look().await, 0, "{kind}");
        let pull = match kind {
            "gitea" => json!({
                "number": 3, "state": "open", "title": "t", "draft": false, "updated_at": "2026-11-21T12:00:00Z",
                "merged": false, "user": { "login": "bob" }, "merge_base": head,
                "head": { "sha": head, "ref": "topic", "repo": repository }, "base": { "ref": "main", "sha": head, "repo": repository },
            }),
            _ => json!({
                "iid": 3, "id": 30, "title": "t", "state": "opened", "sha": head, "draft": false, "source_branch": "topic",
                "target_branch": "main", "source_project_id": 1, "target_project_id": 1, "author": { "username": "bob" },
                "updated_at": "2026-11-21T12:00:00Z",
            }),
        };
        lists.lock().unwrap()[0].1 = json!([pull]);
        assert_eq!(look().await, 1, "{kind}");
        let runs = daemon.runs();
        assert_eq!(runs.len(), 1, "{kind}");
        let event = &runs[0].event;
        assert_eq!(
            (event.name.as_str(), event.action.as_deref(), event.actor.as_str()),
            ("pull_request", Some("opened"), "bob")
        );
        // The forge tells the same.
        let (told, headers) = match kind {
            "gitea" => {
                let told = json!({
                    "action": "opened", "number": 3, "pull_request": pull, "repository": repository, "sender": { "login": "bob" },
                });
                (told, ["X-Gitea-Event", "pull_request", "X-Gitea-Signature"])
            }
            _ => {
                let told = json!({
                    "object_kind": "merge_request", "user": { "username": "bob" }, "project": lab, "changes": {},
                    "object_attributes": {
                        "iid": 3, "title": "t", "state": "opened", "action": "open", "source_branch": "topic",
                        "target_branch": "main", "source_project_id": 1, "target_project_id": 1, "last_commit": { "id": head },
                        "source": { "path_with_namespace": "ada/app" }, "target": { "path_with_namespace": "ada/app" },
                    },
                });
                (told, ["X-Gitlab-Event", "Merge Request Hook", "X-Gitlab-Token"])
            }
        };
        let body = told.to_string();
        let proof = if kind == "gitea" { sign("hush", body.as_bytes()) } else { "hush".to_owned() };
        let [event, name, signature] = headers;
        let path = format!("/hooks/{kind}/ada/app");
        let (status, _, said) = post(address, &path, &[(event, name), (signature, &proof)], body.as_bytes()).await;
        assert_eq!(status, 202, "{kind}");
        settled(&daemon).await;
        let state = daemon.store.delivery(said["delivery"].as_u64().unwrap()).unwrap().unwrap().state;
        assert_eq!(daemon.runs().len(), 1, "{kind}: {state:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t16_a_poll_knows_who_pushed_and_leaves_what_a_job_pushed() {
    let hub = GitHub::start().await;
    let (project, first) = project();
    let daemon = Daemon::new(&format!(
        "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = '{}/ada/app.git'\npath = '{}'\ntoken = 'ghp_known'\ntriggers = ['poll']\n",
        hub.url,
        project.path().display()
    ));
    let source = daemon.triggers.source("ada/app").unwrap();
    let look = async || poll::look(&daemon.triggers, &source).await.unwrap();
    assert_eq!(look().await, 0);
    let by = |before: &str, after: &str, login: &str| {
        json!({
            "before": before, "after": after, "ref": "refs/heads/main", "activity_type": "push", "actor": { "login": login },
        })
    };
    let second = commit(project.path(), &[("a", "1")], "by a person");
    hub.hub.lock().unwrap().activity = json!([by(&first, &second, "grace")]);
    assert_eq!(look().await, 1);
    assert_eq!((daemon.runs().len(), daemon.runs()[0].event.actor.as_str()), (1, "grace"));
    let third = commit(project.path(), &[("a", "2")], "by a job");
    hub.hub.lock().unwrap().activity =
        json!([by(&second, &third, "github-actions[bot]"), by(&first, &second, "grace")]);
    assert_eq!(look().await, 1);
    assert_eq!(daemon.runs().len(), 1);
    // GitHub does not tell: the owner is as good as anybody.
    commit(project.path(), &[("a", "3")], "by somebody");
    assert_eq!(look().await, 1);
    assert_eq!((daemon.runs().len(), daemon.runs()[1].event.actor.as_str()), (2, "ada"));
    assert_eq!(hub.faults(), Vec::<String>::new());
}

/// A repository behind a web server that knows nothing of git, and is broken for so many more questions.
async fn files(directory: PathBuf, left: Arc<Mutex<usize>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/app.git", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(move |uri: Uri| {
        let path = directory.join(uri.path().trim_start_matches("/app.git/"));
        let mut left = left.lock().unwrap();
        let answer: Response = if *left > 0 {
            *left -= 1;
            StatusCode::BAD_GATEWAY.into_response()
        } else {
            std::fs::read(path).map_or_else(|_| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
        };
        async move { answer }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_repository_cannot_be_fetched_now_runs_later() {
    let (project, head) = project();
    git(project.path(), &["update-server-info"]);
    let url = files(project.path().join(".git"), Arc::new(Mutex::new(1))).await;
    let daemon = Daemon::new(&format!(
        "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = '{url}'\nwebhook_secret = 'hush'\n"
    ));
    let address = daemon.serve_webhooks().await;
    let body = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": head, "created": true, "deleted": false,
        "repository": { "full_name": "ada/app", "default_branch": "main" }, "sender": { "login": "ada" },
        "head_commit": { "id": head, "message": "first" },
    });
    let (status, ..) = deliver_signed(address, "hush", "push", "one", body.to_string().as_bytes()).await;
    assert_eq!(status, 202);
    let mut trouble = None;
    while daemon.runs().is_empty() {
        let delivery = daemon.store.delivery(1).unwrap().unwrap();
        assert!(!matches!(delivery.state, DeliveryState::Failed { .. }), "it was given up: {delivery:?}");
        trouble = trouble.or(delivery.trouble);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    settled(&daemon).await;
    let trouble = trouble.unwrap();
    assert!(trouble.contains("502"), "{trouble}");
    assert_eq!(daemon.store.delivery(1).unwrap().unwrap().trouble, None);
    assert_eq!((daemon.runs().len(), daemon.runs()[0].event.sha.as_str()), (1, head.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_is_asked_no_more_often_than_it_says() {
    let hub = GitHub::start().await;
    hub.hub.lock().unwrap().interval = Some(60);
    let (project, _) = project();
    let time: Arc<Mutex<Timestamp>> = Arc::new(Mutex::new("2026-11-21T12:00:00Z".parse().unwrap()));
    let config = format!(
        "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = '{}/ada/app.git'\npath = '{}'\ntoken = 'ghp_known'\ntriggers = ['poll']\n",
        hub.url,
        project.path().display()
    );
    let daemon = Daemon::at(&config, Clock::Manual(Arc::clone(&time)));
    let source = daemon.triggers.source("ada/app").unwrap();
    let asked_after = async |seconds: i64| {
        *time.lock().unwrap() += SignedDuration::from_secs(seconds);
        poll::look(&daemon.triggers, &source).await.unwrap();
        hub.hub.lock().unwrap().asked
    };
    assert_eq!(asked_after(0).await, 1);
    assert_eq!(asked_after(59).await, 1);
    // "Nothing new" is an answer like any other.
    assert_eq!(asked_after(1).await, 2);
    assert_eq!(asked_after(59).await, 2);
    hub.hub.lock().unwrap().interval = Some(120);
    assert_eq!(asked_after(1).await, 3);
    assert_eq!(asked_after(119).await, 3);
    assert_eq!(asked_after(1).await, 4);
    // Another life of the daemon would know it; a clock that was ahead holds nothing up.
    assert_eq!(asked_after(-5 * 3600).await, 5);
    assert_eq!(hub.faults(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_is_due_while_the_forge_is_away_runs_with_what_is_known() {
    let project = tempfile::tempdir().unwrap();
    git(project.path(), &["init", "-q"]);
    let nightly =
        "on:\n  schedule:\n    - cron: '30 3 * * *'\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n";
    let head = commit(project.path(), &[(".github/workflows/n.yml", nightly)], "first");
    git(project.path(), &["update-server-info"]);
    let broken = Arc::new(Mutex::new(0));
    let url = files(project.path().join(".git"), Arc::clone(&broken)).await;
    let time: Arc<Mutex<Timestamp>> = Arc::new(Mutex::new("2026-11-21T03:29:00Z".parse().unwrap()));
    let config = format!("[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = '{url}'\ntriggers = ['schedule']\n");
    let daemon = Daemon::at(&config, Clock::Manual(Arc::clone(&time)));
    let schedules = Schedules::new(daemon.triggers.clone());
    let from = *time.lock().unwrap();
    assert_eq!(schedules.turn(from).await, 0);
    *broken.lock().unwrap() = usize::MAX;
    commit(project.path(), &[("later", "1")], "second");
    *time.lock().unwrap() = "2026-11-21T03:30:02Z".parse().unwrap();
    assert_eq!(schedules.turn(from).await, 1);
    let runs = daemon.runs();
    assert_eq!((runs.len(), runs[0].event.name.as_str(), runs[0].event.sha.as_str()), (1, "schedule", head.as_str()));
    assert!(*broken.lock().unwrap() < usize::MAX, "it was not even asked");
}
