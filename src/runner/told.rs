//! What a job hears while it runs: a cancel, a release. Whoever tells it goes away with the daemon, or when the run is over for
//! the engine: that says nothing, and the job goes on as it is.

use tokio::sync::watch;

use super::Told;

/// Waits until something new is told; for ever when nobody can tell anything any more.
pub(super) async fn news(told: &mut watch::Receiver<Told>) {
    if told.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until what is told is what is meant; for ever when nobody can tell it any more.
pub(super) async fn heard(told: &mut watch::Receiver<Told>, is_meant: impl FnMut(&Told) -> bool) {
    if told.wait_for(is_meant).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::run::Cancel;

    #[test]
    fn who_has_gone_away_says_nothing() {
        let (sender, mut told) = watch::channel(Told::default());
        assert!(news(&mut told).now_or_never().is_none());
        sender.send_modify(|told| told.cancel = Cancel::Requested);
        assert!(heard(&mut told, |told| told.cancel == Cancel::Requested).now_or_never().is_some());
        sender.send_modify(|told| told.release = true);
        drop(sender);
        assert!(news(&mut told).now_or_never().is_some(), "what was said before is heard");
        assert!(news(&mut told).now_or_never().is_none());
        assert!(heard(&mut told, |told| told.cancel == Cancel::Forced).now_or_never().is_none());
    }
}
