//! What every key of the configuration means, for the manual page and the documentation. A test holds it against what
//! the decoder knows.

use std::fmt::Write as _;

/// One table of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// As it is written: `[server]`, `[[host]]`.
    pub title: &'static str,
    pub text: &'static str,
    pub keys: &'static [Key],
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    /// What may be written there.
    pub kind: &'static str,
    /// What counts when it is absent; empty when there is nothing to say.
    pub default: &'static str,
    pub text: &'static str,
}

const fn key(name: &'static str, kind: &'static str, default: &'static str, text: &'static str) -> Key {
    Key { name, kind, default, text }
}

const INTRODUCTION: &str = "The daemon reads towline.toml, then conf.d/*.toml beside it in the order of their names. All of it is optional. Lists of tables are joined; \
of single values the later file's counts. Relative paths are relative to the file that says them. Unknown keys, duplicate \
names and impossible values are errors with file and line: the daemon does not start with them, and a reload leaves the old \
configuration in force.";

const VALUES: &[(&str, &str)] = &[
    ("duration", "a number and a unit: \"30s\", \"5m\", \"12h\", \"90d\"; a bare number is seconds"),
    ("size", "a number and a unit: \"500MB\", \"10GiB\"; a bare number is bytes"),
    ("list", "strings in brackets; a single string is a list of one"),
    (
        "secret",
        "{ file = \"PATH\" }, { env = \"NAME\" } or { credential = \"NAME\" } (a systemd credential); a plain string works, with a warning",
    ),
];

/// All tables, in the order a person would fill them in.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "[server]",
        text: "Where the daemon listens, and who may read without a token. Sockets that systemd passes are served besides these.",
        keys: &[
            key("listen", "list of ADDRESS:PORT", "[\"127.0.0.1:7443\"]", "Addresses of pages, API and webhooks."),
            key(
                "url",
                "address",
                "",
                "The address that others reach the daemon by: in links, on commits, in its certificate.",
            ),
            key(
                "tls",
                "true, false or [server.tls]",
                "true",
                "true: a certificate of the daemon's own authority (tls/ca.pem in the state directory).",
            ),
            key("open_reads", "boolean", "false", "Everybody who reaches the daemon may read without a token."),
            key("open_metrics", "boolean", "false", "/metrics needs no token."),
            key(
                "trusted_proxies",
                "list of addresses or networks",
                "[]",
                "Reverse proxies whose X-Forwarded headers are believed; of everybody else they are ignored.",
            ),
            key("github_login", "[server.github_login]", "", "Signing in through GitHub."),
        ],
    },
    Section {
        title: "[server.tls]",
        text: "A certificate of your own, and certificates of clients. Files that change are taken without a restart; connections that stand keep the old ones.",
        keys: &[
            key("certificate", "path", "", "PEM file with the certificate and its chain."),
            key("key", "path", "", "PEM file with its private key."),
            key(
                "client_authority",
                "path",
                "",
                "PEM file of the authority whose client certificates are accepted. With it alone the daemon's own certificate is as for tls = true.",
            ),
            key(
                "clients",
                "table of name = role",
                "",
                "What the owner of a certificate may do: its common name = \"viewer\", \"operator\" or \"admin\"; \"*\" stands for all others.",
            ),
        ],
    },
    Section {
        title: "[server.github_login]",
        text: "Signing in through GitHub, for those on the list. The OAuth application's callback address is URL/login/github/callback.",
        keys: &[
            key("url", "address", "\"https://github.com\"", "Another GitHub: an Enterprise Server."),
            key("client_id", "string", "", "Of the OAuth application."),
            key("client_secret", "secret", "", "Of the OAuth application."),
            key(
                "allow",
                "table of login = role, or list",
                "[]",
                "Who may sign in, and as \"viewer\", \"operator\" or \"admin\"; those of a list are viewers. Who is taken off it is signed out.",
            ),
        ],
    },
    Section {
        title: "[[host]]",
        text: "A machine that executes jobs. Without any, jobs run on the daemon's own machine.",
        keys: &[
            key("name", "string", "", "In `runs-on`, in lists and on pages."),
            key(
                "kind",
                "\"ssh\" or \"local\"",
                "\"ssh\"",
                "\"local\" is the machine of the daemon itself, as the user it runs as.",
            ),
            key("address", "string", "the name", "Host name, address, or a name of ~/.ssh/config."),
            key("user", "string", "as OpenSSH", "Who to log in as."),
            key("port", "number", "22", "Where its sshd listens."),
            key("identity", "list of paths", "as OpenSSH", "Private keys to log in with."),
            key(
                "known_hosts",
                "list of paths",
                "as OpenSSH",
                "Where its key is pinned, besides the file that `towline host add` writes.",
            ),
            key("jump", "list of [USER@]HOST[:PORT]", "[]", "Servers to go through, from the first to the last."),
            key("agent", "boolean", "true", "Use the agent at $SSH_AUTH_SOCK."),
            key("password", "secret", "", "For machines without keys."),
            key("connect_timeout", "duration", "\"10s\"", "How long a connection may take."),
            key(
                "labels",
                "list",
                "[]",
                "Besides those every host has: self-hosted, its name, its system and architecture.",
            ),
            key("slots", "number", "1", "Jobs that run at once."),
            key("quiet", "list of hours", "[]", "When it takes no new jobs: \"22:00-06:00\", \"Mon-Fri 08:00-18:00\"."),
            key("limits", "[host.limits]", "", "Labels and how many jobs that want each run at once: `gpu = 1`."),
            key("root", "path", "~/.towline", "Where everything of ours lives on the host."),
            key("wake", "MAC address", "", "Wakes the machine by Wake-on-LAN when a job wants it."),
            key("wake_timeout", "duration", "\"180s\"", "How long a woken machine may take to answer."),
            key("repositories", "list of OWNER/NAME or OWNER/*", "[]", "Only jobs of these; empty: of all."),
            key("quota", "size", "", "Kept workspaces above this go, the least recently used first."),
        ],
    },
    Section {
        title: "[[source]]",
        text: "Where a repository lives and what brings its events. [[repository]] is the same.",
        keys: &[
            key("name", "OWNER/NAME", "", "As the repository is called on pages and in `github.repository`."),
            key(
                "kind",
                "\"github\", \"gitea\", \"forgejo\", \"gitlab\", \"git\" or \"directory\"",
                "\"git\" with a path, else \"github\"",
                "\"directory\" holds workflow files without a repository.",
            ),
            key("path", "path", "", "Of a bare repository or a watched directory on this machine."),
            key("url", "address", "the forge's", "Where it is fetched from."),
            key(
                "triggers",
                "list of \"push\", \"webhook\", \"poll\", \"watch\", \"schedule\"",
                "what fits the kind",
                "What brings events.",
            ),
            key("webhook_secret", "secret, or a list of them", "", "Checks webhooks; two while one is being replaced."),
            key("events", "list", "[]", "Only these events; empty: all."),
            key("token", "secret", "", "For reading the repository and reporting back."),
            key("app", "[source.app]", "", "The GitHub App that reports as checks."),
            key(
                "workflows",
                "list of directories",
                "[\".towline/workflows\", \".github/workflows\"]",
                "Where workflows are; the first that exists counts.",
            ),
            key("default_branch", "string", "the repository's", "Schedules and dispatches read it."),
            key("poll_interval", "duration", "\"60s\"", "Between two polls."),
            key("follow", "boolean", "false", "Pushers see the live log without asking."),
            key("trusted", "list", "[]", "Authors whose pull requests from forks run without approval."),
            key("report", "boolean", "true", "Tell the forge how runs end."),
            key("hold_on_failure", "duration", "\"0s\"", "A job that fails keeps its host and workspace for so long."),
            key(
                "priority",
                "number from -10 to 10",
                "0",
                "Jobs of a source with a higher one are given to hosts first.",
            ),
            key(
                "relay",
                "address",
                "",
                "A relay of webhooks for machines behind NAT: its event stream is listened to.",
            ),
        ],
    },
    Section {
        title: "[source.app]",
        text: "A GitHub App.",
        keys: &[key("id", "number", "", "Its id."), key("private_key", "secret", "", "Its private key, in PEM.")],
    },
    Section {
        title: "[labels]",
        text: "What `runs-on` asks for, and the labels a host must have instead: `ubuntu-latest = [\"Linux\", \"X64\"]`. Any name may stand here.",
        keys: &[],
    },
    Section {
        title: "[weights]",
        text: "Labels, and how many slots a job that asks for one takes: `big = 4`. Any name may stand here.",
        keys: &[],
    },
    Section {
        title: "[actions]",
        text: "Where `uses:` comes from.",
        keys: &[
            key("mirror", "path", "", "Directory of bare repositories OWNER/NAME.git, asked first."),
            key(
                "url",
                "address with {owner} and {name}",
                "",
                "Asked when the mirror has it not; nothing is fetched from anywhere without it.",
            ),
            key("checkout", "\"builtin\" or \"node\"", "\"builtin\"", "Which actions/checkout runs."),
            key(
                "pull",
                "\"always\" or \"missing\"",
                "\"always\"",
                "Whether images that a host has are pulled anew, as on GitHub, or only missing ones: without a registry that saves a try.",
            ),
            key("node", "path or address with {version}, {os}, {arch}", "", "Node for hosts without one."),
            key("lock_file", "path", "", "Pins actions to commits."),
            key("allow", "list of OWNER or OWNER/NAME", "[]", "Only these may be used; empty: all."),
        ],
    },
    Section {
        title: "[retention]",
        text: "How long things are kept.",
        keys: &[
            key("runs", "duration", "\"400d\"", "Runs."),
            key("logs", "duration", "\"90d\"", "Logs of jobs."),
            key("artifacts", "duration", "\"90d\"", "Artifacts."),
            key("deliveries", "duration", "\"30d\"", "Webhook deliveries."),
            key("log_bytes", "size", "\"20GB\"", "Logs above this go, the oldest first."),
            key("cache_bytes", "size", "\"10GB\"", "Caches above this go, the least recently used first."),
        ],
    },
    Section {
        title: "[limits]",
        text: "What nobody may exceed.",
        keys: &[
            key("jobs", "number", "0", "Jobs at once on all hosts together; 0: as many as there are slots."),
            key("job_log", "size", "\"2GB\"", "Of one job's log; the rest is dropped, and said so."),
            key("queue", "duration", "\"1d\"", "How long a job may wait for a host."),
            key(
                "disk",
                "size",
                "\"500MB\"",
                "What must stay free in the state directory; below it nothing new is accepted.",
            ),
        ],
    },
    Section {
        title: "[telemetry]",
        text: "Runs as traces, for a collector of OpenTelemetry: a run is a trace, its jobs and their steps are spans.",
        keys: &[
            key("otlp", "address", "", "Where it takes OTLP over HTTP, as JSON; /v1/traces is added."),
            key("headers", "table of name = secret", "", "Sent with every request."),
            key("service", "string", "\"towline\"", "The name of the service in traces."),
        ],
    },
    Section {
        title: "[[notify]]",
        text: "Who is told. Exactly one of `url`, `command` and `mail`.",
        keys: &[
            key(
                "on",
                "\"change\", \"failure\", \"recovery\" or \"always\"",
                "\"change\"",
                "\"change\": on failure, and on the first success after one; \"recovery\": on that success alone.",
            ),
            key("url", "address", "", "Is sent a POST."),
            key(
                "shape",
                "\"plain\", \"slack\", \"discord\" or \"ntfy\"",
                "\"plain\"",
                "The body that address expects.",
            ),
            key("secret", "secret", "", "Signs the body."),
            key(
                "command",
                "list",
                "",
                "A program with its arguments; facts are in its environment and, as JSON, on its standard input.",
            ),
            key("mail", "[notify.mail]", "", "By SMTP."),
            key("repositories", "list", "[]", "Only runs of these; empty: of all."),
            key("workflows", "list", "[]", "Only these, by name or file name; empty: all."),
            key("branches", "list", "[]", "Only these; empty: all."),
        ],
    },
    Section {
        title: "[notify.mail]",
        text: "Mail.",
        keys: &[
            key("server", "HOST:PORT", "", "Of the mail server."),
            key("from", "address", "", "The sender."),
            key("to", "list of addresses", "", "The receivers."),
            key("user", "string", "", "To log in as."),
            key("password", "secret", "", "To log in with."),
            key(
                "tls",
                "\"always\", \"required\", \"if-offered\" or \"never\"",
                "as the port says",
                "\"always\": from the first byte; \"required\": STARTTLS, or nothing is sent.",
            ),
            key(
                "authority",
                "path",
                "the system's",
                "PEM file of the authority that the server's certificate is from.",
            ),
        ],
    },
];

/// The reference as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\nMade by `towline man --markdown configuration`; a test keeps it what the program knows.\n\n",
    );
    let _ = writeln!(
        out,
        "{}\n",
        INTRODUCTION.replace("towline.toml", "`towline.toml`").replace("conf.d/*.toml", "`conf.d/*.toml`")
    );
    out.push_str("| a value that is a… | is written as |\n|---|---|\n");
    for (name, text) in VALUES {
        let _ = writeln!(out, "| {name} | {text} |");
    }
    for section in SECTIONS {
        let _ = writeln!(out, "\n## `{}`\n\n{}", section.title, section.text);
        if !section.keys.is_empty() {
            out.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
        }
        for key in section.keys {
            let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
            let _ = writeln!(out, "| `{}` | {} | {default} | {} |", key.name, key.kind, key.text);
        }
    }
    out
}

/// The reference as a manual page, towline.toml(5).
#[must_use]
pub fn manual() -> String {
    let clean = |text: &str| {
        let text = text.replace('\\', "\\e").replace('-', "\\-");
        // A line that begins with a point or a quote would be a request.
        if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
    };
    let mut out = format!(
        ".TH TOWLINE.TOML 5 \"\" \"towline {}\"\n.SH NAME\ntowline.toml \\- configuration of the Towline daemon\n.SH DESCRIPTION\n{}\n.SH VALUES\n",
        env!("CARGO_PKG_VERSION"),
        clean(INTRODUCTION)
    );
    for (name, text) in VALUES {
        let _ = writeln!(out, ".TP\n.B {name}\n{}", clean(text));
    }
    for section in SECTIONS {
        let _ = writeln!(out, ".SH \"{}\"\n{}", section.title, clean(section.text));
        for key in section.keys {
            let _ = writeln!(
                out,
                ".TP\n.BR {} \" = {}\"",
                clean(key.name),
                clean(&key.kind.replace('"', "\\(dq")).replace("\\e(dq", "\\(dq")
            );
            let default = if key.default.is_empty() { String::new() } else { format!(" Default: {}.", key.default) };
            let _ = writeln!(out, "{}", clean(&format!("{}{default}", key.text)));
        }
    }
    out.push_str(
        ".SH FILES\n.TP\n.I /etc/towline/towline.toml\nThe configuration of the system's daemon.\n.TP\n.I ~/.config/towline/towline.toml\n\
         The configuration of a user's own daemon.\n.SH SEE ALSO\n.BR towline (1)\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{File, parse};

    /// A file in which a table has one key that nobody knows; the complaint lists those that are known.
    fn known(title: &str) -> BTreeSet<String> {
        let inside = title.trim_matches(['[', ']']);
        let table = match inside.split_once('.') {
            Some((outer @ ("source" | "notify"), inner)) => format!("[[{outer}]]\n[{outer}.{inner}]\n"),
            // Without a name these are not looked at further.
            _ if matches!(inside, "host" | "source") => format!("{title}\nname = 'a'\n"),
            _ => format!("{title}\n"),
        };
        // Nothing is near enough to it to be suggested.
        let text = format!("{table}qqqqqqqqqqqqqqqq = 1\n");
        let (_, diagnostics) = parse(&[File { path: "t.toml".into(), text }]);
        let complaint = diagnostics
            .iter()
            .find(|fault| fault.message.contains("has no key `qqqqqqqqqqqqqqqq`"))
            .unwrap_or_else(|| panic!("{title}: {diagnostics:?}"));
        let help = complaint.help.clone().unwrap();
        help.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_key_is_documented_and_every_documented_key_exists() {
        for section in SECTIONS.iter().filter(|section| !section.keys.is_empty()) {
            let documented: BTreeSet<String> = section.keys.iter().map(|key| key.name.to_owned()).collect();
            assert_eq!(documented, known(section.title), "{}", section.title);
        }
        let tables: BTreeSet<String> = SECTIONS
            .iter()
            .map(|section| section.title.trim_matches(['[', ']']))
            .filter(|name| !name.contains('.'))
            .map(str::to_owned)
            .collect();
        let (_, diagnostics) = parse(&[File { path: "t.toml".into(), text: "qqqqqqqqqqqqqqqq = 1\n".to_owned() }]);
        let help = diagnostics[0].help.clone().unwrap();
        let known: BTreeSet<String> =
            help.split('`').skip(1).step_by(2).filter(|name| *name != "repository").map(str::to_owned).collect();
        assert_eq!(tables, known);
    }

    #[test]
    fn the_manual_page_has_no_stray_requests() {
        let requests = [".TH", ".SH", ".TP", ".B ", ".BR", ".I "];
        for line in manual().lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(requests.iter().any(|request| line.starts_with(request)), "{line}");
        }
    }
}
