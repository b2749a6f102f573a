//! What actions expect on the wire: artifacts, cache, OIDC, git over HTTP.
