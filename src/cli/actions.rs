//! `towline actions`: which actions a repository uses, pinned in `towline.lock`, and kept for a LAN without internet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::actions::{ActionsError, LockFile, ResolvedAction, Settings, Sources};
use crate::config::{self, Paths};
use crate::git::{self, Credentials};
use crate::workflow;
use crate::workflow::model::{ActionReference, ActionRuns, JobBody, Step, StepBody};

use super::{ENVIRONMENT, FAILED, SUCCESS};

/// How deep below a repository's top actions are looked for.
const DEEPEST: usize = 8;
/// Directories that hold no actions of the repository itself.
const PASSED_BY: &[&str] = &[".git", "node_modules", "target"];

/// Arguments of `towline actions`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Writes which commit and tree each version means now.
    Lock(Where),
    /// Checks that each action is pinned, and that its repository still has what was pinned.
    Verify(Where),
    /// Copies the repositories of all actions into a directory: a mirror for `[actions]`.
    Vendor {
        /// The directory; repositories become OWNER/NAME.git in it
        directory: PathBuf,
        #[command(flatten)]
        place: Where,
    },
}

#[derive(Debug, clap::Args)]
struct Where {
    /// The repository whose workflows and actions are read
    #[arg(long, value_name = "DIR", default_value = ".")]
    repository: PathBuf,
    /// The lock file; towline.lock in the repository by default
    #[arg(long, value_name = "FILE")]
    lock_file: Option<PathBuf>,
    /// A directory of bare repositories OWNER/NAME.git, instead of the configured one
    #[arg(long, value_name = "DIR")]
    mirror: Option<PathBuf>,
    /// An address with {owner} and {name}, instead of the configured one
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl Where {
    fn lock_file(&self) -> PathBuf {
        self.lock_file.clone().unwrap_or_else(|| self.repository.join("towline.lock"))
    }

    /// Where actions are looked for: what the configuration says, unless arguments say otherwise.
    fn settings(&self, paths: &Paths, pinned: bool) -> anyhow::Result<Settings> {
        let (config, _) = config::parse(&config::read(&paths.config)?);
        let mut actions = config.unwrap_or_default().actions;
        if self.mirror.is_some() || self.url.is_some() {
            actions.mirror.clone_from(&self.mirror);
            actions.url.clone_from(&self.url);
        }
        if actions.mirror.is_none() && actions.url.is_none() {
            bail!(
                "no place to look for actions is known: say --mirror DIR or --url URL, or set `mirror` or `url` in the \
                 `[actions]` section of {}",
                paths.config.display()
            );
        }
        let mut settings = Settings::new(&actions, paths.state.join("actions"), Credentials::None);
        settings.lock_file = pinned.then(|| self.lock_file());
        Ok(settings)
    }
}

/// Runs the command and says the exit code.
#[expect(clippy::print_stderr, reason = "the command line prints")]
pub(super) fn run(arguments: Arguments) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ENVIRONMENT;
        }
    };
    let paths = Paths::from_environment();
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Lock(place) => lock(&paths, &place).await,
            Command::Verify(place) => verify(&paths, &place).await,
            Command::Vendor { directory, place } => vendor(&paths, &place, &directory).await,
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
async fn lock(paths: &Paths, place: &Where) -> anyhow::Result<u8> {
    let sources = Sources::new(place.settings(paths, false)?)?;
    let used = used(&sources, place).await?;
    let mut file = LockFile::default();
    for action in used.found.values() {
        file.set(action);
        println!("{} is {}", action.shown, action.commit);
    }
    for (action, error) in &used.missing {
        eprintln!("error: {action}: {error}");
    }
    if !used.missing.is_empty() {
        eprintln!("error: nothing was written, because not all actions can be had");
        return Ok(FAILED);
    }
    let path = place.lock_file();
    std::fs::write(&path, file.to_text()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} versions are pinned in {}", file.pins.len(), path.display());
    Ok(SUCCESS)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]
async fn verify(paths: &Paths, place: &Where) -> anyhow::Result<u8> {
    let path = place.lock_file();
    let Some(file) = LockFile::read(&path)? else {
        bail!("there is no {}; make it with `towline actions lock`", path.display())
    };
    let sources = Sources::new(place.settings(paths, true)?)?;
    let used = used(&sources, place).await?;
    let mut faults = 0;
    for action in used.found.values() {
        if file.pin(&action.owner, &action.name, &action.reference).is_none() {
            eprintln!("error: {} is not pinned", action.shown);
            faults += 1;
        }
    }
    for (action, error) in &used.missing {
        eprintln!("error: {action}: {error}");
        faults += 1;
    }
    for pin in &file.pins {
        let is_used = used.found.values().any(|action| {
            format!("{}/{}", action.owner, action.name).eq_ignore_ascii_case(&pin.repository)
                && action.reference == pin.reference
        });
        if !is_used && used.missing.is_empty() {
            eprintln!("note: {}@{} is pinned and not used", pin.repository, pin.reference);
        }
    }
    if faults > 0 {
        return Ok(FAILED);
    }
    println!("{} actions are as pinned", used.found.len());
    Ok(SUCCESS)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]
async fn vendor(paths: &Paths, place: &Where, directory: &Path) -> anyhow::Result<u8> {
    let pinned = place.lock_file().exists();
    let sources = Sources::new(place.settings(paths, pinned)?)?;
    let used = used(&sources, place).await?;
    let mut wanted: BTreeMap<String, Vec<&ResolvedAction>> = BTreeMap::new();
    for action in used.found.values() {
        wanted.entry(format!("{}/{}", action.owner, action.name)).or_default().push(action);
    }
    for (name, actions) in &wanted {
        let Some(first) = actions.first() else { continue };
        let from = first.repository().git_dir().canonicalize()?;
        let to = directory.join(format!("{name}.git"));
        // A pinned commit that no branch holds any more comes by its own name.
        let commits: Vec<String> =
            actions.iter().map(|action| format!("+{0}:refs/towline/{0}", action.commit)).collect();
        git::fetch_mirror(&to, &from.to_string_lossy(), &Credentials::None, &commits).await?;
        println!("{name} is in {}", to.display());
    }
    for (action, error) in &used.missing {
        eprintln!("error: {action}: {error}");
    }
    Ok(if used.missing.is_empty() { SUCCESS } else { FAILED })
}

/// The actions of a repository, by how they are spelled.
#[derive(Default)]
struct Used {
    found: BTreeMap<String, ResolvedAction>,
    missing: BTreeMap<String, ActionsError>,
}

/// Reads all workflows and actions of the repository, and the actions inside of the actions they use.
async fn used(sources: &Sources, place: &Where) -> anyhow::Result<Used> {
    let mut waiting: Vec<ActionReference> = Vec::new();
    for directory in [".github/workflows", ".towline/workflows"] {
        for path in yaml_in(&place.repository.join(directory))? {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let (workflow, diagnostics) = workflow::parse(&path.to_string_lossy(), &text);
            let Some(workflow) = workflow else {
                let reason = diagnostics.first().map_or("", |diagnostic| diagnostic.message.as_str());
                bail!("{} cannot be read: {reason}", path.display());
            };
            for job in workflow.jobs.values() {
                if let JobBody::Steps { steps, .. } = &job.body {
                    of_steps(steps, &mut waiting);
                }
            }
        }
    }
    let mut manifests = Vec::new();
    manifests_in(&place.repository, 0, &mut manifests);
    for path in manifests {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        of_action(&path.to_string_lossy(), &text, &mut waiting);
    }
    let mut used = Used::default();
    while let Some(action) = waiting.pop() {
        let shown = action.to_string();
        if used.found.contains_key(&shown) || used.missing.contains_key(&shown) {
            continue;
        }
        match sources.resolve(&action).await {
            Ok(resolved) => {
                of_action(&resolved.manifest.path, &resolved.manifest.text, &mut waiting);
                used.found.insert(shown, resolved);
            }
            Err(error) => drop(used.missing.insert(shown, error)),
        }
    }
    Ok(used)
}

fn of_action(path: &str, text: &str, into: &mut Vec<ActionReference>) {
    if let (Some(action), _) = workflow::parse_action(path, text)
        && let ActionRuns::Composite { steps } = &action.runs
    {
        of_steps(steps, into);
    }
}

fn of_steps(steps: &[Step], into: &mut Vec<ActionReference>) {
    for step in steps {
        match &step.body {
            StepBody::Uses { uses: uses @ ActionReference::Repository { .. }, .. } => into.push(uses.clone()),
            StepBody::Parallel(steps) => of_steps(steps, into),
            _ => {}
        }
    }
}

fn yaml_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", directory.display())),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml"));
    paths.sort();
    Ok(paths)
}

/// Manifests of the repository's own actions.
fn manifests_in(directory: &Path, depth: usize, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name());
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && depth < DEEPEST && !PASSED_BY.iter().any(|passed| name == *passed) {
            manifests_in(&path, depth + 1, into);
        } else if !is_directory && (name == "action.yml" || name == "action.yaml") {
            into.push(path);
        }
    }
}
