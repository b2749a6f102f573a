//! Webhook, git hook, poll, cron, watch, dispatch: what happened outside becomes an event.
