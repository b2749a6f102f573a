//! What people press on a check: run again, cancel. GitHub tells it as `check_run` and `check_suite`.

use serde_json::Value as Json;

use super::service::{Error, Triggers};
use super::{Wish, Wished};
use crate::config::Source;
use crate::engine::Answer;
use crate::forge;
use crate::id::{JobId, RunId};
use crate::run::{Rerun, Which};
use crate::store::RunFilter;

/// Runs of one commit that are asked for by `Re-run all checks`.
const RUNS_OF_A_COMMIT: usize = 50;

impl Triggers {
    /// Does what was pressed on one of our own checks; gives what became of it. `None`: nothing of ours was.
    pub(super) async fn pressed(
        &self,
        source: &Source,
        event: &str,
        payload: &Json,
    ) -> Result<Option<(Vec<RunId>, String)>, Error> {
        let text = |pointer: &str| payload.pointer(pointer).and_then(Json::as_str);
        let app = payload.pointer(&format!("/{event}/app/id")).and_then(Json::as_u64);
        if app.is_none() || source.app.as_ref().map(|app| app.id) != app {
            return Ok(None);
        }
        let actor = text("/sender/login").unwrap_or("github").to_owned();
        let wishes = match (event, text("/action")) {
            ("check_run", Some("rerequested")) => {
                let Some((run, job)) = self.meant(source, text("/check_run/external_id"))? else {
                    return Ok(Some((Vec::new(), "the check is of no run that is still known".to_owned())));
                };
                let which = job.map_or(Which::All, Which::Job);
                let called = self.called_again(run, which).await?;
                vec![Wish::Rerun { run, wish: Rerun { which, actor, debug: false, hold_minutes: 0, called } }]
            }
            ("check_run", Some("requested_action")) => {
                let Some((run, _)) = self.meant(source, text("/check_run/external_id"))? else {
                    return Ok(Some((Vec::new(), "the check is of no run that is still known".to_owned())));
                };
                match text("/requested_action/identifier") {
                    Some(forge::CANCEL) => vec![Wish::Cancel { run, actor }],
                    Some(forge::RERUN_FAILED) => {
                        vec![Wish::Rerun {
                            run,
                            wish: Rerun { which: Which::Failed, actor, debug: false, hold_minutes: 0, called: None },
                        }]
                    }
                    _ => return Ok(None),
                }
            }
            ("check_suite", Some("rerequested")) => {
                let filter = RunFilter {
                    repository: Some(source.name.clone()),
                    sha: Some(text("/check_suite/head_sha").unwrap_or_default().to_owned()),
                    ..RunFilter::default()
                };
                let runs = self.store().runs(&filter, 0, RUNS_OF_A_COMMIT)?.runs;
                let mut wishes = Vec::new();
                for run in runs.iter().map(|run| run.id) {
                    let (which, actor) = (Which::All, actor.clone());
                    let called = self.called_again(run, which).await?;
                    wishes
                        .push(Wish::Rerun { run, wish: Rerun { which, actor, debug: false, hold_minutes: 0, called } });
                }
                wishes
            }
            _ => return Ok(None),
        };
        let (mut runs, mut notes) = (Vec::new(), Vec::new());
        for wish in wishes {
            match self.wish(wish).await? {
                Wished { run, answer: Answer::Run { .. } | Answer::Done } => runs.push(run),
                Wished { answer: Answer::Unknown(reason) | Answer::Refused(reason), .. } => notes.push(reason),
            }
        }
        Ok(Some((runs, notes.join("\n"))))
    }

    /// The run, and the job if it is one job's, that a check names.
    fn meant(&self, source: &Source, external: Option<&str>) -> Result<Option<(RunId, Option<JobId>)>, Error> {
        let Some(external) = external else { return Ok(None) };
        let meant = match external.strip_prefix("run-") {
            Some(run) => run.parse().ok().map(|run| (RunId(run), None)),
            None => {
                let job = external.parse().ok().map(JobId);
                let record = job.map(|job| self.store().job(job)).transpose()?.flatten();
                record.map(|record| (record.run, Some(record.state.id)))
            }
        };
        let Some((run, job)) = meant else { return Ok(None) };
        // What another repository's check names is none of this one's business.
        let record = self.store().run(run)?;
        Ok(record.filter(|record| record.repository == source.name).map(|_| (run, job)))
    }
}
