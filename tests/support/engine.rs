//! A private Docker Engine in namespaces of its own, with small images that stand in for those workflows name.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The engine of this test run: started when it is first asked for, ended with the process.
pub(crate) struct Engine {
    directory: PathBuf,
    /// Holds the engine by its standard input: when this process ends in whatever way, so does the engine.
    keeper: Child,
}

/// Runs the engine until standard input ends, then removes what it kept.
const KEEPER: &str = "d=$1\ntrap '' INT TERM HUP\nip link set lo up\nexec 3<&0\n\
    dockerd --data-root \"$d/data\" --exec-root \"$d/exec\" -H unix://\"$d/docker.sock\" -p \"$d/pid\" \
    --default-ulimit nofile=4096:8192 --bip 172.31.77.1/24 --oom-score-adjust 0 </dev/null >\"$d/log\" 2>&1 3<&- &\n\
    e=$!\n{ while read -r line <&3; do :; done; kill $e; } &\nr=$!\nwait $e\nkill -KILL $r 2>/dev/null\ncd /\nrm -rf \"$d\"\n";

/// What images have instead of the real programs, by path.
const STAND_INS: [(&str, &str); 7] = [
    ("usr/bin/python", "[ -f \"$1\" ] && echo 3.0.0"),
    ("usr/bin/apt-get", "exit 0"),
    ("usr/bin/curl", "for last; do :; done\nexec wget -q -O - \"$last\""),
    ("usr/bin/mysqladmin", "exec nc -w 2 127.0.0.1 3306 </dev/null"),
    (
        "usr/bin/mysql",
        "host=127.0.0.1\nwhile [ $# -gt 1 ]; do [ \"$1\" != -h ] || host=$2; shift; done\nnc -w 2 \"$host\" 3306 </dev/null",
    ),
    // As the real image does it: options and unknown words are for node.
    (
        "usr/local/bin/docker-entrypoint.sh",
        "case ${1-} in -*|'') set -- node \"$@\" ;; *) command -v \"$1\" >/dev/null 2>&1 || set -- node \"$@\" ;; esac\nexec \"$@\"",
    ),
    ("usr/local/bin/serve", "echo \"serving for $0\"\nexec nc -ll -p 3306 -e cat"),
];

/// Images: name, what `import --change` is told.
const IMAGES: [(&str, &[&str]); 8] = [
    ("alpine:latest", &["CMD [\"sh\"]"]),
    ("node:16-buster", &["ENTRYPOINT [\"docker-entrypoint.sh\"]", "CMD [\"node\"]"]),
    ("busybox:stand-in", &["CMD [\"sh\"]"]),
    ("node:16-buster-slim", &["ENTRYPOINT [\"docker-entrypoint.sh\"]", "CMD [\"node\"]"]),
    ("mysql:8", &["CMD [\"serve\"]"]),
    ("nginx:latest", &["CMD [\"busybox\", \"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/srv\"]"]),
    ("ubuntu:latest", &["CMD [\"sh\"]"]),
    ("catthehacker/ubuntu:runner-latest", &["USER runner", "CMD [\"sh\"]"]),
];

impl Engine {
    /// The engine, or nothing where it cannot run: then that was said, and the test passes.
    pub(crate) fn get() -> Option<&'static Self> {
        static ENGINE: OnceLock<Option<Engine>> = OnceLock::new();
        ENGINE.get_or_init(|| Self::start("", &IMAGES)).as_ref()
    }

    /// An engine with no image but `busybox:stand-in`, in a network that no other test uses. It ends with the value.
    pub(crate) fn alone(name: &str) -> Option<Self> {
        Self::start(&format!("-{name}"), &IMAGES[2..3])
    }

    fn start(name: &str, images: &[(&str, &[&str])]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: containers need root for a private engine");
            return None;
        }
        for program in ["docker", "dockerd", "unshare", "ip", "busybox", "tar"] {
            if !found(program) {
                println!("skipped: containers need {program} (packages docker.io, busybox-static)");
                return None;
            }
        }
        let directory = std::env::temp_dir().join(format!("towline-engine-{}{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let keeper = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", KEEPER, "sh"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare runs");
        let mut engine = Self { directory, keeper };
        while UnixStream::connect(engine.directory.join("docker.sock")).is_err() {
            if matches!(engine.keeper.try_wait(), Ok(Some(_))) {
                println!("skipped: no Docker Engine starts here; run dockerd to see why");
                return None;
            }
            // A moment between two looks.
            let (_sender, receiver) = std::sync::mpsc::channel::<()>();
            let _ = receiver.recv_timeout(std::time::Duration::from_millis(50));
        }
        engine.make_images(images);
        Some(engine)
    }

    /// `DOCKER_HOST` for its clients.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.display())
    }

    /// The network that the engine's containers know as their host's.
    pub(crate) fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.keeper.id())
    }

    /// What runs a program where the engine is: in its network, with the files it sees.
    pub(crate) fn inside(&self) -> [String; 3] {
        let namespace = |kind: &str, file: &str| format!("--{kind}=/proc/{}/ns/{file}", self.keeper.id());
        ["nsenter".to_owned(), namespace("net", "net"), namespace("mount", "mnt")]
    }

    /// Calls `docker`: whether it succeeded, and what it said.
    pub(crate) fn docker(&self, arguments: &[&str]) -> (bool, String) {
        let output =
            Command::new("docker").env("DOCKER_HOST", self.address()).args(arguments).output().expect("docker runs");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    }

    /// Containers and networks that jobs of this root made and that are still there.
    pub(crate) fn left(&self, root: &Path) -> String {
        let label = format!("label=towline.root={}", root.display());
        let containers = self.docker(&["ps", "--all", "--quiet", "--filter", &label]).1;
        let networks = self.docker(&["network", "ls", "--quiet", "--filter", &label]).1;
        format!("{containers}{networks}")
    }

    fn make_images(&self, images: &[(&str, &[&str])]) {
        let root = self.directory.join("rootfs");
        for directory in ["bin", "etc", "tmp", "root", "srv", "usr/bin", "usr/local/bin", "lib64", "home/runner"] {
            fs::create_dir_all(root.join(directory)).expect("a root file system");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("modes");
        let busybox = which("busybox");
        fs::copy(&busybox, root.join("bin/busybox")).expect("busybox");
        let list = Command::new(&busybox).arg("--list").output().expect("busybox lists");
        for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
            symlink("busybox", root.join("bin").join(name)).expect("a link");
        }
        let users = "root:x:0:0:root:/root:/bin/sh\nrunner:x:1001:1001:runner:/home/runner:/bin/sh\n";
        fs::write(root.join("etc/passwd"), users).expect("users");
        fs::write(root.join("etc/group"), "root:x:0:\nrunner:x:1001:\n").expect("groups");
        fs::write(root.join("srv/index.html"), "served\n").expect("a page");
        for (path, script) in STAND_INS {
            write_program(&root.join(path), script);
        }
        copy_node(&root);
        for (image, changes) in images {
            let mut import = Command::new("sh");
            import.env("DOCKER_HOST", self.address()).args([
                "-c",
                "r=$1 x=$2; shift 2; tar -C \"$r\" --exclude=\"$x\" -c . | docker import \"$@\"",
                "sh",
            ]);
            // Only one of them has to carry node.
            let excluded = if image.starts_with("node:") { "./none" } else { "./usr/local/bin/node" };
            import.arg(&root).arg(excluded).args(["--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin"]);
            for change in *changes {
                import.args(["--change", change]);
            }
            let output = import.args(["-", image]).output().expect("docker runs");
            assert!(output.status.success(), "{image}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Node with the libraries it needs, where this machine has one; else a program that only tells a version.
fn copy_node(root: &Path) {
    if !found("node") {
        return write_program(&root.join("usr/local/bin/node"), "echo v16.20.2");
    }
    let node = fs::canonicalize(which("node")).expect("node is there");
    fs::copy(&node, root.join("usr/local/bin/node")).expect("node");
    let listed = Command::new("ldd").arg(&node).output().expect("ldd runs");
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let inside = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().expect("it has one")).expect("a directory");
        fs::copy(path, inside).expect("a library");
    }
}

fn write_program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("modes");
}

fn found(program: &str) -> bool {
    !which(program).as_os_str().is_empty()
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .unwrap_or_default()
}
