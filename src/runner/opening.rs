//! How a job begins: its journal, its host, the way to the services, and what it knows before its first line.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::run::order::Order;
use crate::run::report::Report;
use crate::run::steps::JobStatus;
use crate::services::JobVariables;
use crate::toolkit::artifacts::Subjects;
use crate::toolkit::mask::Masks;
use crate::toolkit::matcher::Matchers;
use crate::transport::{Backoff, JobSpec, Resume};

use super::aside::Events;
use super::container::Containers;
use super::contexts::{Fixed, Variables};
use super::job::Job;
use super::journal::{JobPosition, Journal, OPENED, Position};
use super::services::{self, Reached};
use super::summaries::Summaries;
use super::told::heard;
use super::workspace::Workspace;
use super::{Assignment, Cancel, JobError, Runner};

/// Opens a job on its host, or picks it up where an earlier process left it.
pub(super) async fn open(runner: &Runner, order: &Arc<Order>, assignment: Assignment) -> Result<Job, JobError> {
    let Assignment {
        target,
        slot,
        mut secrets,
        machine_env,
        mut log,
        journal: entries,
        journal_store,
        reports,
        told,
        services: address,
        surroundings,
        ..
    } = assignment;
    let mut journal = Journal::new(journal_store, &entries);
    // With the first entry alone it is not known that the host was ever reached, and nothing was started.
    let last = entries.last().filter(|_| entries.len() > 1);
    let resume = last.map(|last| Resume { offset: last.spool, ended: last.ended });
    let (nonce, slot) = match journal.recall::<(String, u32)>(OPENED)? {
        Some(opened) => opened,
        None => {
            let opened = (JobSpec::new_nonce(), slot);
            let value = json!(opened);
            journal.record(OPENED, value, Position::Job(JobPosition::default()))?;
            opened
        }
    };
    let limit = Duration::from_secs_f64((order.timeout_minutes.max(0.0) * 60.0).min(35.0 * 86_400.0));
    let until = runner.clock.now() + limit;
    // A job that is picked up again keeps its tokens and its port: an action that runs has them.
    let is_new = entries.len() <= 1;
    let secrets_record = journal.recall::<BTreeMap<String, String>>("secrets")?;
    let are_kept = secrets_record.is_some();
    if let Some(kept) = secrets_record {
        // Steps have these values and may print them: they are masked, whatever the vault says by now.
        secrets.retain(|name, _| is_token(name));
        secrets.extend(kept.into_iter().map(|(name, value)| (name, value.into())));
    }
    let own: BTreeMap<&str, &str> = secrets
        .iter()
        .filter(|(name, _)| !is_token(name))
        .map(|(name, value)| (name.as_str(), secrecy::ExposeSecret::expose_secret(value)))
        .collect();
    let own = (is_new && !are_kept && !own.is_empty()).then(|| json!(own));
    let known = journal.recall::<JobVariables>("services")?;
    let is_known = known.is_some();
    let reach = async {
        Ok(match known {
            Some(known) => address.reach_again(&runner.hosts, &target, order, &secrets, known).await,
            None if is_new => address.reach(&runner.hosts, &target, order, &secrets, until).await,
            None => Reached::nothing(),
        })
    };
    // An earlier process may have spoken of the job to its host, and left steps that run there.
    let (mut is_heard, is_begun) = (!entries.is_empty(), resume.is_some());
    let open = async {
        let mut backoff = Backoff::default();
        let mut away: Option<String> = None;
        loop {
            // What tells this job from others is durable before the host hears of it.
            let (recorded, ready) = tokio::join!(journal.durable(), runner.hosts.ready(&target));
            recorded?;
            is_heard |= ready.is_ok();
            let opened = match ready {
                Ok(ready) => {
                    let spec = JobSpec { key: runner.job_key(order), nonce: nonce.clone(), resume };
                    runner.hosts.open_job_on(ready, &target, spec).await
                }
                Err(error) => Err(error),
            };
            let error = match opened {
                Ok(opened) => {
                    if away.is_some() {
                        drop(reports.send(Report::Attached { at: runner.clock.now() }).await);
                    }
                    return Ok::<_, JobError>(opened);
                }
                Err(error) if error.is_transient() && !is_heard => return Err(JobError::Unreached(error)),
                Err(error) if error.is_transient() || (is_begun && error.is_mendable()) => error,
                Err(error) => return Err(error.into()),
            };
            // It waits as a job does whose link breaks.
            let reason = error.to_string();
            if away.as_ref() != Some(&reason) {
                log::warn!(job = order.job.0, host:% = target.name; "job {} waits for its host: {reason}", order.job);
                drop(reports.send(Report::Detached { at: runner.clock.now(), reason: reason.clone() }).await);
                away = Some(reason);
            }
            tokio::time::sleep(backoff.next()).await;
        }
    };
    let mut cancelled = told.clone();
    let opened = tokio::select! {
        opened = async { tokio::try_join!(open, reach) } => opened,
        () = heard(&mut cancelled, |told| told.cancel == Cancel::Forced) => Err(JobError::Forced),
    };
    let ((host, events), reached) = match opened {
        Ok(opened) => opened,
        Err(error @ JobError::Unreached(_)) => return Err(error),
        Err(error) => {
            // Behind what an earlier process wrote.
            drop(log.say(runner.clock.now(), &Masks::new(), &format!("##[error]{error}")));
            return Err(error);
        }
    };
    // Only now: what is not written again stays.
    log.rewind(last.map_or(0, |last| last.log), last.map_or(0, |last| last.lines))?;
    if services::token_of(&secrets).is_none() && !reached.variables.token.is_empty() {
        secrets.insert("GITHUB_TOKEN".to_owned(), reached.variables.token.clone().into());
    }
    // A call may pass the token on under another name, whoever gave it.
    let secrets = super::secrets::resolve(&order.secret_levels, secrets);
    let mut workspace = Workspace::new(host.root(), slot, order);
    let mut masks = Masks::new();
    for (_, value) in secrets.iter().filter(|(name, _)| super::secrets::is_masked(name)) {
        // Without the blanks around it, as a whole and by line: a file's last line break is no part of a secret.
        let value = secrecy::ExposeSecret::expose_secret(value).trim();
        masks.add(value);
        value.split(['\r', '\n']).for_each(|line| masks.add(line.trim()));
    }
    let services = &reached.variables;
    if !is_known && is_new && !services.base.is_empty() {
        let value = json!(services);
        journal.record("services", value, Position::Job(JobPosition::default()))?;
    }
    // Behind the services: without these a job that is picked up has none.
    if let Some(own) = own {
        journal.record("secrets", own, Position::Job(JobPosition::default()))?;
    }
    for token in services.tokens() {
        masks.add(token);
    }
    let mut machine: Variables = host.facts().environment.iter().cloned().collect();
    machine.extend(machine_env);
    // As GitHub's runner does: who keeps tools elsewhere says so in the environment of the machine.
    let tools = ["RUNNER_TOOL_CACHE", "AGENT_TOOLSDIRECTORY"].iter().find_map(|name| machine.get(*name));
    if let Some(tools) = tools.filter(|path| path.starts_with('/')) {
        workspace.tools = tools.trim_end_matches('/').to_owned();
    }
    let host_name = target.name.to_string();
    let addresses = services::addresses(services);
    let fixed = Fixed::new(order, &secrets, host.facts(), &host_name, &workspace, &addresses);
    Ok(Job {
        runner: runner.clone(),
        order: Arc::clone(order),
        host_name,
        host,
        events: Events::Host(events),
        journal,
        summaries: Summaries::beside(log.path()),
        log,
        masks,
        masks_kept: 0,
        shared_masks: None,
        matchers: Matchers::default(),
        reports,
        told,
        workspace,
        fixed,
        surroundings,
        machine,
        reached,
        containers: Containers::default(),
        env: Variables::new(),
        paths: Vec::new(),
        status: JobStatus::default(),
        posts: Vec::new(),
        found: HashMap::new(),
        pres: BTreeSet::new(),
        states: HashMap::new(),
        artifacts: Subjects::new(),
        hashed: HashMap::new(),
        nodes: BTreeMap::new(),
        background: Vec::new(),
        beside: JoinSet::new(),
        aside: None,
        background_failed: false,
        number: 0,
        resume: resume.unwrap_or(Resume { offset: 0, ended: 0 }),
        deadline: Instant::now() + limit,
        out_of_time: false,
        interruption: None,
        owed: None,
        is_reread: resume.is_some(),
        cancel_deadline: None,
        step_deadline: None,
        steps: Vec::new(),
    })
}

/// A job's own token is another with each start of the daemon, or the same: who gives it knows.
fn is_token(name: &str) -> bool {
    name.eq_ignore_ascii_case("GITHUB_TOKEN")
}
