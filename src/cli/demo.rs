//! `towline demo`: the main job from push to page, with nothing but git and sh besides this program.
//!
//! A daemon on temporary state, two SSH hosts inside this process, a bare repository, a sample project; a commit is
//! pushed, its jobs are followed, and the printed address shows them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::clock::Clock;
use crate::config::{Config, Host, Paths, Reach, Ssh};
use crate::daemon::{self, Daemon, Options};
use crate::demo::{project, ssh};
use crate::git::Repository;
use crate::id::{HostName, JobId, RunId};
use crate::run::{Conclusion, RunStatus};
use crate::store::logs::LogId;
use crate::triggers::hook;

use super::screen::{Screen, duration};
use super::{ENVIRONMENT, FAILED, SUCCESS};

/// Arguments of `towline demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Ends when the run does
    #[arg(long)]
    once: bool,
    /// Leaves the state directory behind and says where it is
    #[arg(long)]
    keep: bool,
}

/// The name of the demonstrated repository.
const REPOSITORY: &str = "demo/greeting";
/// The hosts.
const HOSTS: [&str; 2] = ["astraeus", "selene"];

/// Runs the command and says the exit code.
#[expect(clippy::print_stderr, reason = "the command line prints")]
pub(super) fn run(arguments: &Arguments) -> u8 {
    let Some(runtime) = super::threads() else { return ENVIRONMENT };
    let code = runtime.block_on(async {
        tokio::select! {
            shown = show(arguments) => shown,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("stopped");
                Ok(FAILED)
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    match code {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ENVIRONMENT
        }
    }
}

async fn show(arguments: &Arguments) -> anyhow::Result<u8> {
    let screen = Arc::new(std::sync::Mutex::new(Screen::new()));
    let say = |text: &str| screen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).say(text);
    let home = Home::new(arguments.keep)?;
    say(&format!("Towline {} shows a push that becomes jobs on two hosts.", env!("CARGO_PKG_VERSION")));

    let mut config = Config::default();
    config.server.listen = vec![([127, 0, 0, 1], 0).into()];
    config.server.tls = crate::config::Tls::Off;
    let mut hosts = Vec::new();
    for name in HOSTS {
        let host =
            ssh::Host::start(&home.path.join("hosts").join(name), "ci").await.context("cannot start an SSH host")?;
        say(&format!("  host {name:9} ssh://{}@{}", host.user(), host.address()));
        config.hosts.push(as_configured(name, &host));
        hosts.push(host);
    }
    let paths = Paths {
        config: home.path.join("towline.toml"),
        state: home.path.join("state"),
        runtime: home.path.join("run"),
    };
    let options = Options {
        config,
        paths: paths.clone(),
        clock: Clock::System,
        open_on_loopback: true,
        passed: crate::server::Passed::default(),
    };
    let daemon = daemon::start(options).await?;
    let url = daemon.url().unwrap_or_default();
    say(&format!("  daemon         {url}"));

    let bare = paths.repositories().join(format!("{REPOSITORY}.git"));
    let repository = Repository::init_bare(&bare, "main").await?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let _ = hook::install(&repository, &program, &paths.socket()).await.context("cannot install the hook")?;
    let work = home.path.join("greeting");
    project::create(&work).await?;
    say(&format!("\n$ git push {} main", bare.display()));
    push(&work, &bare, &say).await?;

    let code = follow(&daemon, &screen, &url, &say).await?;
    if !arguments.once {
        say(&format!("\nThe page stays at {url} until Ctrl-C."));
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    }
    daemon.stop().await;
    drop(hosts);
    if arguments.keep {
        say(&format!("\nThe state stays in {}", home.path.display()));
    }
    Ok(code)
}

fn as_configured(name: &str, host: &ssh::Host) -> Host {
    Host {
        name: HostName(name.to_owned()),
        reach: Reach::Ssh(Ssh {
            address: host.address().ip().to_string(),
            user: Some(host.user().to_owned()),
            port: Some(host.address().port()),
            identity: vec![host.identity().to_owned()],
            known_hosts: vec![host.known_hosts().to_owned()],
            jump: Vec::new(),
            agent: false,
            password: None,
            connect_timeout: Duration::from_secs(10),
        }),
        labels: Vec::new(),
        slots: 2,
        quiet: Vec::new(),
        label_limits: std::collections::BTreeMap::new(),
        root: None,
        wake: None,
        wake_timeout: Duration::from_secs(60),
        repositories: Vec::new(),
        quota: None,
    }
}

/// A real push: git runs the hook, the hook tells the daemon, the daemon answers in the pusher's terminal.
async fn push(work: &Path, bare: &Path, say: &impl Fn(&str)) -> anyhow::Result<()> {
    let output = tokio::process::Command::new("git")
        .current_dir(work)
        .args(["push", "--quiet"])
        .arg(bare)
        .arg("main")
        .output()
        .await
        .context("cannot start git; is it installed?")?;
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        say(line.trim_end());
    }
    anyhow::ensure!(output.status.success(), "git push failed");
    Ok(())
}

/// Follows the run that the push started to its end.
async fn follow(
    daemon: &Daemon,
    screen: &Arc<std::sync::Mutex<Screen>>,
    url: &str,
    say: &impl Fn(&str),
) -> anyhow::Result<u8> {
    let lock = || screen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let store = daemon.store();
    let mut read: std::collections::BTreeMap<JobId, u64> = std::collections::BTreeMap::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(60));
    let run = RunId(1);
    say(&format!("\nThe run's page: {url}/{REPOSITORY}/actions/runs/{run}\n"));
    loop {
        ticks.tick().await;
        let Some(record) = store.run(run)? else { continue };
        let jobs = store.jobs(run, record.attempt)?;
        for job in &jobs {
            let id = job.state.id;
            let name = match &job.state.host {
                Some(host) => format!("{}@{host}", job.state.name),
                None => job.state.name.clone(),
            };
            lock().name(id, &name);
            let log = LogId { run, attempt: record.attempt, job: id };
            loop {
                let from = read.get(&id).copied().unwrap_or(0);
                let bytes = store.logs().read(log, from, 256 << 10).unwrap_or_default();
                let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else { break };
                lock().log(id, &bytes[..=end]);
                read.insert(id, from + end as u64 + 1);
            }
        }
        let done = jobs.iter().filter(|job| job.state.conclusion.is_some()).count();
        lock().progress(format!("{done} of {} jobs done", jobs.len()));
        if record.status == RunStatus::Completed {
            lock().finish();
            lock().table(jobs.iter());
            let word = record.conclusion.map_or("unknown", Conclusion::as_str);
            let time = record.completed_at.map(|end| duration(record.created_at, end)).unwrap_or_default();
            say(&format!("\n{word} in {time}"));
            return Ok(if record.conclusion == Some(Conclusion::Success) { SUCCESS } else { FAILED });
        }
    }
}

/// The temporary directory of the demo.
struct Home {
    path: PathBuf,
    keep: bool,
}

impl Home {
    fn new(keep: bool) -> anyhow::Result<Self> {
        let nonce = crate::transport::JobSpec::new_nonce();
        let path = std::env::temp_dir().join(format!("towline-demo-{}", &nonce[..8]));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.keep {
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}
