//! This machine as a host: the same launcher and protocol through a child `sh`.

use std::process::Stdio;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::process::{Piece, Process};

/// Starts `/bin/sh` in a process group of its own, so that a Ctrl-C at our terminal does not reach it.
pub(super) fn open(tracker: &TaskTracker) -> std::io::Result<Process> {
    let mut child = Command::new("/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .current_dir("/")
        .spawn()?;
    let (input, mut lines) = mpsc::channel::<Bytes>(16);
    let (pieces, output) = mpsc::channel(64);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    tracker.spawn(async move {
        while let Some(bytes) = lines.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    let out = child.stdout.take().expect("stdout is piped");
    let err = child.stderr.take().expect("stderr is piped");
    tracker.spawn(pump(out, pieces.clone(), Piece::Out));
    tracker.spawn(pump(err, pieces.clone(), Piece::Err));
    tracker.spawn(async move {
        use std::os::unix::process::ExitStatusExt;
        if let Ok(status) = child.wait().await {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            // Nobody may be left who wants to know.
            let _ = pieces.send(Piece::Exit(code.unwrap_or(255))).await;
        }
    });
    Ok(Process::new(input, output))
}

async fn pump(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Piece>, piece: fn(Bytes) -> Piece) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(64 * 1024);
        tokio::select! {
            read = from.read_buf(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => if to.send(piece(buffer.split().freeze())).await.is_err() {
                    return;
                },
            },
            () = to.closed() => return,
        }
    }
}
