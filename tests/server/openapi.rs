//! schemathesis tries what our own document says.

use towline::server::auth::Mode;

use super::harness::{Daemon, failed_run};
use crate::support::clients;

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_what_is_served() {
    let installed = tokio::task::spawn_blocking(|| clients::python("schemathesis==4.32.5")).await.unwrap();
    let Some(folder) = installed else { return };
    let mut daemon = Daemon::start(Mode::OpenOnLoopback).await;
    failed_run(&mut daemon).await;
    let base = format!("http://{}/api/v3", daemon.plain);
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut python = std::process::Command::new("python3");
        python.args(["-m", "schemathesis.cli", "run", &format!("{base}/towline/openapi.json"), "--url", &base]);
        python.args(["--phases", "fuzzing", "--max-examples", "2", "--seed", "1", "--no-color"]);
        python.args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]);
        python.env("PYTHONPATH", folder).current_dir(directory).output().unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("schemathesis: {}", said.lines().find(|line| line.contains("generated")).unwrap_or_default().trim());
    daemon.end().await;
}
