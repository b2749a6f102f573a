//! Where a job works on its host: directories per slot, and how they are made and cleared.

use crate::run::order::Order;
use crate::transport::{HostJob, Output};

use super::JobError;

/// Absolute paths on the host.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// `GITHUB_WORKSPACE`.
    pub(crate) path: String,
    /// `RUNNER_WORKSPACE`: the directory above it.
    pub(crate) parent: String,
    /// `RUNNER_TEMP`: empty at the start of every job.
    pub(crate) temp: String,
    /// `RUNNER_TOOL_CACHE`: shared by all jobs of the host.
    pub(crate) tools: String,
    /// Sources of actions, by commit.
    pub(crate) actions: String,
    /// Node, where the host has none of its own.
    pub(crate) runtimes: String,
    /// The payload of the event, `GITHUB_EVENT_PATH`.
    pub(crate) event: String,
    slot: String,
}

impl Workspace {
    pub(crate) fn new(root: &str, slot: u32, order: &Order) -> Self {
        let slot = format!("{root}/work/{slot}");
        let parent = format!("{slot}/{}", order.repository.owner());
        let temp = format!("{slot}/_temp");
        Self {
            path: format!("{parent}/{}", order.repository.name()),
            event: format!("{temp}/_github_workflow/event.json"),
            tools: format!("{root}/tools"),
            actions: format!("{root}/actions"),
            runtimes: format!("{root}/runtimes"),
            parent,
            temp,
            slot,
        }
    }

    /// Tells the slot from others of its host.
    pub(crate) fn slot_name(&self) -> &str {
        self.slot.rsplit('/').next().unwrap_or_default()
    }

    /// Makes the directories and clears the temporary one. What the user may not delete (files that a container left
    /// as root) is moved aside, never followed and never fatal.
    ///
    /// `now`, in seconds since 1970, is noted as the workspace's last use, for the host's quota.
    pub(crate) async fn prepare(&self, host: &HostJob, now: i64, fresh: bool, event: &[u8]) -> Result<(), JobError> {
        let script = format!(
            "set -e\numask 077\naside() {{ [ -e \"$1\" ] || [ -L \"$1\" ] || return 0\n\
             rm -rf -- \"$1\" 2>/dev/null || true\n[ -e \"$1\" ] || return 0\n\
             mkdir -p {slot}/_aside && mv -- \"$1\" {slot}/_aside/$$-$(date +%s) && echo \"moved aside: $1\"; }}\n\
             [ -d {slot}/_used ] || mkdir -p {slot}/_used\necho {now} >{used}\naside {temp}\n{fresh}umask 022\n\
             mkdir -p {path} {temp}/_github_workflow {tools}\ncat > {event}\n",
            slot = quote(&self.slot),
            used = quote(&self.used()),
            temp = quote(&self.temp),
            path = quote(&self.path),
            tools = quote(&self.tools),
            event = quote(&self.event),
            fresh = if fresh { format!("aside {}\n", quote(&self.path)) } else { String::new() },
        );
        let doing = "preparing the workspace";
        succeeded(doing, host.exec_between_steps(&script, event).await?).map(drop)
    }

    /// The file that has when the workspace was last used.
    fn used(&self) -> String {
        let name = self.path.strip_prefix(&self.slot).unwrap_or_default().trim_start_matches('/').replace('/', ",");
        format!("{}/_used/{name}", self.slot)
    }

    /// Removes everything of the slot: for jobs that leave nothing behind.
    pub(crate) async fn remove(&self, host: &HostJob) -> Result<(), JobError> {
        let script = format!("rm -rf -- {} 2>/dev/null || true\n", quote(&self.slot));
        run(host, "removing the workspace", &script, b"").await.map(drop)
    }
}

/// Runs a script on the host and wants it to succeed.
pub(crate) async fn run(host: &HostJob, doing: &str, script: &str, stdin: &[u8]) -> Result<Vec<u8>, JobError> {
    succeeded(doing, host.exec(script, stdin).await?)
}

fn succeeded(doing: &str, output: Output) -> Result<Vec<u8>, JobError> {
    if output.status == 0 {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reason = match stderr.trim() {
        "" => format!("exit code {}", output.status),
        text => text.to_owned(),
    };
    Err(JobError::Lost { reason: format!("{doing} failed: {reason}"), host_died: false })
}

/// A word for `sh`.
pub(crate) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_survive_the_shell() {
        for text in ["plain/path-1.0", "", "it's", "$HOME `x` \"y\"", "a b\nc", "-n", "~user"] {
            let output =
                std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quote(text))]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }
}
