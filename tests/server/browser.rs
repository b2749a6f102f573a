//! Pages in a real browser: what people do with them, how they look, and whether everybody can use them.
//!
//! Screenshots are kept in the target directory, under `tmp/screenshots`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use towline::run::Conclusion;
use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Daemon, failed_run};
use super::scene::{NIGHTLY, PIPELINE, Scene};
use crate::support::clients;

const DRIVER: &str = include_str!("browser/driver.mjs");

/// Chromium, driven by a script over its standard input and output.
struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Browser {
    /// `None`, and said so, where there is no browser or its driver cannot be had.
    async fn start(base: String) -> Option<Self> {
        tokio::task::spawn_blocking(move || {
            let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
            let Some(chromium) = chromium.into_iter().find(|path| Path::new(path).exists()) else {
                eprintln!("skipped: there is no Chromium");
                return None;
            };
            let folder = clients::node(&["playwright-core@1.65.1", "axe-core@4.14.1"])?;
            let script = folder.join("driver.mjs");
            std::fs::write(&script, DRIVER).unwrap();
            let mut command = Command::new("node");
            command.arg(script).arg(base).arg(shots()).arg(chromium).current_dir(folder);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
            Some(Self { child, input, output })
        })
        .await
        .unwrap()
    }

    fn ask(&mut self, command: &Value) -> Value {
        tokio::task::block_in_place(|| {
            writeln!(self.input, "{command}").unwrap();
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            let mut answer: Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("the browser ended at {command}"));
            assert!(answer["error"].is_null(), "{}", answer["error"].as_str().unwrap_or_default());
            answer["ok"].take()
        })
    }

    fn open(&mut self, width: u32, dark: bool, js: bool) {
        let height = if width < 500 { 844 } else { width * 9 / 16 };
        self.ask(&json!({"do": "open", "width": width, "height": height.min(1440), "dark": dark, "js": js}));
    }

    fn goto(&mut self, path: &str) {
        let answer = self.ask(&json!({"do": "goto", "path": path}));
        assert_eq!(answer["status"], 200, "{path}");
    }

    fn click(&mut self, on: &str) {
        self.ask(&json!({"do": "click", "on": on}));
    }

    fn fill(&mut self, on: &str, with: &str) {
        self.ask(&json!({"do": "fill", "on": on, "with": with}));
    }

    fn wait(&mut self, on: &str, text: &str) {
        self.ask(&json!({"do": "wait", "on": on, "text": text}));
    }

    fn text(&mut self, on: &str) -> String {
        self.ask(&json!({"do": "text", "on": on})).as_str().unwrap_or_default().to_owned()
    }

    fn count(&mut self, on: &str) -> u64 {
        self.ask(&json!({"do": "count", "on": on})).as_u64().unwrap()
    }

    fn press(&mut self, key: &str) {
        self.ask(&json!({"do": "press", "key": key}));
    }

    fn eval(&mut self, js: &str) -> Value {
        self.ask(&json!({"do": "eval", "js": js}))
    }

    fn shot(&mut self, name: &str) {
        self.ask(&json!({"do": "shot", "name": name}));
    }

    /// Nothing was blocked, thrown, or asked of another server.
    fn is_quiet(&mut self) {
        let faults = self.ask(&json!({"do": "faults"}));
        assert_eq!(faults, json!([]));
    }

    /// Nothing of the page is wider than the window, and everybody can use it.
    fn is_usable(&mut self, page: &str) {
        let faults = self.faults_of(page, true);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// What keeps people from using a page; the rules of axe take half a second.
    fn faults_of(&mut self, page: &str, rules: bool) -> Vec<String> {
        let wide = self.eval(
            "[document.documentElement.scrollWidth, innerWidth, [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.log, pre, .graphbox, svg')).slice(0, 3).map((e) => e.outerHTML.slice(0, 120))]",
        );
        let mut faults = Vec::new();
        if wide[0].as_u64() > wide[1].as_u64() {
            faults.push(format!("{page} scrolls sideways: {wide}"));
        }
        if !rules {
            return faults;
        }
        let violations = self.ask(&json!({"do": "axe"}));
        let violations = violations.as_array().unwrap().iter();
        faults.extend(violations.map(|one| format!("{page}: {}", one.as_str().unwrap_or_default())));
        faults
    }

    fn end(mut self) {
        drop(self.input);
        tokio::task::block_in_place(|| assert!(self.child.wait().unwrap().success()));
    }
}

fn shots() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots")
}

const SET_UP: (&str, i64, &str) = ("Set up job", 1, "Runner: selene");

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_watched_folded_searched_and_cancelled() {
    let mut scene = Scene::new().await;
    let Some(mut browser) = Browser::start(format!("http://{}", scene.daemon.plain)).await else { return };
    browser.open(1280, false, true);
    browser.goto("/");
    browser.wait("h1", "Ready for the first run");
    browser.shot("empty-overview");
    browser.is_usable("/");

    // A push shows up by itself.
    let run = scene.push("o/r", "Watch me", PIPELINE).await;
    browser.wait("#running a", "Watch me");
    browser.click("#running a");
    browser.wait("h1", "Watch me");
    let mut job =
        scene.begin(&[SET_UP, ("Run cargo clippy", 4, "##[group]Compile\nfirst line\n##[endgroup]")], true).await;
    browser.wait("#jobs .end", "");
    browser.click("#jobs .joblink");
    browser.wait("#step-2 .l", "first line");
    // The log grows while it is looked at; following stops where the reader scrolls up.
    for number in 0..120 {
        scene.lines(&mut job, &format!("line {number} of the log"));
    }
    browser.wait("#step-2 .l", "line 119 of the log");
    let at_end = "innerHeight + scrollY >= document.documentElement.scrollHeight - 80";
    assert_eq!(browser.eval(at_end), true, "the tail is followed");
    browser.ask(&json!({"do": "wheel", "by": -600}));
    browser.wait("#follow:not(:checked)", "");
    scene.lines(&mut job, "one more");
    browser.wait("#step-2 .l", "one more");
    assert_eq!(browser.eval(at_end), false, "the reader is left where they read");
    browser.press("f");
    browser.wait("#follow:checked", "");
    // Groups fold, lines link, times show on demand.
    assert_eq!(browser.eval("document.querySelector('#step-2 .log details').open"), false);
    browser.click("#step-2 .log details summary span");
    assert_eq!(browser.eval("document.querySelector('#step-2 .log details').open"), true);
    browser.press("t");
    assert_eq!(browser.eval("document.documentElement.classList.contains('times')"), true);
    assert_eq!(browser.eval("getSelection().selectAllChildren(document.querySelector('#step-2 .log')), /^\\d/m.test(getSelection().toString())"), false, "numbers are not copied");
    // Search is done by the server, over the whole log.
    browser.press("/");
    browser.fill("#find", "LINE 77");
    browser.press("Enter");
    browser.wait(".log .gap", "1 matching line");
    browser.click(".log .l a");
    browser.wait("#s2-81", "line 77");
    // The network goes and comes back.
    browser.ask(&json!({"do": "offline", "is": true}));
    browser.wait("html.is-offline", "");
    browser.ask(&json!({"do": "offline", "is": false}));
    browser.wait("html:not(.is-offline)", "");
    browser.ask(&json!({"do": "faults"}));
    browser.goto(&format!("/o/r/actions/runs/{run}"));
    browser.click("text=Cancel run");
    browser.wait("h1", "Watch me");
    scene.end(job, Conclusion::Cancelled).await;
    // One more had a slot; the others never got one.
    scene.play(&[SET_UP], Conclusion::Cancelled).await;
    browser.wait("#runhead .word", "cancelled");
    assert_eq!(browser.count("text=Re-run all"), 1);
    browser.press("?");
    browser.wait("dialog[open]", "next, previous");
    browser.is_quiet();
    browser.end();
    scene.daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_work_with_and_without_the_script() {
    let (mut scene, _, waiting, _) = Scene::busy().await;
    let Some(mut browser) = Browser::start(format!("http://{}", scene.daemon.plain)).await else { return };
    for js in [true, false] {
        browser.open(1280, false, js);
        // Dispatch with typed inputs: what is missing is said before anything is sent.
        browser.goto("/yadag/todo-app/actions/workflows/ci.yml");
        browser.wait("h2", "Run workflow");
        browser.ask(&json!({"do": "select", "on": "select[name='input.target']", "with": "production"}));
        browser.fill("input[name='input.version']", "");
        if js {
            assert_eq!(browser.eval("document.querySelector('form.dispatch').checkValidity()"), false);
        }
        browser.fill("input[name='input.version']", "v2 & more");
        browser.click("form.dispatch button.main");
        browser.wait("h1", "Deploy v2 & more to production");
        // Secrets and variables.
        browser.goto("/yadag/todo-app/settings");
        browser.click("#settings-secrets-1 summary");
        browser.fill("#settings-secrets-1 input[name=name]", "token");
        browser.fill("#settings-secrets-1 textarea", "s3cr3t");
        browser.click("#settings-secrets-1 button");
        browser.wait("table.plain td", "TOKEN");
        assert!(!browser.text("main").contains("s3cr3t"));
        browser.click("button[aria-label='Remove TOKEN']");
        browser.wait("h3", "Secrets 0");
        // A script on two hosts is a run of two jobs.
        browser.goto("/scripts");
        browser.fill("input[name=title]", "Uptime ${{ 1 }}");
        browser.ask(&json!({"do": "check", "on": "input[name=host][value=selene]"}));
        browser.ask(&json!({"do": "check", "on": "input[name=host][value=chronos]"}));
        browser.fill("textarea[name=script]", "uptime\necho done");
        browser.click("form.dispatch button.main");
        browser.wait("h1", "Uptime ${{ 1 }}");
        browser.wait("#jobs summary b", "chronos");
        // Hosts drain and come back.
        browser.goto("/hosts");
        browser.click("#host-chronos button[formaction='/hosts/drain']");
        browser.wait("#host-chronos .word", "draining");
        browser.click("#host-chronos button[formaction='/hosts/resume']");
        browser.wait("#host-chronos button", "Drain");
    }
    // An approval lets the deployment go; its comment is kept.
    browser.open(390, false, true);
    browser.goto(&format!("/yadag/shop/actions/runs/{waiting}"));
    browser.wait("h2", "Waits for production");
    browser.fill("form.review input[name=comment]", "ship it");
    browser.click("form.review button.main");
    browser.wait("#reviews .note", "Approved for production");
    browser.wait("#reviews .note", "ship it");
    // A share link shows one run to who has nothing else.
    let token = scene.daemon.token("ada", Role::Admin, &[]).await;
    browser.goto("/tokens");
    browser.fill("form.dispatch input[name=name]", "bob");
    browser.click("text=Make token");
    browser.wait("code.secret", "twl_");
    drop(token);
    browser.is_quiet();
    browser.end();
    drop(scene.daemon.assignments.try_recv());
    scene.daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_signed_in_sees_a_shared_run_only() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let run = failed_run(&mut daemon).await;
    let other = failed_run(&mut daemon).await;
    let admin = daemon.token("ada", Role::Admin, &[]).await;
    let made = daemon.post(&format!("/api/v3/towline/runs/{run}/share"), &admin, "{\"hours\": 1}").await.json();
    let link = made["url"].as_str().unwrap().replace(&format!("http://{}", daemon.plain), "");
    let Some(mut browser) = Browser::start(format!("http://{}", daemon.plain)).await else { return };
    browser.open(1280, false, true);
    browser.goto(&link);
    browser.wait("h1", "the thing");
    browser.click("#jobs .joblink");
    browser.click("#step-2 summary");
    browser.wait(".log .l", "make");
    assert_eq!(browser.count("button"), 0, "nothing can be changed");
    browser.is_usable("a shared run");
    for hidden in [
        "/".to_owned(),
        "/runs".to_owned(),
        "/hosts".to_owned(),
        format!("/o/r/actions/runs/{other}"),
        "/settings".to_owned(),
    ] {
        browser.ask(&json!({"do": "goto", "path": hidden}));
        browser.wait("h1", "Sign in");
    }
    browser.fill("input[name=token]", &admin);
    browser.click("button.main");
    browser.wait("h1", "Settings");
    browser.is_quiet();
    browser.end();
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_look_right_on_every_screen() {
    let (mut scene, broken, waiting, live) = Scene::busy().await;
    let Some(mut browser) = Browser::start(format!("http://{}", scene.daemon.plain)).await else { return };
    let lint = scene
        .begin(&[SET_UP, ("Check out", 2, "HEAD is now at 77aa01f"), ("Run cargo clippy", 18, "Finished")], false)
        .await;
    scene.end(lint, Conclusion::Success).await;
    let log = "##[group]Run cargo test --workspace\ncargo test --workspace\n##[endgroup]\n\u{1b}[32m   Compiling\u{1b}[0m todo-core v0.8.0\n\u{1b}[1mrunning 214 tests\u{1b}[0m";
    let mut running = Vec::new();
    for seconds in [11, 9] {
        running.push(
            scene
                .begin(&[SET_UP, ("Check out", 2, "HEAD is now at 77aa01f"), ("Run cargo test", seconds, log)], true)
                .await,
        );
    }
    let gpu = scene.busy_gpu().await;
    let absurd_name =
        format!("{} {}", "Donaudampfschifffahrtsgesellschaftskapitän".repeat(6), "lorem ipsum ".repeat(40));
    let absurd = PIPELINE.replace("name: CI", &format!("name: {}", "Verylongworkflownamewithoutanyspace".repeat(4)));
    let absurd = absurd.replace("lint:", &format!("{}:", "l".repeat(90))).replace("[lint, test]", "[test]");
    let absurd = scene.push(&format!("{}/{}", "o".repeat(39), "repository-".repeat(9)), &absurd_name, &absurd).await;
    let long = scene.daemon.get(&format!("/api/v3/towline/runs/{absurd}"), "").await.json();
    let repository = long["repository"]["full_name"].as_str().unwrap().to_owned();
    let found = scene.daemon.get(&format!("/api/v3/towline/runs/{broken}"), "").await.json();
    let jobs = found["jobs"].as_array().unwrap();
    let failed = jobs.iter().find(|job| job["conclusion"] == "failure").unwrap()["id"].clone();
    let first = running[0].assignment.job;
    let variable = "{\"name\": \"REGION\", \"value\": \"eu-central\"}";
    scene.daemon.post("/api/v3/repos/yadag/shop/actions/variables", "", variable).await;
    let pages = [
        ("overview", "/".to_owned()),
        ("runs", "/runs".to_owned()),
        ("run-broken", format!("/yadag/todo-app/actions/runs/{broken}")),
        ("run-live", format!("/yadag/todo-app/actions/runs/{live}")),
        ("run-waiting", format!("/yadag/shop/actions/runs/{waiting}")),
        ("run-absurd", format!("/{repository}/actions/runs/{absurd}")),
        ("log-failed", format!("/yadag/todo-app/actions/runs/{broken}/job/{failed}")),
        ("log-live", format!("/yadag/todo-app/actions/runs/{live}/job/{first}")),
        ("workflows", "/workflows".to_owned()),
        ("workflow", "/yadag/todo-app/actions/workflows/ci.yml".to_owned()),
        ("queue", "/queue".to_owned()),
        ("hosts", "/hosts".to_owned()),
        ("host-add", "/hosts/add".to_owned()),
        ("schedules", "/schedules".to_owned()),
        ("deliveries", "/deliveries".to_owned()),
        ("scripts", "/scripts".to_owned()),
        ("settings", "/settings".to_owned()),
        ("settings-repository", "/yadag/shop/settings".to_owned()),
        ("tokens", "/tokens".to_owned()),
        ("audit", "/audit".to_owned()),
    ];
    let mut faults = Vec::new();
    // Every page at three widths, in light and dark where they differ most.
    for (width, dark) in [(1280, false), (390, true), (2560, true)] {
        browser.open(width, dark, true);
        for (name, path) in &pages {
            if width == 2560
                && !["overview", "run-broken", "run-live", "log-failed", "hosts", "run-absurd"].contains(name)
            {
                continue;
            }
            browser.goto(path);
            browser.shot(&format!("{name}-{width}{}", if dark { "-dark" } else { "" }));
            faults.extend(browser.faults_of(&format!("{path} at {width}"), width < 2000));
        }
    }
    browser.is_quiet();
    // Light on a phone, dark on a desk: contrast is what may differ.
    for (width, dark) in [(390, false), (1280, true)] {
        browser.open(width, dark, true);
        for (name, path) in pages
            .iter()
            .filter(|(name, _)| ["overview", "run-broken", "log-failed", "workflow", "hosts"].contains(name))
        {
            browser.goto(path);
            browser.shot(&format!("{name}-{width}{}", if dark { "-dark" } else { "" }));
            faults.extend(browser.faults_of(&format!("{path} at {width}"), dark));
        }
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // First view: one document and one stylesheet, at most 60 KB; a script of at most 20 KB.
    let page = scene.daemon.get(&pages[2].1, "").await;
    let asset = |ending: &str| {
        let text = page.text();

        text.split('"').find(|part| part.starts_with("/assets/") && part.ends_with(ending)).unwrap().to_owned()
    };
    let (style, script) = (asset(".css"), asset(".js"));
    let (style, script) =
        (scene.daemon.get(&style, "").await.body.len(), scene.daemon.get(&script, "").await.body.len());
    println!("page weights: run {} B, stylesheet {style} B, script {script} B", page.body.len());
    assert!(page.body.len() + style <= 60_000 && script <= 20_000);
    browser.is_quiet();
    browser.end();
    drop((running, gpu, NIGHTLY));
    scene.daemon.end().await;
}
