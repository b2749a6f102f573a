//! Values of expressions: JSON's kinds, with GitHub's rules of equality and order of keys.

use std::sync::Arc;

use indexmap::IndexMap;

/// A value of the expression language. Arrays and objects are shared: equality of two of them is identity (E3).
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(Arc<str>),
    Array(Arc<Vec<Value>>),
    Object(Arc<Object>),
}

/// Keys compare without case, keep the first spelling and the order of insertion.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Folded key → (key as written, value).
    entries: IndexMap<String, (String, Value)>,
}
