//! The way from a host back to the services, over a real SSH server, whole and broken.

use std::path::Path;
use std::time::Duration;

use super::{Desk, finished, way};
use crate::support::clients::toolkit as packages;
use crate::support::sshd::Sshd;

/// With GitHub's own client: uploads, and looks again in its post step.
const UPLOAD: &str = r"
import fs from 'node:fs'; import path from 'node:path'; import crypto from 'node:crypto'; import { pathToFileURL } from 'node:url';
const { DefaultArtifactClient } = await import(pathToFileURL(process.env.INPUT_PACKAGES + '/node_modules/@actions/artifact/lib/artifact.js'));
const client = new DefaultArtifactClient();
const here = process.env.GITHUB_WORKSPACE;
const flag = name => fs.writeFileSync(process.env.INPUT_FLAGS + '/' + name, '');
const file = path.join(here, 'large');
if (!process.env.STATE_digest) {
  fs.mkdirSync(here, { recursive: true });
  const bytes = crypto.randomBytes(150_000_000);
  fs.writeFileSync(file, bytes);
  const digest = crypto.createHash('sha256').update(bytes).digest('hex');
  fs.appendFileSync(process.env.GITHUB_STATE, `digest=${digest}\n`);
  // The client says how far it is; the cut comes in the middle of the bytes.
  const write = process.stdout.write.bind(process.stdout);
  process.stdout.write = (text, ...rest) => { if (String(text).includes('Uploaded bytes')) flag('uploading'); return write(text, ...rest); };
  const made = await client.uploadArtifact('large', [file], here, { compressionLevel: 0 });
  console.log(`say: uploaded ${made.size > 150_000_000}`);
} else {
  flag('post');
  const pause = () => new Promise(done => setTimeout(done, 20));
  while (!fs.existsSync(process.env.INPUT_FLAGS + '/cut')) await pause();
  // The same port is there again: this client takes a refused connection for the end.
  const answers = () => fetch(process.env.ACTIONS_RESULTS_URL + '.well-known/jwks').then(answer => answer.ok, () => false);
  while (!await answers()) await pause();
  const { artifact } = await client.getArtifact('large');
  await client.downloadArtifact(artifact.id, { path: path.join(here, 'back') });
  const digest = crypto.createHash('sha256').update(fs.readFileSync(path.join(here, 'back', 'large'))).digest('hex');
  console.log(`say: same ${digest === process.env.STATE_digest}`);
}
";

const MANIFEST: &str = "name: upload\ninputs:\n  packages: { required: true }\n  flags: { required: true }\nruns: { using: node20, main: main.mjs, post: main.mjs }\n";

fn workflow(packages: &Path, flags: &Path) -> String {
    format!(
        "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n      - uses: o/upload@v1\n        with: {{ packages: '{}', flags: '{}' }}\n",
        packages.display(),
        flags.display()
    )
}

#[test]
fn an_upload_and_a_post_step_outlive_cut_links() {
    let (Some(packages), Some(sshd)) = (packages(), Sshd::start()) else { return };
    let desk = Desk::new();
    desk.action("o/upload", &[("action.yml", MANIFEST), ("main.mjs", UPLOAD)]);
    let flags = desk.path("flags");
    std::fs::create_dir(&flags).unwrap();
    let way = way(&sshd);
    let mut command = desk.command(&workflow(&packages, &flags), &way.iter().map(String::as_str).collect::<Vec<_>>());
    let running = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let result = std::thread::spawn(move || running.wait_with_output().unwrap());
    // Each state is waited for by looking, never by time.
    let until = |name: &str| {
        while !flags.join(name).exists() {
            assert!(!result.is_finished(), "the run ended before {name}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    };
    until("uploading");
    assert!(sshd.kill_sessions() > 0);
    until("post");
    assert!(sshd.kill_sessions() > 0);
    std::fs::write(flags.join("cut"), "").unwrap();
    let ran = finished(&result.join().unwrap());
    ran.must_succeed();
    assert_eq!(ran.said(), ["uploaded true", "same true"], "{}", ran.log);
}

#[test]
fn a_server_that_forbids_forwarding_is_named() {
    let Some(sshd) = Sshd::start_with("AllowTcpForwarding no") else { return };
    let target = sshd.target("selene");
    let hosts = towline::transport::Hosts::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(hosts.forward(&target, "127.0.0.1:9".parse().unwrap(), None)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("selene") && said.contains("AllowTcpForwarding") && said.contains("url"), "{said}");
}

#[test]
fn the_same_port_comes_back_after_the_link_is_cut() {
    use std::io::{Read as _, Write as _};
    let Some(sshd) = Sshd::start() else { return };
    // Echoes a line per connection.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            drop(stream.write_all(b"here\n"));
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let hosts = towline::transport::Hosts::new();
    let target = sshd.target("selene");
    let forward = runtime.block_on(hosts.forward(&target, to, None)).unwrap();
    let ask = || {
        let mut said = String::new();
        std::net::TcpStream::connect(("127.0.0.1", forward.port()))
            .and_then(|mut stream| stream.read_to_string(&mut said))?;
        Ok::<_, std::io::Error>(said)
    };
    let until_answered = || loop {
        match ask() {
            Ok(said) if said == "here\n" => return,
            _ => std::thread::park_timeout(Duration::from_millis(5)),
        }
    };
    until_answered();
    for _ in 0..3 {
        assert!(sshd.kill_sessions() > 0);
        until_answered();
    }
    // A second one shares the connection, and each ends alone.
    let other = runtime.block_on(hosts.forward(&target, to, None)).unwrap();
    assert_ne!(other.port(), forward.port());
    drop(other);
    until_answered();
}
