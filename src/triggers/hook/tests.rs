use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::git::Repository;

async fn bare() -> (tempfile::TempDir, Repository) {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::init_bare(&directory.path().join("app.git"), "main").await.unwrap();
    (directory, repository)
}

fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn run_hook(repository: &Repository, input: &str) -> std::process::Output {
    let mut hook = Command::new(repository.git_dir().join("hooks/post-receive"));
    fed(hook.current_dir(repository.git_dir()).env("GIT_DIR", "."), input)
}

fn fed(command: &mut Command, input: &str) -> std::process::Output {
    use std::io::Write as _;
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    // One that ends without reading it does no harm.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn a_hook_is_put_beside_what_is_there_and_taken_away_again() {
    let (directory, repository) = bare().await;
    let hook = repository.git_dir().join("hooks/post-receive");
    executable(&hook, "#!/bin/sh\ncat > seen\nexit 3\n");
    let program = directory.path().join("it's towline");
    executable(&program, "#!/bin/sh\necho \"$@\"\ncat\n");
    let socket = Path::new("/run/towline/towline.sock");
    let local = repository.git_dir().join("hooks/post-receive.local");
    assert_eq!(install(&repository, &program, socket).await.unwrap(), Installed::Beside(local));
    assert_eq!(install(&repository, &program, socket).await.unwrap(), Installed::Unchanged);
    let output = run_hook(&repository, "a b refs/heads/main\n");
    assert_eq!(output.status.code(), Some(3));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, "hook post-receive --socket /run/towline/towline.sock\na b refs/heads/main\n");
    assert_eq!(std::fs::read_to_string(repository.git_dir().join("seen")).unwrap(), "a b refs/heads/main\n");
    assert_eq!(install(&repository, Path::new("/new/towline"), socket).await.unwrap(), Installed::Upgraded);
    // Somebody replaces ours while theirs is kept beside it: nothing is lost by guessing.
    executable(&hook, "#!/bin/sh\n");
    assert!(matches!(install(&repository, &program, socket).await, Err(InstallError::TwoHooks { .. })));
    std::fs::remove_file(&hook).unwrap();
    let _ = install(&repository, &program, socket).await.unwrap();
    assert!(remove(&repository).await.unwrap());
    assert_eq!(run_hook(&repository, "").status.code(), Some(3));
    assert!(!remove(&repository).await.unwrap());
}

#[tokio::test]
async fn a_configured_hooks_path_is_honoured() {
    let (directory, repository) = bare().await;
    let hooks = directory.path().join("own hooks");
    repository.configure("core.hooksPath", hooks.to_str().unwrap()).await.unwrap();
    let _ = install(&repository, Path::new("/x"), Path::new("/y")).await.unwrap();
    assert!(hooks.join("post-receive").exists());
}

#[tokio::test]
async fn without_the_program_the_shell_keeps_the_push() {
    let (_directory, repository) = bare().await;
    assert_eq!(install(&repository, Path::new("/gone/towline"), Path::new("/s")).await.unwrap(), Installed::New);
    let refs = || {
        let found = spooled(repository.git_dir()).unwrap();
        found.iter().map(|one| one.push.refs.len()).collect::<Vec<_>>()
    };
    let output = bare_shell(&repository, "a b refs/heads/main\na b refs/tags/v1\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(refs(), [2]);
    // The same with a hook of somebody's own, which hears of it first.
    executable(&repository.git_dir().join("hooks/post-receive.local"), "#!/bin/sh\ncat > seen\nexit 3\n");
    assert_eq!(bare_shell(&repository, "b c refs/heads/main\n").status.code(), Some(3));
    assert_eq!(refs().len(), 2);
    assert_eq!(std::fs::read_to_string(repository.git_dir().join("seen")).unwrap(), "b c refs/heads/main\n");
}

/// Runs the hook where no program of ours is found.
fn bare_shell(repository: &Repository, input: &str) -> std::process::Output {
    let mut hook = Command::new(repository.git_dir().join("hooks/post-receive"));
    hook.env_clear().envs([("GIT_DIR", "."), ("PATH", "/usr/bin:/bin")]);
    fed(hook.current_dir(repository.git_dir()), input)
}

#[tokio::test]
async fn who_hangs_up_while_following_causes_no_second_push() {
    let (directory, repository) = bare().await;
    let program = directory.path().join("towline");
    // As if the pusher's terminal had gone.
    executable(&program, "#!/bin/sh\ncat > told\nkill -PIPE $$\n");
    assert_eq!(install(&repository, &program, Path::new("/s")).await.unwrap(), Installed::New);
    for local in [false, true] {
        if local {
            executable(&repository.git_dir().join("hooks/post-receive.local"), "#!/bin/sh\ncat > seen\n");
        }
        assert!(run_hook(&repository, "a b refs/heads/main\n").status.success());
        assert_eq!(std::fs::read_to_string(repository.git_dir().join("told")).unwrap(), "a b refs/heads/main\n");
        assert!(spooled(repository.git_dir()).unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_older_hook_of_this_daemon_is_upgraded() {
    let (_directory, repository) = bare().await;
    let hook = repository.git_dir().join("hooks/post-receive");
    let (program, socket) = (Path::new("/new/towline"), Path::new("/run/it's/towline.sock"));
    let _ = install(&repository, Path::new("/old/towline"), socket).await.unwrap();
    assert!(!upgrade(&repository, program, socket).await.unwrap(), "it is of this version");
    let text = std::fs::read_to_string(&hook).unwrap();
    let mark = text.lines().nth(1).unwrap().to_owned();
    let old = text.replace(&mark, "# towline hook, version 1");
    executable(&hook, &old);
    assert!(!upgrade(&repository, program, Path::new("/run/other.sock")).await.unwrap(), "it is another daemon's");
    assert_eq!(std::fs::read_to_string(&hook).unwrap(), old);
    assert!(upgrade(&repository, program, socket).await.unwrap());
    let text = std::fs::read_to_string(&hook).unwrap();
    assert!(text.contains("program='/new/towline'") && text.contains(&mark), "{text}");
    executable(&hook, "#!/bin/sh\n");
    assert!(!upgrade(&repository, program, socket).await.unwrap(), "it is somebody's own");
}

#[tokio::test]
async fn a_push_without_a_daemon_is_spooled_and_found() {
    let (directory, repository) = bare().await;
    let now = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let mut said = Vec::new();
    let input = "0 1 refs/heads/main\n1 2 refs/tags/v 1\nnonsense\n";
    let absent = directory.path().join("none.sock");
    let told =
        post_receive(now, &absent, repository.git_dir(), input.as_bytes(), &mut |line| said.push(line.to_owned()));
    assert_eq!(told, Told::Spool);
    assert_eq!(said, ["towline: the daemon is not running; the push is kept and runs start when the daemon is back"]);
    let found = spooled(repository.git_dir()).unwrap();
    let names: Vec<&str> = found[0].push.refs.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["refs/heads/main", "refs/tags/v 1"]);
    assert_eq!(found[0].push.at, now);
    // Rubbish is set aside, once.
    std::fs::write(repository.git_dir().join("towline/spool/x.json"), "{").unwrap();
    assert_eq!(spooled(repository.git_dir()).unwrap().len(), 1);
    assert!(repository.git_dir().join("towline/spool/x.bad").exists());
    assert_eq!(post_receive(now, &absent, repository.git_dir(), &b""[..], &mut |_| {}), Told::Nothing);
}

#[tokio::test]
async fn the_answer_of_the_daemon_reaches_the_pusher() {
    use std::io::{BufRead as _, Read as _, Write as _};
    let (directory, repository) = bare().await;
    let socket = directory.path().join("d.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let daemon = std::thread::spawn(move || {
        let mut bodies = Vec::new();
        for answer in ["HTTP/1.0 202 Accepted\r\nx: y\r\n\r\nCI #1\nlive", "HTTP/1.0 503 Busy\r\n\r\n", ""] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            bodies.push(serde_json::from_slice::<HookPush>(&body).unwrap());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        bodies
    });
    let mut said = Vec::new();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut push = || {
        let told = post_receive(now, &socket, repository.git_dir(), &b"0 1 refs/heads/m\n"[..], &mut |line| {
            said.push(line.to_owned());
        });
        (told, std::mem::take(&mut said))
    };
    assert_eq!(push(), (Told::Daemon, vec!["CI #1".to_owned(), "live".to_owned()]));
    assert_eq!(push().0, Told::Spool);
    assert_eq!(push().0, Told::Spool);
    let bodies = daemon.join().unwrap();
    assert_eq!(bodies[0].repository, repository.git_dir().canonicalize().unwrap().display().to_string());
    // What was refused is spooled under the id it was told with.
    let mut kept: Vec<String> = spooled(repository.git_dir()).unwrap().into_iter().map(|one| one.push.id).collect();
    let mut told: Vec<String> = bodies[1..].iter().map(|push| push.id.clone()).collect();
    kept.sort();
    told.sort();
    assert_eq!(kept, told);
}
