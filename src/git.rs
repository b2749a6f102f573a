//! Functions over the `git` command.
