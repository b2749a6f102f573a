//! Queue, hosts and deliveries: what keeps the work going.

use axum::extract::State;
use axum::response::Response;

use crate::id::RepositoryName;
use crate::server::app::App;
use crate::server::pages;

use super::Visitor;

pub(super) async fn queue(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut active = app.source.active().await?;
        active.retain(|run| visitor.sees(run));
        Ok(pages::Queue { chrome: visitor.chrome("Queue"), waiting: app.source.waiting(&active).await? })
    };
    visitor.show(page.await)
}

pub(super) async fn hosts(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut hosts = app.source.hosts(visitor.caller.now).await?;
        for host in &mut hosts {
            // What runs in a slot belongs to its repository.
            for slot in &mut host.jobs {
                if !visitor.caller.client.sees(&slot.repository) {
                    slot.name = "busy".to_owned();
                }
            }
        }
        Ok(pages::Hosts { chrome: visitor.chrome("Hosts"), hosts })
    };
    visitor.show(page.await)
}

pub(super) async fn deliveries(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut deliveries = app.source.deliveries(0, 100).await?;
        let client = &visitor.caller.client;
        deliveries.retain(|one| client.sees_all() || client.sees(&RepositoryName(one.repository.clone())));
        Ok(pages::Deliveries { chrome: visitor.chrome("Deliveries"), deliveries })
    };
    visitor.show(page.await)
}
