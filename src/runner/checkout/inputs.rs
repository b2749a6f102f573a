//! The inputs of `actions/checkout`, read as the action reads them.

use serde_json::{Map, Value as Json};

use crate::git::is_object_id;
use crate::id::RepositoryName;

use super::super::contexts::Variables;

/// What a step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    pub(super) repository: RepositoryName,
    /// The repository of the workflow itself.
    pub(super) own: bool,
    /// As given, or as the event says; empty: the default branch, or `commit` alone.
    pub(super) reference: String,
    /// Empty when only the repository can tell.
    pub(super) commit: String,
    /// Below the workspace.
    pub(super) path: String,
    /// 0: all history, all branches, all tags.
    pub(super) depth: u32,
    pub(super) tags: bool,
    pub(super) clean: bool,
    pub(super) lfs: bool,
    pub(super) submodules: Submodules,
    pub(super) sparse: Vec<String>,
    pub(super) cone: bool,
    /// Empty: the job's own.
    pub(super) token: String,
    pub(super) persist: bool,
    pub(super) safe_directory: bool,
    /// `github-server-url`, without a slash at its end.
    pub(super) server: String,
    pub(super) ssh: Option<Ssh>,
    pub(super) keeps: Keeps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Submodules {
    No,
    Direct,
    Recursive,
}

/// Fetching and pushing by SSH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ssh {
    pub(super) key: String,
    pub(super) known_hosts: String,
    pub(super) strict: bool,
    pub(super) user: String,
}

/// Where the token is kept for later steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    /// In `.git/config`: the action up to v5.
    InConfig,
    /// In a file below `RUNNER_TEMP` that `.git/config` includes: since v6.
    InFile,
}

impl Keeps {
    /// By the version after the `@`. A commit tells no version: nothing that works with the newer way breaks with the older.
    pub(super) fn of_version(reference: &str) -> Self {
        let major = reference.strip_prefix('v').and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        match major {
            Some(major) if major >= 6 => Self::InFile,
            None if reference == "main" => Self::InFile,
            _ => Self::InConfig,
        }
    }
}

/// What the action has where a step gives nothing, in the order of its manifest.
const DEFAULTS: [(&str, &str); 11] = [
    ("ssh-strict", "true"),
    ("ssh-user", "git"),
    ("persist-credentials", "true"),
    ("clean", "true"),
    ("sparse-checkout-cone-mode", "true"),
    ("fetch-depth", "1"),
    ("fetch-tags", "false"),
    ("show-progress", "true"),
    ("lfs", "false"),
    ("submodules", "false"),
    ("set-safe-directory", "true"),
];

/// The inputs as a log shows them: those of the step, then the action's own defaults.
pub(in super::super) fn shown(with: &Variables, repository: &str, token: &str) -> Variables {
    let mut shown = with.clone();
    for (name, value) in [("repository", repository), ("token", token)].into_iter().chain(DEFAULTS) {
        if !with.keys().any(|given| given.eq_ignore_ascii_case(name)) {
            shown.insert(name.to_owned(), value.to_owned());
        }
    }
    shown
}

impl Inputs {
    /// Reads `with` of a step in a repository, with what `github` says.
    pub(super) fn read(
        with: &Variables,
        version: &str,
        github: &Map<String, Json>,
        workflow: &RepositoryName,
    ) -> Result<Self, String> {
        let raw =
            |name: &str| with.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v.as_str());
        let input = |name: &str| raw(name).trim();
        let flag = |name: &str, default: bool| match input(name) {
            "" => default,
            text => text.eq_ignore_ascii_case("true"),
        };
        let repository = match input("repository") {
            "" => workflow.clone(),
            name => RepositoryName(name.to_owned()),
        };
        let parts: Vec<&str> = repository.0.split('/').collect();
        if parts.len() != 2 || parts.iter().any(|part| part.is_empty() || [".", ".."].contains(part)) {
            return Err(format!("Invalid repository '{repository}'. Expected format {{owner}}/{{repo}}."));
        }
        let own = repository.0.eq_ignore_ascii_case(&workflow.0);
        let told = |key: &str| github.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let (mut reference, mut commit) = (input("ref").to_owned(), String::new());
        if reference.is_empty() && own {
            (reference, commit) = (told("ref"), told("sha"));
            // After the merge of a pull request it is `main`.
            if !reference.is_empty() && !reference.starts_with("refs/") {
                reference.insert_str(0, "refs/heads/");
            }
        } else if is_object_id(&reference) {
            commit = std::mem::take(&mut reference).to_ascii_lowercase();
        }
        // A number that is none means everything, as in the action.
        let depth = match input("fetch-depth") {
            "" => 1,
            text => text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0),
        };
        let key = raw("ssh-key").trim();
        let ssh = (!key.is_empty()).then(|| Ssh {
            key: format!("{key}\n"),
            known_hosts: raw("ssh-known-hosts").to_owned(),
            strict: flag("ssh-strict", true),
            user: Some(input("ssh-user")).filter(|user| !user.is_empty()).unwrap_or("git").to_owned(),
        });
        let found = Self {
            own,
            reference,
            commit,
            path: input("path").to_owned(),
            depth,
            tags: flag("fetch-tags", false),
            clean: flag("clean", true),
            lfs: flag("lfs", false),
            submodules: match input("submodules").to_ascii_lowercase().as_str() {
                "true" => Submodules::Direct,
                "recursive" => Submodules::Recursive,
                _ => Submodules::No,
            },
            sparse: raw("sparse-checkout")
                .lines()
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty())
                .collect(),
            cone: flag("sparse-checkout-cone-mode", true),
            token: input("token").to_owned(),
            persist: flag("persist-credentials", true),
            safe_directory: flag("set-safe-directory", true),
            server: input("github-server-url").trim_end_matches('/').to_owned(),
            ssh,
            keeps: Keeps::of_version(version),
            repository,
        };
        let default = own && input("ref").is_empty();
        if !default && !flag("allow-unsafe-pr-checkout", false) && found.is_of_fork(github) {
            return Err(format!(
                "Refusing to check out fork pull request code from a '{}' workflow: it would run with this repository's token and \
                 secrets. Set 'allow-unsafe-pr-checkout: true' on the actions/checkout step after reviewing the risk.",
                told("event_name")
            ));
        }
        Ok(found)
    }

    /// Whether this is code of a fork, in a run that has the secrets of the repository it was forked from.
    fn is_of_fork(&self, github: &Map<String, Json>) -> bool {
        let event = github.get("event").unwrap_or(&Json::Null);
        let text = |pointer: &str| event.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
        let (head, shas) = match github.get("event_name").and_then(Json::as_str) {
            Some("pull_request_target") => (
                "/pull_request/head/repo",
                vec![text("/pull_request/head/sha"), text("/pull_request/merge_commit_sha")],
            ),
            Some("workflow_run") if text("/workflow_run/event").starts_with("pull_request") => {
                let mut shas = vec![text("/workflow_run/head_commit/id")];
                if text("/workflow_run/event") != "pull_request_target" {
                    shas.push(text("/workflow_run/head_sha"));
                }
                ("/workflow_run/head_repository", shas)
            }
            _ => return false,
        };
        let (name, id) =
            (text(&format!("{head}/full_name")), event.pointer(&format!("{head}/id")).and_then(Json::as_i64));
        let is_other = match (event.pointer("/repository/id").and_then(Json::as_i64), id) {
            (Some(base), Some(id)) => base != id,
            // What was asked for and not sent may have names alone.
            _ => !name.is_empty() && !name.eq_ignore_ascii_case(text("/repository/full_name")),
        };
        let is_pull = self.reference.strip_prefix("refs/pull/").is_some_and(|rest| {
            rest.split_once('/').is_some_and(|(number, kind)| {
                number.bytes().all(|byte| byte.is_ascii_digit()) && ["head", "merge"].contains(&kind)
            })
        });
        let same = name.eq_ignore_ascii_case(&self.repository.0);
        let named = !self.commit.is_empty() && shas.iter().any(|sha| sha.eq_ignore_ascii_case(&self.commit));
        is_other && (same || is_pull || named)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(with: &[(&str, &str)], github: &Json) -> Result<Inputs, String> {
        let with = with.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Inputs::read(&with, "v4", github.as_object().unwrap(), &RepositoryName("o/r".to_owned()))
    }

    const SHA: &str = "0123456789012345678901234567890123456789";

    #[test]
    fn refs_and_commits_are_taken_as_the_action_takes_them() {
        let github = json!({ "ref": "refs/heads/main", "sha": SHA });
        for (with, reference, commit) in [
            (vec![], "refs/heads/main", SHA),
            (vec![("repository", "O/R")], "refs/heads/main", SHA),
            (vec![("repository", "o/other")], "", ""),
            (vec![("ref", "v1")], "v1", ""),
            (vec![("ref", SHA)], "", SHA),
            (vec![("repository", "o/other"), ("REF", "refs/tags/v1")], "refs/tags/v1", ""),
        ] {
            let inputs = read(&with, &github).unwrap();
            assert_eq!((inputs.reference.as_str(), inputs.commit.as_str()), (reference, commit), "{with:?}");
        }
        let merged = read(&[], &json!({ "ref": "main", "sha": SHA })).unwrap();
        assert_eq!(merged.reference, "refs/heads/main");
    }

    #[test]
    fn values_are_as_lenient_as_the_actions() {
        for (text, depth) in [("", 1), ("0", 0), ("-3", 0), ("many", 0), ("2.9", 2), (" 7 ", 7)] {
            assert_eq!(read(&[("fetch-depth", text)], &json!({})).unwrap().depth, depth, "{text}");
        }
        for (text, submodules) in [
            ("", Submodules::No),
            ("false", Submodules::No),
            ("TRUE", Submodules::Direct),
            ("Recursive", Submodules::Recursive),
        ] {
            assert_eq!(read(&[("submodules", text)], &json!({})).unwrap().submodules, submodules);
        }
        assert!(!read(&[("clean", "no")], &json!({})).unwrap().clean);
        for name in ["x", "/x", "x/", "a/b/c", "../x"] {
            assert!(read(&[("repository", name)], &json!({})).is_err(), "{name}");
        }
        for (version, keeps) in [
            ("v4", Keeps::InConfig),
            ("v5.0.1", Keeps::InConfig),
            ("v6", Keeps::InFile),
            ("v7.0.1", Keeps::InFile),
            (SHA, Keeps::InConfig),
        ] {
            assert_eq!(Keeps::of_version(version), keeps, "{version}");
        }
    }

    #[test]
    fn code_of_forks_is_not_brought_to_secrets_unasked() {
        let github = json!({
            "event_name": "pull_request_target", "ref": "refs/heads/main", "sha": SHA,
            "event": {
                "repository": { "id": 1 },
                "pull_request": { "head": { "sha": "1".repeat(40), "repo": { "id": 2, "full_name": "fork/r" } } },
            },
        });
        let head = "1".repeat(40);
        for (with, refused) in [
            (vec![], false),
            (vec![("ref", head.as_str())], true),
            (vec![("ref", "refs/pull/7/merge")], true),
            (vec![("ref", "refs/pull/x/merge")], false),
            (vec![("repository", "Fork/r")], true),
            (vec![("ref", head.as_str()), ("allow-unsafe-pr-checkout", "true")], false),
            (vec![("ref", "main")], false),
        ] {
            assert_eq!(read(&with, &github).is_err(), refused, "{with:?}");
        }
        let named = |head_of: &str| {
            json!({
                "event_name": "pull_request_target", "ref": "refs/heads/main", "sha": SHA,
                "event": {
                    "repository": { "full_name": "o/r" },
                    "pull_request": { "head": { "sha": head, "repo": { "full_name": head_of } } },
                },
            })
        };
        for (head_of, refused) in [("fork/r", true), ("O/R", false)] {
            assert_eq!(read(&[("ref", head.as_str())], &named(head_of)).is_err(), refused, "{head_of}");
        }
    }
}
