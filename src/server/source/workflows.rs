//! Workflows: their files, what starts them by hand, and what their last runs say about them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::id::RepositoryName;
use crate::run::{Conclusion, RunStatus};
use crate::server::view::{
    FlakyStep, InputKind, InputView, RunPoint, RunView, State, WorkflowName, WorkflowStatistics, WorkflowView,
};
use crate::store::{RunFilter, StatusFilter, StoreError};
use crate::workflow;

use super::Source;
use super::runs::run_view;

/// Runs that the statistics of a workflow are made of.
const STATISTICS: usize = 60;

impl Source {
    /// The workflows of a repository: its files, and what had runs before.
    pub(in crate::server) async fn workflows(
        &self,
        repository: &RepositoryName,
        recent: usize,
    ) -> Result<Vec<WorkflowView>, StoreError> {
        let files = match (self.outside.files)(repository.clone()).await {
            Ok(files) => files,
            Err(error) => {
                log::warn!(repository:% = repository, error:% = error; "cannot read workflow files");
                Vec::new()
            }
        };
        let filter = RunFilter { repository: Some(repository.clone()), ..RunFilter::default() };
        let (runs, _) = self.runs(filter, 0, 300).await?;
        let mut paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        paths.extend(runs.iter().map(|run| run.workflow.path.clone()));
        paths.sort();
        paths.dedup();
        let mut workflows = Vec::new();
        for path in paths {
            let of_it: Vec<RunView> = runs.iter().filter(|run| run.workflow.path == path).cloned().collect();
            let file = files.iter().find(|file| file.path == path);
            let parsed = file.and_then(|file| workflow::parse(&file.path, &file.text).0);
            let name = parsed.as_ref().map(|model| model.display_name().to_owned());
            let name =
                name.or_else(|| of_it.first().map(|run| run.workflow.name.clone())).unwrap_or_else(|| path.clone());
            let inputs = parsed
                .as_ref()
                .and_then(|model| model.on.dispatch.as_ref())
                .map(|dispatch| dispatch.inputs.iter().map(|(name, input)| input_view(name, input)).collect());
            let (of, asked) = (repository.clone(), path.clone());
            let disabled = self.read(move |store| store.is_workflow_disabled(&of, &asked)).await?;
            workflows.push(WorkflowView {
                repository: repository.clone(),
                workflow: WorkflowName::new(repository, &path, &name),
                enabled: !disabled,
                inputs,
                default_branch: file.map_or_else(|| "main".to_owned(), |file| file.default_branch.clone()),
                created_at: of_it.last().map_or(Timestamp::UNIX_EPOCH, |run| run.created_at),
                updated_at: of_it.first().map_or(Timestamp::UNIX_EPOCH, |run| run.created_at),
                recent: of_it.into_iter().take(recent).collect(),
            });
        }
        Ok(workflows)
    }

    /// What the last runs of a workflow say about it.
    pub(in crate::server) async fn statistics(
        &self,
        repository: &RepositoryName,
        path: &str,
    ) -> Result<WorkflowStatistics, StoreError> {
        let filter = RunFilter {
            repository: Some(repository.clone()),
            workflow_path: Some(path.to_owned()),
            status: Some(StatusFilter::Status(RunStatus::Completed)),
            ..RunFilter::default()
        };
        self.read(move |store| {
            let newest = store.newest(&filter, STATISTICS)?;
            let mut points = Vec::new();
            // Job and step → commits on which it failed, and on which it passed.
            let mut outcomes: BTreeMap<(String, String), [BTreeSet<String>; 2]> = BTreeMap::new();
            for record in newest.iter().rev() {
                let mut waited = SignedDuration::ZERO;
                for attempt in record.attempt.saturating_sub(2).max(1)..=record.attempt {
                    for job in store.jobs(record.id, attempt)? {
                        let state = &job.state;
                        if let (Some(queued), Some(started)) = (job.queued_at, state.started_at) {
                            waited = waited.max(started.duration_since(queued));
                        }
                        for step in &state.steps {
                            let at = match step.outcome {
                                Some(Conclusion::Failure | Conclusion::TimedOut) => 0,
                                Some(Conclusion::Success) => 1,
                                _ => continue,
                            };
                            let key = (state.name.clone(), step.name.clone());
                            outcomes.entry(key).or_default()[at].insert(record.sha.clone());
                        }
                    }
                }
                let view = run_view(record);
                if matches!(view.state(), State::Success | State::Failure | State::TimedOut) {
                    let took = view.elapsed(record.updated_at);
                    points.push(RunPoint { number: view.number, state: view.state(), took, waited });
                }
            }
            let flaky = outcomes.into_iter().filter_map(|((job, step), [failed, passed])| {
                let commits = failed.intersection(&passed).count();
                (commits > 0).then_some(FlakyStep { job, step, commits, failed: failed.len() })
            });
            let mut flaky: Vec<FlakyStep> = flaky.collect();
            flaky.sort_by_key(|step| std::cmp::Reverse(step.commits));
            flaky.truncate(10);
            Ok(WorkflowStatistics { points, flaky })
        })
        .await
    }
}

fn input_view(name: &str, input: &workflow::model::Input) -> InputView {
    InputView {
        name: name.to_owned(),
        description: input.description.clone().unwrap_or_default(),
        kind: match input.kind {
            workflow::model::InputKind::String | workflow::model::InputKind::Environment => InputKind::Text,
            workflow::model::InputKind::Number => InputKind::Number,
            workflow::model::InputKind::Boolean => InputKind::Boolean,
            workflow::model::InputKind::Choice => InputKind::Choice(input.options.clone()),
        },
        required: input.required,
        default: input.default.as_ref().and_then(plain_text).unwrap_or_default(),
    }
}

/// A value without expressions as the text of a form field.
pub(in crate::server) fn plain_text(token: &workflow::token::Token) -> Option<String> {
    match token {
        workflow::token::Token::String(text) => Some(text.clone()),
        workflow::token::Token::Bool(value) => Some(value.to_string()),
        workflow::token::Token::Number(value) => Some(value.to_string()),
        _ => None,
    }
}
