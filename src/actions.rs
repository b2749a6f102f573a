//! Where the sources of actions come from.
