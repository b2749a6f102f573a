//! The way from a container to the services for actions, where they are on the host's loopback: that is not the container's.
//!
//! A small program on the host listens at a socket in `RUNNER_TEMP`, which the job's container sees, and at the gateway of the
//! network for containers of docker actions. Another one in the job's container listens on its loopback, at the same port, so
//! that every address a step was told is good there too. Both are run by what is there: python3, node or perl.

use std::sync::Arc;

use crate::expr::condition;
use crate::services::ALIAS;

use super::super::contexts::Frame;
use super::super::job::Job;
use super::super::step::StepError;
use super::super::workspace::{quote, run};
use super::Inside;
use super::command::Command;

/// The programs, by what runs them.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("python3", "relay.py", include_str!("relay.py")),
    ("node", "relay.js", include_str!("relay.js")),
    ("perl", "relay.pl", include_str!("relay.pl")),
];

/// A way that is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Relay {
    /// In the job's container.
    pub(super) inside: bool,
    /// To the gateway, for docker actions, once that was asked.
    gateway: Option<bool>,
    /// Steps that run beside each other open it one after the other.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Job {
    /// The port of the services on the host's loopback; nothing where containers reach them as the host does.
    fn loopback_port(&self) -> Option<u16> {
        self.reached.variables.base.strip_prefix("http://127.0.0.1:")?.parse().ok()
    }

    fn relay_directory(&self) -> String {
        format!("{}/_services", self.workspace.temp)
    }

    /// What a container is told of the name that stands for this server.
    pub(super) fn alias_at(&self, address: &str) -> Vec<String> {
        match self.loopback_port() {
            Some(_) => vec!["--add-host".to_owned(), format!("{ALIAS}:{address}")],
            None => Vec::new(),
        }
    }

    /// Opens the way for the job's container, if something there can run it. Without it, steps go on: those that need the services
    /// say so.
    pub(super) async fn relay_into_job(&mut self, frame: &Frame, id: &str, inside: &Inside) -> Result<(), StepError> {
        let Some(port) = self.loopback_port() else { return Ok(()) };
        let Some((program, file)) = self.relay_program(inside).await? else { return Ok(()) };
        if !self.relay_on_host("containers/relay", &[]).await? {
            return Ok(());
        }
        let directory = self.job_mapping().inside(&self.relay_directory());
        let (listen, to) = (format!("tcp:0.0.0.0:{port}"), format!("unix:{directory}/socket"));
        let script = format!("{directory}/{file}");
        let command = Command::new(["exec", "--detach", id, &program, &script, &listen, &to]).silent();
        let said = self.engine_command(frame, "containers/relay/inside", condition::success(), command).await?;
        self.containers.relay.inside = self.heed(&said)?.code == 0;
        Ok(())
    }

    /// What runs the program in the job's container, and which of them.
    async fn relay_program(&mut self, inside: &Inside) -> Result<Option<(String, &'static str)>, StepError> {
        if !inside.relay.is_empty() {
            let found = PROGRAMS.iter().find(|(name, ..)| *name == inside.relay);
            return Ok(found.map(|(name, file, _)| ((*name).to_owned(), *file)));
        }
        let facts = self.host.facts();
        let libc = if inside.musl { "musl" } else { "glibc" };
        let platform = crate::actions::Platform::of_host(&facts.os, &facts.arch, libc);
        let brought = self.bring_node(20, &platform).await?;
        Ok(brought.map(|node| (self.job_mapping().inside(&node), "relay.js")))
    }

    /// Starts the program of the host, once in a job; `more` are places it listens at besides the socket. Whether it runs.
    async fn relay_on_host(&mut self, key: &str, more: &[String]) -> Result<bool, StepError> {
        if let Some(known) = self.journal.recall(key)? {
            return Ok(known);
        }
        let Some(port) = self.loopback_port() else { return Ok(false) };
        let directory = self.relay_directory();
        let node = self.host.facts().node_path.clone();
        let mut script = format!("d={d}\numask 022\nmkdir -p \"$d\" && cd \"$d\" || exit 1\n", d = quote(&directory));
        for (_, file, text) in PROGRAMS {
            script += &format!("cat >{file} <<'END_OF_RELAY'\n{text}END_OF_RELAY\n");
        }
        // The socket last: when it is there, all are.
        let socket = format!("unix:{directory}/socket");
        let places: Vec<String> = more.iter().chain([&socket]).map(|place| quote(place)).collect();
        // The same may be asked for twice: when a link breaks meanwhile, and by steps that run beside each other.
        let all = quote(&places.join(" "));
        script += &format!(
            "[ -S socket ] && [ -s pid ] && [ \"$(cat places 2>/dev/null)\" = {all} ] && kill -0 \"$(cat pid)\" 2>/dev/null && \
             echo runs && exit 0\necho {all} >places\n[ -s pid ] && kill \"$(cat pid)\" 2>/dev/null\nrm -f socket pid dead\nexport RELAY_WHILE={job} RUNNER_TRACKING_ID={tracking}\n\
             for p in python3 {node} node perl; do\ncommand -v \"$p\" >/dev/null 2>&1 || continue\n\
             case $p in python3) f=relay.py ;; perl) f=relay.pl ;; *) f=relay.js ;; esac\n\
             ( nohup \"$p\" \"$d/$f\" {places} tcp:127.0.0.1:{port} & echo $! >pid; wait; : >dead ) </dev/null >/dev/null 2>err 7>&- &\n\
             n=0; while [ $n -lt 100 ] && [ ! -S socket ] && [ ! -e dead ]; do n=$((n + 1)); sleep 0.1 2>/dev/null || sleep 1; done\n\
             [ -S socket ] && [ ! -e dead ] && echo runs && exit 0\nkill \"$(cat pid)\" 2>/dev/null; rm -f dead socket\ndone\nexit 0\n",
            job = quote(self.host.dir()),
            tracking = quote(self.host.tracking_id()),
            node = quote(if node.is_empty() { "node" } else { &node }),
            places = places.join(" "),
        );
        let said = run(&self.host, "opening a way from containers to the services", &script, b"").await?;
        let runs = said.starts_with(b"runs");
        self.containers.uses();
        self.record(key, &runs)?;
        if !runs {
            self.say_line(
                "Containers on this host cannot reach artifacts, caches and the API: that needs python3, node or perl on the host.",
            )?;
        }
        Ok(runs)
    }

    /// How the container of a docker action reaches the services: the address of the alias there. Nothing where it needs none,
    /// or where there is no way.
    pub(super) async fn relay_for_action(&mut self, frame: &Frame, key: &str) -> Result<Option<String>, StepError> {
        if self.loopback_port().is_none() {
            return Ok(None);
        }
        let network = self.containers.network.clone().unwrap_or_else(|| "bridge".to_owned());
        if let (true, Some(job)) = (self.containers.relay.inside, &self.containers.job) {
            let format =
                format!("{{{{with index .NetworkSettings.Networks \"{network}\"}}}}{{{{.IPAddress}}}}{{{{end}}}}");
            let look = Command::new(["inspect", "--format", &format, &job.id.clone()]).silent();
            let said = self.engine_command(frame, &format!("{key}/relay"), condition::success(), look).await?;
            return Ok(address(&self.heed(&said)?.lines));
        }
        let is_docker = self.find_engine()?.is_docker;
        let (network, format) = match (is_docker, network.as_str()) {
            (true, _) => (network, "{{range .IPAM.Config}}{{println .Gateway}}{{end}}"),
            (false, "bridge") => ("podman".to_owned(), "{{range .Subnets}}{{println .Gateway}}{{end}}"),
            (false, _) => (network, "{{range .Subnets}}{{println .Gateway}}{{end}}"),
        };
        let look = Command::new(["network", "inspect", "--format", format, &network]).silent();
        let said = self.engine_command(frame, &format!("{key}/relay"), condition::success(), look).await?;
        let Some(gateway) = address(&self.heed(&said)?.lines) else { return Ok(None) };
        let port = self.loopback_port().unwrap_or_default();
        let runs = match self.containers.relay.gateway {
            Some(known) => known,
            None => {
                let turn = Arc::clone(&self.containers.relay.turn);
                let _turn = turn.lock().await;
                self.relay_on_host("containers/relay/gateway", &[format!("tcp:{gateway}:{port}")]).await?
            }
        };
        self.containers.relay.gateway = Some(runs);
        Ok(Some(gateway).filter(|_| runs))
    }

    /// Ends the program of the host.
    pub(super) async fn close_relay(&mut self) -> Result<(), StepError> {
        let script = format!(
            "cd {} 2>/dev/null || exit 0\n[ -s pid ] && kill \"$(cat pid)\" 2>/dev/null\nrm -f pid socket\nexit 0\n",
            quote(&self.relay_directory())
        );
        run(&self.host, "closing the way from containers to the services", &script, b"").await?;
        Ok(())
    }
}

/// The first address of version 4.
fn address(lines: &[String]) -> Option<String> {
    lines.iter().map(|line| line.trim()).find(|line| line.parse::<std::net::Ipv4Addr>().is_ok()).map(str::to_owned)
}
