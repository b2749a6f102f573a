//! What a job sees of the services for actions: where they are, and who it is to them.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::run::order::Order;
use crate::services::{self, JobVariables, Scopes, Services};
use crate::transport::{Target, Way};
use crate::workflow::model::{Permission, Permissions};

/// The services, and the addresses at which hosts reach them. Each is scheme, host and port, without a slash at the end.
#[derive(Clone)]
pub struct ServicesAddress {
    pub services: Services,
    /// On this machine's loopback.
    pub here: String,
    /// For other machines; without it their jobs have no services.
    pub elsewhere: Option<String>,
}

impl ServicesAddress {
    /// The variables of one job, which may use them until then.
    pub(super) fn variables(&self, order: &Order, target: &Target, until: Timestamp) -> JobVariables {
        let is_here = match &target.way {
            Way::Local => true,
            Way::Ssh(ssh) => is_loopback(&ssh.address),
        };
        let Some(base) = (if is_here { Some(&self.here) } else { self.elsewhere.as_ref() }) else {
            return JobVariables::default();
        };
        let environment = order.environment.as_ref().map(|environment| environment.name.as_str());
        let identity = may_prove_identity(order.permissions.as_ref())
            .then(|| services::identity_claims(&order.github, environment, order.job.0));
        self.services.variables(&services::Job {
            run: order.run.0,
            job: order.job.0,
            repository: order.repository.0.clone(),
            scopes: Scopes::of(&order.github),
            base: base.clone(),
            identity,
            until,
        })
    }
}

/// `id-token` must be asked for by name or by everything (S4).
fn may_prove_identity(permissions: Option<&Permissions>) -> bool {
    match permissions {
        Some(Permissions::WriteAll) => true,
        Some(Permissions::Scopes(scopes)) => scopes.get("id-token") == Some(&Permission::Write),
        Some(Permissions::ReadAll) | None => false,
    }
}

fn is_loopback(address: &str) -> bool {
    address.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}
