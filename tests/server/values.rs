//! Secrets, variables and environments through the API.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Answer, Daemon};

async fn ask(daemon: &Daemon, method: Method, path: &str, token: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    daemon.ask(method, path, &[("authorization", &format!("token {token}"))], &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_made_changed_renamed_and_removed() {
    let daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("t", Role::Admin, &[]).await;
    for prefix in ["/api/v3/repos/o/r/actions", "/api/v3/repos/o/r/environments/p%2Fq"] {
        let all = format!("{prefix}/variables");
        let one = |name: &str| format!("{all}/{name}");
        for (method, path, body, status) in [
            (Method::POST, all.clone(), json!({"name": "a", "value": "1"}), 201),
            (Method::POST, all.clone(), json!({"name": "A", "value": "2"}), 409),
            (Method::POST, all.clone(), json!({"name": "GITHUB_X", "value": "2"}), 422),
            (Method::POST, all.clone(), json!({"name": "b"}), 422),
            (Method::POST, all.clone(), json!([1]), 422),
            (Method::PATCH, one("a"), json!({"value": "3"}), 204),
            (Method::PATCH, one("a"), json!({"name": "B"}), 204),
            (Method::PATCH, one("a"), json!({"value": "4"}), 404),
            (Method::GET, one("b"), Value::Null, 200),
        ] {
            let answer = ask(&daemon, method.clone(), &path, &token, &body).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path} {body}: {}", answer.text());
        }
        let listed = daemon.get(&all, &token).await.json();
        assert_eq!((&listed["total_count"], &listed["variables"][0]["name"]), (&json!(1), &json!("B")), "{listed}");
        assert_eq!(listed["variables"][0]["value"], "3");
        assert_eq!(ask(&daemon, Method::DELETE, &one("B"), &token, &Value::Null).await.status, StatusCode::NO_CONTENT);
        assert_eq!(ask(&daemon, Method::DELETE, &one("B"), &token, &Value::Null).await.status, StatusCode::NOT_FOUND);
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_taken_sealed_only_and_never_given_out() {
    let daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("t", Role::Admin, &[]).await;
    let path = "/api/v3/repos/o/r/actions/secrets";
    let key = daemon.get(&format!("{path}/public-key"), &token).await.json();
    for body in [
        json!({"encrypted_value": "c2VjcmV0", "key_id": key["key_id"]}),
        json!({"encrypted_value": "?", "key_id": key["key_id"]}),
        json!({"encrypted_value": "", "key_id": "1"}),
        json!({"key_id": key["key_id"]}),
    ] {
        let answer = ask(&daemon, Method::PUT, &format!("{path}/A"), &token, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", answer.text());
    }
    let operator = daemon.token("operator", Role::Operator, &[]).await;
    let viewer = daemon.token("viewer", Role::Viewer, &[]).await;
    let elsewhere = daemon.token("elsewhere", Role::Admin, &["o/other"]).await;
    assert_eq!(daemon.get(path, &viewer).await.status, StatusCode::FORBIDDEN);
    assert_eq!(daemon.get(path, &operator).await.json(), json!({"total_count": 0, "secrets": []}));
    for (token, status) in [(&viewer, StatusCode::FORBIDDEN), (&elsewhere, StatusCode::NOT_FOUND)] {
        assert_eq!(ask(&daemon, Method::PUT, &format!("{path}/A"), token, &json!({})).await.status, status);
    }
    assert_eq!(daemon.get("/api/v3/towline/secrets", &elsewhere).await.status, StatusCode::NOT_FOUND, "all see these");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_have_rules() {
    let daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("t", Role::Admin, &[]).await;
    let path = "/api/v3/repos/o/r/environments";
    let rules = json!({
        "wait_timer": 5, "prevent_self_review": true, "reviewers": [{"type": "User", "login": "ada"}], "branches": ["main"],
    });
    let made = ask(&daemon, Method::PUT, &format!("{path}/Prod%20EU"), &token, &rules).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    for bad in [json!({"reviewers": [{"type": "User", "id": 1}]}), json!({"wait_timer": 50_000})] {
        let answer = ask(&daemon, Method::PUT, &format!("{path}/x"), &token, &bad).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let listed = daemon.get(path, &token).await.json();
    assert_eq!((&listed["total_count"], &listed["environments"][0]["name"]), (&json!(1), &json!("Prod EU")));
    let kinds: Vec<&str> = listed["environments"][0]["protection_rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["wait_timer", "required_reviewers", "branch_policy"]);
    let removed = ask(&daemon, Method::DELETE, &format!("{path}/prod%20eu"), &token, &Value::Null).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(daemon.get(&format!("{path}/Prod%20EU"), &token).await.status, StatusCode::NOT_FOUND);
    daemon.end().await;
}
