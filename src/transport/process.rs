//! A process at the other end of a channel: what both ways to a host have in common.

use bytes::Bytes;
use tokio::sync::mpsc;

/// What a process says.
#[derive(Debug)]
pub(super) enum Piece {
    Out(Bytes),
    Err(Bytes),
    /// Its exit code, 128 + N after signal N. Output may still follow.
    Exit(i32),
}

/// A running `sh` and its streams. Dropping it closes the channel (or the pipes); it does not end what was started there.
#[derive(Debug)]
pub(super) struct Process {
    input: Option<mpsc::Sender<Bytes>>,
    output: mpsc::Receiver<Piece>,
}

impl Process {
    /// From the ends that a transport pumps.
    pub(super) fn new(input: mpsc::Sender<Bytes>, output: mpsc::Receiver<Piece>) -> Self {
        Self { input: Some(input), output }
    }

    /// Writes to standard input; false when nobody reads any more.
    pub(super) async fn write(&mut self, bytes: Bytes) -> bool {
        match &self.input {
            Some(input) => input.send(bytes).await.is_ok(),
            None => false,
        }
    }

    /// Ends standard input.
    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    /// The next piece; `None` when the channel is closed or the link is gone.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        self.output.recv().await
    }
}
