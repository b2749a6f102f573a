//! The hook's side: a few blocking calls, because it must be over before the pusher notices it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::{HOOK_PATH, HookPush, parse_refs, spool};

/// How long the daemon may think before the push is spooled instead. It answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// More refs than anybody pushes: the rest of the input is not read.
const MOST_INPUT: u64 = 16 << 20;

/// What a hook achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Daemon,
    Spool,
    /// Neither could be reached; said on the terminal.
    Nobody,
}

/// Tells the daemon about a push, or spools it. `print` gets the lines the pusher shall see.
pub fn post_receive(
    now: Timestamp,
    socket: &Path,
    repository: &Path,
    input: impl Read,
    print: &mut dyn FnMut(&str),
) -> Told {
    if std::env::var_os(crate::git::QUIET_PUSH).is_some() {
        return Told::Nothing;
    }
    let mut text = String::new();
    // What is not UTF-8 cannot be told in JSON; git's refs may hold it, workflows cannot name it.
    let mut bytes = Vec::new();
    drop(input.take(MOST_INPUT).read_to_end(&mut bytes));
    text.push_str(&String::from_utf8_lossy(&bytes));
    let refs = parse_refs(&text);
    if refs.is_empty() {
        return Told::Nothing;
    }
    let push = HookPush {
        id: new_id(now),
        repository: repository.canonicalize().unwrap_or_else(|_| PathBuf::from(repository)).display().to_string(),
        refs,
        options: options(),
        pusher: pusher(),
        at: now,
    };
    match tell(socket, &push, print) {
        Ok(()) => Told::Daemon,
        Err(reason) => match spool::write(repository, &push) {
            Ok(()) => {
                print(&format!("towline: {reason}; the push is kept and runs start when the daemon is back"));
                Told::Spool
            }
            Err(error) => {
                print(&format!("towline: {reason}, and the push could not be kept: {error}; no runs will start"));
                Told::Nobody
            }
        },
    }
}

/// Posts the push and prints the answer line by line as it comes. An answer that breaks off after its head is the
/// daemon's last word: it has the push.
fn tell(socket: &Path, push: &HookPush, print: &mut dyn FnMut(&str)) -> Result<(), String> {
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => "the daemon is not running".to_owned(),
        _ => format!("cannot reach the daemon at {}: {error}", socket.display()),
    })?;
    let broken = |error: std::io::Error| format!("the daemon does not answer ({error})");
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let body = serde_json::to_vec(push).map_err(|error| error.to_string())?;
    // HTTP/1.0: the body ends with the connection, so that live lines need no framing.
    let head = format!(
        "POST {HOOK_PATH} HTTP/1.0\r\nHost: towline\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body)).map_err(broken)?;
    let mut reader = BufReader::new(&stream);
    let mut status = String::new();
    reader.read_line(&mut status).map_err(broken)?;
    let accepted = status.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
    if !accepted {
        return Err(format!("the daemon refused the push ({})", status.trim()));
    }
    // From here on the daemon has it, durable; a live log may be silent for as long as a step is.
    drop(stream.set_read_timeout(None));
    let mut in_body = false;
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        if in_body {
            print(text);
        } else if text.is_empty() {
            in_body = true;
        }
    }
}

fn options() -> Vec<String> {
    let count = std::env::var("GIT_PUSH_OPTION_COUNT").ok().and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
    (0..count.min(100)).filter_map(|index| std::env::var(format!("GIT_PUSH_OPTION_{index}")).ok()).collect()
}

/// Who pushes: what our own HTTP server says, else the login name.
fn pusher() -> String {
    [crate::git::PUSHER, "REMOTE_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}

/// Unguessable, from the kernel itself: seeding a generator of our own would take longer than all the rest.
fn new_id(now: Timestamp) -> String {
    let mut bytes = [0_u8; 16];
    let filled = std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    if filled.is_err() {
        // Unique all the same: no two hooks are one process at one time.
        return format!("{}-{}", now.as_nanosecond(), std::process::id());
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
