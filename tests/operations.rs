//! What operates the daemon: configuration mistakes, `init`, `doctor`, `drain`, `support-bundle`, and the reference.

use std::path::Path;
use std::process::Output;

use serde_json::Value as Json;

use crate::support::towline;

/// What a user does wrong, and what he is told: parts of the text, the place among them.
const MISTAKES: &[(&str, &[&str])] = &[
    ("[sever]\n", &["towline.toml:1", "no key `sever`", "did you mean `server`?"]),
    ("[server]\nlisten = \"7443\"\n", &["towline.toml:2", "`listen` cannot be \"7443\"", "127.0.0.1:7443"]),
    ("[server]\nlisten = [\"localhost:7443\"]\n", &["towline.toml:2", "numeric address"]),
    ("[server]\nurl = \"chronos.lan\"\n", &["towline.toml:2", "is no web address", "https://chronos.lan:7443"]),
    ("[server]\ntls = \"yes\"\n", &["towline.toml:2", "`tls` of [server] is a string", "true, false"]),
    ("[server.tls]\ncertificate = \"c.pem\"\n", &["[server.tls] has no `key`", "add `key ="]),
    (
        "[server.tls]\nclient_authority = \"clients.pem\"\n",
        &["has `client_authority`, but no `clients`", "add `clients = { ada = \"admin\""],
    ),
    ("[server.tls.clients]\nada = \"admin\"\n", &["no `client_authority`", "[server.tls] has no `certificate`"]),
    (
        "[server.tls]\nclient_authority = \"c.pem\"\nclients = { ada = \"boss\" }\n",
        &["towline.toml:3", "`ada` of [server.tls.clients] cannot be \"boss\"", "`operator`"],
    ),
    (
        "[server.github_login]\nclient_id = \"x\"\n",
        &["[server.github_login] has no `client_secret`", "add `client_secret ="],
    ),
    (
        "[server]\ntrusted_proxies = [\"10.0.0.0/40\"]\n",
        &["towline.toml:2", "cannot hold \"10.0.0.0/40\"", "10.0.0.0/8"],
    ),
    ("[telemetry]\nservice = \"ci\"\n", &["[telemetry] has no `otlp`", "http://collector.lan:4318"]),
    ("[[host]]\naddress = \"selene.lan\"\n", &["towline.toml:1", "[[host]] has no `name`"]),
    ("[host]\nname = \"selene\"\n", &["towline.toml:1", "write [[host]] with two brackets"]),
    ("[[host]]\nname = \"selene\"\nslot = 2\n", &["towline.toml:3", "no key `slot`", "did you mean `slots`?"]),
    ("[[host]]\nname = \"selene\"\nslots = 0\n", &["towline.toml:3", "out of range", "from 1 to 1000"]),
    ("[[host]]\nname = \"selene\"\nslots = \"two\"\n", &["towline.toml:3", "is a string, but must be a whole number"]),
    ("[[host]]\nname = \"my host\"\n", &["towline.toml:2", "cannot be \"my host\"", "goes into `address`"]),
    (
        "[[host]]\nname = \"a\"\n[[host]]\nname = \"A\"\n",
        &["towline.toml:4", "two hosts named \"A\"", "towline.toml:2"],
    ),
    ("[[host]]\nname = \"a\"\nwake = \"selene\"\n", &["towline.toml:3", "is no MAC address", "six hexadecimal pairs"]),
    (
        "[[host]]\nname = \"a\"\nkind = \"local\"\nuser = \"ci\"\n",
        &["towline.toml:4", "means nothing for a local host"],
    ),
    ("[[host]]\nname = \"a\"\nconnect_timeout = \"soon\"\n", &["towline.toml:3", "which is no duration", "\"30s\""]),
    ("[[source]]\nname = \"a/b/c\"\npath = \"/srv\"\n", &["towline.toml:2", "cannot be \"a/b/c\"", "OWNER/NAME"]),
    ("[[source]]\nname = \"a/b\"\nkind = \"githup\"\n", &["towline.toml:3", "did you mean \"github\"?"]),
    ("[[source]]\nname = \"a/b\"\nkind = \"gitea\"\n", &["a source of kind \"gitea\" needs `url`", "add `url ="]),
    (
        "[[source]]\nname = \"a/b\"\npath = \"/srv\"\ntriggers = [\"pushes\"]\n",
        &["towline.toml:4", "did you mean \"push\"?"],
    ),
    (
        "[[source]]\nname = \"a/b\"\npath = \"/srv\"\nevents = [\"push\", \"pull_requests\"]\n",
        &["towline.toml:4", "`events` of [[source]] cannot be \"pull_requests\"", "did you mean \"pull_request\"?"],
    ),
    (
        "[[source]]\nname = \"a/b\"\n[source.app]\nid = 1\n[[source]]\nname = \"A/B\"\npath = \"/srv\"\n",
        &["two sources named \"A/B\""],
    ),
    ("[[source]]\nname = \"a/b\"\ntoken = { file = \"x\", env = \"Y\" }\n", &["towline.toml:3", "exactly one place"]),
    ("[retention]\nlog_bytes = \"20 gigs\"\n", &["towline.toml:2", "which is no size", "\"10GB\""]),
    (
        "[[notify]]\non = \"change\"\n",
        &["[[notify]] says no way to tell", "exactly one of `url`, `command` and `mail`"],
    ),
    ("[actions]\nurl = \"https://git.lan/actions\"\n", &["towline.toml:2", "lacks {owner} or {name}"]),
    ("[server\nlisten = []\n", &["towline.toml:1", "https://toml.io"]),
];

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn mistakes_in_the_configuration_are_told_with_place_and_mend() {
    assert!(MISTAKES.len() >= 20);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("towline.toml");
    for (text, parts) in MISTAKES {
        std::fs::write(&file, text).unwrap();
        let mut serve = towline();
        serve.args(["serve", "--config"]).arg(&file).arg("--state").arg(directory.path().join("state"));
        let output = serve.env("HOME", directory.path()).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}\n{said}");
        for part in *parts {
            assert!(said.contains(part), "'{part}' is not said of\n{text}\n{said}");
        }
        assert!(!directory.path().join("state").exists(), "a refused configuration leaves nothing behind");
    }
}

/// A user's own places.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = towline();
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("TOWLINE_CONFIG", self.path("towline.toml"))
            .env("TOWLINE_STATE", self.path("state"))
            .env("TOWLINE_RUNTIME", self.path("run"))
            .env("TOWLINE_SOCKET", self.path("run/towline.sock"))
            .stdin(std::process::Stdio::null());
        command.output().unwrap()
    }
}

#[test]
fn init_writes_what_the_daemon_takes_and_keeps_what_is_there() {
    let home = Home::new();
    let output = home.run(&["init"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("--yes"), "{}", said(&output));
    let output = home.run(&["init", "--yes", "--url", "https://chronos.lan:7443"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("ssh-ed25519 ") && text.contains("towline doctor"), "{text}");
    let key = std::fs::read_to_string(home.path("state/master.key")).unwrap();
    let written = std::fs::read_to_string(home.path("towline.toml")).unwrap();
    assert!(written.contains("https://chronos.lan:7443") && written.contains("kind = \"local\""), "{written}");
    let output = home.run(&["init", "--yes"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("already"), "{}", said(&output));
    assert!(home.run(&["init", "--yes", "--force", "--no-local"]).status.success());
    assert!(!std::fs::read_to_string(home.path("towline.toml")).unwrap().contains("local"));
    assert_eq!(std::fs::read_to_string(home.path("state/master.key")).unwrap(), key, "the key is never made anew");
}

/// Findings of the doctor as (level, subject, text, mend).
fn findings(home: &Home) -> (Option<i32>, Vec<[String; 4]>) {
    let output = home.run(&["doctor", "--json"]);
    let found: Vec<Json> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
    let word = |one: &Json, key: &str| one[key].as_str().unwrap().to_owned();
    let found = found.iter().map(|one| ["level", "subject", "text", "mend"].map(|key| word(one, key))).collect();
    (output.status.code(), found)
}

#[test]
fn doctor_finds_what_is_wrong_and_says_how_to_mend_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let port = crate::support::sshd::free_port();
    let config = format!(
        "[server]\nurl = \"https://chronos.lan:7443\"\n[[host]]\nname = \"away\"\naddress = \"127.0.0.1\"\nport = {port}\nconnect_timeout = \"5s\"\n\
         [[source]]\nname = \"a/b\"\ntoken = {{ file = \"no-such-file\" }}\n[[source]]\nname = \"c/d\"\npath = \"no-such-directory\"\n"
    );
    std::fs::write(home.path("towline.toml"), config).unwrap();
    std::fs::set_permissions(home.path("towline.toml"), std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::create_dir(home.path("state")).unwrap();
    std::fs::set_permissions(home.path("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(home.path("state/master.key"), "x").unwrap();
    std::fs::set_permissions(home.path("state/master.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, found) = findings(&home);
    assert_eq!(code, Some(1), "{found:?}");
    for (level, subject, text, mend) in [
        ("error", "configuration", "everybody can write", "chmod o-w"),
        ("error", "master key", "others can read", "chmod 600"),
        ("error", "daemon", "nobody answers at", "towline serve"),
        ("error", "host away", "cannot reach away: nothing listens at 127.0.0.1:", ""),
        ("error", "source a/b", "no-such-file", "readable for the daemon's user"),
        ("error", "source c/d", "does not exist", "correct `path`"),
        ("warning", "address", "listens on this machine alone", "trusted_proxies"),
        ("warning", "configuration", "webhook_secret", ""),
        ("ok", "git", "git version", ""),
    ] {
        let hit =
            |one: &&[String; 4]| one[0] == level && one[1] == subject && one[2].contains(text) && one[3].contains(mend);
        assert!(found.iter().any(|one| hit(&one)), "{level} {subject}: {text} is not among {found:#?}");
    }
    // Faults of the configuration are findings too, and the other checks go on.
    std::fs::write(home.path("towline.toml"), "[server]\nlisen = []\n").unwrap();
    let (_, found) = findings(&home);
    assert!(
        found.iter().any(|one| one[2].contains("towline.toml:2") && one[2].contains("did you mean `listen`?")),
        "{found:?}"
    );
    assert!(found.iter().any(|one| one[1] == "git"), "{found:?}");
}

#[test]
fn a_support_bundle_holds_no_secret() {
    let home = Home::new();
    let secrets = [
        "ghp_verysecrettoken",
        "hunter2-webhook",
        "smtp-password-9",
        "https://me:pw-in-url@git.lan",
        "collector-key",
        "oauth-secret",
    ];
    let config = format!(
        "[[source]]\nname = \"a/b\"\ntoken = \"{}\"\nwebhook_secret = [\"{}\"]\n[[source]]\nname = \"c/d\"\nkind = \"git\"\nurl = \"{}/c/d.git\"\n\
         [[notify]]\n[notify.mail]\nserver = \"smtp.lan:25\"\nfrom = \"a@b\"\nto = [\"c@d\"]\npassword = \"{}\"\n",
        secrets[0], secrets[1], secrets[3], secrets[2]
    );
    std::fs::write(home.path("towline.toml"), config).unwrap();
    assert!(home.run(&["init", "--yes", "--force"]).status.code().is_some());
    let key = std::fs::read_to_string(home.path("state/master.key")).unwrap();
    let config = std::fs::read_to_string(home.path("towline.toml")).unwrap();
    let more = format!(
        "{config}\n[[source]]\nname = \"a/b\"\ntoken = \"{}\"\nwebhook_secret = [\"{}\"]\n",
        secrets[0], secrets[1]
    );
    let more = format!(
        "{more}\n[telemetry]\notlp = \"http://c.lan:4318\"\nheaders = {{ x-api-key = \"{}\", other = {{ file = \"kept\" }} }}\n\
         [server.github_login]\nclient_id = \"id\"\nclient_secret = \"{}\"\nallow = [\"ada\"]\n",
        secrets[4], secrets[5]
    );
    std::fs::write(home.path("towline.toml"), more).unwrap();
    let output = home.run(&["support-bundle", "--output", "bundle.tar.gz"]);
    assert!(output.status.success(), "{}", said(&output));
    let bundle = std::process::Command::new("tar").arg("-xzOf").arg(home.path("bundle.tar.gz")).output().unwrap();
    let text = String::from_utf8_lossy(&bundle.stdout).into_owned();
    assert!(text.contains("a/b") && text.contains("(left out)") && text.contains("nobody answers"), "{text}");
    for secret in secrets.iter().copied().chain([key.trim()]) {
        assert!(!text.contains(secret), "{secret} is in the bundle");
    }
}

#[test]
fn the_reference_is_what_the_program_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for what in ["commands", "configuration"] {
        let output = towline().args(["man", "--markdown", what]).output().unwrap();
        let file = root.join("docs/reference").join(format!("{what}.md"));
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            kept == said,
            "docs/reference/{what}.md is stale: target/debug/towline man --markdown {what} > docs/reference/{what}.md"
        );
    }
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let help = said(&towline().arg("--help").output().unwrap());
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.contains(&"support-bundle") && commands.len() > 15, "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&towline().args(["completion", shell]).output().unwrap());
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let pages = tempfile::tempdir().unwrap();
    assert!(towline().args(["man", "--directory"]).arg(pages.path()).status().unwrap().success());
    for command in &commands {
        assert!(pages.path().join(format!("towline-{command}.1")).exists(), "{command}");
    }
    assert!(pages.path().join("towline.toml.5").exists() && pages.path().join("towline-host-add.1").exists());
}
