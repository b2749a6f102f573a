//! Queue, schedules and deliveries: what keeps the work going.

use axum::extract::{Path, State};
use axum::response::Response;

use crate::engine::Input;
use crate::id::RepositoryName;
use crate::server::app::{App, Fault};
use crate::server::auth::Role;
use crate::server::pages::{self, ScheduleRow};
use crate::server::source::LetterDeed;
use crate::server::view::{DeliveryView, WorkflowName};
use crate::server::{access, deeds};

use super::{Sent, Visitor};

pub(super) async fn queue(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let active = app.source.active(&visitor.caller.client.repositories).await?;
        let (waiting, paused) = (app.source.waiting(&active).await?, app.source.engine.summary().borrow().paused);
        Ok(pages::Queue { chrome: visitor.chrome("Queue"), paused, waiting })
    };
    visitor.show(page.await)
}

pub(super) async fn deliveries(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut deliveries = app.source.deliveries(0, 100).await?;
        deliveries.retain(|one| sees(&visitor, one));
        let mut letters = (app.source.outside.letters)()?;
        // What is on its way for the first time is no news.
        letters.retain(|one| (one.dead || one.attempts > 0) && visitor.caller.client.sees(&one.repository));
        Ok(pages::Deliveries { chrome: visitor.chrome("Deliveries"), letters, deliveries })
    };
    visitor.show(page.await)
}

/// Sends a letter again, or throws it away.
pub(super) async fn change_letter(
    State(app): State<App>,
    Path((id, deed)): Path<(String, String)>,
    sent: Sent,
) -> Response {
    let done = async {
        let deed = match deed.as_str() {
            "retry" => LetterDeed::Retry,
            "forget" => LetterDeed::Forget,
            _ => return Err(Fault::NotFound),
        };
        sent.visitor.may_see()?;
        let letter = (app.source.outside.letters)()?.into_iter().find(|one| one.id == id).ok_or(Fault::NotFound)?;
        sent.caller().see(&letter.repository)?;
        sent.caller().at_least(Role::Operator)?;
        deeds::change_letter(&app, sent.caller(), &letter, deed).await?;
        Ok("/deliveries".to_owned())
    };
    sent.back(done.await)
}

/// Pauses or resumes the queue.
pub(super) async fn change_queue(State(app): State<App>, Path(deed): Path<String>, sent: Sent) -> Response {
    let done = async {
        sent.caller().whole(Role::Operator)?;
        let (action, paused) = match deed.as_str() {
            "pause" => ("queue.pause", true),
            "resume" => ("queue.resume", false),
            _ => return Err(Fault::NotFound),
        };
        deeds::tell(&app, sent.caller(), action, "queue", Input::PauseQueue { paused }).await?;
        Ok("/queue".to_owned())
    };
    sent.back(done.await)
}

fn sees(visitor: &Visitor, delivery: &DeliveryView) -> bool {
    let client = &visitor.caller.client;
    client.sees_all() || client.sees(&RepositoryName(delivery.repository.clone()))
}

async fn find(app: &App, visitor: &Visitor, number: u64) -> Result<DeliveryView, Fault> {
    visitor.may_see()?;
    app.source.delivery(number).await?.filter(|one| sees(visitor, one)).ok_or(Fault::NotFound)
}

pub(super) async fn delivery(State(app): State<App>, visitor: Visitor, Path(number): Path<u64>) -> Response {
    let page = async {
        let delivery = find(&app, &visitor, number).await?;
        let body = serde_json::to_string_pretty(&delivery.body).unwrap_or_default();
        Ok(pages::Delivery { chrome: visitor.chrome("Deliveries"), delivery, body })
    };
    visitor.show(page.await)
}

pub(super) async fn replay(State(app): State<App>, Path(number): Path<u64>, sent: Sent) -> Response {
    let done = async {
        find(&app, &sent.visitor, number).await?;
        let (number, _) = deeds::replay(&app, sent.caller(), number).await?;
        Ok(format!("/deliveries/{number}"))
    };
    sent.back(done.await)
}

/// Next times shown of each schedule.
const NEXT: usize = 4;

pub(super) async fn schedules(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut schedules = (app.source.outside.schedules)(NEXT);
        schedules.retain(|one| visitor.caller.client.sees(&one.repository));
        schedules.sort_by_key(|one| one.next.first().copied().unwrap_or(jiff::Timestamp::MAX));
        let mut rows = Vec::new();
        for schedule in schedules {
            let found = access::workflow(&app, &schedule.repository, &schedule.workflow, 30).await;
            let view = match found {
                Ok(view) => Some(view),
                Err(Fault::NotFound) => None,
                Err(fault) => return Err(fault),
            };
            let name = || WorkflowName::new(&schedule.repository, &schedule.workflow, &schedule.workflow);
            rows.push(ScheduleRow {
                workflow: view.as_ref().map_or_else(name, |view| view.workflow.clone()),
                enabled: view.as_ref().is_none_or(|view| view.enabled),
                last: view.and_then(|view| view.recent.into_iter().find(|run| run.event == "schedule")),
                schedule,
            });
        }
        Ok(pages::Schedules { chrome: visitor.chrome("Schedules"), schedules: rows })
    };
    visitor.show(page.await)
}
