//! octocrab, the client of programs in Rust: its types read what we answer.

use octocrab::Octocrab;
use octocrab::models::RunId;
use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Daemon, failed_run};

#[tokio::test(flavor = "multi_thread")]
async fn octocrab_reads_runs_jobs_workflows_and_steers() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("octo", Role::Admin, &[]).await;
    let run = failed_run(&mut daemon).await;
    let base = format!("http://{}/api/v3", daemon.plain);
    let crab = Octocrab::builder().base_uri(base.as_str()).unwrap().personal_token(token).build().unwrap();
    let workflows = crab.workflows("o", "r");

    let page = workflows.list_all_runs().branch("main").per_page(10).send().await.unwrap();
    assert_eq!((page.total_count, page.items.len()), (Some(1), 1));
    let listed = &page.items[0];
    assert_eq!((listed.conclusion.as_deref(), listed.event.as_str()), (Some("failure"), "push"));
    assert_eq!(listed.repository.full_name.as_deref(), Some("o/r"));
    assert_eq!(listed.head_commit.message, "Fix <script>alert(1)</script> the thing");
    let id = RunId(run.0);
    assert_eq!(workflows.get(id).await.unwrap(), *listed, "a run by itself is what the list says");
    assert_eq!(workflows.get_attempt(id, 1).await.unwrap(), *listed);

    let jobs = workflows.list_jobs(id).send().await.unwrap();
    assert_eq!(jobs.items.len(), 2);
    let failed = jobs.items.iter().find(|job| job.name == "test").unwrap();
    assert_eq!(failed.steps.len(), 2);
    assert_eq!(workflows.get_job(failed.id).await.unwrap().name, "test");
    let log = workflows.download_job_logs(failed.id).await.unwrap();
    assert!(String::from_utf8_lossy(&log).contains("##[error]"));
    let zip = crab.actions().download_workflow_run_logs("o", "r", id).await.unwrap();
    assert!(zip.starts_with(b"PK"), "an archive");

    let all = workflows.list().send().await.unwrap();
    assert_eq!(all.items[0].path, ".github/workflows/ci.yml");
    workflows.rerun_failed_jobs(id).await.unwrap();
    assert_eq!(workflows.get(id).await.unwrap().conclusion, None, "it runs again");
    crab.actions().cancel_workflow_run("o", "r", id).await.unwrap();
    daemon.end().await;
}
