//! Workflows: the list, the page of one with its form, and its badge.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::server::app::{App, Fault};
use crate::server::pages;
use crate::server::view::{InputKind, State as Look};
use crate::server::{access, charts, deeds, form, format};

use super::{Sent, Visitor, see_other};

type WorkflowPath = (String, String, String);

pub(super) async fn all(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut workflows = Vec::new();
        for repository in app.source.repositories().await? {
            if visitor.caller.client.sees(&repository) {
                workflows.extend(app.source.workflows(&repository, 30).await?);
            }
        }
        Ok(pages::Workflows { chrome: visitor.chrome("Workflows"), workflows })
    };
    visitor.show(page.await)
}

async fn page(
    app: &App,
    visitor: &Visitor,
    (owner, name, file): (String, String, String),
    problem: Option<String>,
) -> Result<pages::Workflow, Fault> {
    let repository = access::repository(app, &visitor.caller, (owner, name)).await?;
    let workflow = access::workflow(app, &repository, &file, 30).await?;
    let statistics = app.source.statistics(&repository, &workflow.workflow.path).await?;
    let chart = charts::durations(&statistics.points);
    let flaky = statistics.flaky;
    Ok(pages::Workflow { chrome: visitor.chrome("Workflows"), workflow, chart, flaky, problem })
}

pub(super) async fn one(
    State(app): State<App>,
    visitor: Visitor,
    Path(path): Path<(String, String, String)>,
) -> Response {
    visitor.show(page(&app, &visitor, path, None).await)
}

/// A badge for a README: state of the last run of a workflow, as text in two boxes.
pub(super) async fn badge(
    State(app): State<App>,
    visitor: Visitor,
    Path((owner, name, file)): Path<(String, String, String)>,
) -> Response {
    let found = async {
        let repository = access::repository(&app, &visitor.caller, (owner, name)).await?;
        access::workflow(&app, &repository, &file, 20).await
    };
    let (label, word, colour) = match found.await {
        Ok(view) => {
            let state = view.state();
            let colour = match state {
                Look::Success => "#17783f",
                state if state.is_bad() => "#c22734",
                _ => "#59626d",
            };
            (view.workflow.name, state.word(), colour)
        }
        Err(_) => ("workflow".to_owned(), "unknown", "#59626d"),
    };
    let label = format::cut(&label, 60);
    let width = |text: &str| text.chars().count() * 7 + 14;
    let (left, right) = (width(&label), width(word));
    let label = askama::filters::escape(&label, askama::filters::Html).map(|safe| safe.to_string()).unwrap_or_default();
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"20\" role=\"img\" aria-label=\"{label}: {word}\"><rect width=\"{0}\" height=\"20\" rx=\"4\" fill=\"#24292f\"/><path d=\"M{left} 0h{1}a4 4 0 014 4v12a4 4 0 01-4 4H{left}z\" fill=\"{colour}\"/><g fill=\"#fff\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\" text-anchor=\"middle\"><text x=\"{2}\" y=\"14\">{label}</text><text x=\"{3}\" y=\"14\">{word}</text></g></svg>",
        left + right,
        right - 4,
        left / 2,
        left + right / 2,
    );
    let mut response = svg.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn switch(app: &App, sent: &Sent, (owner, name, file): WorkflowPath, on: bool) -> Response {
    let done = async {
        let repository = access::repository(app, sent.caller(), (owner, name)).await?;
        let view = access::workflow(app, &repository, &file, 0).await?;
        deeds::switch(app, sent.caller(), &view, on).await?;
        Ok(pages::workflow_path(&repository, &view.workflow))
    };
    sent.back(done.await)
}

pub(super) async fn enable(State(app): State<App>, Path(path): Path<WorkflowPath>, sent: Sent) -> Response {
    switch(&app, &sent, path, true).await
}

pub(super) async fn disable(State(app): State<App>, Path(path): Path<WorkflowPath>, sent: Sent) -> Response {
    switch(&app, &sent, path, false).await
}

pub(super) async fn dispatch(State(app): State<App>, Path(path): Path<WorkflowPath>, sent: Sent) -> Response {
    let done = async {
        let repository = access::repository(&app, sent.caller(), (path.0.clone(), path.1.clone())).await?;
        let view = access::workflow(&app, &repository, &path.2, 0).await?;
        let git_ref = form::first(&sent.pairs, "ref").unwrap_or(&view.default_branch).to_owned();
        let mut inputs = serde_json::Map::new();
        for input in view.inputs.iter().flatten() {
            let value = form::first(&sent.pairs, &format!("input.{}", input.name));
            // A box that is not ticked sends nothing.
            let value = value.or((input.kind == InputKind::Boolean).then_some("false"));
            if let Some(value) = value.filter(|value| !value.is_empty() || input.required) {
                inputs.insert(input.name.clone(), value.into());
            }
        }
        let run = deeds::dispatch(&app, sent.caller(), &view, &git_ref, inputs).await?;
        Ok(format!("{}/runs/{run}", pages::repository_path(&repository)))
    };
    match done.await {
        Ok(to) => see_other(&to),
        // What is wrong with the inputs is said above the form.
        Err(Fault::Invalid(problem)) => sent.visitor.show(page(&app, &sent.visitor, path, Some(problem)).await),
        Err(fault) => sent.visitor.fault(&fault),
    }
}
