//! Hosts: the list, adding one by its address and key, looking at one now, draining.

use axum::extract::{Path, State};
use axum::response::Response;

use crate::server::app::{App, Fault};
use crate::server::auth::Role;
use crate::server::deeds::{self, HostDeed};
use crate::server::form;
use crate::server::pages::{self, AddHost, Looked};
use crate::transport::{Enrolled, NewHost};

use super::{Sent, Visitor};

pub(super) async fn hosts(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let hosts = visitor.hosts(&app).await?;
        Ok(pages::Hosts { chrome: visitor.chrome("Hosts"), hosts })
    };
    visitor.show(page.await)
}

/// The page that adds a host, as far as it has come.
fn adding(app: &App, visitor: &Visitor, new: Option<&NewHost>) -> AddHost {
    AddHost {
        chrome: pages::Chrome { live: false, ..visitor.chrome("Hosts") },
        destination: new.map(|new| new.destination.clone()).unwrap_or_default(),
        name: new.and_then(|new| new.name.clone()).unwrap_or_default(),
        slots: new.map_or(1, |new| new.slots),
        labels: new.map(|new| new.labels.join(", ")).unwrap_or_default(),
        public_key: (app.source.outside.public_key)(),
        key: None,
        added: None,
        problem: None,
    }
}

pub(super) async fn form(State(app): State<App>, visitor: Visitor) -> Response {
    let page = visitor.caller.whole(Role::Admin).map(|()| adding(&app, &visitor, None));
    visitor.show(page)
}

/// The first time it shows the key; sent back with its fingerprint, the host is probed and kept.
pub(super) async fn add(State(app): State<App>, sent: Sent) -> Response {
    let page = async {
        sent.caller().whole(Role::Admin)?;
        let slots = sent.text("slots").trim().parse::<u32>().unwrap_or(1).clamp(1, 1000);
        let labels = sent.text("labels").split([',', ' ']).map(str::trim).filter(|label| !label.is_empty());
        let new = NewHost {
            destination: sent.text("destination").trim().to_owned(),
            name: Some(sent.text("name").trim().to_owned()).filter(|name| !name.is_empty()),
            slots,
            labels: labels.map(str::to_owned).collect(),
            identity: Vec::new(),
            jump: Vec::new(),
            root: None,
            accept: Some(sent.text("accept").to_owned()).filter(|key| !key.is_empty()),
        };
        let page = adding(&app, &sent.visitor, Some(&new));
        match deeds::add_host(&app, sent.caller(), new).await? {
            Ok(Enrolled::Key { name, fingerprint, .. }) => Ok(AddHost { key: Some((name, fingerprint)), ..page }),
            Ok(Enrolled::Added { name, facts }) => Ok(AddHost { added: Some(Looked::at(&name, &facts)), ..page }),
            Err(problem) => Ok(AddHost { problem: Some(problem), ..page }),
        }
    };
    sent.visitor.show(page.await)
}

/// Connects to a host and says what was found.
pub(super) async fn test(State(app): State<App>, sent: Sent) -> Response {
    let page = async {
        sent.caller().whole(Role::Operator)?;
        let name = sent.text("host").to_owned();
        let (looked, problem) = match deeds::check_host(&app, sent.caller(), &name).await? {
            Ok(facts) => (Some(Looked::at(&name, &facts)), None),
            Err(problem) => (None, Some(problem)),
        };
        let chrome = pages::Chrome { live: false, ..sent.visitor.chrome("Hosts") };
        Ok(pages::TestedHost { chrome, name, looked, problem })
    };
    sent.visitor.show(page.await)
}

/// Drains, pauses or resumes a host.
pub(super) async fn change_host(State(app): State<App>, Path(deed): Path<String>, sent: Sent) -> Response {
    let done = async {
        sent.caller().whole(Role::Operator)?;
        let deed = match deed.as_str() {
            "drain" => HostDeed::Drain,
            "pause" => HostDeed::Pause,
            "resume" => HostDeed::Resume,
            _ => return Err(Fault::NotFound),
        };
        let host = sent.text("host");
        deeds::host(&app, sent.caller(), host, deed).await?;
        Ok(format!("/hosts#host-{}", form::encode(host)))
    };
    sent.back(done.await)
}
