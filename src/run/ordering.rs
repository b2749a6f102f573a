//! From a job in a run to the [`Order`] that a runner executes.

use serde_json::{Value as Json, json};

use super::Run;
use super::advance::strategy_context;
use super::order::{JobEnvironment, Order, SecretLevel};
use super::state::JobState;
use crate::expr::Object;
use crate::id::{JobId, RepositoryName};
use crate::plan::{Plan, calls, fields};
use crate::workflow::model::{Job, JobBody, Permissions, RunDefaults};

/// Where a workflow file lies.
struct Home {
    repository: RepositoryName,
    sha: String,
    path: String,
    reference: String,
}

impl Run {
    /// What a runner needs to run this job; `None` for jobs that are unknown or have nothing to run.
    #[must_use]
    pub fn order(&self, job: JobId) -> Option<Order> {
        let plan = self.plan.as_deref()?;
        let state = self.state.jobs.get(&job)?;
        let scope = self.state.scopes.get(state.scope)?;
        let position = scope.nodes.get_index_of(&state.node)?;
        let place = (state.scope, position);
        let template = self.template(plan, place);
        let JobBody::Steps { container, services, steps, .. } = &template.body else { return None };
        let workflow = plan.file(scope.workflow.as_deref());
        // The other fields were evaluated when the job was made.
        let environment = match &template.environment {
            Some(_) => fields::job_fields(template, &self.leg_values(plan, state, template)?).ok()?.environment,
            None => None,
        };
        let Home { repository, sha, path, reference } = self.home(scope.workflow.as_deref());
        let mut github = plan.github.clone();
        github.insert("job".to_owned(), json!(template.id));
        if scope.workflow.is_some() {
            github.insert("job_workflow_sha".to_owned(), json!(sha));
        }
        let legs = self.node(place).legs.len();
        Some(Order {
            run: self.spec.run,
            run_number: self.spec.run_number,
            attempt: self.spec.attempt,
            job,
            job_id: template.id.clone(),
            name: state.name.clone(),
            repository: self.spec.event.repository.clone(),
            github,
            inputs: scope.inputs.clone(),
            needs: self.needs(state.scope, template),
            strategy: strategy_context(self.node(place), state.leg, legs),
            matrix: self.node(place).legs[state.leg].matrix.clone(),
            vars: self.spec.vars.clone(),
            secret_levels: self.secret_levels(plan, state.scope),
            env: workflow.env.iter().chain(&template.env).cloned().collect(),
            defaults: RunDefaults {
                shell: template.defaults.shell.clone().or_else(|| workflow.defaults.shell.clone()),
                working_directory: template
                    .defaults
                    .working_directory
                    .clone()
                    .or_else(|| workflow.defaults.working_directory.clone()),
            },
            runs_on: state.labels.clone(),
            container: container.clone(),
            services: services.clone(),
            steps: steps.clone(),
            outputs: template.outputs.clone(),
            timeout_minutes: state.timeout_minutes,
            cancel_timeout_minutes: state.cancel_timeout_minutes,
            continue_on_error: state.continue_on_error,
            permissions: self.permissions(plan, state.scope, template),
            environment: environment.map(|environment| JobEnvironment {
                name: environment.name,
                url: environment.url,
                deployment: environment.deployment,
            }),
            workflow_ref: format!("{repository}/{path}@{reference}"),
            workflow_repository: repository,
            workflow_sha: sha,
            workflow_path: path,
            debug: self.spec.debug,
            hold_minutes: self.spec.hold_minutes,
        })
    }

    fn leg_values(&self, plan: &Plan, state: &JobState, job: &Job) -> Option<Object> {
        let position = self.state.scopes[state.scope].nodes.get_index_of(&state.node)?;
        let place = (state.scope, position);
        let legs = self.node(place).legs.len();
        Some(self.leg_contexts(&self.contexts(plan, state.scope, job), place, state.leg, legs))
    }

    /// Where the file that a scope runs lies.
    fn home(&self, workflow: Option<&str>) -> Home {
        let target = workflow.and_then(|key| calls::resolve(key, None).ok());
        let (path, elsewhere) = match target {
            Some(target) => (target.path, target.elsewhere),
            None => (self.spec.workflow_path.clone(), None),
        };
        let file = workflow.and_then(|key| self.spec.called.get(key));
        let sha = file.map_or(&self.spec.workflow_sha, |file| &file.sha).clone();
        let repository = match file {
            Some(file) if !file.repository.as_str().is_empty() => file.repository.clone(),
            _ => self.spec.event.repository.clone(),
        };
        // Of another repository only the ref that the call names is known, not whether it is a branch or a tag.
        let reference = elsewhere.map_or_else(|| self.spec.event.git_ref.clone(), |(_, reference)| reference);
        Home { repository, sha, path, reference }
    }

    /// What a job may do: its own wish, or its workflow's, never more than any of its callers have (S4, R7).
    fn permissions(&self, plan: &Plan, scope: usize, job: &Job) -> Option<Permissions> {
        let scope = self.state.scopes.get(scope)?;
        let given = scope.caller.as_ref().and_then(|caller| {
            let above = self.state.scopes.get(caller.scope)?;
            let position = above.nodes.get_index_of(&caller.node)?;
            let call = self.template(plan, (caller.scope, position));
            self.permissions(plan, caller.scope, call)
        });
        let workflow = plan.file(scope.workflow.as_deref());
        calls::shrink(job.permissions.as_ref().or(workflow.permissions.as_ref()), given.as_ref())
    }

    /// The boundaries that secrets cross to come to this scope, outermost first (R3, R4).
    fn secret_levels(&self, plan: &Plan, scope: usize) -> Vec<SecretLevel> {
        let mut levels = Vec::new();
        let mut caller = self.state.scopes[scope].caller.as_ref();
        while let Some(above) = caller {
            let state = &self.state.scopes[above.scope];
            if let Some(position) = state.nodes.get_index_of(&above.node) {
                let place = (above.scope, position);
                let job = self.template(plan, place);
                if let JobBody::Call { secrets, .. } = &job.body {
                    let node = self.node(place);
                    let contexts = [
                        ("github", Json::Object(plan.github.clone())),
                        ("inputs", Json::Object(state.inputs.clone())),
                        ("vars", Json::Object(self.spec.vars.clone())),
                        ("needs", Json::Object(self.needs(above.scope, job))),
                        ("strategy", Json::Object(strategy_context(node, above.leg, node.legs.len()))),
                        ("matrix", node.legs[above.leg].matrix.clone()),
                    ];
                    levels.push(SecretLevel {
                        secrets: secrets.clone(),
                        contexts: contexts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
                    });
                }
            }
            caller = state.caller.as_ref();
        }
        levels.reverse();
        levels
    }
}
