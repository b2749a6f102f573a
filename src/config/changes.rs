//! Notices that the configuration changed: any sign in its directory, then quiet, then other contents than before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::{File, read};

const QUIET: Duration = Duration::from_millis(300);

/// The configuration files of one daemon, watched.
pub struct Changes {
    main: PathBuf,
    /// `None` when the system gives no signs; SIGHUP still works.
    watcher: Option<RecommendedWatcher>,
    signs: mpsc::Receiver<()>,
    last: Vec<(PathBuf, String)>,
}

impl Changes {
    /// Watches `towline.toml` and `conf.d` beside it, whether or not they exist yet.
    #[must_use]
    pub fn watch(main: &Path) -> Self {
        // Room for one: more of them say nothing new.
        let (sender, signs) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is no change of them.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // Full: somebody will look already.
                let _ = sender.try_send(());
            }
        });
        let mut changes = Self { main: main.to_owned(), watcher: watcher.ok(), signs, last: contents(main) };
        changes.look_where();
        changes
    }

    /// Waits until the contents are others than those of the call before. `None` when no sign will ever come.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            self.signs.recv().await?;
            // Editors and package managers write in several steps; but not for ever, should something never stop.
            let mut patience = 20;
            while patience > 0 && tokio::time::timeout(QUIET, self.signs.recv()).await.is_ok() {
                patience -= 1;
            }
            self.look_where();
            let now = contents(&self.main);
            if now != self.last {
                self.last = now;
                return Some(());
            }
        }
    }

    fn look_where(&mut self) {
        let directory = self.main.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Some(watcher) = &mut self.watcher else { return };
        for path in [directory.to_owned(), directory.join("conf.d")] {
            // One that does not exist yet is seen when it is made, by the one above it.
            let _ = watcher.watch(&path, RecursiveMode::NonRecursive);
        }
    }
}

/// What the files say; one that cannot be read counts as absent, and the reload will say what is wrong.
fn contents(main: &Path) -> Vec<(PathBuf, String)> {
    let files = read(main).unwrap_or_default();
    files.into_iter().map(|File { path, text }| (path, text)).collect()
}
