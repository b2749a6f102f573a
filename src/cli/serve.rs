//! `towline serve`: runs the daemon, in the foreground or under systemd.

use std::net::SocketAddr;
use std::path::PathBuf;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::Clock;
use crate::config::changes::Changes;
use crate::config::{self, Config, Paths};
use crate::daemon::{self, Daemon, Options};
use crate::diagnostic;

use super::{ENVIRONMENT, INVALID, SUCCESS, logger, screen};

/// Arguments of `towline serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file; `conf.d/*.toml` beside it is read too
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
    let paths = paths(arguments);
    let config = match read(&paths) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ENVIRONMENT;
        }
    };
    let code = runtime.block_on(serve(config, paths, arguments));
    // Jobs go on on their hosts; nothing here has to be waited for any more.
    runtime.shutdown_background();
    code
}

fn paths(arguments: &Arguments) -> Paths {
    let mut paths = Paths::from_environment();
    if let Some(config) = &arguments.config {
        paths.config.clone_from(config);
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

#[expect(clippy::print_stderr, reason = "the command line prints")]
async fn serve(mut config: Config, paths: Paths, arguments: &Arguments) -> u8 {
    if !arguments.listen.is_empty() {
        config.server.listen.clone_from(&arguments.listen);
    }
    let options = Options {
        config,
        paths: paths.clone(),
        clock: Clock::System,
        open_on_loopback: arguments.open_on_loopback,
        systemd: std::env::var_os("LISTEN_FDS").is_some(),
    };
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
    notify(&[NotifyState::Ready, NotifyState::Status("accepting")]);
    let code = wait(&daemon, &paths).await;
    notify(&[NotifyState::Stopping]);
    daemon.stop().await;
    code
}

/// Reads the configuration again. One with faults changes nothing and is said so wherever somebody looks.
async fn reload(daemon: &Daemon, paths: &Paths) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    match read(paths) {
        Ok(config) => {
            daemon.reload(config).await;
            log::info!("the configuration was read again");
            notify(&[NotifyState::Ready, NotifyState::Status("accepting")]);
        }
        Err(_) => {
            let text = "the new configuration has faults; the old one is in force";
            log::error!("{text}");
            daemon.refuse(text.to_owned());
            notify(&[NotifyState::Ready, NotifyState::Status(text)]);
        }
    }
}

/// Waits for signals: SIGHUP reloads, as a changed file does; SIGTERM and SIGINT stop. The watchdog is fed by a look at the engine: when its
/// loop hangs, systemd starts the daemon anew.
async fn wait(daemon: &Daemon, paths: &Paths) -> u8 {
    let (Ok(mut hangup), Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::hangup()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return ENVIRONMENT;
    };
    let mut changes = Changes::watch(&paths.config);
    let watchdog = sd_notify::watchdog_enabled().map(|period| period / 2);
    loop {
        let pause = watchdog.unwrap_or(std::time::Duration::from_secs(30));
        tokio::select! {
            _ = hangup.recv() => reload(daemon, paths).await,
            Some(()) = changes.next() => reload(daemon, paths).await,
            _ = terminate.recv() => return SUCCESS,
            _ = interrupt.recv() => return SUCCESS,
            () = daemon.failed() => return ENVIRONMENT,
            () = tokio::time::sleep(pause) => {
                if daemon.engine().read(|_| ()).await.is_ok() {
                    notify(&[NotifyState::Watchdog]);
                }
            }
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd nobody listens.
    drop(sd_notify::notify(states));
}
