//! `towline init`: asks a few questions, writes the configuration, makes keys; or puts a sample workflow into a project.

mod samples;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::config::Paths;
use crate::transport::Destination;
use crate::vault::MasterKey;

use super::output::say;
use super::remote::block;
use super::{INVALID, SUCCESS};

/// Where drop-ins of the unit lie.
const DROP_INS: &str = "/etc/systemd/system/towline.service.d";
const LOCAL_JOBS: &str = include_str!("../../systemd/examples/local-jobs.conf");

/// Arguments of `towline init`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Takes the default of every question, and asks nothing.
    #[arg(short, long)]
    yes: bool,
    /// Puts this sample into the project in the current directory instead; `list` lists them.
    #[arg(long, value_name = "NAME")]
    sample: Option<String>,
    /// The address that others will reach this machine by, for example `https://chronos.lan:7443`.
    #[arg(long)]
    url: Option<String>,
    /// No jobs on this machine itself.
    #[arg(long)]
    no_local: bool,
    /// Replaces what is there.
    #[arg(long)]
    force: bool,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    block(async move {
        if let Some(name) = &arguments.sample {
            return samples::install(name, arguments.force);
        }
        set_up(&Paths::from_environment(), &arguments)
    })
}

/// What the questions are about.
struct Answers {
    url: Option<String>,
    local: bool,
    hosts: Vec<String>,
}

fn set_up(paths: &Paths, arguments: &Arguments) -> Result<u8> {
    if is_configured(&paths.config) && !arguments.force {
        say(&format!(
            "{} is there already; `towline doctor` looks at it, --force replaces it.\n",
            paths.config.display()
        ))?;
        return Ok(INVALID);
    }
    if !arguments.yes && !std::io::stdin().is_terminal() {
        say("There is no terminal to ask questions on: add --yes, and --url and --no-local as you like.\n")?;
        return Ok(INVALID);
    }
    let answers = if arguments.yes { defaults(arguments) } else { ask(arguments)? };
    let owner = std::fs::metadata(&paths.state).map(|state| (state.uid(), state.gid())).ok();
    write(&paths.config, &configuration(&answers, under_systemd()), 0o644)?;
    say(&format!("wrote {}\n", paths.config.display()))?;
    make_master_key(paths, owner)?;
    let public = make_identity(paths, owner)?;
    if answers.local && under_systemd() && rustix::process::geteuid().is_root() {
        let drop_in = Path::new(DROP_INS).join("local-jobs.conf");
        if !drop_in.exists() {
            write(&drop_in, LOCAL_JOBS, 0o644)?;
            say(&format!("wrote {}: jobs on this machine get out of the sandbox\n", drop_in.display()))?;
        }
    }
    say(&format!(
        "\nThe daemon logs in to hosts with this key; put it into ~/.ssh/authorized_keys there:\n  {}\n",
        public.trim()
    ))?;
    say(&next(&answers))?;
    Ok(SUCCESS)
}

/// Whether somebody configured something: the package's own file is all comments but one empty list.
fn is_configured(file: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text.lines().map(str::trim).filter(said).any(|line| line != "[server]" && line != "listen = []")
}

fn under_systemd() -> bool {
    Path::new("/run/systemd/system").exists() && Path::new("/run/towline").exists()
}

fn defaults(arguments: &Arguments) -> Answers {
    Answers { url: arguments.url.clone(), local: !arguments.no_local, hosts: Vec::new() }
}

fn ask(arguments: &Arguments) -> Result<Answers> {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => question(
            "The address that others reach this machine by, for example https://chronos.lan:7443 (nothing: only this machine)",
        )?,
    };
    let local = !arguments.no_local
        && !question("Shall jobs run on this machine itself? [Y/n]")?.to_ascii_lowercase().starts_with('n');
    let mut hosts = Vec::new();
    loop {
        let host = question("Another machine that runs jobs, as USER@ADDRESS (nothing: no more)")?;
        if host.is_empty() {
            break;
        }
        match Destination::parse(&host) {
            Ok(_) => hosts.push(host),
            Err(error) => say(&format!("{error}\n"))?,
        }
    }
    Ok(Answers { url: Some(url).filter(|url| !url.is_empty()), local, hosts })
}

fn question(text: &str) -> Result<String> {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}: ")?;
    out.flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        bail!("nobody answers");
    }
    Ok(answer.trim().to_owned())
}

fn configuration(answers: &Answers, systemd: bool) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = String::from(
        "# Written by `towline init`. towline.toml(5) explains every key; `towline doctor` says what is wrong.\n\n[server]\n",
    );
    if systemd {
        text.push_str(
            "# Sockets come from towline.socket; `systemctl edit towline.socket` changes them.\nlisten = []\n",
        );
    } else {
        text.push_str("listen = [\"127.0.0.1:7443\"]\n");
    }
    if let Some(url) = &answers.url {
        text.push_str(&format!("url = {}\n", quoted(url)));
    }
    if answers.local {
        text.push_str("\n[[host]]\nname = \"local\"\nkind = \"local\"\n");
    }
    text.push_str("\n# More hosts: `towline host add USER@ADDRESS` shows the key of the machine, checks it, and writes conf.d/hosts.toml.\n");
    text
}

fn write(file: &Path, text: &str, mode: u32) -> Result<()> {
    let fail = || format!("cannot write {}", file.display());
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).with_context(fail)?;
    }
    let mut out =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(file).with_context(fail)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).with_context(fail)
}

/// The key that seals secrets, unless there is one.
fn make_master_key(paths: &Paths, owner: Option<(u32, u32)>) -> Result<()> {
    let file = paths.state.join("master.key");
    if file.exists() {
        return Ok(());
    }
    private_directory(&paths.state)?;
    MasterKey::generate()?.install(&paths.state)?;
    belongs(&file, owner)?;
    say(&format!("made {}: keep a copy of it elsewhere, secrets cannot be read without it\n", file.display()))
}

/// The key that the daemon logs in to hosts with; gives its public half.
fn make_identity(paths: &Paths, owner: Option<(u32, u32)>) -> Result<String> {
    let file = identity(paths);
    let public = file.with_extension("pub");
    if !file.exists() {
        let directory = file.parent().unwrap_or(Path::new("/"));
        private_directory(directory)?;
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let comment = format!("towline@{}", name.trim());
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f"])
            .arg(&file)
            .output();
        let made = made.context("cannot start ssh-keygen (apt install openssh-client)")?;
        if !made.status.success() {
            bail!("ssh-keygen: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        for path in [directory, &file, &public] {
            belongs(path, owner)?;
        }
        say(&format!("made {}\n", file.display()))?;
    }
    std::fs::read_to_string(&public).with_context(|| format!("cannot read {}", public.display()))
}

/// The private key of the daemon: where its own OpenSSH would look, which is the home of its user.
fn identity(paths: &Paths) -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(|| paths.state.clone(), PathBuf::from).join(".ssh/id_ed25519");
    service_identity(paths).unwrap_or_else(home)
}

/// The same when the state is another user's: that of a service, whose home is its state directory.
pub(super) fn service_identity(paths: &Paths) -> Option<PathBuf> {
    let owner = std::fs::metadata(&paths.state).ok()?.uid();
    (owner != rustix::process::geteuid().as_raw()).then(|| paths.state.join(".ssh/id_ed25519"))
}

fn private_directory(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.with_context(|| format!("cannot make {}", directory.display()))
}

/// What root makes for the daemon's user becomes that user's.
fn belongs(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let Some((user, group)) = owner.filter(|_| rustix::process::geteuid().is_root()) else { return Ok(()) };
    std::os::unix::fs::lchown(path, Some(user), Some(group))
        .with_context(|| format!("cannot give {} away", path.display()))
}

fn next(answers: &Answers) -> String {
    let mut text = String::from("\nNext:\n");
    for host in &answers.hosts {
        text.push_str(&format!("  towline host add {host}\n"));
    }
    if under_systemd() {
        text.push_str("  systemctl daemon-reload && systemctl restart towline\n");
    } else {
        text.push_str("  towline serve\n");
    }
    text.push_str("  towline doctor\n  towline repo add NAME\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{File, parse};

    #[test]
    fn what_is_written_has_no_faults() {
        for systemd in [true, false] {
            for local in [true, false] {
                let answers = Answers { url: Some("https://a.lan:7443".to_owned()), local, hosts: Vec::new() };
                let text = configuration(&answers, systemd);
                let (config, diagnostics) = parse(&[File { path: "towline.toml".into(), text }]);
                assert!(diagnostics.is_empty(), "{diagnostics:?}");
                assert_eq!(config.unwrap().hosts.len(), usize::from(local));
            }
        }
    }

    #[test]
    fn the_file_of_the_package_counts_as_nothing_configured() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("towline.toml");
        assert!(!is_configured(&file));
        std::fs::write(&file, include_str!("../../packaging/towline.toml")).unwrap();
        assert!(!is_configured(&file));
        std::fs::write(&file, "[server]\nopen_reads = true\n").unwrap();
        assert!(is_configured(&file));
    }
}
