//! Whole jobs over a line that breaks: a proxy before a real server cuts its connections at any byte, swallows what comes after, or
//! holds it up, from a seed. What is said and done has to be what an undisturbed run says and does.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use towline::transport::{CommandFile, Grace, HostEvent, Hosts, JobSpec, Spool, Target, TransportError, Way};

use super::faults::{Random, number, pause_for, seed};
use super::support::{block_on, sh};
use crate::support::sshd::Sshd;

/// A line with faults. Each connection over it has one, until there were enough.
struct Line {
    port: u16,
    over: Arc<AtomicBool>,
    faults: Arc<Mutex<Vec<String>>>,
}

/// What happens to a connection, once so many bytes went in one direction.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Both ends are told.
    Cut,
    /// What comes after is lost, and the ends are told later.
    Swallow(Duration),
    /// Nothing moves for a while, and then all of it.
    Hold(Duration),
}

impl Line {
    fn before(port: u16, mut random: Random, most: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let line =
            Self { port: listener.local_addr().expect("bound").port(), over: Arc::default(), faults: Arc::default() };
        let (over, faults) = (Arc::clone(&line.over), Arc::clone(&line.faults));
        let left = Arc::new(AtomicU32::new(most));
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { return };
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let pause = Duration::from_millis(20 + random.below(200));
                let fault = match random.below(5) {
                    0 | 1 => Fault::Cut,
                    2 | 3 => Fault::Swallow(pause),
                    _ => Fault::Hold(pause),
                };
                // The first of it is greetings and keys, which break as well, but not every time.
                let (outward, at) = (random.below(2) == 0, 200 + random.below(3) * 3500 + random.below(6000));
                for (from, to, struck) in [(&near, &far, outward), (&far, &near, !outward)] {
                    let (from, to) = (from.try_clone().expect("a copy"), to.try_clone().expect("a copy"));
                    let (left, faults) = (Arc::clone(&left), Arc::clone(&faults));
                    let fault = struck.then_some((fault, at));
                    std::thread::spawn(move || {
                        carry(from, to, fault, &|| {
                            let taken = left
                                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                                .is_ok();
                            if taken {
                                let story =
                                    format!("{fault:?} {}", if outward { "towards the host" } else { "from it" });
                                faults.lock().unwrap_or_else(PoisonError::into_inner).push(story);
                            }
                            taken
                        });
                    });
                }
            }
        });
        line
    }

    fn story(&self) -> String {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).join(", ")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Whoever waits for the next connection hears of it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One direction of a connection.
fn carry(mut from: TcpStream, mut to: TcpStream, mut fault: Option<(Fault, u64)>, strikes: &dyn Fn() -> bool) {
    let mut buffer = vec![0; 16 * 1024];
    let mut gone = 0_u64;
    while let Ok(read) = from.read(&mut buffer) {
        let mut bytes = &buffer[..read];
        if read == 0 {
            break;
        }
        if let Some((kind, at)) = fault
            && gone + read as u64 > at
        {
            fault = None;
            if strikes() {
                let (before, after) = bytes.split_at(usize::try_from(at - gone).unwrap_or(0));
                let _ = to.write_all(before);
                match kind {
                    Fault::Cut => break,
                    Fault::Swallow(pause) => {
                        pause_for(pause);
                        break;
                    }
                    Fault::Hold(pause) => pause_for(pause),
                }
                bytes = after;
                gone = at;
            }
        }
        gone += bytes.len() as u64;
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A whole job: what it said, with the ends of its steps in between.
async fn job(target: &Target, side: &Path) -> String {
    let hosts = Hosts::new();
    let mut resume = None;
    let nonce = JobSpec::new_nonce();
    let (job, mut events) = loop {
        let spec = JobSpec { key: "11-1-1".into(), nonce: nonce.clone(), resume };
        match hosts.open_job(target, spec).await {
            Ok(opened) => break opened,
            Err(TransportError::Gone { .. }) => resume = None,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut said = String::new();
    for number in 1..=5 {
        let script = format!(
            "echo {number} >>{side}; echo value={number} >>\"$GITHUB_OUTPUT\"; seq {number} 400; [ {number} != 3 ] || exec sleep 1000; \
             exit {number}",
            side = side.display()
        );
        let mut step = sh(number, &script);
        step.env.push(("GITHUB_OUTPUT".into(), job.file_path(number, CommandFile::Output)));
        step.env.push(("TEXT".into(), "words of a variable ".repeat(100)));
        if number == 4 {
            step.spool = Spool::Own(0);
        }
        job.start_step(step).await.expect("started");
        let mut lines = 0;
        loop {
            match events.next().await.expect("an event") {
                HostEvent::Output { bytes, .. } => {
                    lines += bytes.iter().filter(|&&byte| byte == b'\n').count();
                    said.push_str(&String::from_utf8_lossy(&bytes));
                    if number == 3 && lines == 398 {
                        let grace =
                            Grace { interrupt: Duration::from_millis(200), terminate: Duration::from_millis(200) };
                        job.cancel_step(3, grace).await.expect("cancelled");
                    }
                }
                HostEvent::StepEnded(ended) if ended.number == number => {
                    said.push_str(&format!("{:?} {}", ended.exit, String::from_utf8_lossy(&ended.files.output)));
                    break;
                }
                HostEvent::Lost { reason, .. } => panic!("lost: {reason}"),
                HostEvent::StepEnded(ended) => panic!("the end of {} instead of {number}", ended.number),
                HostEvent::Detached { .. } | HostEvent::Attached => {}
            }
        }
        let output = job.exec("cat; echo beside; exit 3", b"words\n").await.expect("runs");
        said.push_str(&format!("{} {}", output.status, String::from_utf8_lossy(&output.stdout)));
    }
    assert_eq!(job.sweep_orphans().await.expect("swept"), []);
    job.finish().await.expect("finished");
    said
}

#[test]
fn jobs_over_a_line_that_breaks_say_and_do_the_same() {
    let seed = seed();
    let rounds = number("TOWLINE_LINE_ROUNDS", 24);
    let workers = 3;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                let Some(sshd) = Sshd::start() else { return };
                let side = sshd.path("side");
                let expected = block_on(job(&sshd.target("straight"), &side));
                assert!(expected.contains("Cancelled(130)") && expected.contains("Code(5) value=5"), "{expected}");
                let mut random = Random(seed.wrapping_add(worker));
                for _ in 0..rounds.div_ceil(workers) {
                    std::fs::remove_file(&side).expect("there was a side effect");
                    let most = 1 + u32::try_from(random.below(6)).expect("small");
                    let line = Line::before(sshd.port(), Random(random.below(u64::MAX)), most);
                    let mut ssh = sshd.ssh();
                    // The key is known under the server's own port.
                    let key = std::fs::read_to_string(sshd.path("host.pub")).expect("a key");
                    std::fs::write(sshd.path("known_line"), format!("[127.0.0.1]:{} {key}", line.port))
                        .expect("written");
                    ssh.known_hosts = vec![sshd.path("known_line")];
                    ssh.port = line.port;
                    ssh.connect_timeout = Duration::from_secs(20);
                    let target = Target { way: Way::Ssh(Box::new(ssh)), ..sshd.target("crooked") };
                    let said = block_on(job(&target, &side));
                    assert!(said == expected, "{}: {} bytes instead of {}", line.story(), said.len(), expected.len());
                    let done = std::fs::read_to_string(&side).expect("side effects");
                    assert_eq!(done, "1\n2\n3\n4\n5\n", "{}", line.story());
                    assert!(
                        !sshd.path("home/.towline/jobs/11-1-1").exists(),
                        "{}: the directory is left",
                        line.story()
                    );
                }
            });
        }
    });
    eprintln!("{rounds} jobs over lines that break");
}
