//! `@octokit/rest`, the client most scripts use.

use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Daemon, failed_run};
use crate::support::clients;

const SCRIPT: &str = r#"
import { Octokit } from "@octokit/rest";
const [, , baseUrl, auth, run] = process.argv;
const octokit = new Octokit({ baseUrl, auth });
const at = { owner: "o", repo: "r" };
const say = (name, value) => console.log(`${name}: ${JSON.stringify(value)}`);
const { actions, repos } = octokit.rest;
say("runs", (await octokit.paginate(actions.listWorkflowRunsForRepo, { ...at, per_page: 1 })).map((one) => one.conclusion));
say("run", (await actions.getWorkflowRun({ ...at, run_id: run })).data.display_title);
say("jobs", (await actions.listJobsForWorkflowRun({ ...at, run_id: run })).data.jobs.map((job) => [job.name, job.steps.length]));
const log = await actions.downloadJobLogsForWorkflowRun({ ...at, job_id: (await actions.listJobsForWorkflowRun({ ...at, run_id: run })).data.jobs[0].id });
say("log", String(log.data).includes("make"));
say("workflow", (await actions.getWorkflow({ ...at, workflow_id: "ci.yml" })).data.state);
await actions.createRepoVariable({ ...at, name: "WHERE", value: "here" });
say("variables", (await actions.listRepoVariables(at)).data.variables.map((one) => [one.name, one.value]));
say("key", (await actions.getRepoPublicKey(at)).data.key.length);
await repos.createOrUpdateEnvironment({ ...at, environment_name: "prod", wait_timer: 3 });
say("environments", (await repos.getAllEnvironments(at)).data.environments.map((one) => one.name));
say("runners", (await actions.listSelfHostedRunnersForRepo(at)).data.runners.map((one) => one.status));
await actions.reRunWorkflow({ ...at, run_id: run });
say("attempt", (await actions.getWorkflowRun({ ...at, run_id: run })).data.run_attempt);
const refused = await actions.getWorkflowRun({ ...at, run_id: 99 }).catch((error) => [error.status, error.response.data.message]);
say("refused", refused);
"#;

#[tokio::test(flavor = "multi_thread")]
async fn octokit() {
    let installed = tokio::task::spawn_blocking(|| clients::node(&["@octokit/rest@22.0.1"])).await.unwrap();
    let Some(folder) = installed else { return };
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("octo", Role::Admin, &[]).await;
    let run = failed_run(&mut daemon).await;
    let script = folder.join("octokit.mjs");
    std::fs::write(&script, SCRIPT).unwrap();
    let base = format!("http://{}/api/v3", daemon.plain);
    let output = tokio::task::spawn_blocking(move || {
        let mut node = std::process::Command::new("node");
        node.arg(script).args([base, token, run.to_string()]).current_dir(folder).output().unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "runs: [\"failure\"]",
        "jobs: [[\"build\",2],[\"test\",2]]",
        "log: true",
        "workflow: \"active\"",
        "variables: [[\"WHERE\",\"here\"]]",
        "key: 44",
        "environments: [\"prod\"]",
        "runners: [\"online\"]",
        "attempt: 2",
        "refused: [404,\"Not Found\"]",
    ] {
        assert!(said.lines().any(|one| one == line), "{line} is not in\n{said}");
    }
    daemon.end().await;
}
