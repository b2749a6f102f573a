use serde_json::json;

use super::*;

#[test]
fn jobs_see_the_caches_of_their_own_ref_first() {
    let check = |github: Json, write: Option<&str>, read: &[&str]| {
        let scopes = Scopes::of(github.as_object().unwrap());
        assert_eq!(scopes.write.as_deref(), write);
        assert_eq!(scopes.read, read);
    };
    let event = json!({"repository": {"default_branch": "main"}});
    check(json!({"ref": "refs/heads/main", "event": event}), Some("refs/heads/main"), &["refs/heads/main"]);
    check(json!({"ref": "refs/heads/x", "event": event}), Some("refs/heads/x"), &["refs/heads/x", "refs/heads/main"]);
    check(
        json!({"ref": "refs/pull/7/merge", "base_ref": "dev", "event": event}),
        Some("refs/pull/7/merge"),
        &["refs/pull/7/merge", "refs/heads/dev", "refs/heads/main"],
    );
    check(json!({}), None, &[]);
}

#[test]
fn the_subject_says_what_is_most_exact() {
    let mut github = json!({
        "repository": "acme/app", "repository_owner": "acme", "server_url": "https://github.com",
        "ref": "refs/heads/a:b", "event_name": "push", "run_id": "7", "workflow_ref": "acme/app/.github/workflows/x.yml@refs/heads/a:b",
        "event": {"repository": {"private": false}},
    });
    let check = |github: &Json, environment: Option<&str>, subject: &str| {
        let called = ("acme/shared/.github/workflows/y.yml@v1", "1111");
        let claims = identity_claims(github.as_object().unwrap(), called, environment, 9);
        assert_eq!(claims["sub"], subject);
        assert_eq!(claims["aud"], "https://github.com/acme");
        assert_eq!(claims["repository_visibility"], "public");
        assert_eq!(claims["workflow_ref"], "acme/app/.github/workflows/x.yml@refs/heads/a:b");
        assert_eq!((&claims["job_workflow_ref"], &claims["job_workflow_sha"]), (&json!(called.0), &json!(called.1)));
        assert_eq!((&claims["check_run_id"], &claims["run_id"]), (&json!("9"), &json!("7")));
    };
    check(&github, None, "repo:acme/app:ref:refs/heads/a%3Ab");
    check(&github, Some("prod:eu"), "repo:acme/app:environment:prod%3Aeu");
    github["event_name"] = json!("pull_request");
    check(&github, None, "repo:acme/app:pull_request");
}
