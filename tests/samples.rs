//! The shelf of workflows beside those that `exec.rs` runs: each executed, with stand-ins for what a test machine lacks.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exec::{copy, init, run_sample, sample_project};
use crate::support::{sshd, towline};

/// A project with the samples, and a directory of stand-ins for actions that live elsewhere.
struct Shelf {
    work: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Shelf {
    fn new(workflow: &str) -> Self {
        let work = sample_project();
        let actions = work.path().join("actions");
        // Artifacts and caches as directories. What the real actions and services do is the services' tests' business.
        let store = r#"mkdir -p "$STAND_IN/$NAME"; if [ -d "$FROM" ]; then cp -R "$FROM/." "$STAND_IN/$NAME/"; else cp -R $FROM "$STAND_IN/$NAME/"; fi"#;
        let fetch = r#"mkdir -p "$TO"; for one in "$STAND_IN"/${PATTERN:-$NAME}; do cp -R "$one/." "$TO/"; done"#;
        action(&actions, "upload-artifact", "{NAME: '${{ inputs.name }}', FROM: '${{ inputs.path }}'}", store);
        let names = "{NAME: '${{ inputs.name }}', PATTERN: '${{ inputs.pattern }}', TO: '${{ inputs.path }}'}";
        action(&actions, "download-artifact", names, fetch);
        action(&actions, "cache", "{KEY: '${{ inputs.key }}'}", r#"echo "cache $KEY""#);
        let arguments =
            [workflow, "--actions", &text(&actions), "--env", &format!("STAND_IN={}", text(&work.path().join("kept")))]
                .map(str::to_owned)
                .to_vec();
        Self { work, arguments }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    fn var(self, name: &str, value: &str) -> Self {
        self.with(&["--var", &format!("{name}={value}")])
    }

    fn run(&self) -> (Option<i32>, String) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        run_sample(self.work.path(), &arguments)
    }

    fn passes(&self) -> String {
        let (code, said) = self.run();
        assert_eq!(code, Some(0), "{said}");
        said
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(self.path("repo"))
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A bare repository with a composite action of one step, tagged v4.
fn action(mirror: &Path, name: &str, environment: &str, script: &str) {
    let work = mirror.join("work").join(name);
    std::fs::create_dir_all(&work).unwrap();
    let inputs = "{name: {}, path: {default: .}, pattern: {}, key: {}, restore-keys: {}, retention-days: {}, \
                  if-no-files-found: {}, merge-multiple: {}}";
    let manifest = format!(
        "name: Stand-in\ndescription: Stand-in\ninputs: {inputs}\nruns:\n  using: composite\n  steps:\n    - shell: bash\n      env: {environment}\n      run: |\n        {script}\n"
    );
    std::fs::write(work.join("action.yml"), manifest).unwrap();
    init(&work);
    let bare = mirror.join("actions").join(format!("{name}.git"));
    for arguments in [vec!["tag", "v4"], vec!["clone", "-q", "--bare", ".", &text(&bare)]] {
        assert!(Command::new("git").current_dir(&work).args(arguments).status().unwrap().success());
    }
}

fn program(directory: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn rust_ci_checks_in_three_jobs_and_builds_on_main() {
    let shelf = Shelf::new("rust-ci");
    program(&shelf.path("bin"), "cargo", "#!/bin/sh\necho \"cargo $*\" >> \"$CALLS\"\n");
    let path = format!("PATH={}:{}", text(&shelf.path("bin")), std::env::var("PATH").unwrap());
    let calls = format!("CALLS={}", text(&shelf.path("calls")));
    let shelf = shelf.with(&["--event", "push", "--changed-file", "src/main.rs", "--env", &path, "--env", &calls]);
    let said = shelf.passes();
    assert!(said.contains("cache rust-Linux"), "{said}");
    let calls = std::fs::read_to_string(shelf.path("calls")).unwrap();
    for call in [
        "cargo fmt --check",
        "cargo clippy --all-targets -- -D warnings",
        "cargo test --quiet",
        "cargo build --release",
    ] {
        assert_eq!(calls.lines().filter(|line| *line == call).count(), 1, "{calls}");
    }
    assert_eq!(calls.lines().last(), Some("cargo build --release"));
}

#[test]
fn matrix_runs_on_every_machine_of_the_list() {
    let shelf = Shelf::new("matrix").with(&["--event", "push"]).var("MACHINES", r#"["one","two"]"#);
    let shelf = shelf.var("TEST_COMMAND", "echo tested >> ../../tested || true");
    let said = shelf.passes();
    assert!(said.contains("Test on one") && said.contains("Test on two"), "{said}");
    let (code, _) = Shelf::new("matrix")
        .with(&["--event", "push"])
        .var("MACHINES", r#"["one"]"#)
        .var("TEST_COMMAND", "false")
        .run();
    assert_eq!(code, Some(1));
}

#[test]
fn backup_keeps_what_is_young_and_the_first_of_each_month() {
    let shelf = Shelf::new("backup");
    let target = shelf.path("backups");
    std::fs::create_dir_all(&target).unwrap();
    let day = |ago: &str| {
        let output = Command::new("date").args(["-u", "-d", ago, "+%Y%m%d"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // Two of one month long ago, one of years ago, one of the last days.
    let (ancient, young) = ("20200105".to_owned(), day("2 days ago"));
    let month = day("70 days ago")[..6].to_owned();
    for day in [&ancient, &format!("{month}01"), &format!("{month}02"), &young] {
        std::fs::write(target.join(format!("backup-{day}T000000Z.tar.gz")), "x").unwrap();
    }
    let shelf = shelf.with(&["--event", "schedule"]).var("BACKUP_TARGET", &text(&target));
    let shelf = shelf.var("BACKUP_SOURCES", "package.json src").var("BACKUP_DUMP", "echo 'create table t;'");
    let repo = shelf.path("repo");
    let shelf = shelf.with(&["--env", &format!("HOME={}", text(&repo))]);
    let sources = format!("BACKUP_SOURCES={} {}", text(&repo.join("package.json")), text(&repo.join("src")));
    let shelf = shelf.with(&["--var", &sources]);
    shelf.passes();
    let kept: Vec<String> = std::fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let has = |day: &str| kept.iter().any(|name| name.starts_with(&format!("backup-{day}")) && name.ends_with(".gz"));
    assert!(!has(&ancient) && has(&format!("{month}01")) && !has(&format!("{month}02")) && has(&young), "{kept:?}");
    let newest = kept.iter().find(|name| name.ends_with(".sha256")).expect("the new one has a checksum");
    let listed = Command::new("tar").arg("-tzf").arg(target.join(newest.trim_end_matches(".sha256"))).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("package.json") && listed.contains("database.sql"), "{listed}");
}

#[test]
fn backup_that_cannot_be_written_is_said() {
    let shelf = Shelf::new("backup").with(&["--event", "schedule"]).var("BACKUP_TARGET", "/proc/nowhere");
    let told = shelf.path("told");
    let shelf = shelf.var("NOTIFY", &format!("cat > {}", text(&told)));
    assert_eq!(shelf.run().0, Some(1));
    assert!(std::fs::read_to_string(told).unwrap().starts_with("the backup of "));
}

#[test]
fn e2e_tests_on_the_second_machine_what_the_first_one_built() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is not installed");
        return;
    }
    let shelf = Shelf::new("e2e").with(&["--event", "push"]).var("E2E_PORT", &sshd::free_port().to_string());
    let shelf = shelf.var("BUILD_COMMAND", "mkdir -p dist && echo '<p>hello' > dist/index.html");
    let shelf = shelf
        .var("E2E_COMMAND", "test ! -d dist && curl -fsS \"$BASE_URL/\" | grep -q hello && echo seen-in-the-browser");
    let said = shelf.passes();
    assert!(said.contains("seen-in-the-browser"), "{said}");
}

#[test]
fn gpu_holds_the_card_and_sends_the_machine_to_sleep() {
    let shelf =
        Shelf::new("gpu").with(&["--event", "workflow_dispatch"]).var("GPU_QUERY", "echo 'Stand-in 4070, 12 GiB'");
    let (lock, slept) = (shelf.path("lock"), shelf.path("slept"));
    let shelf = shelf
        .var("GPU_LOCK", &text(&lock))
        .var("GPU_COMMAND", "flock --nonblock \"$LOCK\" true && echo free || echo held-by-me")
        .var("GPU_SUSPEND", &format!("touch {}", text(&slept)));
    let said = shelf.passes();
    assert!(said.contains("held-by-me"), "{said}");
    let somebody = Command::new("who").output().is_ok_and(|output| !output.stdout.is_empty());
    assert_eq!(slept.exists(), !somebody, "{said}");
}

#[test]
fn rolling_update_stops_at_the_first_server_that_does_not_come_back() {
    let shelf = Shelf::new("rolling-update").with(&["--event", "workflow_dispatch", "--input", "version=2"]);
    let (state, servers) = (shelf.path("state"), shelf.path("servers"));
    for server in ["canary", "a", "b", "c"] {
        std::fs::create_dir_all(state.join(server)).unwrap();
        std::fs::write(state.join(server).join("version"), "1\n").unwrap();
        std::fs::create_dir_all(&servers).unwrap();
        std::fs::write(servers.join(server), "1\n").unwrap();
    }
    let shelf = shelf
        .var("UPDATE_STATE", &text(&state))
        .var("SERVERS", r#"["a","b","c"]"#)
        .var("INSTALL_COMMAND", &format!("echo \"$VERSION\" > {}/\"$SERVER\"", text(&servers)))
        .var("HEALTH", &format!("test \"$SERVER\" != b || grep -qx 1 {}/b", text(&servers)))
        .var("ATTEMPTS", "2")
        .var("PAUSE", "0");
    let (code, said) = shelf.run();
    assert_eq!(code, Some(1), "{said}");
    let version = |server: &str| std::fs::read_to_string(servers.join(server)).unwrap();
    assert_eq!(["canary", "a", "b", "c"].map(version), ["2\n", "2\n", "1\n", "1\n"], "{said}");
    assert!(said.contains("b goes back to 1"), "{said}");
}

/// Answers one question as Ollama does, with findings of which one is made up; gives the question.
fn model() -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            let read = stream.read(&mut buffer).unwrap();
            question.extend_from_slice(&buffer[..read]);
            let asked = String::from_utf8_lossy(&question).into_owned();
            let length = asked
                .to_ascii_lowercase()
                .split_once("content-length: ")
                .and_then(|(_, rest)| rest.split("\r\n").next().and_then(|length| length.parse::<usize>().ok()));
            let body = asked.split_once("\r\n\r\n").map_or(0, |(head, _)| question.len() - head.len() - 4);
            if length.is_some_and(|length| body >= length) {
                break;
            }
        }
        let findings = serde_json::json!({"findings": [
            {"file": "src/new.js", "line": 2, "severity": "warning", "text": "divides by zero: 100%\nalways"},
            {"file": "src/other.js", "line": 7, "severity": "error", "text": "invented"},
        ]});
        let answer = serde_json::json!({"response": findings.to_string()}).to_string();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len())
            .unwrap();
        String::from_utf8_lossy(&question).into_owned()
    });
    (port, serving)
}

#[test]
fn llm_review_annotates_lines_of_the_change_and_nothing_else() {
    let (port, serving) = model();
    let shelf = Shelf::new("llm-review").with(&["--event", "workflow_dispatch"]);
    std::fs::write(shelf.path("repo/src/new.js"), "const a = 1;\nmodule.exports = a / 0;\n").unwrap();
    shelf.git(&["add", "-A"]);
    shelf.git(&["commit", "-q", "-m", "Add a module"]);
    let shelf = shelf.var("OLLAMA_URL", &format!("http://127.0.0.1:{port}"));
    let said = shelf.passes();
    let question = serving.join().unwrap();
    assert!(question.contains("/api/generate") && question.contains("module.exports = a / 0;"), "{question}");
    assert!(said.contains("divides by zero") && !said.contains("invented"), "{said}");
    // A model that is away is no reason to fail.
    let said = shelf.passes();
    assert!(said.contains("no usable answer"), "{said}");
}

#[test]
fn release_builds_tags_with_checksums_and_notes() {
    let shelf = Shelf::new("release");
    shelf.git(&["tag", "v1.4.1"]);
    shelf.git(&["commit", "-q", "--allow-empty", "-m", "Add a thing"]);
    shelf.git(&["tag", "v1.4.2-rc.1"]);
    let out = shelf.path("published");
    let shelf = shelf
        .with(&["--event", "push", "--ref", "refs/tags/v1.4.2-rc.1"])
        .var("TEST_COMMAND", "true")
        .var("RELEASE_COMMAND", "echo \"$VERSION for $SYSTEM\" > dist/app-$SYSTEM")
        .var("RELEASE_SYSTEMS", r#"[{"system":"linux-x64","runner":"x"},{"system":"linux-arm64","runner":"y"}]"#)
        .var("PUBLISH_COMMAND", &format!("cp -R dist {0}; cp notes.md {0}/; echo \"flags $PRERELEASE\"", text(&out)));
    let said = shelf.passes();
    assert!(said.contains("flags --prerelease"), "{said}");
    assert_eq!(std::fs::read_to_string(out.join("app-linux-arm64")).unwrap(), "1.4.2-rc.1 for linux-arm64\n");
    let sums = std::fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 2, "{sums}");
    let notes = std::fs::read_to_string(out.join("notes.md")).unwrap();
    assert!(notes.contains("- Add a thing") && !notes.contains("Test repository"), "{notes}");
}

#[test]
fn every_sample_is_installed_by_init_and_has_no_faults() {
    let work = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&root.join("tests/samples/todo-app"), &work.path().join("repo"));
    init(&work.path().join("repo"));
    let run = |arguments: &[&str]| {
        let output = towline()
            .current_dir(work.path().join("repo/src"))
            .env("HOME", work.path())
            .args(arguments)
            .output()
            .unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), said)
    };
    let (code, list) = run(&["init", "--sample", "list"]);
    assert_eq!(code, Some(0), "{list}");
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 12, "{list}");
    for name in &names {
        let (code, said) = run(&["init", "--sample", name]);
        assert_eq!(code, Some(0), "{said}");
        let file = work.path().join(format!("repo/.github/workflows/{name}.yml"));
        let (code, said) = run(&["check", &text(&file)]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("0 errors, 0 warnings"), "{name}: {said}");
    }
    let (code, said) = run(&["init", "--sample", names[0]]);
    assert!(code == Some(2) && said.contains("--force"), "{said}");
    let (code, said) = run(&["init", "--sample", "node-cl"]);
    assert!(code == Some(2) && said.contains("did you mean node-ci?"), "{said}");
}
