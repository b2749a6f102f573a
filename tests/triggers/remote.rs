//! Pushes from afar: over a real sshd, over our own HTTP with a token, and by a job with its own.

use super::daemon::{commit, git};
use super::killed::Process;
use super::whole::Whole;
use crate::support::sshd::{self, Sshd};

const CI: &str = "name: CI\non: push\npermissions:\n  contents: write\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      \
                  - uses: actions/checkout@v4\n      - run: echo \"hello from ${{ github.actor }}\"\n      \
                  - if: github.ref_name == 'main'\n        run: git push -q origin HEAD:refs/heads/by-a-job\n";

/// Runs git beside the daemon; gives whether it succeeded, and what it said.
async fn pushes(project: &std::path::Path, words: &[&str], env: &[(&str, String)]) -> (bool, String) {
    let mut git = std::process::Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            git.env_remove(name);
        }
    }
    git.current_dir(project).args(words).env("GIT_TERMINAL_PROMPT", "0");
    git.envs(env.iter().map(|(name, value)| (*name, value.as_str())));
    let output = tokio::task::spawn_blocking(move || git.output().unwrap()).await.unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_over_ssh_shows_the_live_log_and_what_its_job_pushes_starts_nothing() {
    let Some(server) = Sshd::start() else { return };
    let whole = Whole::start("").await;
    let project = whole.project("app");
    let bare = whole.paths().state.join("repositories/local/app.git");
    commit(&project, &[(".github/workflows/ci.yml", CI)], "first");
    let address = format!("ssh://{}@127.0.0.1:{}{}", sshd::user(), server.port(), bare.display());
    let ssh = format!(
        "ssh -F none -i {} -o BatchMode=yes -o UserKnownHostsFile={}",
        server.path("id").display(),
        server.path("known_hosts").display()
    );
    let words = ["push", "-o", "follow", "-o", "something else", &address, "main"];
    let (done, said) = pushes(&project, &words, &[("GIT_SSH_COMMAND", ssh)]).await;
    assert!(done, "{said}");
    for line in ["remote: CI #1  ", "remote: test | hello from ", "remote: .github/workflows/ci.yml: success"] {
        assert!(said.contains(line), "'{line}' is not in\n{said}");
    }
    let runs = whole.ended(1).await;
    assert_eq!((runs.len(), git(&bare, &["rev-parse", "by-a-job"])), (1, runs[0].sha.clone()));
    let kept = whole.daemon().store().delivery(1).unwrap().unwrap();
    assert_eq!(kept.body["push"]["options"], serde_json::json!(["follow", "something else"]));
    whole.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_over_http_wants_a_token_and_is_its_owners() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", sshd::free_port());
    let config = format!(
        "[server]\nlisten = ['{address}']\ntls = false\n[[host]]\nname = 'here'\nkind = 'local'\nroot = '{}'\n",
        directory.path().join("host").display()
    );
    std::fs::write(directory.path().join("towline.toml"), config).unwrap();
    let daemon = Process::serve(directory.path(), &address, &[]);
    let towline = |words: &[&str]| {
        let mut towline = crate::support::towline();
        towline.args(words).env("TOWLINE_CONFIG", directory.path().join("towline.toml"));
        towline
            .env("TOWLINE_STATE", directory.path().join("state"))
            .env("TOWLINE_RUNTIME", directory.path().join("run"));
        let output = tokio::task::block_in_place(|| towline.output().unwrap());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    towline(&["repo", "add", "app"]);
    let project = directory.path().join("project");
    std::fs::create_dir_all(&project).unwrap();
    git(&project, &["init", "-q"]);
    let first = commit(&project, &[(".github/workflows/ci.yml", CI)], "first");
    let grace = towline(&["token", "create", "grace", "--role", "operator"]);
    let eve = towline(&["token", "create", "eve"]);
    let url = |password: &str| format!("http://x:{password}@{address}/local/app.git");
    for password in ["wrong", &eve] {
        let (done, said) = pushes(&project, &["push", &url(password), "main"], &[]).await;
        assert!(!done && !said.contains("remote: CI"), "{said}");
    }
    let (done, said) = pushes(&project, &["push", "-o", "follow", &url(&grace), "main", "main:side"], &[]).await;
    assert!(done, "{said}");
    for line in ["remote: CI #1  ", "remote: CI #2  ", "remote: test | hello from grace"] {
        assert!(said.contains(line), "'{line}' is not in\n{said}");
    }
    let runs: serde_json::Value = serde_json::from_str(&towline(&["run", "list", "--json"])).unwrap();
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 2, "what the job pushed started nothing: {runs:?}");
    assert!(runs.iter().all(|run| run["head_sha"] == first.as_str() && run["actor"]["login"] == "grace"), "{runs:?}");
    drop(daemon);
}
