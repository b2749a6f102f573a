//! A job with an environment, as GitHub shows it among the deployments of a repository (G1).

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{State, shortened};
use crate::id::RepositoryName;
use crate::run::Conclusion;

/// How one job's deployment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub repository: RepositoryName,
    /// The commit that is deployed.
    pub sha: String,
    pub environment: String,
    /// The id of the job: each has a deployment of its own.
    pub job: String,
    pub state: State,
    pub description: String,
    /// The page of the job.
    pub url: String,
    /// Where what was deployed is found, once the job said so.
    pub environment_url: Option<String>,
}

impl Deployment {
    /// What makes it at GitHub. Whether it may be made was decided here, by the rules of the environment.
    pub(super) fn body(&self) -> Json {
        json!({
            "ref": self.sha,
            "task": "deploy",
            "auto_merge": false,
            "required_contexts": [],
            "environment": self.environment,
            "description": "",
        })
    }

    /// How it stands.
    pub(super) fn status(&self) -> Json {
        let state = match self.state {
            State::Queued => "queued",
            State::Running => "in_progress",
            State::Ended(Conclusion::Success | Conclusion::Neutral) => "success",
            State::Ended(Conclusion::Failure | Conclusion::TimedOut) => "failure",
            State::Ended(_) => "error",
        };
        let mut body = json!({ "state": state, "log_url": self.url, "description": shortened(&self.description, 140) });
        if let (Some(url), Some(fields)) = (&self.environment_url, body.as_object_mut()) {
            fields.insert("environment_url".to_owned(), json!(url));
        }
        body
    }
}
