//! From the host into a container: paths, environment, and the command that runs a step's process there.

use crate::actions::Platform;
use crate::transport::{Contained, StepRequest};

use super::super::contexts::{Frame, Variables};
use super::super::job::Job;
use super::super::step::StepError;
use super::super::workspace::quote;
use super::command::pass_on;

/// Sends a signal to what carries a mark in its environment, and to the process groups it leads. Runs in the container,
/// where there may be little more than a shell.
const SIGNAL: &str = "s=$1 t=$2 d=' '\nfor e in /proc/[0-9]*/environ; do\n{ tr '\\000' '\\n' <\"$e\" | grep -qF -- \"$t\"; } \
    2>/dev/null || continue\np=${e#/proc/} p=${p%/environ} l=\n{ read -r l <\"/proc/$p/stat\"; } 2>/dev/null || continue\n\
    set -- ${l##*) }\ncase $d in *\" $3 \"*) ;; *) d=\"$d$3 \"; kill \"-$s\" \"-$3\" 2>/dev/null ;; esac\ndone\n[ \"$d\" != ' ' ]";

/// Paths on the host and in a container.
pub(super) struct Mapping(pub(super) Vec<(String, String)>);

impl Mapping {
    /// A text that begins with a path of the host, as the container sees it; the longest path that fits counts.
    pub(super) fn inside(&self, text: &str) -> String {
        let fits = |path: &str| text.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match self.0.iter().filter(|(host, _)| fits(host)).max_by_key(|(host, _)| host.len()) {
            Some((host, inside)) => format!("{inside}{}", &text[host.len()..]),
            None => text.to_owned(),
        }
    }

    /// For messages that name files: (path inside, path on the host).
    pub(super) fn outwards(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(host, inside)| (inside.clone(), host.clone())).collect()
    }
}

impl Job {
    /// Directory of the command files of steps in containers, on the host.
    pub(super) fn command_files(&self) -> String {
        format!("{}/_runner_file_commands", self.workspace.temp)
    }

    /// Where things of the host are in the job's container: (on the host, inside, read only).
    pub(super) fn job_mounts(&self) -> Vec<(String, String, bool)> {
        let workspace = &self.workspace;
        let name = self.order.repository.name();
        let temp = &workspace.temp;
        vec![
            (workspace.parent.clone(), format!("/__w/{name}"), false),
            (format!("{}/runtimes", self.host.root()), "/__e".to_owned(), true),
            (temp.clone(), "/__w/_temp".to_owned(), false),
            (workspace.actions.clone(), "/__w/_actions".to_owned(), false),
            (workspace.tools.clone(), "/__t".to_owned(), false),
            (format!("{temp}/_github_home"), "/github/home".to_owned(), false),
            (format!("{temp}/_github_workflow"), "/github/workflow".to_owned(), false),
        ]
    }

    /// How paths of the host read in the job's container.
    pub(super) fn job_mapping(&self) -> Mapping {
        let mounts = self.job_mounts().into_iter().map(|(host, inside, _)| (host, inside));
        let files = (format!("{}/steps", self.host.dir()), "/__w/_temp/_runner_file_commands".to_owned());
        Mapping(mounts.chain([files]).collect())
    }

    /// A path of the host as steps see it.
    pub(in super::super) fn seen(&self, path: &str) -> String {
        if self.containers.has_job() { self.job_mapping().inside(path) } else { path.to_owned() }
    }

    /// The node of the job's container that runs an action: its own if its version fits, else one that is brought to the
    /// host for the container's libc, else what the image has (A1).
    pub(in super::super) async fn node_in_container(&mut self, wanted: u32) -> Result<String, StepError> {
        let inside = self.containers.job.as_ref().map(|job| job.inside.clone()).unwrap_or_default();
        let major = inside.node.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major >= wanted) {
            return Ok(inside.node_path);
        }
        let facts = self.host.facts();
        let libc = if inside.musl { "musl" } else { "glibc" };
        let platform = Platform::of_host(&facts.os, &facts.arch, libc);
        if let Some(brought) = self.bring_node(wanted, &platform).await? {
            return Ok(brought);
        }
        if major.is_some() {
            return Ok(inside.node_path);
        }
        if self.containers.are_hooked() {
            // Nobody looked inside.
            return Ok("node".to_owned());
        }
        Err(StepError::Failed(format!(
            "this action wants node {wanted}, and there is none in the job's container: use an image that has it, or give the host one \
             from here with `towline runtime add node{wanted} PATH|URL` (for {platform})"
        )))
    }

    /// For messages of a step that name files: (path in the step's container, path on the host).
    pub(in super::super) fn mounts(&self) -> Vec<(String, String)> {
        match (&self.containers.action_mounts, &self.containers.job) {
            (Some(mounts), _) => mounts.clone(),
            (None, Some(_)) => self.job_mapping().outwards(),
            (None, None) => Vec::new(),
        }
    }

    /// What a step's environment is built on: the machine's, or in a container the `PATH` of its image.
    pub(in super::super) fn machine_of_steps(&self) -> Variables {
        match &self.containers.job {
            Some(job) if job.path.is_empty() => Variables::new(),
            Some(job) => [("PATH".to_owned(), job.path.clone())].into_iter().collect(),
            None if self.containers.has_job() => Variables::new(),
            None => self.machine.clone(),
        }
    }

    /// The request as it is where the job's steps run: with `container:` the process is started in the container.
    pub(in super::super) async fn placed(
        &mut self,
        frame: &Frame,
        request: StepRequest,
    ) -> Result<StepRequest, StepError> {
        if !self.containers.has_job() || request.contained.is_some() {
            return Ok(request);
        }
        if self.containers.are_hooked() && self.containers.job.is_some() {
            return self.script_step(frame, request).await;
        }
        let (Some(job), Some(engine)) = (&self.containers.job, &self.containers.engine) else {
            return Err(StepError::Failed("the job's container is not running".to_owned()));
        };
        let mapping = self.job_mapping();
        let env: Variables = request.env.iter().map(|(name, value)| (name.clone(), mapping.inside(value))).collect();
        let mut argv =
            vec![engine.program.clone(), "exec".to_owned(), "--workdir".to_owned(), mapping.inside(&request.cwd)];
        pass_on(&env, &mut argv);
        argv.push(job.id.clone());
        argv.extend(request.argv.iter().map(|word| mapping.inside(word)));
        // The path of its command files marks a step's processes.
        let mark = format!("/_runner_file_commands/{}.", request.number);
        let signal = format!(
            "{}exec {} exec {} sh -c {} sh \"$1\" {}\n",
            self.client_exports(),
            quote(&engine.program),
            quote(&job.id),
            quote(SIGNAL),
            quote(&mark)
        );
        Ok(StepRequest {
            argv,
            env: self.client_env(&env),
            cwd: "/".to_owned(),
            contained: Some(Contained { files: self.command_files(), signal: Some(signal) }),
            ..request
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Mapping;

    #[test]
    fn the_longest_path_counts() {
        let pairs = [("/w/a", "/__w/a"), ("/w/_temp", "/__w/_temp"), ("/w/_temp/_home", "/github/home")];
        let mapping = Mapping(pairs.map(|(host, inside)| (host.to_owned(), inside.to_owned())).to_vec());
        let check = |text: &str, expect: &str| assert_eq!(mapping.inside(text), expect);
        check("/w/a", "/__w/a");
        check("/w/a/a/x", "/__w/a/a/x");
        check("/w/ab", "/w/ab");
        check("/w/_temp/_home/.config", "/github/home/.config");
        check("see /w/a", "see /w/a");
    }
}
