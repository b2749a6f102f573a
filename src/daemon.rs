//! The composition root: what `serve` starts, in which order, and how it stops.
//!
//! Start: state, keys, engine, executor, hosts, triggers, server; ready when the sockets accept. Stop: triggers and
//! server first, then the engine; jobs are left running on their hosts and are picked up by the next start.

mod certificates;
mod chronicle;
mod follow;
mod hosts;
mod housekeeping;
mod jobs;
mod outside;
mod tokens;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper_util::service::TowerToHyperService;
use serde_json::{Map, Value as Json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actions;
use crate::clock::Clock;
use crate::config::{Checkout, Config, Paths, Pull, SourceKind, Tls};
use crate::drive::{self, Handle, StartKind};
use crate::engine::{Input, Settings};
use crate::forge::{Clients, Notifier, Outbox, Reporter, SourceOf, Tracer, Updates, Ways};
use crate::git::{self, Credentials};
use crate::id::{HostName, JobId};
use crate::run::report::Report;
use crate::runner::{self, Cancel, Executor, Local, Runner, ServicesAddress, Sources};
use crate::server::auth;
use crate::server::{self, App, CertificateSource, Endpoint, Server};
use crate::services::{self, Services};
use crate::store::{Recovery, Store};
use crate::transport::Hosts;
use crate::triggers::inventory::full_name;
use crate::triggers::schedules::Schedules;
use crate::triggers::{Inventory, Starter, Triggers, Wish, chains, poll, relay, watch, webhook};
use crate::vault::{Vault, open_keys};

use hosts::Fleet;
use jobs::Jobs;
use tokens::JobTokens;

/// Reports that may wait for the engine.
const REPORTS: usize = 1024;
/// How often a job that cannot be picked up is tried again.
const PICK_UP: Duration = Duration::from_secs(5);
/// Runs that may wait to be started.
const STARTS: usize = 256;
/// The mode of the control socket: the owner and the group.
const SOCKET_MODE: u32 = 0o660;

/// What a daemon is started with.
pub struct Options {
    pub config: Config,
    pub paths: Paths,
    pub clock: Clock,
    /// Clients on loopback need no token: for a demo, or a machine with one user.
    pub open_on_loopback: bool,
    /// Sockets that systemd passed; they are served too.
    pub passed: server::Passed,
}

/// A daemon that accepts.
pub struct Daemon {
    addresses: Vec<server::Address>,
    engine: Handle,
    store: Store,
    stop: CancellationToken,
    tracker: TaskTracker,
    jobs: TaskTracker,
    inventory: Inventory,
    recovery: Option<Recovery>,
    app: App,
    executor: Executor,
    fleet: tokio::sync::Mutex<Fleet>,
    certificates: Option<Arc<server::Certificates>>,
    paths: Paths,
    clock: Clock,
}

/// Starts everything.
///
/// # Errors
/// A sentence about what is missing, and its causes.
pub async fn start(options: Options) -> anyhow::Result<Daemon> {
    let Options { config, paths, clock, open_on_loopback, passed } = options;
    let paths = paths.absolute();
    make_private(&paths.state)?;
    make_private(&paths.runtime)?;
    git::run_behind();
    let (store, recovery) = Store::open(&paths.state)?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let vault = Vault::new(store.clone(), open_keys(credentials.as_deref(), &paths.state)?);
    let stop = CancellationToken::new();
    let tracker = TaskTracker::new();
    let jobs_tracker = TaskTracker::new();

    store.keep_free(config.limits.disk);
    let parts = drive::prepare(store.clone(), clock.clone(), settings(&config), stop.clone())?;
    let engine = parts.handle.clone();

    let inventory = Inventory::new(config.clone(), paths.clone());
    let sources = Sources {
        repositories: BTreeMap::new(),
        find: Some(find_repository(inventory.clone())),
        actions: Some(actions::Sources::new(actions::Settings::new(
            &config.actions,
            paths.state.join("actions"),
            Credentials::None,
        ))?),
        runtimes: Some(actions::Runtimes::at(paths.runtimes())),
    };
    let pool = Hosts::new();
    let runner = Runner {
        identity: store.identity().await?,
        hosts: pool.clone(),
        clock: clock.clone(),
        sources: Arc::new(sources),
        fresh_workspaces: false,
        stock_checkout: config.actions.checkout == Checkout::Node,
        keeps_images: config.actions.pull == Pull::Missing,
    };
    let (report_sender, reports) = mpsc::channel(REPORTS);
    let source_of: SourceOf = {
        let inventory = inventory.clone();
        Arc::new(move |name| inventory.find(name.as_str()))
    };
    let tokens = JobTokens {
        store: store.clone(),
        vault: vault.clone(),
        source_of: source_of.clone(),
        clients: Clients::default(),
        tracker: tracker.clone(),
        clock: clock.clone(),
        known: Arc::default(),
    };
    let (starter, starts) = Starter::new(STARTS);
    let variables = variables_of(vault.clone());
    let triggers = Triggers::new(clock.clone(), store.clone(), inventory.clone(), starter, variables, tracker.clone());

    let schedules = Schedules::new(triggers.clone());

    let bound = bind(&config, &paths, &clock, passed)?;
    let addresses = bound.addresses();
    let certificates = bound.certificates();
    // Links name the ports that the system chose.
    let tcp = addresses.iter().filter_map(|address| match address {
        server::Address::Http(address) | server::Address::Https(address) => Some(*address),
        server::Address::Unix(_) => None,
    });
    let mut served = config.clone();
    served.server.listen = tcp.collect();
    inventory.reload(served);
    let mode = if open_on_loopback { auth::Mode::OpenOnLoopback } else { auth::Mode::Tokens };
    let (services, inner) = open_services(&config, &paths, &clock, &addresses, inventory.server_url()).await?;
    let surroundings =
        Jobs { store: store.clone(), vault: vault.clone(), tokens: tokens.clone(), tracker: jobs_tracker.clone() };
    let executor = Executor::new(runner, Arc::new(surroundings), report_sender, jobs_tracker.clone(), services.clone());

    // Beside the configuration: where `towline host add` pins keys.
    let pins = paths.config.with_file_name("known_hosts");
    let configured = hosts::configured(&config, &paths.state, &pins);
    for (_, target) in &configured {
        if let Ok(target) = target {
            executor.set_host(target.clone());
        }
    }
    executor.set_log_limit(config.limits.job_log);

    let auth = auth::Auth::open(&paths.state, store.clone(), mode, config.server.open_reads, own_names(&config))?
        .with_jobs(services.services.clone());
    auth.admit(admissions(&config));
    let ways: Ways = {
        let inventory = inventory.clone();
        Arc::new(move || inventory.config().notify.clone())
    };
    let outbox = Outbox::new(store.clone(), clock.clone(), source_of.clone(), ways.clone());
    let app = App::new(server::AppParts {
        store: store.clone(),
        engine: engine.clone(),
        vault: vault.clone(),
        outside: outside::outside(&triggers, &inventory, &schedules, &pool, &outbox),
        auth,
        clock: clock.clone(),
        settings: server::Settings {
            public_url: config.server.url.clone(),
            own_url: (!addresses.iter().all(|address| matches!(address, server::Address::Unix(_))))
                .then(|| inventory.server_url()),
            open_metrics: config.server.open_metrics,
            trusted_proxies: config.server.trusted_proxies.clone(),
        },
        stop: stop.clone(),
    });

    let task = parts.task;
    let failed = stop.clone();
    tracker.spawn(async move {
        match AssertUnwindSafe(task).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                log::error!("the engine has stopped: {error}");
                failed.cancel();
            }
            Err(_) => {
                log::error!("the engine met a fault of its own");
                failed.cancel();
            }
        }
    });
    let given = hand_out(parts.assignments, executor.clone(), engine.clone(), vault.clone(), tokens, stop.clone());
    tracker.spawn(until(stop.clone(), given));
    if let Some(certificates) = certificates.clone() {
        tracker.spawn(until(stop.clone(), certificates::keep(certificates, clock.clone())));
    }
    tracker.spawn(until(stop.clone(), take_reports(reports, engine.clone())));
    tracker.spawn(until(stop.clone(), start_runs(starts, engine.clone())));
    tracker.spawn(app.clone().count_ends());

    let details = hosts::Details::default();
    let (shown, shower) = (details.clone(), app.clone());
    let mut fleet = Fleet::new(hosts::Shared {
        hosts: pool,
        executor: executor.clone(),
        engine: engine.clone(),
        details,
        show: Arc::new(move || {
            shower.set_hosts(shown.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect());
        }),
        clock: clock.clone(),
        tracker: tracker.clone(),
        stop: stop.clone(),
        state: paths.state.clone(),
        pins,
    });
    fleet.set(&config).await;
    // There may be much, and nobody waits for it.
    drop(tokio::task::spawn_blocking(runner::sweep_checkouts));
    tracker.spawn(housekeeping::run(store.clone(), engine.clone(), inventory.clone(), clock.clone(), stop.clone()));

    let follow = {
        let (store, engine) = (store.clone(), engine.clone());
        Arc::new(move |runs| follow::lines(store.clone(), engine.clone(), runs))
    };
    tracker.spawn(sweep_services(services.services.clone(), stop.clone()));
    let router = server::router(&app)
        .merge(services.services.router())
        .merge(services.services.repositories(repositories(&inventory, &app)))
        .merge(webhook::router(triggers.clone()))
        .merge(webhook::socket_router(triggers.clone(), Some(follow)).layer(axum::middleware::from_fn(local_only)));
    let files = TowerToHyperService::new(services.services.files(repositories(&inventory, &app)));
    let router =
        router.layer(axum::middleware::from_fn(move |request, next| files_first(files.clone(), request, next)));
    if let Some(inner) = inner {
        tracker.spawn(inner.serve(router.clone(), stop.clone()));
    }
    tracker.spawn(bound.serve(router, stop.clone()));

    let (ending, stopping) = (triggers.clone(), stop.clone());
    tracker.spawn(async move {
        stopping.cancelled().await;
        ending.stop();
    });
    let taken_up = triggers.resume()?;
    if taken_up > 0 {
        log::info!("{taken_up} deliveries of before are taken up");
    }
    tracker.spawn(chronicle::write(engine.updates(), stop.clone()));
    tracker.spawn(triggers.clone().watch_spools(stop.clone()));
    tracker.spawn(schedules.clone().run(stop.clone()));
    tracker.spawn(watch::run(triggers.clone(), schedules, stop.clone()));
    tracker.spawn(poll::run(triggers.clone(), stop.clone()));
    let follow = |name| Updates::open(name, store.clone(), clock.clone(), engine.updates());
    tracker.spawn(relay::run(triggers.clone(), stop.clone()));
    tracker.spawn(chains::run(triggers, follow("chains")?, stop.clone()));

    let told = follow("reporter")?;
    let notifier = Notifier { store: store.clone(), outbox: outbox.clone(), ways, server_url: inventory.server_url() };
    tracker.spawn(notifier.run(follow("notifier")?, stop.clone()));
    tracker.spawn(outbox.clone().run(stop.clone()));
    let tracer = Tracer {
        store: store.clone(),
        collector: {
            let inventory = inventory.clone();
            Arc::new(move || inventory.config().telemetry.clone())
        },
        server_url: inventory.server_url(),
    };
    tracker.spawn(tracer.run(follow("traces")?, stop.clone()));
    let reporter = Reporter { store: store.clone(), outbox, source_of, server_url: inventory.server_url() };
    tracker.spawn(reporter.run(told, stop.clone()));
    let fleet = tokio::sync::Mutex::new(fleet);
    Ok(Daemon {
        addresses,
        engine,
        store,
        stop,
        tracker,
        jobs: jobs_tracker,
        inventory,
        recovery,
        app,
        executor,
        fleet,
        certificates,
        paths,
        clock,
    })
}

impl Daemon {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[server::Address] {
        &self.addresses
    }

    /// The first address a browser can open.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.addresses.iter().find(|address| !matches!(address, server::Address::Unix(_))).map(ToString::to_string)
    }

    /// The way to the engine.
    #[must_use]
    pub fn engine(&self) -> &Handle {
        &self.engine
    }

    /// What is remembered.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What happened to the database when it could not be opened as it was.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// Takes a new configuration: hosts, labels, sources, limits, retention. Where it listens and where actions come
    /// from change with a restart, which loses nothing.
    pub async fn reload(&self, mut config: Config) {
        let before = self.inventory.config();
        // Links name the ports that the system chose.
        config.server.listen.clone_from(&before.server.listen);
        self.store.keep_free(config.limits.disk);
        self.executor.set_log_limit(config.limits.job_log);
        if let Err(error) = self.engine.send(Input::Configure(settings(&config))).await {
            log::debug!("{error}");
        }
        self.app.auth().admit(admissions(&config));
        if let Some(certificates) = &self.certificates {
            certificates::take(certificates, self.clock.now(), identity(&config, &self.paths)).await;
        }
        self.fleet.lock().await.set(&config).await;
        self.inventory.reload(config);
        self.app.set_fault(None);
    }

    /// Says on `/readyz` that a new configuration has faults and the old one is in force.
    pub fn refuse(&self, fault: String) {
        self.app.set_fault(Some(fault));
    }

    /// Ends when the daemon has to: something it cannot do without has failed.
    pub async fn failed(&self) {
        self.stop.cancelled().await;
    }

    /// Stops: nothing new is accepted, jobs go on where they run and are picked up by the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        let grace = std::time::Duration::from_secs(15);
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            log::warn!("some tasks did not end within {} s and are left behind", grace.as_secs());
        }
        // Dropping a runner leaves its job untouched on the host.
        self.jobs.close();
    }
}

/// What of the configuration is the engine's.
fn settings(config: &Config) -> Settings {
    let priorities = config.sources.iter().filter(|source| source.priority != 0);
    Settings {
        labels: config.labels.iter().map(|(label, wanted)| (label.clone(), wanted.clone())).collect(),
        weights: config.weights.clone(),
        priorities: priorities.map(|source| (full_name(&source.name), source.priority)).collect(),
        jobs: config.limits.jobs,
        queue_minutes: u32::try_from(config.limits.queue.as_secs().div_ceil(60)).unwrap_or(u32::MAX),
        ..Settings::github()
    }
}

fn make_private(directory: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| anyhow::anyhow!("cannot make {}: {error}", directory.display()))
}

fn own_names(config: &Config) -> Vec<String> {
    let host = |url: &str| Some(url.split_once("://")?.1.split(['/', ':']).next()?.to_owned());
    config.server.url.as_deref().and_then(host).into_iter().collect()
}

/// What TLS is set up with.
fn identity(config: &Config, paths: &Paths) -> Option<server::Identity> {
    let certificate = match &config.server.tls {
        Tls::Off => return None,
        Tls::Own => CertificateSource::Own { folder: paths.state.join("tls"), names: own_names(config) },
        Tls::Files { certificate, key } => {
            CertificateSource::Files { certificate: certificate.clone(), key: key.clone() }
        }
    };
    let clients = config.server.clients.as_ref().map(|clients| clients.authority.clone());
    Some(server::Identity { certificate, clients })
}

/// Who is let in without a token of ours.
fn admissions(config: &Config) -> auth::Admissions {
    auth::Admissions {
        certificates: config.server.clients.as_ref().map(|clients| clients.roles.clone()).unwrap_or_default(),
        github: config.server.github_login.clone(),
    }
}

fn bind(config: &Config, paths: &Paths, clock: &Clock, passed: server::Passed) -> anyhow::Result<server::Bound> {
    let mut endpoints = vec![Endpoint::Unix { path: paths.socket(), mode: SOCKET_MODE }];
    let tcp = |address: &SocketAddr| match config.server.tls {
        Tls::Off => Endpoint::Http(*address),
        Tls::Own | Tls::Files { .. } => Endpoint::Https(*address),
    };
    endpoints.extend(config.server.listen.iter().map(tcp));
    let config = server::Config {
        endpoints,
        passed,
        identity: identity(config, paths),
        authority: Some(authority_for_jobs(paths)),
        limits: server::Limits::STANDARD,
    };
    Ok(Server::bind(clock.now(), config)?)
}

/// Who this server is to jobs that speak TLS to it although they are told not to.
fn authority_for_jobs(paths: &Paths) -> PathBuf {
    paths.state.join("tls").join("jobs")
}

fn variables_of(vault: Vault) -> crate::triggers::VariablesOf {
    Arc::new(move |repository| match vault.vars_for(repository, None) {
        Ok(variables) => variables.into_iter().map(|(name, value)| (name, Json::from(value))).collect(),
        Err(error) => {
            log::error!(repository:% = repository; "the variables of {repository} cannot be read: {error}");
            Map::new()
        }
    })
}

/// Artifacts, caches, identity tokens and repositories, reached by hosts through an address without TLS on loopback: that of
/// the server, else one of their own, whose port stays the same so that jobs on this machine find it after a restart.
async fn open_services(
    config: &Config,
    paths: &Paths,
    clock: &Clock,
    addresses: &[server::Address],
    server_url: String,
) -> anyhow::Result<(ServicesAddress, Option<server::Bound>)> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let plain = addresses.iter().find_map(|address| match address {
        server::Address::Http(address) if address.ip().is_loopback() || address.ip().is_unspecified() => Some(*address),
        _ => None,
    });
    let (here, inner) = match plain {
        Some(plain) => (SocketAddr::from(([127, 0, 0, 1], plain.port())), None),
        None => {
            let (here, bound) = bind_inner(paths, clock)?;
            (here, Some(bound))
        }
    };
    let settings = services::Settings {
        directory: paths.state.join("blobs"),
        issuer: config.server.url.clone().unwrap_or_else(|| format!("http://{here}")),
        artifact_retention: config.retention.artifacts.min(DAY * 400),
        bytes: u64::MAX,
        cache_bytes: config.retention.cache_bytes,
        cache_idle: DAY * 7,
    };
    let services = Services::open(settings, clock.clone()).await?;
    // Only an address without TLS is one that every client on a host takes as it is.
    let reachable = addresses.iter().any(|address| match address {
        server::Address::Http(address) | server::Address::Https(address) => !address.ip().is_loopback(),
        server::Address::Unix(_) => false,
    });
    let elsewhere = config.server.url.clone().filter(|_| reachable).map(|url| url.trim_end_matches('/').to_owned());
    Ok((ServicesAddress { services, here, elsewhere, local: Local::Server(server_url) }, inner))
}

/// A listener on loopback for jobs alone.
fn bind_inner(paths: &Paths, clock: &Clock) -> anyhow::Result<(SocketAddr, server::Bound)> {
    let remembered = paths.state.join("services.port");
    let known = std::fs::read_to_string(&remembered).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let bind = |port: u16| Server::bind_for_jobs(clock.now(), port, authority_for_jobs(paths));
    let (here, bound) = match known.map(bind) {
        Some(Ok(bound)) => bound,
        Some(Err(error)) => {
            log::warn!("the services for actions listen on another port than before: {error}");
            bind(0)?
        }
        None => bind(0)?,
    };
    std::fs::write(&remembered, here.port().to_string())
        .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", remembered.display()))?;
    Ok((here, bound))
}

/// Files of repositories that are on this machine come from there; the server knows the workflow files of all others.
async fn files_first(
    files: TowerToHyperService<axum::Router>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let path = request.uri().path();
    if *request.method() != http::Method::GET || !path.starts_with("/api/v3/repos/") || !path.contains("/contents") {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let asked = http::Request::from_parts(parts.clone(), axum::body::Body::empty());
    match hyper::service::Service::call(&files, asked).await {
        Ok(answer) if answer.status() != http::StatusCode::NOT_FOUND => answer,
        _ => next.run(http::Request::from_parts(parts, body)).await,
    }
}

/// The repositories that are served to git, and who may reach them.
fn repositories(inventory: &Inventory, app: &App) -> services::Repositories {
    let (find, inventory) = (find_repository(inventory.clone()), inventory.clone());
    let (authorized, based, known) = (app.clone(), app.clone(), app.clone());
    services::Repositories {
        find: Arc::new(move |name| {
            let git_dir = find(&crate::id::RepositoryName(name.to_owned()))?;
            let source = inventory.find(name)?;
            let writable = source.path.is_some() && source.kind != SourceKind::Directory;
            Some(services::Served { git_dir, writable })
        }),
        authorize: Arc::new(move |parts, repository, _| authorized.access(parts, repository)),
        base: Arc::new(move |parts| based.base(parts)),
        who: Arc::new(move |parts| known.who(parts)),
    }
}

/// Removes what has expired, every hour.
async fn sweep_services(services: Services, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(3600)) => {}
        }
        let swept = services.clone();
        let result = tokio::task::spawn_blocking(move || swept.sweep()).await;
        if let Ok(Err(error)) = result {
            log::warn!("expired artifacts and caches stay: {error}");
        }
    }
}

/// Lets only the unix socket through: who may open it is a user of this machine. For the network there is no such route.
async fn local_only(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    match request.extensions().get::<server::Peer>().map(|peer| &peer.origin) {
        Some(server::Origin::Local { .. }) => next.run(request).await,
        Some(server::Origin::Network(_)) | None => http::StatusCode::NOT_FOUND.into_response(),
    }
}

/// The repository of a source: its own git directory, else the mirror.
fn find_repository(inventory: Inventory) -> crate::runner::FindRepository {
    Arc::new(move |name| {
        let source = inventory.find(name.as_str())?;
        let mirror = inventory.paths().mirrors().join(format!("{}.git", source.name));
        let own = source.path.map(|path| if path.join(".git").is_dir() { path.join(".git") } else { path });
        own.into_iter().chain([mirror]).find(|path| path.join("objects").is_dir())
    })
}

/// Work that the stop ends wherever it is: the engine takes nothing any more, and the next start begins with what is durable.
async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        outcome = AssertUnwindSafe(work).catch_unwind() => {
            // Without it jobs would wait for ever. The next start begins with what is durable.
            if outcome.is_err() {
                log::error!("the daemon met a fault of its own and stops");
                stop.cancel();
            }
        }
    }
}

/// Gives the engine's assignments to the executor.
async fn hand_out(
    mut assignments: mpsc::Receiver<drive::Assignment>,
    executor: Executor,
    engine: Handle,
    vault: Vault,
    tokens: JobTokens,
    stop: CancellationToken,
) {
    let clock = tokens.clock.clone();
    while let Some(assignment) = assignments.recv().await {
        if !tokens.concerns(&assignment.order) && assignment.start == StartKind::Start {
            give(assignment, &executor, &engine, &vault, &clock).await;
            continue;
        }
        if assignment.start == StartKind::Attach {
            executor.keep_slot(&assignment.host, assignment.job);
        }
        // GitHub is asked beside the others: their jobs do not wait for it. Nor do they for one that cannot be picked up yet.
        let (executor, engine, vault) = (executor.clone(), engine.clone(), vault.clone());
        let (asked, clock) = (tokens.clone(), clock.clone());
        tokens.tracker.spawn(until(stop.clone(), async move {
            // The token of an earlier stay goes with it.
            executor.let_go(assignment.job).await;
            asked.prepare(&assignment.order).await;
            give(assignment, &executor, &engine, &vault, &clock).await;
        }));
    }
}

async fn give(assignment: drive::Assignment, executor: &Executor, engine: &Handle, vault: &Vault, clock: &Clock) {
    let drive::Assignment { job, host, order, start, mut told } = assignment;
    let order = jobs::let_through(vault, order);
    let (run, repository) = (order.run, order.repository.clone());
    let word = if start == StartKind::Attach { "picked up" } else { "started" };
    let mut said = None;
    loop {
        let reason = match executor.start(&host, order.clone(), told.clone()) {
            Ok(()) => {
                log::info!(run = run.0, job = job.0, host:% = host, repository:% = repository; "job {job} {word} on {host}");
                return;
            }
            Err(reason) => reason,
        };
        if said.as_ref() != Some(&reason) {
            log::error!(run = run.0, job = job.0, host:% = host, repository:% = repository; "job {job} cannot be {word} on {host}: {reason}");
        }
        // What may run there is given to no other host: it waits until it can be picked up, or is given up.
        let is_forced = told.borrow().cancel == Cancel::Forced;
        if start == StartKind::Start || is_forced {
            drop(engine.send(Input::DispatchFailed { job, host, reason }).await);
            return;
        }
        if said.as_ref() != Some(&reason) {
            let report = Report::Detached { at: clock.now(), reason: reason.clone() };
            drop(engine.send(Input::Report { job, host: host.clone(), report }).await);
            said = Some(reason);
        }
        tokio::select! {
            () = tokio::time::sleep(PICK_UP) => {}
            // Nobody tells it anything any more: it is over for the engine.
            changed = told.changed() => if changed.is_err() { return },
        }
    }
}

/// Gives the runners' reports to the engine, each job's in order.
async fn take_reports(mut reports: mpsc::Receiver<(JobId, HostName, Report)>, engine: Handle) {
    while let Some((job, host, report)) = reports.recv().await {
        if engine.send(Input::Report { job, host, report }).await.is_err() {
            return;
        }
    }
}

/// Does what triggers wish; answered when it is durable.
async fn start_runs(mut starts: mpsc::Receiver<crate::triggers::Request>, engine: Handle) {
    while let Some(request) = starts.recv().await {
        let answer = match request.wish {
            Wish::Start(start) => {
                engine.send(Input::StartRun { key: start.key, held: start.held, spec: start.spec }).await
            }
            Wish::Rerun { run, wish } => engine.rerun(run, wish).await,
            Wish::Cancel { run, actor } => engine.send(Input::Cancel { run, force: false, actor }).await,
        };
        match answer {
            Ok(answer) => drop(request.answer.send(answer)),
            // Not answered: who asked keeps the event, and the next start takes it up.
            Err(error) => log::debug!("a run is not started now: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_of_the_daemons_own_stops_it() {
        let stop = CancellationToken::new();
        until(stop.clone(), async {}).await;
        assert!(!stop.is_cancelled());
        until(stop.clone(), async { panic!("as meant") }).await;
        assert!(stop.is_cancelled());
    }
}
