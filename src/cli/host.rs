//! `towline host`: lists, adds, checks, drains and removes hosts.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::bail;
use http::Method;
use serde_json::{Value as Json, json};

use super::output::{self, complain, listed, table};
use super::remote::{block, encode};
use super::{FAILED, INVALID, SUCCESS};
use crate::config::{self, Config, Host, Paths, Reach, inventory};
use crate::diagnostic::Diagnostic;
use crate::id::HostName;
use crate::transport::{
    Destination, EnrolError, Enrolled, Facts, Hosts, NewHost, SshOptions, SshTarget, Target, TransportError, Way, enrol,
};

/// How often a drained host is looked at while its jobs end.
const WAITING: std::time::Duration = std::time::Duration::from_millis(500);

/// Arguments of `towline host`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists the configured hosts.
    List {
        #[command(flatten)]
        json: output::Json,
    },
    /// Connects and says what a host can run, and what stands in the way.
    Check {
        /// Names of configured hosts, or `USER@ADDRESS[:PORT]`. All configured hosts when absent.
        #[arg(value_name = "HOST")]
        hosts: Vec<String>,
        /// Accept this host key of the one HOST, also in the place of the one that was accepted before: SHA256:...
        #[arg(long, value_name = "FINGERPRINT")]
        accept: Option<String>,
        #[command(flatten)]
        json: output::Json,
    },
    /// Accepts a host's key, checks it and adds it to the configuration.
    Add(Box<Add>),
    /// Gives a host no new jobs; what runs there comes to its end. Asks the daemon, which remembers it.
    Drain {
        /// The configured name.
        name: String,
        /// Return when nothing runs there any more.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        daemon: super::remote::Target,
    },
    /// Gives a drained host jobs again.
    Resume {
        /// The configured name.
        name: String,
        #[command(flatten)]
        daemon: super::remote::Target,
    },
    /// Removes a host that `host add` added.
    Remove {
        /// The configured name.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// `[USER@]ADDRESS[:PORT]`, or a name of ~/.ssh/config.
    destination: String,
    /// The name in `runs-on` and in lists; the address up to its first dot when absent.
    #[arg(long)]
    name: Option<String>,
    /// How many jobs run at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: u32,
    /// Another label for `runs-on`; may be given several times.
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// Accept this host key without asking: SHA256:...
    #[arg(long, value_name = "FINGERPRINT")]
    accept: Option<String>,
    /// A private key to log in with; may be given several times.
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// A server to go through: `[USER@]ADDRESS[:PORT]`.
    #[arg(long, value_name = "HOP")]
    jump: Vec<String>,
    /// Where everything lives on the host.
    #[arg(long, value_name = "DIRECTORY", default_value = "~/.towline")]
    root: String,
}

/// Where the host keys are that were accepted.
pub(super) fn pins() -> PathBuf {
    inventory::pins(&Paths::from_environment())
}

/// The same, of these places.
pub(super) fn pins_of(paths: &Paths) -> PathBuf {
    inventory::pins(paths)
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let paths = Paths::from_environment();
    let result = match arguments.command {
        Command::List { json } => list(&paths, &json),
        Command::Check { hosts, accept, json } => on_runtime(check(&paths, &hosts, accept.as_deref(), &json)),
        Command::Drain { name, wait, daemon } => return block(drain(&daemon, &name, wait)),
        Command::Resume { name, daemon } => return block(resume(&daemon, &name)),
        Command::Add(mut add) => {
            // Root adds hosts for the daemon's user, whose key it is that has to open them.
            if add.identity.is_empty() {
                add.identity.extend(super::init::service_identity(&paths).filter(|file| file.exists()));
            }
            on_runtime(self::add(&paths, &add))
        }
        Command::Remove { name } => inventory::remove(&paths, &name).map_err(Into::into).map(|removed| {
            if removed {
                say(&format!("Removed {name}. Its key stays known; a running daemon lets it go by itself."));
                SUCCESS
            } else {
                complain(&format!("{name} is not in {}; remove it by hand", inventory::file(&paths).display()));
                INVALID
            }
        }),
    };
    output::exit_code(result)
}

fn on_runtime(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

fn configuration(paths: &Paths) -> anyhow::Result<Config> {
    let files = config::read(&paths.config)?;
    let (config, diagnostics) = config::parse(&files);
    match config {
        Some(config) => Ok(config),
        None => {
            let line = |one: &Diagnostic| {
                format!(
                    "{}: {}{}",
                    one.path,
                    one.message,
                    one.help.as_ref().map_or_else(String::new, |help| format!(" ({help})"))
                )
            };
            let lines: Vec<String> = diagnostics.iter().filter(|one| one.is_error()).map(line).collect();
            bail!("the configuration has errors:\n{}", lines.join("\n"))
        }
    }
}

fn list(paths: &Paths, as_json: &output::Json) -> anyhow::Result<u8> {
    let config = configuration(paths)?;
    if as_json.is_wanted() {
        return as_json.print(&config.hosts.iter().map(described).collect());
    }
    if config.hosts.is_empty() {
        say("No hosts are configured. Add one: towline host add USER@ADDRESS");
        return Ok(SUCCESS);
    }
    let cells = config
        .hosts
        .iter()
        .map(|host| [host.name.to_string(), address(host), host.slots.to_string(), host.labels.join(", ")]);
    output::say(&table(&listed(["NAME", "ADDRESS", "SLOTS", "LABELS"], cells)))?;
    Ok(SUCCESS)
}

fn address(host: &Host) -> String {
    match &host.reach {
        Reach::Local => "local".to_owned(),
        Reach::Ssh(ssh) => {
            let user = ssh.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
            let port = ssh.port.map_or_else(String::new, |port| format!(":{port}"));
            format!("{user}{}{port}", ssh.address)
        }
    }
}

fn described(host: &Host) -> Json {
    json!({ "name": host.name, "address": address(host), "slots": host.slots, "labels": host.labels })
}

async fn check(paths: &Paths, wanted: &[String], accept: Option<&str>, as_json: &output::Json) -> anyhow::Result<u8> {
    if accept.is_some() && wanted.len() != 1 {
        complain("a key is one host's: name the HOST whose key to accept");
        return Ok(INVALID);
    }
    let config = configuration(paths)?;
    let pins = inventory::pins(paths);
    let mut targets = Vec::new();
    if wanted.is_empty() {
        for host in &config.hosts {
            targets.push(Target::from_config(host, &pins)?);
        }
        if targets.is_empty() {
            complain("no hosts are configured; add one: towline host add USER@ADDRESS");
            return Ok(INVALID);
        }
    }
    for name in wanted {
        let target = match config.hosts.iter().find(|host| host.name.as_str() == name) {
            Some(host) => Target::from_config(host, &pins)?,
            None => target(&Destination::parse(name)?, name, "~/.towline", &SshOptions::with_pins(&pins))?,
        };
        targets.push(match accept {
            Some(fingerprint) => target.accepting(fingerprint),
            None => target,
        });
    }
    let hosts = Hosts::new();
    let mut results = Vec::new();
    for target in targets {
        let hosts = hosts.clone();
        let name = target.name.clone();
        results.push((name, tokio::spawn(async move { hosts.check(&target).await })));
    }
    let mut code = SUCCESS;
    let mut objects = Vec::new();
    for (name, result) in results {
        match result.await? {
            Ok(facts) if as_json.is_wanted() => objects.push(json!({ "name": name, "ok": true, "facts": facts })),
            Ok(facts) => show(&name, &facts),
            Err(error) => {
                code = FAILED;
                if as_json.is_wanted() {
                    objects.push(json!({ "name": name, "ok": false, "error": error.to_string() }));
                } else {
                    say(&error.to_string());
                }
            }
        }
    }
    if as_json.is_wanted() {
        as_json.print(&Json::Array(objects))?;
    }
    Ok(code)
}

async fn drain(daemon: &super::remote::Target, name: &str, wait: bool) -> anyhow::Result<u8> {
    daemon.json(Method::PUT, &format!("/api/v3/towline/hosts/{}/drain", encode(name)), None).await?;
    let mut running = running(daemon, name).await?;
    if wait && running > 0 {
        say(&format!("{name} takes no new jobs; waiting for the {running} that run there."));
        while running > 0 {
            tokio::time::sleep(WAITING).await;
            running = self::running(daemon, name).await?;
        }
    }
    let rest = match running {
        0 => "nothing runs there".to_owned(),
        1 => "1 job runs there to its end".to_owned(),
        some => format!("{some} jobs run there to their end"),
    };
    say(&format!("{name} takes no new jobs; {rest}. Give it jobs again: towline host resume {name}"));
    Ok(SUCCESS)
}

async fn resume(daemon: &super::remote::Target, name: &str) -> anyhow::Result<u8> {
    daemon.json(Method::DELETE, &format!("/api/v3/towline/hosts/{}/drain", encode(name)), None).await?;
    say(&format!("{name} takes jobs again."));
    Ok(SUCCESS)
}

/// How many jobs run on a host of the daemon's.
async fn running(daemon: &super::remote::Target, name: &str) -> anyhow::Result<u64> {
    let hosts = daemon.json(Method::GET, "/api/v3/towline/hosts", None).await?;
    let host = hosts["hosts"].as_array().into_iter().flatten().find(|host| host["name"] == name);
    Ok(host.and_then(|host| host["slots_used"].as_u64()).unwrap_or_default())
}

fn target(destination: &Destination, name: &str, root: &str, options: &SshOptions) -> Result<Target, TransportError> {
    Ok(Target {
        name: HostName::from(name),
        way: Way::Ssh(Box::new(SshTarget::resolve(destination, options)?)),
        root: root.to_owned(),
    })
}

async fn add(paths: &Paths, add: &Add) -> anyhow::Result<u8> {
    let config = configuration(paths)?;
    let hosts = Hosts::new();
    let mut new = NewHost {
        destination: add.destination.clone(),
        name: add.name.clone(),
        slots: add.slots,
        labels: add.labels.clone(),
        identity: add.identity.clone(),
        jump: add.jump.clone(),
        root: (add.root != "~/.towline").then(|| add.root.clone()),
        accept: add.accept.clone(),
    };
    let mut asked = 0;
    let enrolled = loop {
        match enrol(paths, &config, &hosts, &new).await {
            // Each hop on the way has a key of its own.
            Ok(Enrolled::Key { name, fingerprint, reason }) if asked <= add.jump.len() => {
                asked += 1;
                if !confirmed(&name, &fingerprint)? {
                    // It is not configured yet: what was typed, and the key.
                    let typed: Vec<String> = std::env::args().skip(1).collect();
                    let here = format!("towline {}", typed.join(" "));
                    bail!("{}", reason.replace(&format!("towline host check {name}"), &here));
                }
                new.accept = Some(fingerprint);
            }
            enrolled => break enrolled,
        }
    };
    match enrolled {
        Ok(Enrolled::Added { name, facts }) => {
            show(&name, &facts);
            say(&format!(
                "Added {name} to {}. A running daemon takes it up by itself.",
                inventory::file(paths).display()
            ));
            Ok(SUCCESS)
        }
        Ok(Enrolled::Key { reason, .. }) => bail!("{reason}"),
        Err(error @ (EnrolError::Taken(_) | EnrolError::Name(_))) => {
            complain(&error.to_string());
            Ok(INVALID)
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks at a terminal. Without one nobody can have looked at the fingerprint.
fn confirmed(name: &str, fingerprint: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut out = io::stdout().lock();
    write!(out, "{name} shows the host key {fingerprint}\nIs it the one you expect? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What a host is and can run.
fn show(name: impl std::fmt::Display, facts: &Facts) {
    let [is, stands, can] = facts.words();
    say(&format!("{name}: {is}\n  {stands}\n  {can}"));
    for obstacle in &facts.obstacles {
        say(&format!("  warning: {obstacle}"));
    }
}

fn say(text: &str) {
    // A closed pipe is no reason to fail: whoever reads has enough.
    let _ = writeln!(io::stdout().lock(), "{text}");
}
