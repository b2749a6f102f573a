//! Listeners, TLS, authentication, API, streams, metrics, pages.
