//! `docs/offline.md`, word for word, where there is no way to the internet: the page's commands fill a mirror, a runtime, a tool cache
//! and an engine, and the sample of the page runs on an SSH host with all of it. A packet that wants to leave fails the test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::exec::{copy, init};
use crate::support::engine::Engine;
use crate::support::sshd::{self, Sshd, user};
use crate::support::{clients, towline};

/// A way out that leads nowhere, and a list of who tried it. Names are asked for there too; the host has no node.
const BORDER: &str = r#"
ip link add out0 type veth peer name out1
echo 1 >/proc/sys/net/ipv6/conf/out0/disable_ipv6
ip addr add 192.0.2.1/24 dev out0; ip link set out0 up; ip link set out1 up
ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev out0 nud permanent
ip route add default via 192.0.2.2
nft -f - <<'NFT'
table ip border {
  set tried { type ipv4_addr; flags dynamic; }
  chain out {
    type filter hook postrouting priority 300;
    oifname "out0" add @tried { ip daddr }
  }
}
NFT
echo 'nameserver 192.0.2.53' >"$HOME/resolv.conf"; mount --bind "$HOME/resolv.conf" /etc/resolv.conf
for node in $(type -ap node); do mount --bind /dev/null "$(readlink -f "$node")"; done
! node --version 2>/dev/null
"#;

/// Who tried to leave.
const TRIED: &str = "nft -j list set ip border tried | grep -o '\"elem\".*' || true";

/// Stock actions, as far as the sample needs them, on the packages that the real ones are made of: name, inputs, main and post.
const ACTIONS: [(&str, &str, &str, &str); 4] = [
    (
        "setup-node",
        "{ node-version: {} }",
        r"import * as tools from 'AT/tool-cache/lib/tool-cache.js';
const found = tools.find('node', core.getInput('node-version'));
if (!found) throw new Error(`there is no node in ${process.env.RUNNER_TOOL_CACHE}`);
core.addPath(path.join(found, 'bin'));
core.info(`Found in cache @ ${found}, says ${process.execPath}`);",
        "",
    ),
    (
        "cache",
        "{ path: {}, key: {}, restore-keys: {} }",
        r"import * as cache from 'AT/cache/lib/cache.js';
const key = core.getInput('key');
const hit = await cache.restoreCache(core.getMultilineInput('path'), key, core.getMultilineInput('restore-keys'));
core.saveState('hit', hit ?? '');
core.setOutput('cache-hit', String(hit === key));
core.info(hit ? `Cache restored from key: ${hit}` : 'Cache not found');",
        r"import * as cache from 'AT/cache/lib/cache.js';
const key = core.getInput('key');
if (core.getState('hit') !== key) core.info(`saved as ${await cache.saveCache(core.getMultilineInput('path'), key)}`);",
    ),
    (
        "upload-artifact",
        "{ name: {}, path: {}, if-no-files-found: {}, retention-days: {} }",
        r"import { DefaultArtifactClient } from 'AT/artifact/lib/artifact.js';
import * as glob from 'AT/glob/lib/glob.js';
const root = path.resolve(core.getInput('path'));
const files = await (await glob.create(root, { matchDirectories: false })).glob();
if (files.length === 0) throw new Error('no files');
const options = { retentionDays: Number(core.getInput('retention-days')) };
await new DefaultArtifactClient().uploadArtifact(core.getInput('name'), files, root, options);",
        "",
    ),
    (
        "download-artifact",
        "{ pattern: {}, path: {}, merge-multiple: {} }",
        r"import { DefaultArtifactClient } from 'AT/artifact/lib/artifact.js';
const client = new DefaultArtifactClient();
const { artifacts } = await client.listArtifacts();
for (const artifact of artifacts.filter(one => one.name.startsWith(core.getInput('pattern').replace('*', ''))))
  await client.downloadArtifact(artifact.id, { path: path.resolve(core.getInput('path')) });",
        "",
    ),
];

/// A service that is asked whether it lives.
const SERVICE: [(&str, &str); 3] = [
    ("Dockerfile", "FROM busybox:stand-in\nCOPY redis-cli redis-server /usr/bin/\nCMD [\"redis-server\"]\n"),
    ("redis-cli", "#!/bin/sh\nprintf 'PING\\r\\n' | nc -w 2 127.0.0.1 6379 | grep -q PONG\n"),
    ("redis-server", "#!/bin/sh\nexec nc -ll -p 6379 -e sh -c \"while read -r _; do printf '+PONG\\r\\n'; done\"\n"),
];

/// A place with a user's home, the engine's network and files, and the program in the path.
struct Reader {
    home: tempfile::TempDir,
    engine: Engine,
}

impl Reader {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn shell(&self, text: &str) -> Command {
        let [program, arguments @ ..] = self.engine.inside();
        let mut shell = Command::new(program);
        shell.args(arguments).args(["bash", "-e", "-o", "pipefail", "-c"]).arg(format!("cd \"$AT\"\n{text}"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") {
                shell.env_remove(name);
            }
        }
        let towline = towline();
        let binaries = Path::new(towline.get_program()).parent().unwrap();
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
        let at = if self.path("app").exists() { self.path("app") } else { self.home.path().to_owned() };
        shell.env("HOME", self.home.path()).env("AT", at).env("PATH", path).env("DOCKER_BUILDKIT", "0");
        shell.env("DOCKER_HOST", self.engine.address()).env("TOWLINE_STATE", self.path("state"));
        shell.env("TOWLINE_RUNTIME", self.path("run")).env("TOWLINE_CONFIG", self.path("etc/towline.toml"));
        shell
    }

    fn run(&self, text: &str) -> String {
        let output = self.shell(&format!("exec 2>&1\n{text}")).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{said}");
        said
    }

    /// What lies on the internet, for whoever is there.
    fn publish(&self, packages: &Path) {
        for (name, inputs, main, post) in ACTIONS {
            let head = "import path from 'node:path';\nimport * as core from 'AT/core/lib/core.js';\n";
            let script = |body: &str| {
                let text = format!("{head}{body}\n");
                text.replace("'AT/", &format!("'{}/node_modules/@actions/", packages.display()))
            };
            let more = if post.is_empty() { "" } else { ", post: post.mjs" };
            let manifest = format!("name: {name}\ninputs: {inputs}\nruns: {{ using: node24, main: main.mjs{more} }}\n");
            self.action(name, &[("action.yml", &manifest), ("main.mjs", &script(main)), ("post.mjs", &script(post))]);
        }
        self.action("checkout", &[("action.yml", "name: checkout\nruns: { using: node24, main: no.js }\n")]);
        for (name, text) in SERVICE {
            write(&self.path("redis").join(name), text);
        }
        let node = Command::new("node").args(["-p", "process.execPath"]).output().unwrap();
        let node = String::from_utf8_lossy(&node.stdout).trim().to_owned();
        let bin = self.path("node/node-v24.11.1-linux-x64/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(node, bin.join("node")).unwrap();
        let pack = "chmod +x redis/redis-cli redis/redis-server; tar -C node -c node-v24.11.1-linux-x64 | gzip -1 >node.tar.gz; rm -r node";
        let packed = Command::new("sh").args(["-ec", pack]).current_dir(self.home.path()).status().unwrap();
        assert!(packed.success());
    }

    fn action(&self, name: &str, files: &[(&str, &str)]) {
        let work = self.path("work").join(name);
        for (path, text) in files {
            write(&work.join(path), text);
        }
        init(&work);
        let bare = self.path("github/actions").join(format!("{name}.git"));
        let steps: [&[&str]; 2] = [&["tag", "v4"], &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]];
        for step in steps {
            assert!(Command::new("git").current_dir(&work).args(step).status().unwrap().success());
        }
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Ends with the value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn serve(reader: &Reader, port: u16) -> Daemon {
    let mut serve = reader.shell(&format!("exec towline serve --listen 127.0.0.1:{port} --open-on-loopback"));
    let mut daemon = Daemon(serve.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(daemon.0.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("listening on https://") {
        let before = said.len();
        lines.read_line(&mut said).unwrap();
        assert!(said.len() > before, "the daemon ended: {said}");
    }
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    daemon
}

#[test]
fn the_page_about_life_without_internet_holds_word_for_word() {
    let nft = Command::new("nft").arg("--version").output().is_ok_and(|output| output.status.success());
    let tools = ["nsenter", "curl"].iter().all(|name| Command::new(name).arg("--version").output().is_ok());
    if !nft || !tools || std::env::consts::ARCH != "x86_64" {
        println!("skipped: this needs nft, nsenter, curl and the x64 of the page's example");
        return;
    }
    let (Some(packages), Some(engine)) = (clients::toolkit(), Engine::alone("offline")) else { return };
    let reader = Reader { home: tempfile::tempdir().unwrap(), engine };
    reader.publish(&packages);
    reader.run(BORDER);
    let docker = format!("SetEnv DOCKER_HOST={}", reader.engine.address());
    let Some(host) = Sshd::start_through(&docker, &reader.engine.inside()) else { return };
    let file = |name: &str| host.path(name).to_string_lossy().into_owned();
    let known = format!(
        "Host selene.lan\nHostName 127.0.0.1\nPort {}\nUser {}\nIdentityFile {}\nUserKnownHostsFile {}\n",
        host.port(),
        user(),
        file("id"),
        file("known_hosts")
    );
    write(&reader.path(".ssh/config"), &known);
    write(&reader.path(".gitconfig"), "[user]\nname = Ada\nemail = ada@lan\n");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&root.join("tests/samples/todo-app"), &reader.path("app"));
    init(&reader.path("app"));
    reader.run("git branch -M main");

    let page = fs::read_to_string(root.join("docs/offline.md")).unwrap();
    let typed: Vec<String> =
        page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect();
    assert_eq!(typed.len(), 4, "{typed:?}");
    let home = reader.home.path().to_string_lossy().into_owned();
    // Only where things lie is another place, and who is asked.
    let here = |text: &str| {
        text.replace("https://github.com/{owner}/{name}", &format!("file://{home}/github/{{owner}}/{{name}}.git"))
            .replace(
                "https://nodejs.org/dist/v24.11.1/node-v24.11.1-linux-x64.tar.gz",
                &format!("file://{home}/node.tar.gz"),
            )
            .replace("docker pull redis:7-alpine", &format!("docker build -q -t redis:7-alpine {home}/redis"))
            .replace(" /srv/", &format!(" {home}/srv/"))
            .replace("\"/srv/", &format!("\"{home}/srv/"))
            .replace("/etc/towline/", &format!("{home}/etc/"))
            .replace("systemctl restart towline\n", "")
            .replace("ssh ci@", &format!("ssh -F {home}/.ssh/config "))
            .replace("ci@", "")
    };
    let said = reader.run(&here(&typed[0]));
    assert!(said.contains("5 versions are pinned"), "{said}");
    // What is carried is all there is.
    reader.run("docker image rm redis:7-alpine >/dev/null; rm -r ~/github ~/work ~/redis ~/node.tar.gz ~/state");
    reader.run(&here(&typed[1]));
    let _daemon = serve(&reader, sshd::free_port());
    let said = reader.run(&here(&typed[2]));
    assert!(said.contains("Loaded image: redis:7-alpine"), "{said}");
    let said = reader.run(&here(&typed[3]));
    let count = |text: &str, said: &str| said.matches(text).count();
    for line in [".github/workflows/lan-ci.yml: success", "redis says +PONG"] {
        assert!(said.contains(line), "'{line}' is not in\n{said}");
    }
    assert_eq!(count("Cache not found", &said), 2, "{said}");
    // Brought to the host, which has none; and from its tool cache.
    assert!(said.contains("/node24-linux-x64") && said.contains("/tools/node/24.11.1/x64, says "), "{said}");
    let deployed = |name: &str| fs::read_to_string(reader.path("srv/app").join(name)).expect(&said);
    assert_eq!(deployed("REVISION"), reader.run("git rev-parse HEAD"));
    for report in ["reports/UTC.txt", "reports/Europe-Rome.txt"] {
        assert!(deployed(report).contains("pass 2"), "{}", deployed(report));
    }

    let said = reader.run("git commit -q --allow-empty -m More; git push -o follow towline main");
    assert_eq!(count("Cache restored from key: lan-ci-Linux-", &said), 2, "{said}");
    assert_eq!(deployed("REVISION"), reader.run("git rev-parse HEAD"));
    assert!(reader.path("srv/app.old/REVISION").exists(), "{said}");
    assert_eq!(reader.engine.left(&host.path("home/.towline")), "", "{said}");

    assert_eq!(reader.run(TRIED), "", "somebody asked the internet: {said}");
    // And who tries is seen.
    assert!(reader.run(&format!("echo >/dev/udp/198.51.100.7/53; {TRIED}")).contains("198.51.100.7"));
}
