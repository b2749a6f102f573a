//! The query of a request, read as GitHub reads it: of a name that comes twice the last one counts, and what cannot be read
//! counts as not given.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Fields that are texts, none of them mandatory.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequestParts<S> for Asked<T> {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let pairs = Query::<HashMap<String, String>>::try_from_uri(&parts.uri).map(|Query(pairs)| pairs);
        let fields = pairs.unwrap_or_default().into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        Ok(Self(serde_json::from_value(Value::Object(fields)).unwrap_or_default()))
    }
}
