//! Following a spool: from an offset on, through every break, until the step or the job is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::super::process::{Piece, Process};
use super::super::shell::{Mode, OpenError};
use super::super::spool::{Mark, Part, Reader};
use super::super::{CommandFile, CommandFiles, Exit, HostEvent, StepEnded, TransportError};
use super::{Backoff, HostJob, Inner, locked};

/// After so long without a byte the host is asked whether the supervisor lives.
const QUIET: Duration = Duration::from_secs(5);
/// How long that question may take.
const LOOKING: Duration = Duration::from_secs(10);
/// The longest command file that is taken.
const LONGEST_FILE: u64 = 64 * 1024 * 1024;

/// Follows the main spool for as long as the job is open, in a process that waits already.
pub(super) fn spawn_main(inner: &Arc<Inner>, waiting: Process) {
    let resume = inner.spec.resume;
    let follower = Follower {
        inner: Arc::clone(inner),
        lane: "main".to_owned(),
        step: 0,
        reader: Reader::new(
            &inner.spec.nonce,
            resume.map_or(0, |resume| resume.offset),
            resume.map_or(0, |resume| resume.ended),
        ),
        waiting: Some(waiting),
        detached: None,
    };
    inner.hosts.tracker().spawn(follower.run());
}

/// Follows the spool of one background step to its end.
pub(super) fn spawn_own(inner: &Arc<Inner>, step: u32, offset: u64) {
    let follower = Follower {
        inner: Arc::clone(inner),
        lane: format!("b{step}"),
        step,
        reader: Reader::new(&inner.spec.nonce, offset, step.saturating_sub(1)),
        waiting: None,
        detached: None,
    };
    inner.hosts.tracker().spawn(follower.run());
}

struct Follower {
    inner: Arc<Inner>,
    lane: String,
    /// 0 for the main spool.
    step: u32,
    reader: Reader,
    /// For the first stay.
    waiting: Option<Process>,
    /// Why there is no contact, once that was said.
    detached: Option<String>,
}

/// How one stay with a spool ended.
enum Stay {
    /// The stream broke.
    Broken(String),
    /// Everything was said.
    Over,
}

impl Follower {
    async fn run(mut self) {
        let over = self.inner.over.clone();
        tokio::select! {
            () = self.follow() => {}
            () = over.cancelled() => {}
        }
    }

    async fn follow(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let reason = match self.stay(&mut backoff).await {
                Ok(Stay::Over) => return,
                Ok(Stay::Broken(reason)) => reason,
                Err(OpenError::Transport(error)) => error.to_string(),
                Err(OpenError::Rebooted) => return self.inner.lose_restarted(),
                Err(OpenError::Gone) => return self.inner.lose_directory(),
                Err(OpenError::Absent) => format!("the spool {} is not there yet", self.lane),
            };
            if self.step == 0 && self.detached.as_deref() != Some(&reason) {
                self.tell(HostEvent::Detached { reason: reason.clone() }).await;
                self.detached = Some(reason);
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Connects, and follows until the stream breaks.
    async fn stay(&mut self, backoff: &mut Backoff) -> Result<Stay, OpenError> {
        let inner = Arc::clone(&self.inner);
        let offset = self.reader.restart();
        let tools = &inner.facts.coreutils;
        let mode = Mode::Follow { key: &inner.spec.key, lane: &self.lane, offset, tools };
        // A connection of its own: when whoever takes the events is slow, nothing else waits.
        let shell = inner.hosts.shell_on(self.waiting.take(), &inner.target, mode, true).await?;
        let (first, mut process) = shell.into_stream();
        if self.detached.take().is_some() {
            self.tell(HostEvent::Attached).await;
        }
        self.reader.push(first);
        loop {
            while let Some(part) = self.reader.next() {
                *backoff = Backoff::default();
                if self.pass_on(part).await {
                    return Ok(Stay::Over);
                }
            }
            match timeout(QUIET, process.next()).await {
                Ok(Some(Piece::Out(bytes))) => self.reader.push(bytes),
                Ok(Some(Piece::Err(bytes))) => {
                    log::debug!(host = inner.target.name.as_str(); "follower: {}", String::from_utf8_lossy(&bytes));
                }
                Ok(Some(Piece::Exit(_))) => {}
                Ok(None) => return Ok(Stay::Broken(format!("lost contact with {}", inner.target.name))),
                Err(_) => {
                    // Output that comes meanwhile waits: not for long.
                    if let Ok(Some(reason)) = timeout(LOOKING, self.look()).await {
                        self.inner.lose(reason, false);
                        return Ok(Stay::Over);
                    }
                }
            }
        }
    }

    /// Whether following is over.
    async fn pass_on(&mut self, part: Part) -> bool {
        match part {
            Part::Output(bytes, offset) => {
                let step = self.step;
                self.tell(HostEvent::Output { step, offset, bytes }).await;
                false
            }
            Part::End(mark) => {
                let number = mark.number;
                let ended = self.ended(mark).await;
                locked(&self.inner.outstanding).remove(&number);
                match ended {
                    Ok(ended) => self.tell(HostEvent::StepEnded(Box::new(ended))).await,
                    Err(error) => {
                        self.inner.lose(error.to_string(), false);
                        return true;
                    }
                }
                self.step != 0
            }
        }
    }

    async fn ended(&self, mark: Mark) -> Result<StepEnded, TransportError> {
        let files = match mark.files {
            Ok(files) => files,
            Err(sizes) => self.fetch(mark.number, sizes).await?,
        };
        Ok(StepEnded {
            number: mark.number,
            exit: match mark.kind {
                't' => Exit::TimedOut(mark.code),
                'x' => Exit::Cancelled(mark.code),
                'n' => Exit::NotStarted(mark.code),
                _ => Exit::Code(mark.code),
            },
            offset: mark.offset,
            files,
        })
    }

    /// Command files too long for the spool. They lie where they were written until the job is finished.
    async fn fetch(&self, number: u32, sizes: [u64; 5]) -> Result<CommandFiles, TransportError> {
        let job = HostJob { inner: Arc::clone(&self.inner) };
        let mut files = CommandFiles::default();
        let wanted = [
            (CommandFile::Env, &mut files.env),
            (CommandFile::Output, &mut files.output),
            (CommandFile::Path, &mut files.path),
            (CommandFile::State, &mut files.state),
            (CommandFile::Summary, &mut files.summary),
        ];
        for ((file, content), size) in wanted.into_iter().zip(sizes) {
            if size > 0 {
                *content = job.read_file(&job.file_path(number, file), LONGEST_FILE).await?.unwrap_or_default();
            }
        }
        Ok(files)
    }

    /// Asks the host about this lane's step when nothing was heard for a while. Some: it can never end, and this is why.
    async fn look(&self) -> Option<String> {
        let waiting: Vec<_> = locked(&self.inner.outstanding)
            .iter()
            .filter(|(_, step)| step.lane == self.lane)
            .map(|(number, step)| (*number, step.clone()))
            .collect();
        for (number, step) in waiting {
            let line = format!("look {} {number}", self.lane);
            let words = self.inner.control(&line, None, "looking after a step").await.ok()?;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                // Told to start, but whoever waited for it ended before it took it.
                ["state", "no", ..] => self.inner.request_start(&step).await.ok()?,
                ["state", "yes", "no", "no", size] if size.parse() == Ok(self.reader.position()) => {
                    return Some(format!(
                        "the supervisor of step {number} on {} was killed: the step's end cannot be known (out of memory, or all of \
                         the user's processes were ended)",
                        self.inner.target.name
                    ));
                }
                _ => {}
            }
        }
        None
    }

    async fn tell(&self, event: HostEvent) {
        // Nobody listens: the job is being let go.
        let _ = self.inner.events.send(event).await;
    }
}
