//! `towline serve`: runs the daemon, in the foreground or under systemd.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock::Clock;
use crate::config::changes::Changes;
use crate::config::{self, Config, Paths};
use crate::daemon::{self, Daemon, Options};
use crate::diagnostic::{self, Diagnostic};
use crate::server;

use super::{ENVIRONMENT, INVALID, SUCCESS, logger, screen};

/// Arguments of `towline serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file, or the directory of towline.toml; `conf.d/*.toml` beside it is read too
    #[arg(long, value_name = "FILE", env = "TOWLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Where state is kept
    #[arg(long, value_name = "DIR", env = "TOWLINE_STATE")]
    state: Option<PathBuf>,
    /// Where the control socket lies
    #[arg(long, value_name = "DIR", env = "TOWLINE_RUNTIME")]
    runtime: Option<PathBuf>,
    /// Listens here instead of where the configuration says
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Clients on loopback need no token
    #[arg(long)]
    open_on_loopback: bool,
}

/// Runs the command and says the exit code.
#[expect(clippy::print_stderr, reason = "the command line prints")]
pub(super) fn run(arguments: &Arguments) -> u8 {
    logger::install();
    let passed = match server::Passed::from_environment() {
        Ok(passed) => passed,
        Err(error) => {
            eprintln!("error: systemd passed a socket that cannot be used: {error}");
            return ENVIRONMENT;
        }
    };
    let paths = paths(arguments);
    let config = match read(&paths) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(runtime) = super::threads() else { return ENVIRONMENT };
    let code = runtime.block_on(serve(config, paths, passed, arguments));
    // Jobs go on on their hosts; nothing here has to be waited for any more.
    runtime.shutdown_background();
    code
}

fn paths(arguments: &Arguments) -> Paths {
    let mut paths = Paths::from_environment();
    if let Some(config) = &arguments.config {
        paths = paths.configured_by(config.clone());
    }
    if let Some(state) = &arguments.state {
        paths.state.clone_from(state);
    }
    if let Some(runtime) = &arguments.runtime {
        paths.runtime.clone_from(runtime);
    }
    paths
}

/// Reads the configuration; faults are printed with file and line.
#[expect(clippy::print_stderr, reason = "the command line prints")]
pub(super) fn read(paths: &Paths) -> Result<Config, u8> {
    let files = config::read(&paths.config).map_err(|error| {
        eprintln!("error: {error}");
        ENVIRONMENT
    })?;
    let (config, diagnostics) = config::parse(&files);
    for fault in &diagnostics {
        let text = files.iter().find(|file| file.path.to_string_lossy() == fault.path).map(|file| file.text.as_str());
        eprintln!("{}", diagnostic::text(fault, text, screen::colors()));
    }
    config.ok_or(INVALID)
}

/// Reads the configuration; each fault is one line with its place and its mend.
fn load(paths: &Paths) -> Result<Config, Vec<String>> {
    let files = config::read(&paths.config).map_err(|error| vec![format!("{:#}", anyhow::Error::from(error))])?;
    let (config, diagnostics) = config::parse(&files);
    config.ok_or_else(|| diagnostics.iter().filter(|fault| fault.is_error()).map(one_line).collect())
}

/// A diagnostic as one line.
pub(super) fn one_line(fault: &Diagnostic) -> String {
    let place = fault.span.map_or_else(|| fault.path.clone(), |span| format!("{}:{}", fault.path, span.start.line));
    let help = fault.help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
    format!("{place}: {}{help}", fault.message)
}

#[expect(clippy::print_stderr, reason = "the command line prints")]
async fn serve(mut config: Config, paths: Paths, passed: server::Passed, arguments: &Arguments) -> u8 {
    if !arguments.listen.is_empty() {
        config.server.listen.clone_from(&arguments.listen);
    }
    let options = Options {
        config,
        paths: paths.clone(),
        clock: Clock::System,
        open_on_loopback: arguments.open_on_loopback,
        passed,
    };
    // Before anything else: a stop that comes early is a stop all the same.
    let Ok(mut signals) = Signals::listen() else { return ENVIRONMENT };
    let daemon = match daemon::start(options).await {
        Ok(daemon) => daemon,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ENVIRONMENT;
        }
    };
    if let Some(recovery) = daemon.recovery() {
        log::error!("the database was damaged: {recovery:?}");
    }
    for address in daemon.addresses() {
        log::info!("listening on {address}");
    }
    notify(&[NotifyState::Ready]);
    let code = wait(&daemon, &paths, &mut signals).await;
    notify(&[NotifyState::Stopping]);
    daemon.stop().await;
    code
}

/// The signals that mean something.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Reads the configuration again. One with faults changes nothing and is said so wherever somebody looks; its first fault
/// is given.
async fn reload(daemon: &Daemon, paths: &Paths) -> Option<String> {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    let fault = match load(paths) {
        Ok(config) => {
            daemon.reload(config).await;
            log::info!("the configuration was read again");
            None
        }
        Err(faults) => {
            for fault in &faults {
                log::error!("{fault}");
            }
            let first = faults.into_iter().next().unwrap_or_default();
            let text = format!("the new configuration has faults, the old one is in force: {first}");
            log::error!("{text}");
            daemon.refuse(text.clone());
            Some(text)
        }
    };
    notify(&[NotifyState::Ready]);
    fault
}

/// Waits for signals: SIGHUP reloads, as a changed file does; SIGTERM and SIGINT stop. Meanwhile it tells systemd what is
/// going on.
async fn wait(daemon: &Daemon, paths: &Paths, signals: &mut Signals) -> u8 {
    let mut changes = Changes::watch(&paths.config);
    let watchdog = sd_notify::watchdog_enabled().map(|period| period / 3);
    let mut beat = tokio::time::interval(watchdog.unwrap_or(Duration::from_secs(30)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut summary = daemon.engine().summary();
    let mut fault = None;
    status(daemon, fault.as_deref());
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => {
                fault = reload(daemon, paths).await;
                status(daemon, fault.as_deref());
            }
            Some(()) = changes.next() => {
                fault = reload(daemon, paths).await;
                status(daemon, fault.as_deref());
            }
            _ = signals.terminate.recv() => return SUCCESS,
            _ = signals.interrupt.recv() => return SUCCESS,
            () = daemon.failed() => return ENVIRONMENT,
            changed = summary.changed() => {
                if changed.is_err() {
                    return ENVIRONMENT;
                }
                status(daemon, fault.as_deref());
            }
            _ = beat.tick() => {
                feed(daemon, beat.period()).await;
                status(daemon, fault.as_deref());
            }
        }
    }
}

/// Feeds the watchdog when the engine's loop answers: when it hangs, systemd starts the daemon anew. A loop that waits
/// for a full disk does not hang, and a new start would not help it.
async fn feed(daemon: &Daemon, patience: Duration) {
    let answered =
        tokio::time::timeout(patience, daemon.engine().read(|_| ())).await.is_ok_and(|answer| answer.is_ok());
    if answered || daemon.engine().trouble().is_some() {
        notify(&[NotifyState::Watchdog]);
    } else {
        log::error!("the engine does not answer; the watchdog is not fed");
    }
}

/// The line that `systemctl status` shows.
fn status(daemon: &Daemon, fault: Option<&str>) {
    let (running, waiting, paused) = {
        let summary = daemon.engine().summary();
        let summary = summary.borrow();
        (summary.running, summary.waiting, summary.paused)
    };
    let mut line = format!("{running} jobs running, {waiting} waiting");
    if paused {
        line.push_str("; the queue is paused");
    }
    if let Some(trouble) = daemon.engine().trouble() {
        line.push_str(&format!("; nothing new is accepted: {trouble}"));
    }
    if let Some(fault) = fault {
        line.push_str(&format!("; {fault}"));
    }
    notify(&[NotifyState::Status(&line)]);
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd nobody listens.
    drop(sd_notify::notify(states));
}
