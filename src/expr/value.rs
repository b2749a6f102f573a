//! Values of expressions: JSON's kinds, with GitHub's rules of equality and order of keys.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use indexmap::map::Entry;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fold::{compare_ignoring_case, equal_ignoring_case, fold};
use super::number;

/// A value of the expression language. Arrays and objects are shared: for [`Value::loosely_equals`] two of them are
/// equal only if they are the same one (E3). `==` in Rust compares contents.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(Arc<str>),
    Array(Arc<Vec<Value>>),
    Object(Arc<Object>),
}

impl Value {
    /// A string.
    #[must_use]
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(text.into())
    }

    /// An array.
    #[must_use]
    pub fn array(items: Vec<Value>) -> Self {
        Self::Array(Arc::new(items))
    }

    /// An object.
    #[must_use]
    pub fn object(object: Object) -> Self {
        Self::Object(Arc::new(object))
    }

    /// `Null`, `Boolean`, `Number`, `String`, `Array` or `Object`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Bool(_) => "Boolean",
            Self::Number(_) => "Number",
            Self::String(_) => "String",
            Self::Array(_) => "Array",
            Self::Object(_) => "Object",
        }
    }

    /// Neither array nor object.
    #[must_use]
    pub fn is_primitive(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// False for null, false, 0, NaN and the empty string; true for all else, also `[]`, `{}` and `'false'` (E4).
    #[must_use]
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::String(text) => !text.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// As text in a string (E5): null is empty, arrays and objects are `Array` and `Object`.
    #[must_use]
    pub fn to_display_string(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => number::format(*value),
            Self::String(text) => text.to_string(),
            Self::Array(_) | Self::Object(_) => self.kind().to_owned(),
        }
    }

    /// As a number (E2); NaN when it is none.
    #[must_use]
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(number) => *number,
            Self::String(text) => number::parse(text),
            Self::Array(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The items, if it is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object, if it is one.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The value of a key, if it is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    /// The operator `==` (E1 to E3): without case, across kinds by number, arrays and objects by identity.
    #[must_use]
    pub fn loosely_equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) => equal_ignoring_case(a, b),
            (Self::Array(a), Self::Array(b)) => Arc::ptr_eq(a, b),
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            (Self::Array(_) | Self::Object(_), _) | (_, Self::Array(_) | Self::Object(_)) => false,
            (a, b) => a.to_number() == b.to_number(),
        }
    }

    /// The order behind `<` and `>`; `None` when neither holds and the two are not comparable.
    pub(super) fn loosely_compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, Self::Null)
            | (Self::Array(_) | Self::Object(_), _)
            | (_, Self::Array(_) | Self::Object(_)) => None,
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(compare_ignoring_case(a, b)),
            (a, b) => a.to_number().partial_cmp(&b.to_number()),
        }
    }

    /// From JSON. Of keys that differ in case only the first is kept.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Self::string(text.as_str()),
            serde_json::Value::Array(items) => Self::array(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => Self::from_map(map),
        }
    }

    /// An object from JSON.
    #[must_use]
    pub fn from_map(map: &serde_json::Map<String, serde_json::Value>) -> Self {
        let mut object = Object::new();
        object.entries.reserve(map.len());
        for (key, value) in map {
            object.insert_first(key, || Self::from_json(value));
        }
        Self::object(object)
    }

    /// To JSON. Whole numbers are written without a fraction; NaN and the infinities, which JSON lacks, as strings.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(value) => match whole(*value) {
                Some(whole) => whole.into(),
                None => serde_json::Number::from_f64(*value)
                    .map_or_else(|| number::format(*value).into(), serde_json::Value::Number),
            },
            Self::String(text) => (**text).into(),
            Self::Array(items) => items.iter().map(Self::to_json).collect(),
            Self::Object(object) => object.to_json(),
        }
    }
}

/// The number as an integer, if it is one that a double holds exactly.
fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
    (number.fract() == 0.0 && number.abs() <= LIMIT).then_some(number as i64)
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::string(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::string(text)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::object(object)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::array(items)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => match whole(*value) {
                Some(whole) => serializer.serialize_i64(whole),
                None if value.is_finite() => serializer.serialize_f64(*value),
                None => serializer.serialize_str(&number::format(*value)),
            },
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items.iter() {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "every number of the language is a double")]
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "every number of the language is a double")]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::string(text))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::string(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Value::array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            object.insert_exact(key, value);
        }
        Ok(Value::object(object))
    }
}

/// Keys compare without case, unless they are names of variables; they keep the first spelling and the order of insertion.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Folded key → (key as written, value).
    entries: IndexMap<String, (String, Value)>,
    with_case: bool,
}

impl Object {
    /// An object without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An object without keys that tells them apart by case, as variables of an environment are told apart (X10).
    #[must_use]
    pub fn with_case() -> Self {
        Self { with_case: true, ..Self::default() }
    }

    fn folded<'a>(&self, key: &'a str) -> Cow<'a, str> {
        if self.with_case { Cow::Borrowed(key) } else { fold(key) }
    }

    /// Sets a key. A key that is there already keeps its spelling and its place.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        match self.entries.entry(self.folded(&key).into_owned()) {
            Entry::Occupied(mut known) => known.get_mut().1 = value.into(),
            Entry::Vacant(place) => drop(place.insert((key, value.into()))),
        }
    }

    /// Sets a key as JSON readers do: the same key again replaces the value, another spelling of it is dropped.
    fn insert_exact(&mut self, key: String, value: Value) {
        match self.entries.entry(self.folded(&key).into_owned()) {
            Entry::Occupied(mut known) if known.get().0 == key => known.get_mut().1 = value,
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => drop(place.insert((key, value))),
        }
    }

    /// Sets a key that is not there yet, in whatever spelling; the first one counts.
    fn insert_first(&mut self, key: &str, value: impl FnOnce() -> Value) {
        if let Entry::Vacant(place) = self.entries.entry(self.folded(key).into_owned()) {
            place.insert((key.to_owned(), value()));
        }
    }

    /// The value of a key, whatever its case where that does not count.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(&*self.folded(key)).map(|(_, value)| value)
    }

    /// Whether the key is there, whatever its case where that does not count.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.entries.contains_key(&*self.folded(key))
    }

    /// Takes a key out; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.entries.shift_remove(&*self.folded(key)).map(|(_, value)| value)
    }

    /// Keys as written, and values, in order of insertion.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.entries.values().map(|(key, value)| (key.as_str(), value))
    }

    /// Keys as written, in order of insertion.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> + '_ {
        self.entries.values().map(|(key, _)| key.as_str())
    }

    /// Values in order of insertion.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> + '_ {
        self.entries.values().map(|(_, value)| value)
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// To a JSON object; see [`Value::to_json`].
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::Value::Object(self.iter().map(|(key, value)| (key.to_owned(), value.to_json())).collect())
    }
}

impl PartialEq for Object {
    /// The same keys, whatever their case and order, with equal values.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut object = Self::new();
        object.extend(pairs);
        object
    }
}

impl<K: Into<String>, V: Into<Value>> Extend<(K, V)> for Object {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Object(object) => Ok(Arc::unwrap_or_clone(object)),
            other => Err(serde::de::Error::custom(format_args!("expected an object, found {}", other.kind()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_differ_by_case() {
        let mut object = Object::with_case();
        object.extend([("UPPER", 1.0), ("upper", 2.0)]);
        assert_eq!(
            ["UPPER", "upper", "Upper"].map(|key| object.get(key).map(Value::to_number)),
            [Some(1.0), Some(2.0), None]
        );
    }

    #[test]
    fn objects_keep_order_and_first_spelling() {
        let mut object = Object::new();
        object.insert("B", 1.0);
        object.insert("a", 2.0);
        object.insert("b", 3.0);
        assert_eq!(
            object.iter().map(|(key, value)| (key, value.to_number())).collect::<Vec<_>>(),
            [("B", 3.0), ("a", 2.0)]
        );
        assert_eq!(object.get("A"), Some(&Value::Number(2.0)));
        assert_eq!(object.remove("B").map(|value| value.to_number()), Some(3.0));
        assert_eq!(object.len(), 1);
    }

    #[test]
    fn json_goes_there_and_back() {
        let text = r#"{"z":[1,2.5,-7,1e300,true,null],"a":{"x":"y"},"n":9007199254740992}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value.to_json().to_string(), text.replace("1e300", "1e+300"));
        assert_eq!(Value::from_json(&value.to_json()), value);
        assert_eq!(serde_json::to_string(&value).unwrap(), text.replace("1e300", "1e+300"));
    }

    #[test]
    fn json_duplicates() {
        let value: Value = serde_json::from_str(r#"{"a":1,"b":2,"a":3,"A":4}"#).unwrap();
        assert_eq!(value.to_json().to_string(), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn numbers_that_json_lacks_are_strings() {
        assert_eq!(Value::Number(f64::NAN).to_json(), "NaN");
        assert_eq!(Value::Number(-0.0).to_json(), 0);
        assert_eq!(Value::Number(3.0).to_json().to_string(), "3");
    }
}
