//! Checks answers against the OpenAPI document.

use std::collections::BTreeSet;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// General HTTP headers, which no operation has to document.
const OF_HTTP: [&str; 13] = [
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-opener-policy",
    "date",
    "referrer-policy",
    "transfer-encoding",
    "x-accel-buffering",
    "x-content-type-options",
    "x-frame-options",
];

/// The OpenAPI document.
#[derive(Clone)]
pub(crate) struct Contract(pub(crate) Value);

/// One answer, and the operation that gave it.
pub(crate) struct Given {
    /// In lower case.
    pub(crate) method: String,
    /// As in the document, such as `/users/{id}`.
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Contract {
    /// Every method, path and status of the document.
    pub(crate) fn answers(&self) -> BTreeSet<(String, String, u16)> {
        let mut all = BTreeSet::new();
        for (path, method, operation) in self.operations() {
            for status in object(&operation["responses"]).keys() {
                all.insert((method.clone(), path.clone(), status.parse().unwrap()));
            }
        }
        all
    }

    /// Every path, method and operation of the document.
    pub(crate) fn operations(&self) -> Vec<(String, String, Value)> {
        let paths = object(&self.0["paths"]).iter();
        let operations = paths.flat_map(|(path, item)| {
            let operations = object(item).iter();
            operations.map(|(method, operation)| (path.clone(), method.clone(), operation.clone()))
        });
        operations.collect()
    }

    /// Checks an answer. The error says what is wrong with it.
    pub(crate) fn check(&self, given: &Given) -> Result<(), String> {
        let Given { method, path, status, headers, body } = given;
        let place = format!("{method} {path} {status}");
        let response = &self.0["paths"][path][method]["responses"][status.to_string()];
        if response.is_null() {
            return Err(format!("{place} is not documented"));
        }
        self.check_headers(response, headers).map_err(|problem| format!("{place}: {problem}"))?;
        let kind = text(headers, "content-type").unwrap_or_default();
        let content = &response["content"][&kind];
        if content.is_null() {
            return Err(format!("{place}: the type {kind:?} is not documented"));
        }
        if kind == "application/json" {
            let body = serde_json::from_slice(body).map_err(|no| format!("{place}: {no}"))?;
            self.conforms(&content["schema"], &body).map_err(|no| format!("{place}: {no}"))?;
        }
        Ok(())
    }

    fn check_headers(&self, response: &Value, headers: &HeaderMap) -> Result<(), String> {
        let none = json!({});
        let documented = object(response.get("headers").unwrap_or(&none));
        for (name, header) in documented {
            let Some(value) = text(headers, name) else {
                if header["required"] == true {
                    return Err(format!("{name} is missing"));
                }
                continue;
            };
            let value = match header["schema"]["type"].as_str() {
                Some("integer") => serde_json::from_str(&value).unwrap_or_default(),
                _ => json!(value),
            };
            self.conforms(&header["schema"], &value).map_err(|no| format!("{name}: {no}"))?;
        }
        let is_known = |name: &str| {
            OF_HTTP.contains(&name)
                || documented.keys().any(|known| known.eq_ignore_ascii_case(name))
        };
        match headers.keys().find(|name| !is_known(name.as_str())) {
            Some(name) => Err(format!("the header {name} is not documented")),
            None => Ok(()),
        }
    }

    /// Checks a value against a schema. The schema's references point into the document.
    pub(crate) fn conforms(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let whole = json!({ "allOf": [schema], "components": self.0["components"] });
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&whole)
            .map_err(|error| error.to_string())?;
        validator.validate(value).map_err(|error| format!("{value}: {error}"))
    }
}

/// The members of a value that must be an object.
pub(crate) fn object(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().expect("an object")
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().expect("is text").to_owned())
}
