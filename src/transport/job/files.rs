//! Files and trees, to the host and from it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use bytes::BytesMut;

use super::super::TransportError;
use super::super::process::{Piece, Process};
use super::super::shell::{Mode, OpenError};
use super::super::step::quoted;
use super::{HostJob, Inner};

/// The status of a script that found no file.
const ABSENT: i32 = 44;
/// The status of a script that found too long a file.
const TOO_LONG: i32 = 45;

impl HostJob {
    /// Writes a file whole: through a temporary name beside it. Missing directories are made.
    ///
    /// # Errors
    /// The job is over, or the file cannot be written.
    pub async fn write_file(&self, path: &str, mode: u32, content: &[u8]) -> Result<(), TransportError> {
        let file = quoted(path);
        let script = format!(
            "umask 077; f={file}; mkdir -p -- \"${{f%/*}}\" 2>/dev/null; cat >\"$f.towline.$$\" && chmod {mode:o} \"$f.towline.$$\" && \
             mv -f -- \"$f.towline.$$\" \"$f\" || {{ rm -f \"$f.towline.$$\"; exit 1; }}\n"
        );
        let output = self.exec(&script, content).await?;
        if output.status == 0 {
            return Ok(());
        }
        Err(self.inner.failed(format!("writing {path}"), &output.stderr))
    }

    /// Reads a file; `None` when it is not there.
    ///
    /// # Errors
    /// The job is over, the file cannot be read or is longer than `limit`.
    pub async fn read_file(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, TransportError> {
        let file = quoted(path);
        let script = format!(
            "[ -e {file} ] || exit {ABSENT}\n[ \"$(wc -c <{file})\" -le {limit} ] || exit {TOO_LONG}\nexec cat <{file}\n"
        );
        let output = self.exec(&script, b"").await?;
        match output.status {
            0 => Ok(Some(output.stdout)),
            ABSENT => Ok(None),
            TOO_LONG => {
                Err(self.inner.failed(format!("reading {path}"), format!("it is longer than {limit} bytes").as_bytes()))
            }
            _ => Err(self.inner.failed(format!("reading {path}"), &output.stderr)),
        }
    }

    /// Unpacks a tar stream into a directory, which is made.
    ///
    /// # Errors
    /// The job is over, the link broke (nothing is repeated: the reader is used up), or tar failed.
    pub async fn put_tar(&self, stream: &mut (dyn AsyncRead + Send + Unpin), dir: &str) -> Result<(), TransportError> {
        const DOING: &str = "unpacking files";
        let directory = quoted(dir);
        // The status comes on standard error: a script that is the channel's own process cannot be asked again.
        let script = format!(
            "mkdir -p -- {directory} && tar -xf - -C {directory}\nstatus=$?\ncat >/dev/null\necho \"status $status\" >&2\n"
        );
        let (_, mut process) = self.inner.stream(&script).await?;
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(32 * 1024);
            let read = stream.read_buf(&mut buffer).await.map_err(|error| TransportError::Failed {
                host: self.inner.target.name.clone(),
                doing: DOING.to_owned(),
                reason: format!("cannot read the archive: {error}"),
            })?;
            if read == 0 || !process.write(buffer.split().freeze()).await {
                break;
            }
        }
        process.end_input();
        let mut said = Vec::new();
        while let Some(piece) = process.next().await {
            if let Piece::Err(bytes) = piece {
                said.extend_from_slice(&bytes);
            }
        }
        self.inner.conclude(DOING, &said)
    }

    /// Packs paths relative to a directory as a tar stream.
    ///
    /// # Errors
    /// The job is over, the link broke, or tar failed.
    pub async fn get_tar(
        &self,
        dir: &str,
        paths: &[String],
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<(), TransportError> {
        const DOING: &str = "packing files";
        let names: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
        let script =
            format!("tar -cf - -C {} -- {}\nstatus=$?\necho \"status $status\" >&2\n", quoted(dir), names.join(" "));
        let (first, mut process) = self.inner.stream(&script).await?;
        let cannot = |error: std::io::Error| TransportError::Failed {
            host: self.inner.target.name.clone(),
            doing: DOING.to_owned(),
            reason: format!("cannot write the archive: {error}"),
        };
        sink.write_all(&first).await.map_err(cannot)?;
        let mut said = Vec::new();
        while let Some(piece) = process.next().await {
            match piece {
                Piece::Out(bytes) => sink.write_all(&bytes).await.map_err(cannot)?,
                Piece::Err(bytes) => said.extend_from_slice(&bytes),
                Piece::Exit(_) => {}
            }
        }
        sink.flush().await.map_err(cannot)?;
        self.inner.conclude(DOING, &said)
    }
}

impl Inner {
    fn failed(&self, doing: String, said: &[u8]) -> TransportError {
        let said = String::from_utf8_lossy(said);
        TransportError::Failed {
            host: self.target.name.clone(),
            doing,
            reason: said.trim().lines().last().unwrap_or("no reason was given").to_owned(),
        }
    }

    /// A channel of its own that is a script's standard streams.
    async fn stream(&self, script: &str) -> Result<(bytes::Bytes, Process), TransportError> {
        let shell = match self.hosts.shell(&self.target, Mode::Scratch, true).await {
            Ok(shell) => shell,
            Err(OpenError::Transport(error)) => return Err(error),
            Err(_) => return Err(self.gone()),
        };
        shell.become_script(script).await
    }

    /// Success, if that is what the script said last.
    fn conclude(&self, doing: &'static str, said: &[u8]) -> Result<(), TransportError> {
        let text = String::from_utf8_lossy(said);
        let mut lines: Vec<&str> = text.lines().collect();
        match lines.pop().and_then(|line| line.strip_prefix("status ")) {
            Some("0") => Ok(()),
            Some(_) => Err(self.failed(doing.to_owned(), lines.join("\n").as_bytes())),
            None => Err(TransportError::Interrupted { host: self.target.name.clone(), doing }),
        }
    }
}
