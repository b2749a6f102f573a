//! GitHub, Gitea/Forgejo and GitLab: contents, statuses, checks, tokens.
