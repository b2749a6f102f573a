//! One job on one host, followed across every break of the link.

use super::{CommandFile, Facts, Grace, HostEvent, Orphan, Output, StepRequest, TransportError};

/// A job's shell on a host. Cheap to clone; every operation waits while the host is detached, and fails once the job is lost.
#[derive(Clone, Debug)]
pub struct HostJob {}

/// What happens in the job, in order. Dropping it stops following; the steps go on.
#[derive(Debug)]
pub struct HostEvents {}

impl HostEvents {
    /// The next event; `None` after [`HostEvent::Lost`] or [`HostJob::finish`].
    pub async fn next(&mut self) -> Option<HostEvent> {
        unimplemented!()
    }
}

impl HostJob {
    /// What the probe found when the job was opened; the login environment among it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        unimplemented!()
    }

    /// The job's directory on the host: absolute, mode 0700, gone after [`HostJob::finish`].
    #[must_use]
    pub fn dir(&self) -> &str {
        unimplemented!()
    }

    /// The root of everything on the host (`~/.towline`): absolute.
    #[must_use]
    pub fn root(&self) -> &str {
        unimplemented!()
    }

    /// Whether the job was there already when it was opened.
    #[must_use]
    pub fn attached(&self) -> bool {
        unimplemented!()
    }

    /// Where the step finds a command file: known before it starts. The file exists, empty, when it does.
    #[must_use]
    pub fn file_path(&self, number: u32, file: CommandFile) -> String {
        let _ = (number, file);
        unimplemented!()
    }

    /// Starts a step, or attaches to it if it was started before, by whomever.
    ///
    /// # Errors
    /// The job is over, or the request is impossible. A broken link is no error: this waits and looks.
    pub async fn start_step(&self, request: StepRequest) -> Result<(), TransportError> {
        let _ = request;
        unimplemented!()
    }

    /// Ends a step and all it started: the ladder runs on the host, also if the link breaks. Returns when it has begun; the end
    /// arrives as an event. Cancelling what has ended does nothing.
    ///
    /// # Errors
    /// The job is over.
    pub async fn cancel_step(&self, number: u32, grace: Grace) -> Result<(), TransportError> {
        let _ = (number, grace);
        unimplemented!()
    }

    /// Runs a small `sh` script. It may run again if the link breaks meanwhile, so it must be repeatable.
    ///
    /// # Errors
    /// The job is over. A failing script is an [`Output`].
    pub async fn exec(&self, script: &str, stdin: &[u8]) -> Result<Output, TransportError> {
        let _ = (script, stdin);
        unimplemented!()
    }

    /// Writes a file whole: through a temporary name beside it. Missing directories are made.
    ///
    /// # Errors
    /// The job is over, or the file cannot be written.
    pub async fn write_file(&self, path: &str, mode: u32, content: &[u8]) -> Result<(), TransportError> {
        let _ = (path, mode, content);
        unimplemented!()
    }

    /// Reads a file; `None` when it is not there.
    ///
    /// # Errors
    /// The job is over, the file cannot be read or is longer than `limit`.
    pub async fn read_file(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, TransportError> {
        let _ = (path, limit);
        unimplemented!()
    }

    /// Unpacks a tar stream into a directory, which is made.
    ///
    /// # Errors
    /// The job is over, the link broke (nothing is repeated: the reader is used up), or tar failed.
    pub async fn put_tar(
        &self,
        stream: &mut (dyn tokio::io::AsyncRead + Send + Unpin),
        dir: &str,
    ) -> Result<(), TransportError> {
        let _ = (stream, dir);
        unimplemented!()
    }

    /// Packs paths relative to a directory as a tar stream.
    ///
    /// # Errors
    /// The job is over, the link broke, or tar failed.
    pub async fn get_tar(
        &self,
        dir: &str,
        paths: &[String],
        sink: &mut (dyn tokio::io::AsyncWrite + Send + Unpin),
    ) -> Result<(), TransportError> {
        let _ = (dir, paths, sink);
        unimplemented!()
    }

    /// Ends every process that carries the job's `RUNNER_TRACKING_ID`, until two looks in a row find none.
    ///
    /// # Errors
    /// The job is over.
    pub async fn sweep_orphans(&self) -> Result<Vec<Orphan>, TransportError> {
        unimplemented!()
    }

    /// The value of `RUNNER_TRACKING_ID` by which the job's processes are known. The launcher sets it in every step.
    #[must_use]
    pub fn tracking_id(&self) -> &str {
        unimplemented!()
    }

    /// Acknowledges everything: ends the supervisors and removes the job's directory.
    ///
    /// # Errors
    /// The host cannot be reached within its connect time-out; what is left is removed by the next probe's sweep.
    pub async fn finish(&self) -> Result<(), TransportError> {
        unimplemented!()
    }
}
