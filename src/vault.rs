//! Secrets and variables at rest.
