//! The built-in `actions/checkout`: the same inputs and outputs, without node, without a network on the host.
//!
//! This machine packs what the host has not got yet (as much history as was asked for, submodules, files of git-lfs), the host
//! unpacks it into `.git` and checks out. A host without git gets the files alone. Only what this machine has no repository
//! of, and what is to be had by an SSH key alone, the host fetches itself.

mod inputs;
mod parcel;
mod scratch;
mod script;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::git::{self, Repository};
use crate::id::RepositoryName;
use crate::run::conclusion::Conclusion;
use crate::transport::StepFile;
use crate::workflow::model::{ActionReference, Step};

use super::container::OwnCommand;
use super::contexts::{Frame, Variables};
use super::job::Job;
use super::post::{Post, PostBody};
use super::script::{StepRun, join};
use super::step::{StepEnd, StepError};
use super::told::heard;
use super::workspace::{quote, run};
use super::{Cancel, JobError, RepositorySource};
pub(super) use inputs::shown as shown_inputs;
pub(crate) use scratch::sweep;

use inputs::Inputs;
use parcel::{Entry, Parcel};
use scratch::Scratch;
use script::{Parts, Scene, Target};

/// So many commits at which history ends the host's shell compares by itself.
const MOST_COMPARED: usize = 100;

/// What was decided before anything happens on the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    source: Source,
    /// As the output has it.
    reference: String,
    /// Empty when the host finds out.
    commit: String,
}

/// Where the commits come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Source {
    /// A repository on this machine; a commit that is laid over the checkout.
    Here { git_dir: std::path::PathBuf, overlay: Option<String> },
    /// This machine fetches them from the forge that the job is of.
    Forge { url: String },
    /// The host fetches them.
    Host,
}

/// How a checkout ended, for a restart that comes later.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    end: Result<(String, String), String>,
    cancelled: bool,
}

/// What is the same for all parts of one checkout.
struct Place {
    directory: String,
    /// `UUID`-like; names the files of this checkout.
    id: String,
    origin: String,
    url: String,
    token: String,
    header: String,
    has_git: bool,
}

impl Job {
    /// Checks a repository out on the host.
    pub(super) async fn check_out(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        uses: &ActionReference,
        with: &Variables,
        run_: &StepRun<'_>,
    ) -> Result<StepEnd, StepError> {
        // What an earlier version of this program recorded.
        let old = self.journal.recall::<Result<(String, String), String>>(&format!("{}/checkout", run_.key))?;
        if let Some(old) = old {
            let (reference, commit) = old.map_err(StepError::Failed)?;
            frame.steps.set_output(&step.id, "ref", &reference);
            frame.steps.set_output(&step.id, "commit", &commit);
            return Ok(StepEnd::of(Conclusion::Success));
        }
        let version = match uses {
            ActionReference::Repository { reference, .. } => reference.as_str(),
            _ => "",
        };
        let inputs =
            Inputs::read(with, version, &self.order.github, &self.order.repository).map_err(StepError::Failed)?;
        let place = self.place(&inputs, run_.key)?;
        self.keep_checkout_post(frame, step, &inputs, &place, run_);
        let outer = self.narrow_deadline(run_.key, run_.timeout)?;
        let number = self.next_number();
        let end = self.check_out_in(frame, step, &inputs, &place, run_, number).await;
        self.step_deadline = outer;
        let done = match end {
            Ok(done) => done,
            Err(StepError::Job(error)) => return Err(StepError::Job(error)),
            Err(StepError::Failed(message)) if !message.is_empty() => Done { end: Err(message), cancelled: false },
            Err(StepError::Failed(_)) => {
                let is_late = self.time_left().is_zero();
                if is_late && self.aside.is_none() && self.cancel_deadline.is_none() {
                    let said = self.say_out_of_time()?;
                    self.tell_background(Cancel::Requested);
                    self.keep_interruption(false, Some(said))?;
                }
                let cancelled = self.is_cancelled_from_outside() || is_late;
                let minutes = run_.timeout.map_or(0.0, |limit| limit.as_secs_f64() / 60.0);
                let late = format!("The action '{}' has timed out after {minutes} minutes.", run_.name);
                Done { end: Err(late), cancelled }
            }
        };
        let key = format!("{}/checked-out", run_.key);
        let done = match self.journal.recall::<Done>(&key)? {
            Some(known) => {
                self.interrupt_again(self.number);
                known
            }
            None => {
                self.record(&key, &done)?;
                done
            }
        };
        if done.cancelled {
            let wanted = self.told.borrow().cancel;
            self.observe_cancel(wanted);
            return Ok(StepEnd::of(Conclusion::Cancelled));
        }
        let (reference, commit) = done.end.map_err(StepError::Failed)?;
        frame.steps.set_output(&step.id, "ref", &reference);
        frame.steps.set_output(&step.id, "commit", &commit);
        Ok(StepEnd::of(Conclusion::Success))
    }

    async fn check_out_in(
        &mut self,
        frame: &Frame,
        step: &Step,
        inputs: &Inputs,
        place: &Place,
        run_: &StepRun<'_>,
        number: u32,
    ) -> Result<Done, StepError> {
        if self.journal.knows(&format!("{}/checked-out", run_.key)) {
            // Over before a restart; its parts are read on the way to the end.
            self.journal.recall::<Result<Plan, String>>(&format!("{}/checkout/plan", run_.key))?;
            self.journal.recall::<Vec<Entry>>(&format!("{}/checkout/ready", run_.key))?;
            self.journal.recall::<super::container::Said>(&format!("{}/checkout/apply", run_.key))?;
            return Ok(Done { end: Err(String::new()), cancelled: false });
        }
        self.say_line(&format!("Syncing repository: {}", inputs.repository))?;
        let key = format!("{}/checkout/plan", run_.key);
        let plan = match self.journal.recall::<Result<Plan, String>>(&key)? {
            Some(plan) => plan,
            None => {
                let plan = match self.plan(inputs, place).await {
                    Ok(plan) => Ok(plan),
                    Err(StepError::Failed(message)) => Err(message),
                    Err(error) => return Err(error),
                };
                self.record(&key, &plan)?;
                plan
            }
        };
        let plan = plan.map_err(StepError::Failed)?;
        if !place.has_git {
            let end = self.copy_files(inputs, place, &plan).await.map(|()| (plan.reference, plan.commit));
            return end.map(|end| Done { end: Ok(end), cancelled: false });
        }
        let scratch = Scratch::new(&self.order.job.to_string()).map_err(|error| {
            StepError::Failed(format!("cannot make a temporary directory on the control machine: {error}"))
        })?;
        let key = format!("{}/checkout/apply", run_.key);
        let record = format!("{}/checkout/ready", run_.key);
        let ready = self.journal.recall::<Vec<Entry>>(&record)?;
        // A command that was begun is followed: what prepares it would undo what it does.
        let is_begun = self.journal.knows(&key) || (ready.is_some() && self.is_begun(number).await?);
        let mut files = ready.unwrap_or_default();
        let mut command = OwnCommand { argv: vec!["true".to_owned()], shown: true, ..OwnCommand::default() };
        if !is_begun {
            let end = Instant::now() + self.time_left();
            let until = self.step_deadline.map_or(end, |(own, _)| own.min(end));
            let mut told = self.told.clone();
            let before = told.borrow().cancel;
            let parcel = tokio::select! {
                biased;
                parcel = self.make_ready(&plan, inputs, place, &scratch) => parcel?,
                () = heard(&mut told, |told| told.cancel != before) => match self.told.borrow().cancel {
                    Cancel::Forced => return Err(StepError::Job(JobError::Forced)),
                    _ => return Err(StepError::Failed(String::new())),
                },
                () = tokio::time::sleep_until(until) => return Err(StepError::Failed(String::new())),
            };
            let scene = self.scene(inputs, place, plan.commit.len() == 64);
            command = self.applied(&plan, inputs, &scene, &parcel, number);
            files = parcel.files;
            self.record(&record, &files)?;
        }
        let said = self.own_command(frame, (&key, number), step.condition.clone(), command).await?;
        if said.cancelled {
            return Err(StepError::Failed(String::new()));
        }
        if said.code != 0 {
            return Err(StepError::Failed(format!(
                "The process 'git' failed with exit code {} on {}",
                said.code, self.host_name
            )));
        }
        if !files.is_empty() {
            self.say_line("git-lfs is not installed on the host: its files were put in the place of their pointers.")?;
            self.send(&files, &place.directory).await?;
        }
        let commit = match plan.commit.as_str() {
            "" => said.lines.last().map(|line| line.trim().to_owned()).unwrap_or_default(),
            commit => commit.to_owned(),
        };
        Ok(Done { end: Ok((plan.reference, commit)), cancelled: false })
    }

    /// Whether the host has begun the step with this number.
    async fn is_begun(&self, number: u32) -> Result<bool, JobError> {
        let script =
            format!("[ -e {} ] && echo yes; exit 0\n", quote(&format!("{}/steps/{number}.begun", self.host.dir())));
        Ok(!run(&self.host, "looking for the checkout", &script, b"").await?.is_empty())
    }

    /// Paths, addresses and credentials.
    fn place(&mut self, inputs: &Inputs, key: &str) -> Result<Place, StepError> {
        let directory = join(&self.workspace.path, inputs.path.trim_end_matches('/'));
        let directory = directory.trim_end_matches("/.").to_owned();
        let inside = directory == self.workspace.path || directory.starts_with(&format!("{}/", self.workspace.path));
        if inputs.path.split('/').any(|part| part == "..") || !inside {
            return Err(StepError::Failed(format!(
                "Repository path '{directory}' is not under '{}'",
                self.workspace.path
            )));
        }
        let server = match inputs.server.as_str() {
            "" => super::services::git_url(&self.reached.variables)
                .or_else(|| self.order.github.get("server_url").and_then(Json::as_str).map(str::to_owned))
                .unwrap_or_else(|| "https://github.com".to_owned()),
            given => given.to_owned(),
        };
        let server = server.trim_end_matches('/').to_owned();
        let origin = match server.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://{}", rest.split('/').next().unwrap_or_default()),
            None => return Err(StepError::Failed(format!("Invalid URL: {server}"))),
        };
        let token = if inputs.token.is_empty() { self.token() } else { inputs.token.clone() };
        let url = match &inputs.ssh {
            Some(ssh) => format!("{}@{}:{}.git", ssh.user, script::host_of(&origin), inputs.repository),
            None => format!("{server}/{}", inputs.repository),
        };
        let mut header = String::new();
        if !token.is_empty() {
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
            self.masks.add(&token);
            self.masks.add(&basic);
            header = format!("AUTHORIZATION: basic {basic}");
        }
        if let Some(ssh) = &inputs.ssh {
            ssh.key.lines().for_each(|line| self.masks.add(line));
        }
        let digest = format!("{}/{key}", self.host.tracking_id());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, digest.as_bytes());
        let hex: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let has_git = !self.host.facts().git.is_empty();
        Ok(Place { directory, id, origin, url, token, header, has_git })
    }

    fn scene<'s>(&'s self, inputs: &'s Inputs, place: &'s Place, sha256: bool) -> Scene<'s> {
        let git_dir = format!("{}/.git", place.directory);
        let below = place.directory.strip_prefix(&self.workspace.path).unwrap_or_default();
        let alias = place.origin.strip_prefix("http://").filter(|authority| {
            let is_ours = authority.split(':').next().is_some_and(|host| host.ends_with(".localhost"));
            is_ours && !self.containers.has_job()
        });
        Scene {
            inputs,
            directory: &place.directory,
            temp: &self.workspace.temp,
            id: &place.id,
            origin: &place.origin,
            url: &place.url,
            header: &place.header,
            seen: [
                (self.seen(&git_dir), self.seen(&self.workspace.temp)),
                (format!("/github/workspace{below}/.git"), "/github/runner_temp".to_owned()),
            ],
            resolve: alias.map(|authority| format!("{authority}:127.0.0.1")),
            sha256,
            has_container: self.containers.has_job(),
        }
    }

    fn keep_checkout_post(&mut self, frame: &Frame, step: &Step, inputs: &Inputs, place: &Place, run_: &StepRun<'_>) {
        let script = if place.has_git { self.scene(inputs, place, false).clean_up() } else { ":\n".into() };
        self.stack_post(Post {
            number: frame.number,
            key: format!("{}/post", run_.key),
            of: run_.key.to_owned(),
            name: format!("Post {}", run_.name),
            condition: crate::expr::condition::always(),
            step: step.clone(),
            body: PostBody::Own(script),
            inputs: serde_json::Map::new(),
            env: Variables::new(),
            github: frame.github.clone(),
        });
    }

    /// Where the repository is, and which commit is meant.
    async fn plan(&mut self, inputs: &Inputs, place: &Place) -> Result<Plan, StepError> {
        let source = self.source_of(inputs, place)?;
        let failed = |error: git::Error| StepError::Failed(full(&error));
        let missing = || {
            StepError::Failed(format!(
                "A branch or tag with the name '{}' could not be found in {}",
                inputs.reference, inputs.repository
            ))
        };
        let (reference, commit) = match (&source, inputs.commit.as_str()) {
            (Source::Here { git_dir, .. }, "") => {
                find(&Repository::at(git_dir), &inputs.reference).await.map_err(failed)?.ok_or_else(missing)?
            }
            (Source::Here { .. }, commit) => (inputs.reference.clone(), commit.to_owned()),
            (Source::Forge { .. }, commit) if !commit.is_empty() => (inputs.reference.clone(), commit.to_owned()),
            (Source::Forge { url }, _) => {
                let refs = git::ls_remote(url, &credentials(place)).await.map_err(failed)?;
                let known = |name: &str| refs.iter().find(|known| known.name == name).map(|known| known.id.clone());
                let head = known("HEAD");
                let candidates = match inputs.reference.as_str() {
                    "" => refs
                        .iter()
                        .filter(|known| known.name.starts_with("refs/heads/") && Some(&known.id) == head.as_ref())
                        .map(|known| known.name.clone())
                        .collect(),
                    full if full.starts_with("refs/") => vec![full.to_owned()],
                    short => vec![format!("refs/heads/{short}"), format!("refs/tags/{short}")],
                };
                candidates.into_iter().find_map(|name| known(&name).map(|id| (name, id))).ok_or_else(missing)?
            }
            (Source::Host, commit) => (inputs.reference.clone(), commit.to_owned()),
        };
        // The output is what was asked for; only a default branch gets its name here.
        let is_default = inputs.reference.is_empty() && inputs.commit.is_empty();
        let reference =
            if is_default || !matches!(source, Source::Host) { reference } else { inputs.reference.clone() };
        Ok(Plan { source, reference, commit })
    }

    fn source_of(&self, inputs: &Inputs, place: &Place) -> Result<Source, StepError> {
        let server = self.order.github.get("server_url").and_then(Json::as_str).unwrap_or_default();
        let elsewhere = !inputs.server.is_empty()
            && ![server, self.reached.variables.base.as_str()]
                .iter()
                .any(|own| script::host_of(own).eq_ignore_ascii_case(script::host_of(&inputs.server)));
        let unknown = match self.within_reach(&inputs.repository) {
            Ok(source) if !elsewhere => {
                let overlay = source.overlay.filter(|_| inputs.own && inputs.commit == self.own_commit());
                return Ok(Source::Here { git_dir: source.git_dir, overlay });
            }
            Ok(_) => String::new(),
            Err(message) => message,
        };
        let host_can = place.has_git;
        let mirrored = self.runner.sources.actions.as_ref().and_then(|actions| actions.mirror_of(&inputs.repository.0));
        match mirrored {
            Some(git_dir) if !elsewhere => Ok(Source::Here { git_dir, overlay: None }),
            _ if (elsewhere || inputs.ssh.is_some()) && host_can => Ok(Source::Host),
            _ if elsewhere || inputs.ssh.is_some() => Err(StepError::Failed(
                "Input 'ssh-key' not supported when falling back to download using the GitHub REST API. To create a local Git \
                 repository instead, add Git 2.18 or higher to the PATH"
                    .to_owned(),
            )),
            _ if !self.reached.variables.local && place.url.starts_with("http") && !server.is_empty() => {
                Ok(Source::Forge { url: place.url.clone() })
            }
            _ => Err(StepError::Failed(unknown)),
        }
    }

    /// A repository of this machine that this job may have. Who sends a pull request from a fork writes its workflow, and gets no
    /// other repository by it (T7).
    pub(super) fn within_reach(&self, name: &RepositoryName) -> Result<RepositorySource, String> {
        if self.order.is_from_fork() && !name.0.eq_ignore_ascii_case(&self.order.repository.0) {
            return Err(format!("the code of a fork gets no repository but its own: {name} is not for it"));
        }
        self.repository(name)
    }

    fn own_commit(&self) -> &str {
        self.order.github.get("sha").and_then(Json::as_str).unwrap_or_default()
    }

    /// Prepares the directory and brings the objects.
    async fn make_ready(
        &mut self,
        plan: &Plan,
        inputs: &Inputs,
        place: &Place,
        scratch: &Scratch,
    ) -> Result<Parcel, StepError> {
        let script = self.scene(inputs, place, plan.commit.len() == 64).prepare();
        let answers = self.prepare(&script).await?;
        if inputs.lfs && !answers.lfs && matches!(plan.source, Source::Host) {
            return Err(StepError::Failed(
                "Unable to locate executable file: git-lfs. It is not on the host.".to_owned(),
            ));
        }
        self.pack_for(plan, inputs, place, &answers, scratch).await
    }

    /// Runs the first script and says what it says; gives its answers.
    async fn prepare(&mut self, script: &str) -> Result<Answers, StepError> {
        let output = self.host.exec(script, b"").await.map_err(JobError::from)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut answers = Answers::default();
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words[..] {
                [":gone"] => answers = Answers { lfs: answers.lfs, ..Answers::default() },
                [":lfs"] => answers.lfs = true,
                [":shallow"] => answers.shallow = true,
                [":have", id] => answers.have.push(id.to_owned()),
                [":module", id, place] => answers.modules.push((place.to_owned(), id.to_owned())),
                _ => self.say_line(line)?,
            }
        }
        if output.status != 0 {
            return Err(StepError::Failed(format!(
                "preparing the checkout on {} failed with exit code {}: {}",
                self.host_name,
                output.status,
                said.lines().last().unwrap_or_default()
            )));
        }
        Ok(answers)
    }

    /// Packs and sends what the host needs.
    async fn pack_for(
        &mut self,
        plan: &Plan,
        inputs: &Inputs,
        place: &Place,
        answers: &Answers,
        scratch: &Scratch,
    ) -> Result<Parcel, StepError> {
        let failed = |error: git::Error| StepError::Failed(full(&error));
        let repository = match &plan.source {
            Source::Host => return Ok(Parcel { missing: inputs.lfs, ..Parcel::default() }),
            Source::Here { git_dir, .. } => Repository::at(git_dir),
            Source::Forge { url } => {
                let mut wanted = vec![format!("+{}:refs/towline/checkout", plan.commit)];
                if inputs.depth == 0 {
                    wanted.push("+refs/heads/*:refs/heads/*".to_owned());
                }
                if inputs.depth == 0 || inputs.tags || plan.reference.starts_with("refs/tags/") {
                    wanted.push("+refs/tags/*:refs/tags/*".to_owned());
                }
                let store = scratch.path.join("store");
                git::fetch_from(&store, url, &credentials(place), &wanted, inputs.depth).await.map_err(failed)?
            }
        };
        self.say_line("##[group]Fetching the repository")?;
        let overlay = match &plan.source {
            Source::Here { overlay, .. } => overlay.clone(),
            _ => None,
        };
        let mut parcel = parcel::commits(&repository, plan, inputs, overlay, answers, scratch).await.map_err(failed)?;
        if inputs.submodules != inputs::Submodules::No {
            self.pack_submodules(&repository, plan, inputs, place, answers, scratch, &mut parcel).await?;
        }
        if inputs.lfs {
            parcel.large_files(&repository, &plan.commit, answers.lfs, "").await.map_err(failed)?;
            if parcel.missing && !answers.lfs {
                return Err(StepError::Failed(format!(
                    "Unable to locate executable file: git-lfs. {} has none, and some of the files are not on this machine either.",
                    self.host_name
                )));
            }
        }
        if !parcel.entries.is_empty() {
            self.send(&parcel.entries, &format!("{}/.git", place.directory)).await?;
        }
        self.say_line(&format!("From {}", place.url))?;
        for (name, id) in &parcel.refs {
            let short = name.trim_start_matches("refs/remotes/").trim_start_matches("refs/tags/");
            if !name.starts_with("refs/towline/") {
                self.say_line(&format!(" * [new ref]         {id} -> {short}"))?;
            }
        }
        self.say_line("##[endgroup]")?;
        Ok(parcel)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the parts of one checkout")]
    async fn pack_submodules(
        &mut self,
        repository: &Repository,
        plan: &Plan,
        inputs: &Inputs,
        place: &Place,
        answers: &Answers,
        scratch: &Scratch,
        parcel: &mut Parcel,
    ) -> Result<(), StepError> {
        let failed = |error: git::Error| StepError::Failed(full(&error));
        let mut open = vec![(repository.clone(), plan.commit.clone(), place.url.clone(), ".git".to_owned())];
        while let Some((around, commit, url, git_dir)) = open.pop() {
            for module in around.submodules(&commit).await.map_err(failed)? {
                let url = git::resolve_url(&url, &module.url);
                let Some(found) = self.submodule(&around, &module, &url, inputs, place, scratch).await? else {
                    // The host asks for it itself, as the action would.
                    continue;
                };
                let git_dir = format!("{git_dir}/modules/{}", module.name);
                parcel.submodule(&found, &module, (&git_dir, &url), inputs, answers, scratch).await.map_err(failed)?;
                if inputs.lfs {
                    let below = git_dir.strip_prefix(".git/").unwrap_or_default();
                    parcel.large_files(&found, &module.commit, true, below).await.map_err(failed)?;
                }
                if inputs.submodules == inputs::Submodules::Recursive {
                    open.push((found, module.commit, url, git_dir));
                }
            }
        }
        Ok(())
    }

    /// A repository that has a submodule's commit: the commit's name is proof enough of its content, whoever has it.
    async fn submodule(
        &self,
        around: &Repository,
        module: &git::Submodule,
        url: &str,
        inputs: &Inputs,
        place: &Place,
        scratch: &Scratch,
    ) -> Result<Option<Repository>, StepError> {
        let failed = |error: git::Error| StepError::Failed(full(&error));
        let mut candidates = Vec::new();
        let path = url.trim_end_matches('/').trim_end_matches(".git");
        let mut parts = path.rsplit(['/', ':']);
        if let (Some(name), Some(owner)) = (parts.next(), parts.next()) {
            let name = RepositoryName(format!("{owner}/{name}"));
            candidates.extend(self.within_reach(&name).ok().map(|source| source.git_dir));
            candidates.extend(self.runner.sources.actions.as_ref().and_then(|actions| actions.mirror_of(&name.0)));
        }
        candidates.extend(around.lenders().into_iter().map(|lender| lender.join("modules").join(&module.name)));
        for git_dir in candidates.into_iter().filter(|path| path.join("HEAD").is_file()) {
            let repository = Repository::at(git_dir);
            if repository.resolve(&module.commit).await.map_err(failed)?.is_some() {
                return Ok(Some(repository));
            }
        }
        let server = format!("{}/", place.origin);
        if self.reached.variables.local || inputs.ssh.is_some() {
            return Ok(None);
        }
        let insteads = format!("git@{}:", script::host_of(&place.origin));
        let url = match url.strip_prefix(&insteads) {
            Some(rest) => format!("{server}{rest}"),
            None => url.to_owned(),
        };
        if !url.starts_with(&server) {
            return Ok(None);
        }
        let store = scratch.fresh().map_err(|error| StepError::Failed(error.to_string()))?;
        let wanted = [format!("+{}:refs/towline/checkout", module.commit)];
        match git::fetch_from(&store, &url, &credentials(place), &wanted, inputs.depth).await {
            Ok(repository) => Ok(Some(repository)),
            Err(error) => {
                log::info!(job = self.order.job.0; "the host is left to fetch the submodule {}: {error}", module.path);
                Ok(None)
            }
        }
    }

    /// The second script and the files it reads.
    fn applied(&self, plan: &Plan, inputs: &Inputs, scene: &Scene<'_>, parcel: &Parcel, number: u32) -> OwnCommand {
        let target = match plan.source {
            Source::Host => Target::Fetched,
            _ => parcel::target(plan),
        };
        let steps = format!("{}/steps/{number}", self.host.dir());
        let (script, refs, cut) = (format!("{steps}.sh"), format!("{steps}.refs"), format!("{steps}.cut"));
        let parts = Parts {
            modules: &parcel.modules,
            overlay: parcel.overlay.as_deref().map(|overlay| (plan.commit.as_str(), overlay)),
            missing: parcel.missing && inputs.lfs,
            is_short: parcel.cut.len() <= MOST_COMPARED,
        };
        let text = scene.apply(&target, &refs, &cut, &parts);
        let lines: String = parcel.refs.iter().map(|(name, id)| format!("update {name} {id}\n")).collect();
        let cuts: String = parcel.cut.iter().map(|id| format!("{id}\n")).collect();
        let file = |path: &str, content: String| StepFile {
            path: path.to_owned(),
            content: content.into_bytes(),
            executable: false,
            temporary: true,
        };
        OwnCommand {
            argv: vec!["/bin/sh".to_owned(), script.clone()],
            env: self.machine.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            files: vec![file(&script, text), file(&refs, lines), file(&cut, cuts)],
            shown: true,
        }
    }

    /// For a host without git: the files alone, those of submodules and of git-lfs too.
    async fn copy_files(&mut self, inputs: &Inputs, place: &Place, plan: &Plan) -> Result<(), StepError> {
        let failed = |error: git::Error| StepError::Failed(full(&error));
        let directory = place.directory.clone();
        self.say_line("The repository will be copied without its history, because git is not installed on the host.")?;
        let scratch =
            Scratch::new(&self.order.job.to_string()).map_err(|error| StepError::Failed(error.to_string()))?;
        let (repository, overlay) = match &plan.source {
            Source::Here { git_dir, overlay } => (Repository::at(git_dir), overlay.clone()),
            Source::Forge { url } => {
                let wanted = [format!("+{}:refs/towline/checkout", plan.commit)];
                let store = scratch.path.join("store");
                (git::fetch_from(&store, url, &credentials(place), &wanted, 1).await.map_err(failed)?, None)
            }
            Source::Host => return Err(StepError::Failed("git is not installed on the host".to_owned())),
        };
        let clear = format!(
            "umask 022\nd={d}\n[ -d \"$d\" ] || rm -f -- \"$d\"\nmkdir -p \"$d\" && cd \"$d\" || exit 1\n\
             for f in * .[!.]* ..?*; do {{ [ -e \"$f\" ] || [ -L \"$f\" ]; }} && rm -rf -- \"$f\"; done\n:\n",
            d = quote(&directory)
        );
        run(&self.host, "preparing the checkout", &clear, b"").await?;
        let tree = overlay.unwrap_or_else(|| plan.commit.clone());
        let mut open = vec![(repository, tree, place.url.clone(), directory)];
        while let Some((repository, commit, url, directory)) = open.pop() {
            let archive = git::archive(&repository, &commit, Vec::new()).await.map_err(failed)?;
            self.put_tar(&archive, &directory).await?;
            if inputs.lfs {
                let mut parcel = Parcel::default();
                parcel.large_files(&repository, &commit, false, "").await.map_err(failed)?;
                if parcel.missing {
                    return Err(StepError::Failed("some files of git-lfs are not on this machine".to_owned()));
                }
                self.send(&parcel.files, &directory).await?;
            }
            if inputs.submodules == inputs::Submodules::No
                || (inputs.submodules == inputs::Submodules::Direct && directory != place.directory)
            {
                continue;
            }
            for module in repository.submodules(&commit).await.map_err(failed)? {
                let url = git::resolve_url(&url, &module.url);
                let found = self.submodule(&repository, &module, &url, inputs, place, &scratch).await?;
                let found = found.ok_or_else(|| {
                    StepError::Failed(format!(
                        "the submodule {} ({url}) is not known here, and without git the host cannot fetch it",
                        module.path
                    ))
                })?;
                open.push((found, module.commit, url, format!("{directory}/{}", module.path)));
            }
        }
        self.say_line(&plan.commit)?;
        Ok(())
    }
}

/// What the host said of itself and of an earlier checkout.
#[derive(Debug, Default)]
struct Answers {
    /// Commits that are there with all their files.
    have: Vec<String>,
    /// What is there has no full history.
    shallow: bool,
    lfs: bool,
    /// Git directories of submodules and the commits they are at.
    modules: Vec<(String, String)>,
}

fn credentials(place: &Place) -> git::Credentials {
    if place.token.is_empty() {
        return git::Credentials::None;
    }
    git::Credentials::Basic { user: "x-access-token".to_owned(), password: place.token.clone().into() }
}

/// The full ref and commit that a branch, a tag or a commit id names; the default branch for nothing.
async fn find(repository: &Repository, name: &str) -> Result<Option<(String, String)>, git::Error> {
    if name.is_empty() {
        let Some(branch) = repository.head_branch().await? else { return Ok(None) };
        let full = format!("refs/heads/{branch}");
        return Ok(repository.resolve(&full).await?.map(|commit| (full, commit)));
    }
    let candidates = if name.starts_with("refs/") {
        vec![name.to_owned()]
    } else {
        vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")]
    };
    for full in candidates {
        if let Some(commit) = repository.resolve(&full).await? {
            return Ok(Some((full, commit)));
        }
    }
    Ok(None)
}

/// An error with what caused it.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
