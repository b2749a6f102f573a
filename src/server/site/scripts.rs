//! Scripts that run now, on hosts of one's choice.

use axum::extract::State;
use axum::response::Response;

use crate::id::RepositoryName;
use crate::server::app::{App, Fault};
use crate::server::auth::Role;
use crate::server::{deeds, pages};
use crate::store::RunFilter;

use super::{Sent, Visitor, see_other};

async fn form(app: &App, visitor: &Visitor) -> Result<pages::Scripts, Fault> {
    visitor.caller.whole(Role::Admin)?;
    let filter = RunFilter { repository: Some(RepositoryName::from(deeds::SCRIPTS)), ..RunFilter::default() };
    let (runs, _) = app.source.runs(filter, 0, 10).await?;
    Ok(pages::Scripts {
        chrome: visitor.chrome("Scripts"),
        hosts: visitor.hosts(app).await?,
        runs,
        title: String::new(),
        shell: String::new(),
        script: String::new(),
        chosen: Vec::new(),
        problem: None,
    })
}

pub(super) async fn page(State(app): State<App>, visitor: Visitor) -> Response {
    visitor.show(form(&app, &visitor).await)
}

pub(super) async fn run(State(app): State<App>, sent: Sent) -> Response {
    let chosen: Vec<String> =
        sent.pairs.iter().filter(|(name, _)| name == "host").map(|(_, value)| value.clone()).collect();
    let (title, shell, script) = (sent.text("title"), sent.text("shell"), sent.text("script"));
    let done = async {
        sent.caller().whole(Role::Admin)?;
        deeds::script(&app, sent.caller(), title, shell, script, &chosen).await
    };
    match done.await {
        Ok(run) => see_other(&format!("/{}/actions/runs/{run}", deeds::SCRIPTS)),
        // What was typed is not lost.
        Err(Fault::Invalid(problem)) => sent.visitor.show(form(&app, &sent.visitor).await.map(|page| pages::Scripts {
            title: title.to_owned(),
            shell: shell.to_owned(),
            script: script.to_owned(),
            chosen,
            problem: Some(problem),
            ..page
        })),
        Err(fault) => sent.visitor.fault(&fault),
    }
}
