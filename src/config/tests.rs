use super::*;
use crate::diagnostic::Severity;

fn files(texts: &[&str]) -> Vec<File> {
    let name = |index: usize| if index == 0 { "towline.toml".to_owned() } else { format!("conf.d/{index}.toml") };
    let file = |(index, text): (usize, &&str)| File { path: name(index).into(), text: (*text).to_owned() };
    texts.iter().enumerate().map(file).collect()
}

fn accept(texts: &[&str]) -> Config {
    let (config, diagnostics) = parse(&files(texts));
    config.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

/// Every line is `severity code line message | help`.
fn complaints(texts: &[&str]) -> Vec<String> {
    let (config, diagnostics) = parse(&files(texts));
    let errors = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    assert_eq!(config.is_none(), errors);
    diagnostics
        .iter()
        .map(|diagnostic| {
            let line = diagnostic.span.map_or(0, |span| span.start.line);
            let help = diagnostic.help.as_deref().unwrap_or("");
            format!("{} {}:{line}: {} | {help}", diagnostic.severity.as_str(), diagnostic.path, diagnostic.message)
        })
        .collect()
}

#[test]
fn the_example_of_the_manual_is_understood() {
    let config = accept(&[
        r#"
[server]
listen = ["127.0.0.1:7443", "[::1]:7443"]
url = "https://chronos.lan:7443/"

[[host]]
name = "selene"
address = "selene.lan"
user = "ci"
labels = ["e2e", "macos-15"]
slots = 2
wake = "3c:22:fb:00:00:01"
jump = "bastion.lan"
identity = "keys/ci"

[labels]
ubuntu-latest = "linux"
macos-latest = ["macOS", "ARM64"]

[actions]
mirror = "mirror"
checkout = "node"
pull = "missing"

[retention]
logs = "30d"
cache_bytes = "5GiB"
"#,
        r#"
[[host]]
name = "here"
kind = "local"

[[source]]
name = "yadag/todo-app"
kind = "github"
triggers = ["webhook", "poll"]
webhook_secret = [{ file = "new" }, { env = "OLD" }]

[[repository]]
name = "app"
path = "/srv/git/app.git"

[[notify]]
url = "https://ntfy.lan/ci"
shape = "ntfy"
"#,
    ]);
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!(config.server.url.as_deref(), Some("https://chronos.lan:7443"));
    assert_eq!(config.hosts.len(), 2);
    let selene = &config.hosts[0];
    assert_eq!((selene.slots, selene.wake), (2, Some([0x3c, 0x22, 0xfb, 0, 0, 1])));
    let Reach::Ssh(ssh) = &selene.reach else { panic!("{selene:?}") };
    assert_eq!((ssh.address.as_str(), ssh.user.as_deref(), ssh.port), ("selene.lan", Some("ci"), None));
    assert_eq!((ssh.jump.as_slice(), ssh.identity.as_slice()), (&["bastion.lan".into()][..], &["keys/ci".into()][..]));
    assert_eq!(config.hosts[1].reach, Reach::Local);
    assert_eq!(config.labels["macos-latest"], ["macOS", "ARM64"]);
    assert_eq!(config.actions.checkout, Checkout::Node);
    assert_eq!(config.actions.pull, Pull::Missing);
    assert_eq!(config.retention.logs, Duration::from_secs(30 * 86_400));
    assert_eq!(config.retention.cache_bytes, 5 << 30);
    let todo = &config.sources[0];
    assert_eq!(todo.triggers, [TriggerKind::Webhook, TriggerKind::Poll]);
    // Relative to the file that says it.
    let secrets = [SecretSource::File("conf.d/new".into()), SecretSource::Environment("OLD".into())];
    assert_eq!(todo.webhook_secrets, secrets);
    assert_eq!(config.sources[1].kind, SourceKind::Git);
    assert_eq!(config.sources[1].triggers, [TriggerKind::Push, TriggerKind::Schedule]);
    assert_eq!(config.sources[1].workflows, [".towline/workflows", ".github/workflows"]);
    assert!(matches!(&config.notify[0].how, NotifyHow::Webhook { shape: WebhookShape::Ntfy, .. }));
}

#[test]
fn later_files_win_key_by_key() {
    let config = accept(&["[server]\nopen_reads = true\nurl = 'http://a'", "[server]\nurl = 'http://b'"]);
    assert!(config.server.open_reads);
    assert_eq!(config.server.url.as_deref(), Some("http://b"));
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = Config::default();
    assert!(config.hosts.is_empty() && config.sources.is_empty());
    assert!(config.server.listen.iter().all(|address| address.ip().is_loopback()));
}

#[test]
fn faults_name_the_place_and_the_mend() {
    let cases: &[(&[&str], &str)] = &[
        (&["[sever]"], "error towline.toml:1: the file has no key `sever` | did you mean `server`?"),
        (
            &["[[host]]\nname = 'a'\nslot = 2"],
            "error towline.toml:3: [[host]] has no key `slot` | did you mean `slots`?",
        ),
        (&["[[host]]\nslots = 2"], "error towline.toml:1: [[host]] has no `name` | add `name = \"selene\"`"),
        (
            &["[[host]]\nname = 'a'\nslots = 0"],
            "error towline.toml:3: `slots` of [[host]] is 0, which is out of range | give a whole number from 1 to 1000",
        ),
        (
            &["[[host]]\nname = 'a'", "\n[[host]]\nname = 'A'"],
            "error conf.d/1.toml:3: there are two hosts named \"A\" | the first stands at towline.toml:2; rename or remove one",
        ),
        (
            &["[[host]]\nname = 'a'\nkind = 'local'\nport = 22"],
            "error towline.toml:4: `port` of [[host]] means nothing for a local host | remove `port` or `kind`",
        ),
        (
            &["[host]\nname = 'a'"],
            "error towline.toml:1: `host` is a list of tables | write [[host]] with two brackets on each side",
        ),
        (
            &["[server]\nlisten = ['localhost']"],
            "error towline.toml:2: `listen` cannot be \"localhost\" | give ADDRESS:PORT with a numeric address, for example \"127.0.0.1:7443\", \"0.0.0.0:443\" or \"[::]:443\"",
        ),
        (
            &["[[source]]\nname = 'a/b'\nkind = 'githup'"],
            "error towline.toml:3: `kind` of [[source]] cannot be \"githup\" | did you mean \"github\"? There are `github`, `gitea`, `forgejo`, `gitlab`, `git`, `directory`",
        ),
        (
            &["[[source]]\nname = 'ops'\nkind = 'directory'"],
            "error towline.toml:1: a source of kind \"directory\" needs `path` | add `path = \"/srv/operations\"`",
        ),
        (
            &["[[source]]\nname = '../../etc'\npath = 'x'"],
            "error towline.toml:2: `name` of [[source]] cannot be \"../../etc\" | write OWNER/NAME, or NAME alone for a repository of this machine; letters, digits, `.`, `_`, `-`",
        ),
        (
            &["[[source]]\nname = 'a'\npath = 'x'\ntoken = 'ghp_1'"],
            "warning towline.toml:4: `token` of [[source]] stands in clear text | write { file = \"PATH\" }, { env = \"NAME\" } or { credential = \"NAME\" }",
        ),
        (
            &["[[source]]\nname = 'a/b'"],
            "warning towline.toml:1: webhooks of this source are refused: there is no `webhook_secret` to check them with | add `webhook_secret = { file = \"…\" }`, or leave \"webhook\" out of `triggers`",
        ),
        (
            &["[retention]\nlogs = '3 weeks'"],
            "error towline.toml:2: `logs` of [retention] is \"3 weeks\", which is no duration | write a number and a unit: \"30s\", \"5m\", \"12h\" or \"90d\"",
        ),
        (
            &["[retention]\nlogs = '99999999999999999999d'"],
            "error towline.toml:2: `logs` of [retention] is \"99999999999999999999d\", which is no duration | write a number and a unit: \"30s\", \"5m\", \"12h\" or \"90d\"",
        ),
        (
            &["[[notify]]\non = 'always'"],
            "error towline.toml:1: [[notify]] says no way to tell | give exactly one of `url`, `command` and `mail`; write a second [[notify]] for a second way",
        ),
        (
            &["[server]\nopen_reads = 'yes'"],
            "error towline.toml:2: `open_reads` of [server] is a string, but must be true or false | ",
        ),
    ];
    for (texts, expected) in cases {
        assert_eq!(complaints(texts), [*expected]);
    }
}

#[test]
fn broken_syntax_is_one_fault_with_its_line() {
    let found = complaints(&["[server]\nurl = \"unfinished\nx = 1"]);
    assert!(found[0].starts_with("error towline.toml:2: "), "{found:?}");
    let found = complaints(&["[server]\nurl = 'http://a'\nurl = 'http://b'"]);
    assert!(found[0].starts_with("error towline.toml:3: duplicate key"), "{found:?}");
}

#[test]
fn all_faults_are_told_at_once() {
    assert_eq!(complaints(&["[[host]]\nname = 'a'\nslots = 0\nwake = 'x'\nfoo = 1"]).len(), 3);
}

#[test]
fn a_secret_does_not_print_itself() {
    assert_eq!(format!("{:?}", SecretSource::Plain("hunter2".into())), "Plain(***)");
}
