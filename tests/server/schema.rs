//! A judge for JSON answers: the part of JSON Schema that GitHub's OpenAPI document uses.

use serde_json::Value;

pub(crate) struct Schemas(pub(crate) Value);

impl Schemas {
    /// The schema of the answer to an operation with this status.
    pub(crate) fn of(&self, method: &str, path: &str, status: &str) -> &Value {
        let response = self.resolved(&self.0["paths"][path][method]["responses"][status]);
        let schema = &response["content"]["application/json"]["schema"];
        assert!(!schema.is_null(), "the document has no schema for {method} {path} {status}");
        schema
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let found = self.0.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere"));
                self.resolved(found)
            }
            None => schema,
        }
    }

    /// What is wrong with a value; empty when it fits.
    pub(crate) fn faults(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let schema = self.resolved(schema);
        if value.is_null()
            && (schema["nullable"] == true
                || schema["type"].as_array().is_some_and(|types| types.contains(&"null".into())))
        {
            return Vec::new();
        }
        for (word, all) in [("allOf", true), ("anyOf", false), ("oneOf", false)] {
            if let Some(parts) = schema[word].as_array() {
                let mut found: Vec<Vec<String>> = parts.iter().map(|part| self.faults(part, value, at)).collect();
                if all {
                    return found.concat();
                }
                found.sort_by_key(Vec::len);
                return found.into_iter().next().unwrap_or_default();
            }
        }
        let mut faults = Vec::new();
        let is = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => true,
        };
        if let Some(kind) = schema["type"].as_str()
            && !is(kind)
        {
            return vec![format!("{at}: not {kind}: {value}")];
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            faults.push(format!("{at}: {value} is none of {allowed:?}"));
        }
        if schema["format"] == "date-time"
            && value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err())
        {
            faults.push(format!("{at}: {value} is not a time"));
        }
        if schema["format"] == "uri" && value.as_str().is_some_and(|text| !text.contains("://")) {
            faults.push(format!("{at}: {value} is not an address"));
        }
        if let Some(object) = value.as_object() {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !object.contains_key(name) {
                    faults.push(format!("{at}: {name} is missing"));
                }
            }
            for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(value) = object.get(name) {
                    faults.extend(self.faults(inner, value, &format!("{at}.{name}")));
                }
            }
        }
        if let (Some(items), false) = (value.as_array(), schema["items"].is_null()) {
            for (number, item) in items.iter().enumerate() {
                faults.extend(self.faults(&schema["items"], item, &format!("{at}[{number}]")));
            }
        }
        faults
    }
}
