//! Schedules of the default branches: read again when a branch moves, started when due (T10).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::event::dispatch::{Place, schedule};
use crate::id::RepositoryName;
use crate::store::Store;
use crate::triggers::Triggers;
use crate::triggers::cron::{self, Due, Entry, Timetable};
use crate::workflow;

use super::outside::default_branch;

/// How often branches and times are looked at; a schedule is never earlier than its time.
const LOOK: Duration = Duration::from_secs(20);
/// Where the time of the last look is kept.
const SPACE: &str = "schedules";
const LAST: &str = "last-look";

/// Looks until it is stopped.
pub(super) async fn run(triggers: Triggers, store: Store, clock: Clock, stop: CancellationToken) {
    let mut timetable = Timetable::default();
    let mut known: BTreeMap<RepositoryName, (String, Vec<Entry>)> = BTreeMap::new();
    // What became due while nobody looked is started if it is not too old, else reported as missed.
    let before = store.get(SPACE, LAST).ok().flatten();
    let before = before.and_then(|bytes| String::from_utf8(bytes).ok()?.parse::<Timestamp>().ok());
    let mut from = before.unwrap_or_else(|| clock.now());
    loop {
        read(&triggers, &mut known).await;
        let now = clock.now();
        timetable.set(known.values().flat_map(|(_, entries)| entries.clone()).collect(), from);
        from = now;
        for due in timetable.due(now) {
            match due {
                Due::Start(entry, at) => start(&triggers, &entry, at, now).await,
                Due::Missed(entry, at) => {
                    log::warn!(repository:% = entry.repository, workflow = entry.workflow.as_str();
                        "the schedule '{}' of {} was missed at {at}", entry.cron, entry.workflow);
                }
            }
        }
        if let Err(error) = store.put(SPACE, LAST, now.to_string().as_bytes()).await {
            log::warn!("cannot keep the time of the last look at schedules: {error}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Reads the schedules of branches that moved.
async fn read(triggers: &Triggers, known: &mut BTreeMap<RepositoryName, (String, Vec<Entry>)>) {
    let sources = triggers.inventory().all();
    known.retain(|name, _| sources.iter().any(|source| source.name == *name));
    for source in sources {
        let Ok((source, repository, _, commit)) = default_branch(triggers, &source.name).await else { continue };
        if known.get(&source.name).is_some_and(|(before, _)| *before == commit) {
            continue;
        }
        let Ok(mut objects) = repository.objects() else { continue };
        let files = objects.workflows(&commit, &triggers.reading(&source).directories).await.unwrap_or_default();
        objects.close().await;
        let mut entries = Vec::new();
        for file in files {
            if let (Some(workflow), _) = workflow::parse(&file.path, &file.text) {
                entries.extend(cron::entries(&source.name, &file.path, &workflow.on.schedules));
            }
        }
        known.insert(source.name, (commit, entries));
    }
}

async fn start(triggers: &Triggers, entry: &Entry, at: Timestamp, now: Timestamp) {
    let started = async {
        let (_, _, branch, commit) = default_branch(triggers, &entry.repository).await?;
        let place = Place {
            repository: entry.repository.clone(),
            git_ref: format!("refs/heads/{branch}"),
            sha: commit,
            default_branch: branch,
            actor: entry.repository.owner().to_owned(),
            server_url: triggers.inventory().server_url(),
        };
        let event = schedule(now, &place, &entry.workflow, &entry.cron);
        // The due time is part of the id: started once, whoever looks.
        let id = format!("{}|{}|{at}", entry.workflow, entry.cron);
        triggers.event("schedule", id, event).await.map_err(|error| error.to_string())
    };
    if let Err(error) = started.await {
        log::error!(repository:% = entry.repository; "the schedule '{}' of {} could not be started: {error}", entry.cron, entry.workflow);
    }
}
