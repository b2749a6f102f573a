//! What a job sees of the services for actions: where they are, and who it is to them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value as Json;

use crate::run::order::Order;
use crate::services::{self, ALIAS, JobVariables, Scopes, Services};
use crate::transport::{Backoff, Forward, Hosts, Target, TransportError, Way};
use crate::workflow::model::{Permission, Permissions};

/// How often a forward is tried before the job goes on without: for half a minute, while the link breaks.
const TRIES: u32 = 8;

/// The services, and how hosts reach them.
#[derive(Clone)]
pub struct ServicesAddress {
    pub services: Services,
    /// Where they listen on this machine's loopback, without TLS.
    pub here: SocketAddr,
    /// Scheme, host and port for hosts whose SSH server forwards nothing.
    pub elsewhere: Option<String>,
    /// Whose repository and API are here.
    pub local: Local,
}

/// Jobs whose `github.token`, API and git server are this program, not a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// Those whose event names this server.
    Server(String),
    /// All.
    All,
    /// Those that were given no token.
    WithoutToken,
}

/// What a job has of the services while it runs. Dropping it closes the port on the host, and ends the job's token.
pub(super) struct Reached {
    pub(super) variables: JobVariables,
    /// Why there is nothing, for the log.
    pub(super) note: Option<String>,
    _forward: Option<Forward>,
    _running: Option<services::Running>,
}

impl Reached {
    /// No services: actions that need them say so.
    pub(super) fn nothing() -> Self {
        Self::known(JobVariables::default())
    }

    /// The same for what runs beside the job and ends before it.
    pub(super) fn beside(&self) -> Self {
        Self::known(self.variables.clone())
    }

    /// What an earlier process told the job, when there is no way any more.
    pub(super) fn known(variables: JobVariables) -> Self {
        Self { variables, note: None, _forward: None, _running: None }
    }
}

impl ServicesAddress {
    /// Opens the way from a host to the services and makes the job known to them.
    pub(super) async fn reach(
        &self,
        hosts: &Hosts,
        target: &Target,
        order: &Order,
        secrets: &BTreeMap<String, SecretString>,
        until: Timestamp,
    ) -> Reached {
        let here = format!("http://{}", self.here);
        let (base, forward, note) = match &target.way {
            Way::Local => (Some(here), None, None),
            Way::Ssh(ssh) => match self.forward(hosts, target).await {
                Ok(forward) => (Some(format!("http://127.0.0.1:{}", forward.port())), Some(forward), None),
                Err(error) => {
                    let direct = if is_loopback(&ssh.address) { Some(here) } else { self.elsewhere.clone() };
                    let note = direct.is_none().then(|| error.to_string());
                    (direct, None, note)
                }
            },
        };
        let Some(base) = base else { return Reached { note, ..Reached::nothing() } };
        let environment = order.environment.as_ref().map(|environment| environment.name.as_str());
        let workflow = (order.workflow_ref.as_str(), order.workflow_sha.as_str());
        let identity = may_prove_identity(order.permissions.as_ref())
            .then(|| services::identity_claims(&order.github, workflow, environment, order.job.0));
        let mut variables = self.services.variables(&services::Job {
            run: order.run.0,
            job: order.job.0,
            repository: order.repository.0.clone(),
            scopes: Scopes::of(&order.github),
            permissions: permissions(order.permissions.as_ref()),
            base,
            identity,
            until,
        });
        variables.local = self.is_local(order, token_of(secrets).is_some());
        let running = self.running(order, secrets, &variables);
        Reached { variables, note: None, _forward: forward, _running: Some(running) }
    }

    /// The way as an earlier process opened it: what runs on the host was told that port and that token.
    pub(super) async fn reach_again(
        &self,
        hosts: &Hosts,
        target: &Target,
        order: &Order,
        secrets: &BTreeMap<String, SecretString>,
        variables: JobVariables,
    ) -> Reached {
        let port = variables.base.strip_prefix("http://127.0.0.1:").and_then(|port| port.parse().ok());
        let forward = match (&target.way, port) {
            // A way that went past SSH still does.
            (Way::Ssh(_), Some(port)) if port != self.here.port() => {
                hosts.forward(target, self.here, Some(port)).await.ok()
            }
            _ => None,
        };
        let running = self.running(order, secrets, &variables);
        Reached { variables, note: None, _forward: forward, _running: Some(running) }
    }

    async fn forward(&self, hosts: &Hosts, target: &Target) -> Result<Forward, TransportError> {
        let (mut tries, mut backoff) = (0, Backoff::default());
        loop {
            match hosts.forward(target, self.here, None).await {
                Err(error) if error.is_transient() && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(backoff.next()).await;
                }
                result => return result,
            }
        }
    }

    fn is_local(&self, order: &Order, has_token: bool) -> bool {
        match &self.local {
            Local::Server(own) => {
                let server = order.github.get("server_url").and_then(Json::as_str).unwrap_or_default();
                server.trim_end_matches('/').eq_ignore_ascii_case(own.trim_end_matches('/'))
            }
            Local::All => true,
            Local::WithoutToken => !has_token,
        }
    }

    fn running(
        &self,
        order: &Order,
        secrets: &BTreeMap<String, SecretString>,
        variables: &JobVariables,
    ) -> services::Running {
        // Who gives a job of ours a token of their own means it for us.
        let given = token_of(secrets).filter(|_| variables.local);
        self.services.running(order.job.0, given.map(|token| (token.expose_secret(), variables.token.as_str())))
    }
}

/// What of the `github` context the services say: API addresses, where they are here.
pub(super) fn addresses(variables: &JobVariables) -> Vec<(&'static str, String)> {
    if !variables.local {
        return Vec::new();
    }
    let base = &variables.base;
    vec![("api_url", format!("{base}/api/v3")), ("graphql_url", format!("{base}/api/graphql"))]
}

/// `GITHUB_SERVER_URL` for the process of an action. Stock actions go by its host name (P6), and checkouts dial it.
pub(super) fn server_url(variables: &JobVariables, own: &str, action: &str) -> Option<String> {
    if variables.base.is_empty() {
        return None;
    }
    let checks_out = action.eq_ignore_ascii_case("actions/checkout");
    // Others than GitHub's own mean the forge by it: they push there, and print links to it.
    let is_stock = action.get(..8).is_some_and(|owner| owner.eq_ignore_ascii_case("actions/"));
    if !variables.local && (checks_out || !is_stock || is_known(own)) {
        return None;
    }
    match variables.base.rsplit_once(':') {
        // It asks the API there too, by a resolver that may not know the name.
        _ if checks_out => Some(variables.base.clone()),
        Some(("http://127.0.0.1", port)) => Some(format!("http://{ALIAS}:{port}")),
        _ => Some(format!("http://{ALIAS}")),
    }
}

/// Where repositories of this machine are reached by git on the host.
pub(super) fn git_url(variables: &JobVariables) -> Option<String> {
    if !variables.local || variables.base.is_empty() {
        return None;
    }
    match variables.base.strip_prefix("http://127.0.0.1:") {
        // The same name as in GITHUB_SERVER_URL: actions compare the two.
        Some(port) => Some(format!("http://{ALIAS}:{port}")),
        None => Some(variables.base.clone()),
    }
}

/// Has git take our certificate where an action wrote `https://` before the host of `GITHUB_SERVER_URL`, as many do. What answers
/// there is loopback of the host, and the connection of SSH behind it: the same that goes unencrypted to `http://`.
pub(super) fn trusted_by_git(variables: &JobVariables, env: &mut Vec<(String, String)>) {
    let port = variables.base.strip_prefix("http://127.0.0.1:").filter(|_| variables.local);
    let Some(port) = port else { return };
    if !env.iter().any(|(name, _)| name == "GIT_CONFIG_COUNT") {
        let settings = [
            ("GIT_CONFIG_COUNT", "1".to_owned()),
            ("GIT_CONFIG_KEY_0", format!("http.https://{ALIAS}:{port}/.sslVerify")),
            ("GIT_CONFIG_VALUE_0", "false".to_owned()),
        ];
        env.extend(settings.map(|(name, value)| (name.to_owned(), value)));
    }
}

/// Hosts that stock actions take for GitHub.
fn is_known(server: &str) -> bool {
    let host = server.split("://").nth(1).unwrap_or(server);
    let host = host.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    host == "github.com" || host.ends_with(".ghe.com") || host.ends_with(".localhost")
}

/// A proxy must not stand between an action and this host's own loopback.
pub(super) fn past_proxies(env: &mut [(String, String)]) -> Option<Vec<(String, String)>> {
    const OWN: &str = "127.0.0.1,localhost,.localhost";
    let is_proxy =
        |name: &str| ["http_proxy", "https_proxy", "all_proxy"].iter().any(|known| name.eq_ignore_ascii_case(known));
    if !env.iter().any(|(name, value)| is_proxy(name) && !value.is_empty()) {
        return None;
    }
    let mut missing = Vec::new();
    for name in ["no_proxy", "NO_PROXY"] {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) if value.contains("127.0.0.1") && value.contains(".localhost") => {}
            Some((_, value)) if value.is_empty() => OWN.clone_into(value),
            Some((_, value)) => value.push_str(&format!(",{OWN}")),
            None => missing.push((name.to_owned(), OWN.to_owned())),
        }
    }
    Some(missing)
}

/// The job token among the secrets.
pub(super) fn token_of(secrets: &BTreeMap<String, SecretString>) -> Option<&SecretString> {
    let found = secrets.iter().find(|(name, _)| name.eq_ignore_ascii_case("GITHUB_TOKEN"));
    found.map(|(_, value)| value).filter(|value| !value.expose_secret().is_empty())
}

/// `id-token` must be asked for by name or by everything (S4).
fn may_prove_identity(permissions: Option<&Permissions>) -> bool {
    match permissions {
        Some(Permissions::WriteAll) => true,
        Some(Permissions::Scopes(scopes)) => scopes.get("id-token") == Some(&Permission::Write),
        Some(Permissions::ReadAll) | None => false,
    }
}

/// What the token may do. Without `permissions` what a new repository of GitHub's gives: it reads.
fn permissions(permissions: Option<&Permissions>) -> BTreeMap<String, String> {
    const HERE: [&str; 5] = ["actions", "checks", "contents", "metadata", "statuses"];
    let all = |level: &str| HERE.iter().map(|scope| ((*scope).to_owned(), level.to_owned())).collect();
    match permissions {
        None | Some(Permissions::ReadAll) => all("read"),
        Some(Permissions::WriteAll) => all("write"),
        Some(Permissions::Scopes(scopes)) => {
            let word = |level: &Permission| match level {
                Permission::None => None,
                Permission::Read => Some("read".to_owned()),
                Permission::Write => Some("write".to_owned()),
            };
            scopes.iter().filter_map(|(scope, level)| Some((scope.clone(), word(level)?))).collect()
        }
    }
}

/// What the token may do, as the log says it: `Contents: read`.
pub(super) fn permission_lines(permissions: &Permissions) -> Vec<String> {
    let mut lines: Vec<String> = self::permissions(Some(permissions))
        .into_iter()
        .map(|(scope, level)| {
            let words = scope.split('-').map(|word| {
                let (first, rest) = word.split_at(word.len().min(1));
                format!("{}{rest}", first.to_ascii_uppercase())
            });
            format!("{}: {level}", words.collect::<String>())
        })
        .collect();
    lines.sort();
    lines
}

fn is_loopback(address: &str) -> bool {
    address.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_told_a_server_they_take_for_github() {
        let variables = |local, base: &str| JobVariables { local, base: base.to_owned(), ..JobVariables::default() };
        let port = "http://127.0.0.1:20123";
        let alias = Some("http://towline.localhost:20123");
        for (local, base, own, action, expected) in [
            (true, port, "https://ci.lan", "actions/checkout", Some(port)),
            (true, port, "https://github.com", "actions/upload-artifact", alias),
            (true, "https://ci.lan", "https://ci.lan", "actions/checkout", Some("https://ci.lan")),
            (true, "https://ci.lan", "https://ci.lan", "actions/cache", Some("http://towline.localhost")),
            (false, port, "https://github.com", "actions/cache", None),
            (false, port, "https://x.ghe.com", "actions/cache", None),
            (false, port, "https://forge.lan:3000/", "actions/cache", alias),
            (false, port, "https://forge.lan:3000/", "actions/checkout", None),
            (false, port, "https://forge.lan:3000/", "ada/deploy", None),
            (true, port, "https://ci.lan", "ada/deploy", alias),
            (true, "", "https://ci.lan", "actions/cache", None),
        ] {
            let told = server_url(&variables(local, base), own, action);
            assert_eq!(told.as_deref(), expected, "{local} {base} {own} {action}");
        }
    }

    #[test]
    fn proxies_are_passed_by() {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut env = vec![own("PATH", "/bin")];
        assert_eq!(past_proxies(&mut env), None);
        let mut env = vec![own("HTTP_PROXY", "http://proxy:3128"), own("no_proxy", "example.org")];
        let missing = past_proxies(&mut env).unwrap();
        assert_eq!(env[1].1, "example.org,127.0.0.1,localhost,.localhost");
        assert_eq!(missing, [own("NO_PROXY", "127.0.0.1,localhost,.localhost")]);
    }
}
