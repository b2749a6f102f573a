//! Certificates while the daemon runs: our own is renewed, files of the user's that change are taken.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::server::{Certificates, Identity};

/// How often files are looked at. Whoever renews them need not tell us.
const LOOK: Duration = Duration::from_secs(60);

/// Looks again and again. What cannot be used is said once and leaves the certificate in use.
pub(super) async fn keep(certificates: Arc<Certificates>, clock: Clock) {
    let mut said: Option<String> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        match reload(&certificates, clock.now(), None).await {
            Ok(is_new) => {
                if is_new {
                    log::info!("a new certificate is in use");
                }
                said = None;
            }
            // One of two files may have been written already: the next look finds both.
            Err(problem) => {
                if said.as_ref() != Some(&problem) {
                    log::warn!("the certificate stays as it was: {problem}");
                }
                said = Some(problem);
            }
        }
    }
}

/// Takes what the configuration says now. Switching TLS on or off is for the next start.
pub(super) async fn take(certificates: &Arc<Certificates>, now: Timestamp, identity: Option<Identity>) {
    match reload(certificates, now, identity).await {
        Ok(true) => log::info!("a new certificate is in use"),
        Ok(false) => {}
        Err(problem) => log::error!("the certificate stays as it was: {problem}"),
    }
}

async fn reload(certificates: &Arc<Certificates>, now: Timestamp, identity: Option<Identity>) -> Result<bool, String> {
    let certificates = Arc::clone(certificates);
    let read = move || certificates.reload(now, identity);
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result.map_err(|error| format!("{:#}", anyhow::Error::from(error))),
        Err(error) => Err(error.to_string()),
    }
}
