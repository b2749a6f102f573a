//! The tables of the configuration, one function each.

mod server;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use toml::de::{DeTable, DeValue};

use super::decode::{self, Table};
use super::hours::Hours;
use super::{
    Actions, Checkout, Config, File, GitHubApp, Host, Limits, Mail, MailTls, Notify, NotifyHow, NotifyOn, Pull, Reach,
    Retention, SecretSource, Server, Source, SourceKind, Ssh, Tls, TriggerKind, WebhookShape,
};
use crate::diagnostic::{Diagnostic, codes};
use crate::event::activity;
use crate::id::{HostName, RepositoryName};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn parse(files: &[File]) -> (Option<Config>, Vec<Diagnostic>) {
    let diagnostics = RefCell::new(Vec::new());
    let mut config = empty();
    let mut names = Names::default();
    for file in files {
        let path = file.path.display().to_string();
        let source = decode::Source { path: &path, text: &file.text, diagnostics: &diagnostics };
        match DeTable::parse(&file.text) {
            Ok(tree) => {
                let root = Table::new(&source, "the file", 0..0, tree.get_ref());
                let base = file.path.parent().unwrap_or(Path::new("."));
                root_table(&root, base, &mut config, &mut names);
                root.finish();
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                source.error(codes::CONFIG_SYNTAX, span, error.message().trim(), "see https://toml.io for the syntax");
            }
        }
    }
    let diagnostics = diagnostics.into_inner();
    let usable = !diagnostics.iter().any(Diagnostic::is_error);
    (usable.then_some(config), diagnostics)
}

/// Where each name was given first, for complaints about the second.
#[derive(Default)]
struct Names {
    hosts: BTreeMap<String, String>,
    sources: BTreeMap<String, String>,
}

fn empty() -> Config {
    Config {
        server: Server {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 7443))],
            url: None,
            tls: Tls::Own,
            open_metrics: false,
            open_reads: false,
            trusted_proxies: Vec::new(),
            clients: None,
            github_login: None,
        },
        hosts: Vec::new(),
        sources: Vec::new(),
        labels: IndexMap::new(),
        weights: BTreeMap::new(),
        actions: Actions {
            mirror: None,
            url: None,
            checkout: Checkout::Builtin,
            pull: Pull::Always,
            node: None,
            lock_file: None,
            allow: Vec::new(),
        },
        retention: Retention {
            runs: 400 * DAY,
            logs: 90 * DAY,
            artifacts: 90 * DAY,
            deliveries: 30 * DAY,
            log_bytes: 20_000_000_000,
            cache_bytes: 10_000_000_000,
        },
        notify: Vec::new(),
        limits: Limits { jobs: 0, job_log: 2_000_000_000, queue: DAY, disk: 500_000_000 },
        telemetry: None,
    }
}

fn root_table(root: &Table<'_>, base: &Path, config: &mut Config, names: &mut Names) {
    if let Some(table) = root.table("server", "[server]") {
        server::listening(table, base, &mut config.server);
    }
    for table in root.tables("host") {
        config.hosts.extend(host(table, base, names));
    }
    for key in ["source", "repository"] {
        for table in root.tables(key) {
            config.sources.extend(source(table, base, names));
        }
    }
    if let Some(table) = root.table("labels", "[labels]") {
        for (name, _, value) in table.pairs() {
            if let Some(labels) = decode::strings_of(&table, name, value) {
                config.labels.insert(name.to_owned(), labels.into_iter().map(|(label, _)| label).collect());
            }
        }
    }
    if let Some(table) = root.table("weights", "[weights]") {
        config.weights.extend(counts(&table));
    }
    if let Some(table) = root.table("actions", "[actions]") {
        actions(table, base, &mut config.actions);
    }
    if let Some(table) = root.table("retention", "[retention]") {
        let kept = &mut config.retention;
        set(&mut kept.runs, table.duration("runs"));
        set(&mut kept.logs, table.duration("logs"));
        set(&mut kept.artifacts, table.duration("artifacts"));
        set(&mut kept.deliveries, table.duration("deliveries"));
        set(&mut kept.log_bytes, table.bytes("log_bytes"));
        set(&mut kept.cache_bytes, table.bytes("cache_bytes"));
        table.finish();
    }
    if let Some(table) = root.table("limits", "[limits]") {
        let limits = &mut config.limits;
        set(&mut limits.jobs, table.number("jobs", 0..=100_000).and_then(|number| u32::try_from(number).ok()));
        set(&mut limits.job_log, table.bytes("job_log"));
        set(&mut limits.queue, table.duration("queue"));
        set(&mut limits.disk, table.bytes("disk"));
        table.finish();
    }
    for table in root.tables("notify") {
        config.notify.extend(notify(table, base));
    }
    if let Some(table) = root.table("telemetry", "[telemetry]") {
        config.telemetry = server::telemetry(table, base).or(config.telemetry.take());
    }
}

/// A table of labels and numbers from 1.
fn counts(table: &Table<'_>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for (label, _, value) in table.pairs() {
        let number = value.get_ref().as_integer().and_then(|number| {
            u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| (1..=1000).contains(number))
        });
        match number {
            Some(number) => drop(counts.insert(label.to_lowercase(), number)),
            None => table.wrong(label, value, "must be a number from 1 to 1000", "write for example `heavy = 2`"),
        }
    }
    counts
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn host(table: Table<'_>, base: &Path, names: &mut Names) -> Option<Host> {
    let name = table.required("name", "\"selene\"");
    let local = table.choice("kind", &[("ssh", false), ("local", true)]).unwrap_or(false);
    let address = table.string("address");
    let ssh = Ssh {
        // A host is found under its name unless an address says otherwise, as in ~/.ssh/config.
        address: address.or_else(|| name.clone()).unwrap_or_default(),
        user: table.string("user"),
        port: table.number("port", 1..=65_535).and_then(|port| u16::try_from(port).ok()),
        identity: paths(&table, "identity", base),
        known_hosts: paths(&table, "known_hosts", base),
        jump: table.words("jump"),
        agent: table.boolean("agent").unwrap_or(true),
        password: secret(&table, "password", base),
        connect_timeout: table.duration("connect_timeout").unwrap_or(Duration::from_secs(10)),
    };
    if local {
        for key in ["address", "user", "port", "identity", "known_hosts", "jump", "password", "wake"] {
            if let Some(value) = table.value(key) {
                table.wrong(key, value, "means nothing for a local host", &format!("remove `{key}` or `kind`"));
            }
        }
    }
    let wake = table.value("wake").and_then(|value| {
        let address = value.get_ref().as_str().and_then(mac_address);
        if address.is_none() {
            table.wrong("wake", value, "is no MAC address", "write six hexadecimal pairs: \"3c:22:fb:00:00:01\"");
        }
        address
    });
    let host = Host {
        name: HostName(name.clone().unwrap_or_default()),
        reach: if local { Reach::Local } else { Reach::Ssh(ssh) },
        labels: table.words("labels"),
        slots: table.number("slots", 1..=1000).and_then(|number| u32::try_from(number).ok()).unwrap_or(1),
        quiet: hours(&table),
        label_limits: table.table("limits", "[host.limits]").map(|limits| counts(&limits)).unwrap_or_default(),
        root: table.string("root"),
        wake,
        wake_timeout: table.duration("wake_timeout").unwrap_or(Duration::from_secs(180)),
        repositories: table.words("repositories").into_iter().map(RepositoryName).collect(),
        quota: table.bytes("quota"),
    };
    let name = name?;
    if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
        && let Some(value) = table.value("name")
    {
        let mend = "use letters, digits, `.`, `_` and `-`; the address of the machine goes into `address`";
        table.wrong("name", value, &format!("cannot be \"{name}\""), mend);
    }
    unique(&table, "host", &name, &mut names.hosts);
    table.finish();
    Some(host)
}

fn hours(table: &Table<'_>) -> Vec<Hours> {
    let mut quiet = Vec::new();
    for (text, span) in table.strings("quiet").unwrap_or_default() {
        match Hours::parse(&text) {
            Some(hours) => quiet.push(hours),
            None => table.source.error(
                codes::CONFIG_VALUE,
                span,
                format!("`quiet` cannot hold \"{text}\""),
                "write hours, after days if not on all: \"22:00-06:00\", \"Mon-Fri 08:00-18:00\", \"Sat,Sun 00:00-24:00\"",
            ),
        }
    }
    quiet
}

fn source(table: Table<'_>, base: &Path, names: &mut Names) -> Option<Source> {
    let name = table.required("name", "\"OWNER/NAME\"");
    let kinds = [
        SourceKind::GitHub,
        SourceKind::Gitea,
        SourceKind::Forgejo,
        SourceKind::GitLab,
        SourceKind::Git,
        SourceKind::Directory,
    ];
    let kind = if table.value("kind").is_some() {
        table.choice("kind", &kinds.map(|kind| (kind.as_str(), kind)))
    } else if table.value("path").is_some() {
        Some(SourceKind::Git)
    } else {
        Some(SourceKind::GitHub)
    };
    let path = table.string("path").map(|path| base.join(path));
    let url = table.string("url");
    if let Some(kind) = kind {
        let missing = match kind {
            SourceKind::Directory if path.is_none() => Some(("path", "\"/srv/operations\"")),
            SourceKind::Git if path.is_none() && url.is_none() => Some(("path", "\"/srv/git/app.git\"")),
            SourceKind::Gitea | SourceKind::Forgejo | SourceKind::GitLab if url.is_none() => {
                Some(("url", "\"https://git.lan/OWNER/NAME.git\""))
            }
            _ => None,
        };
        if let Some((key, example)) = missing {
            table.source.error(
                codes::CONFIG_MISSING,
                table.span.clone(),
                format!("a source of kind \"{}\" needs `{key}`", kind.as_str()),
                &format!("add `{key} = {example}`"),
            );
        }
    }
    let default_triggers = match kind {
        Some(SourceKind::Directory) => vec![TriggerKind::Watch, TriggerKind::Schedule],
        Some(SourceKind::Git) if path.is_some() => vec![TriggerKind::Push, TriggerKind::Schedule],
        Some(SourceKind::Git) => vec![TriggerKind::Poll, TriggerKind::Schedule],
        _ => vec![TriggerKind::Webhook, TriggerKind::Schedule],
    };
    let triggers = table.choices(
        "triggers",
        &[
            ("push", TriggerKind::Push),
            ("webhook", TriggerKind::Webhook),
            ("poll", TriggerKind::Poll),
            ("watch", TriggerKind::Watch),
            ("schedule", TriggerKind::Schedule),
        ],
    );
    let app = table.table("app", "[source.app]").and_then(|app| {
        if app.value("id").is_none() {
            app.source.error(codes::CONFIG_MISSING, app.span.clone(), "[source.app] has no `id`", "add `id = 12345`");
        }
        let id = app.number("id", 1..=u64::MAX);
        let private_key = secret(&app, "private_key", base);
        app.finish();
        Some(GitHubApp { id: id?, private_key: private_key? })
    });
    let source = Source {
        name: RepositoryName(name.clone().unwrap_or_default()),
        kind: kind.unwrap_or(SourceKind::Git),
        path,
        url,
        triggers: triggers.unwrap_or(default_triggers),
        webhook_secrets: secrets(&table, "webhook_secret", base),
        events: {
            let names: Vec<(&str, &str)> = activity::names().map(|name| (name, name)).collect();
            let chosen = table.choices("events", &names).unwrap_or_default();
            chosen.into_iter().map(str::to_owned).collect()
        },
        token: secret(&table, "token", base),
        app,
        workflows: Some(table.words("workflows"))
            .filter(|directories| !directories.is_empty())
            .unwrap_or_else(|| vec![".towline/workflows".to_owned(), ".github/workflows".to_owned()]),
        default_branch: table.string("default_branch"),
        poll_interval: table.duration("poll_interval").unwrap_or(Duration::from_secs(60)),
        relay: web_address(&table, "relay"),
        follow: table.boolean("follow").unwrap_or(false),
        trusted: table.words("trusted"),
        report: table.boolean("report").unwrap_or(true),
        priority: priority(&table),
        hold_on_failure: table.duration("hold_on_failure").unwrap_or_default(),
    };
    if source.triggers.contains(&TriggerKind::Webhook) && source.webhook_secrets.is_empty() && kind.is_some() {
        table.source.warning(
            codes::CONFIG_MISSING,
            table.span.clone(),
            "webhooks of this source are refused: there is no `webhook_secret` to check them with",
            "add `webhook_secret = { file = \"…\" }`, or leave \"webhook\" out of `triggers`",
        );
    }
    let name = name?;
    if !is_repository_name(&name)
        && let Some(value) = table.value("name")
    {
        let mend = "write OWNER/NAME, or NAME alone for a repository of this machine; letters, digits, `.`, `_`, `-`";
        table.wrong("name", value, &format!("cannot be \"{name}\""), mend);
    }
    unique(&table, "source", &name, &mut names.sources);
    table.finish();
    Some(source)
}

fn priority(table: &Table<'_>) -> i32 {
    let Some(value) = table.value("priority") else { return 0 };
    let number =
        value.get_ref().as_integer().and_then(|number| i32::from_str_radix(number.as_str(), number.radix()).ok());
    match number.filter(|number| (-10..=10).contains(number)) {
        Some(number) => number,
        None => {
            table.wrong("priority", value, "must be a number from -10 to 10", "0 is normal; higher goes earlier");
            0
        }
    }
}

/// Whether a text can name a repository: one or two path segments without anything a path or address would misread.
#[must_use]
pub fn is_repository_name(name: &str) -> bool {
    let segments: Vec<&str> = name.split('/').collect();
    segments.len() <= 2
        && segments.iter().all(|segment| {
            !segment.is_empty()
                && segment.len() <= 100
                && !segment.starts_with(['.', '-'])
                && segment.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
        })
}

fn actions(table: Table<'_>, base: &Path, actions: &mut Actions) {
    set(&mut actions.mirror, table.string("mirror").map(|path| Some(base.join(path))));
    if let Some(url) = table.string("url") {
        if url.contains("{owner}") && url.contains("{name}") {
            actions.url = Some(url);
        } else if let Some(value) = table.value("url") {
            table.wrong(
                "url",
                value,
                "lacks {owner} or {name}",
                "for example \"https://github.com/{owner}/{name}.git\"",
            );
        }
    }
    set(&mut actions.checkout, table.choice("checkout", &[("builtin", Checkout::Builtin), ("node", Checkout::Node)]));
    set(&mut actions.pull, table.choice("pull", &[("always", Pull::Always), ("missing", Pull::Missing)]));
    set(&mut actions.node, table.string("node").map(Some));
    set(&mut actions.lock_file, table.string("lock_file").map(|path| Some(base.join(path))));
    if table.value("allow").is_some() {
        actions.allow = table.words("allow");
    }
    table.finish();
}

fn notify(table: Table<'_>, base: &Path) -> Option<Notify> {
    let on = table
        .choice(
            "on",
            &[
                ("change", NotifyOn::Change),
                ("failure", NotifyOn::Failure),
                ("recovery", NotifyOn::Recovery),
                ("always", NotifyOn::Always),
            ],
        )
        .unwrap_or(NotifyOn::Change);
    let url = web_address(&table, "url");
    let shape = table
        .choice(
            "shape",
            &[
                ("plain", WebhookShape::Plain),
                ("slack", WebhookShape::Slack),
                ("discord", WebhookShape::Discord),
                ("ntfy", WebhookShape::Ntfy),
            ],
        )
        .unwrap_or(WebhookShape::Plain);
    let signing = secret(&table, "secret", base);
    let command = table.words("command");
    let mail = table.table("mail", "[notify.mail]").and_then(|mail| {
        let server = mail.required("server", "\"smtp.lan:587\"");
        let from = mail.required("from", "\"towline@lan\"");
        let to = mail.words("to");
        if to.is_empty() {
            let mend = "add `to = [\"you@lan\"]`";
            mail.source.error(codes::CONFIG_MISSING, mail.span.clone(), "[notify.mail] has no `to`", mend);
        }
        let user = mail.string("user");
        let password = secret(&mail, "password", base);
        let tls = mail.choice(
            "tls",
            &[
                ("always", MailTls::Always),
                ("required", MailTls::Required),
                ("if-offered", MailTls::IfOffered),
                ("never", MailTls::Never),
            ],
        );
        let authority = mail.string("authority").map(|path| expand(&path, base));
        mail.finish();
        Some(NotifyHow::Mail(Mail { server: server?, from: from?, to, user, password, tls, authority }))
    });
    let mut ways: Vec<NotifyHow> = Vec::new();
    ways.extend(url.map(|url| NotifyHow::Webhook { url, shape, secret: signing }));
    if !command.is_empty() {
        ways.push(NotifyHow::Command(command));
    }
    ways.extend(mail);
    let repositories = table.words("repositories").into_iter().map(RepositoryName).collect();
    let workflows = table.words("workflows");
    let branches = table.words("branches");
    if ways.len() != 1 {
        let given = if ways.is_empty() { "no" } else { "more than one" };
        table.source.error(
            codes::CONFIG_VALUE,
            table.span.clone(),
            format!("[[notify]] says {given} way to tell"),
            "give exactly one of `url`, `command` and `mail`; write a second [[notify]] for a second way",
        );
    }
    table.finish();
    Some(Notify { on, repositories, workflows, branches, how: ways.into_iter().next()? })
}

fn web_address(table: &Table<'_>, key: &'static str) -> Option<String> {
    let text = table.string(key)?;
    let parsed = text.parse::<http::Uri>().ok();
    if parsed.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()) {
        return Some(text.trim_end_matches('/').to_owned());
    }
    if let Some(value) = table.value(key) {
        table.wrong(key, value, "is no web address", "for example \"https://chronos.lan:7443\"");
    }
    None
}

fn paths(table: &Table<'_>, key: &'static str, base: &Path) -> Vec<PathBuf> {
    table.words(key).into_iter().map(|path| expand(&path, base)).collect()
}

/// A path of the configuration: `~` is the daemon's home, what is relative is relative to the file.
fn expand(path: &str, base: &Path) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => base.join(path),
    }
}

fn secret(table: &Table<'_>, key: &'static str, base: &Path) -> Option<SecretSource> {
    let value = table.value(key)?;
    secret_of(table, key, value.span(), value.get_ref(), base)
}

fn secrets(table: &Table<'_>, key: &'static str, base: &Path) -> Vec<SecretSource> {
    match table.value(key).map(|value| (value.span(), value.get_ref())) {
        None => Vec::new(),
        Some((_, DeValue::Array(items))) => {
            items.iter().filter_map(|item| secret_of(table, key, item.span(), item.get_ref(), base)).collect()
        }
        Some((span, value)) => secret_of(table, key, span, value, base).into_iter().collect(),
    }
}

fn secret_of(
    table: &Table<'_>,
    key: &str,
    span: Range<usize>,
    value: &DeValue<'_>,
    base: &Path,
) -> Option<SecretSource> {
    const MEND: &str = "write { file = \"PATH\" }, { env = \"NAME\" } or { credential = \"NAME\" }";
    match value {
        DeValue::String(text) if !text.is_empty() => {
            let message = format!("`{key}` of {} stands in clear text", table.title);
            table.source.warning(codes::CONFIG_SECRET, span, message, MEND);
            Some(SecretSource::Plain(text.to_string()))
        }
        DeValue::Table(entries) => {
            let places = Table::new(table.source, format!("`{key}`"), span.clone(), entries);
            let mut found: Vec<SecretSource> = Vec::new();
            found.extend(places.string("file").map(|path| SecretSource::File(expand(&path, base))));
            found.extend(places.string("env").map(SecretSource::Environment));
            found.extend(places.string("credential").map(SecretSource::Credential));
            if found.len() != 1 {
                let message = format!("`{key}` of {} must name exactly one place", table.title);
                table.source.error(codes::CONFIG_VALUE, span, message, MEND);
            }
            places.finish();
            found.into_iter().next()
        }
        _ => {
            let message = format!("`{key}` of {} is no secret", table.title);
            table.source.error(codes::CONFIG_VALUE, span, message, MEND);
            None
        }
    }
}

fn mac_address(text: &str) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut address {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(address)
}

/// Complains when a name was given before, whatever its case.
fn unique(table: &Table<'_>, what: &str, name: &str, seen: &mut BTreeMap<String, String>) {
    let Some(value) = table.value("name") else { return };
    let span = crate::diagnostic::Span::of_bytes(table.source.text, value.span());
    let place = format!("{}:{}", table.source.path, span.start.line);
    if let Some(first) = seen.insert(name.to_ascii_lowercase(), place) {
        table.source.error(
            codes::CONFIG_DUPLICATE,
            value.span(),
            format!("there are two {what}s named \"{name}\""),
            &format!("the first stands at {first}; rename or remove one"),
        );
    }
}
