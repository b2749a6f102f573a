//! `towline repo`: lists, adds and removes repositories.
//!
//! Works on the state directory itself, so it needs no daemon; one that runs sees the change with the next push.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::config::{self, Paths};
use crate::git::{self, Repository};
use crate::id::RepositoryName;
use crate::triggers::hook::{self, Installed};
use crate::triggers::inventory::{self, Inventory};

use super::output::{self, listed, table};
use super::{ENVIRONMENT, INVALID, SUCCESS};

/// Arguments of `towline repo`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a bare repository, or adopts one: every push to it starts its workflows.
    Add {
        /// OWNER/NAME, or NAME alone (its owner is `local` then).
        name: String,
        /// The bare repository to adopt, or where to make one; by default in the state directory.
        path: Option<PathBuf>,
        /// The branch that is the default one until another is pushed first.
        #[arg(long, default_value = "main")]
        default_branch: String,
    },
    /// Lists all sources: configured ones and added repositories.
    List {
        #[command(flatten)]
        json: output::Json,
    },
    /// Prints where a repository is: what `git remote add` and `git clone` take.
    Path { name: String },
    /// Takes the hook out and forgets the repository. One that was adopted stays where it is.
    Remove {
        name: String,
        /// Also deletes a repository that `add` made.
        #[arg(long)]
        delete: bool,
    },
}

/// Runs the command and says the exit code.
#[expect(clippy::print_stderr, reason = "the command line prints")]
pub(super) fn run(arguments: Arguments) -> u8 {
    let paths = Paths::from_environment();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ENVIRONMENT;
        }
    };
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Add { name, path, default_branch } => add(&paths, &name, path.as_deref(), &default_branch).await,
            Command::List { json } => list(&paths, &json).await,
            Command::Path { name } => path_of(&paths, &name),
            Command::Remove { name, delete } => remove(&paths, &name, delete).await,
        }
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ENVIRONMENT
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]
async fn add(paths: &Paths, name: &str, path: Option<&Path>, default_branch: &str) -> anyhow::Result<u8> {
    if !config::is_repository_name(name) {
        eprintln!(
            "error: \"{name}\" cannot name a repository: write OWNER/NAME or NAME; letters, digits, `.`, `_`, `-`"
        );
        return Ok(INVALID);
    }
    let name = inventory::full_name(&RepositoryName(name.to_owned()));
    let entry = paths.repositories().join(format!("{name}.git"));
    let parent = entry.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let place = path.map_or_else(|| entry.clone(), Path::to_owned);
    let repository = if place.join(".git").is_dir() {
        Repository::discover(&place).await?
    } else {
        if let Some(above) = place.parent().filter(|above| !above.as_os_str().is_empty()) {
            std::fs::create_dir_all(above).with_context(|| format!("cannot create {}", above.display()))?;
        }
        if place.exists() && !place.join("objects").is_dir() && std::fs::read_dir(&place)?.next().is_some() {
            bail!("{} is neither empty nor a git repository", place.display());
        }
        Repository::init_bare(&place, default_branch).await?
    };
    let place = repository.git_dir().canonicalize().context("the repository is gone")?;
    if entry.canonicalize().ok().as_deref() != Some(place.as_path()) {
        if entry.symlink_metadata().is_ok() {
            bail!("{name} is at {} already; remove it first: towline repo remove {name}", entry.display());
        }
        std::os::unix::fs::symlink(&place, &entry).with_context(|| format!("cannot write {}", entry.display()))?;
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    let socket = std::path::absolute(paths.socket()).context("cannot find the socket")?;
    let said = match hook::install(&Repository::at(&place), &program, &socket).await? {
        Installed::New => "hook installed".to_owned(),
        Installed::Upgraded => "hook upgraded".to_owned(),
        Installed::Unchanged => "hook in place".to_owned(),
        Installed::Beside(local) => {
            format!("hook installed; the one that was there is {} and runs first", local.display())
        }
    };
    let shared = if place.starts_with(paths.repositories().canonicalize().unwrap_or_else(|_| paths.repositories())) {
        hand_over(paths, &Repository::at(&place), &entry).await?
    } else {
        None
    };
    println!("{name}: {} ({said})", place.display());
    if let Some(group) = shared {
        println!("It belongs to the daemon; members of the group {group} may push to it.");
    }
    println!();
    println!("Push to it from this machine, or over SSH with USER@HOST: in front of the path:");
    println!("  git remote add towline {}", place.display());
    println!("  git push towline {default_branch}");
    println!("With `git push -o follow` the live log comes back into your terminal.");
    Ok(SUCCESS)
}

/// A repository that root made for a daemon of another user becomes that user's, and his group may push to it. Gives the
/// group's number or name when that was done.
async fn hand_over(paths: &Paths, repository: &Repository, entry: &Path) -> anyhow::Result<Option<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(state) = std::fs::metadata(&paths.state) else { return Ok(None) };
    if !rustix::process::geteuid().is_root() || state.uid() == 0 {
        return Ok(None);
    }
    repository.configure("core.sharedRepository", "group").await?;
    let place = repository.git_dir();
    let owner = entry.parent().into_iter().chain([place]);
    for path in owner {
        if path != paths.repositories() {
            give(path, path == place, state.uid(), state.gid())
                .with_context(|| format!("cannot hand over {}", path.display()))?;
        }
    }
    // Without it git refuses a repository of another user, also to members of its group.
    git::trust_system_wide(place).await?;
    Ok(Some(group_name(state.gid())))
}

/// Changes the owner, and lets the group write; below a directory too if wanted.
fn give(path: &Path, deep: bool, uid: u32, gid: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = path.symlink_metadata()?;
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    // What is made in a directory later has its group.
    let more = if metadata.is_dir() { 0o2070 } else { (mode & 0o700) >> 3 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode((mode | more) & 0o7770))?;
    if metadata.is_dir() && deep {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), true, uid, gid)?;
        }
    }
    Ok(())
}

fn group_name(gid: u32) -> String {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == gid.to_string()).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| gid.to_string())
}

async fn list(paths: &Paths, as_json: &output::Json) -> anyhow::Result<u8> {
    let (config, _) = config::parse(&config::read(&paths.config)?);
    let inventory = Inventory::new(config.unwrap_or_default(), paths.clone());
    let mut rows = Vec::new();
    for source in inventory.all() {
        let hooked = match &source.path {
            Some(path) => hook::is_installed(&Repository::at(path)).await,
            None => false,
        };
        rows.push((source, hooked));
    }
    if as_json.is_wanted() {
        let rows = rows
            .iter()
            .map(|(source, hooked)| {
                json!({
                    "name": source.name,
                    "kind": source.kind.as_str(),
                    "location": inventory::clone_url(source),
                    "hook": hooked,
                })
            })
            .collect();
        return as_json.print(&rows);
    }
    if rows.is_empty() {
        output::say("There are no repositories yet. Add one: towline repo add NAME\n")?;
        return Ok(SUCCESS);
    }
    let cells = rows.iter().map(|(source, hooked)| {
        let location = inventory::clone_url(source).unwrap_or_default();
        let hook = if *hooked { "hook" } else { "" };
        [source.name.to_string(), source.kind.as_str().to_owned(), location, hook.to_owned()]
    });
    output::say(&table(&listed(["NAME", "KIND", "LOCATION", "HOOK"], cells)))?;
    Ok(SUCCESS)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]
fn path_of(paths: &Paths, name: &str) -> anyhow::Result<u8> {
    let (config, _) = config::parse(&config::read(&paths.config)?);
    let source = Inventory::new(config.unwrap_or_default(), paths.clone()).find(name);
    let Some(location) = source.as_ref().and_then(inventory::clone_url) else {
        eprintln!("error: there is no repository {name}; `towline repo list` lists them");
        return Ok(INVALID);
    };
    println!("{location}");
    Ok(SUCCESS)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]
async fn remove(paths: &Paths, name: &str, delete: bool) -> anyhow::Result<u8> {
    if !config::is_repository_name(name) {
        eprintln!("error: there is no repository {name}");
        return Ok(INVALID);
    }
    let name = inventory::full_name(&RepositoryName(name.to_owned()));
    let entry = paths.repositories().join(format!("{name}.git"));
    let Ok(metadata) = entry.symlink_metadata() else {
        eprintln!("error: there is no added repository {name}; configured ones are removed from the configuration");
        return Ok(INVALID);
    };
    if !metadata.is_symlink() && !delete {
        eprintln!("error: {} holds the only copy; add --delete to delete it", entry.display());
        return Ok(INVALID);
    }
    match hook::remove(&Repository::at(&entry)).await {
        Ok(_) | Err(hook::InstallError::Git(git::Error::NotARepository { .. })) => {}
        Err(error) => eprintln!("warning: the hook stays: {error}"),
    }
    let gone = if metadata.is_symlink() { std::fs::remove_file(&entry) } else { std::fs::remove_dir_all(&entry) };
    gone.with_context(|| format!("cannot remove {}", entry.display()))?;
    println!("Removed {name}.");
    Ok(SUCCESS)
}
