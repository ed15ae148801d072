//! Collects the responses of an operation by status.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{Content, Ref, RefOr, Response};

use crate::http::error::HttpError;
use crate::http::openapi::schemas::{Error, string};
use crate::http::wire::{BODY_BYTES_MAX, JSON};
use crate::ledger::ChangeError;

/// Responses as a document has them.
pub(super) type Responses = BTreeMap<String, RefOr<Response>>;

/// Responses of one operation, by status.
#[derive(Default)]
pub(super) struct ByStatus(BTreeMap<StatusCode, Response>);

impl ByStatus {
    /// Adds a success with a JSON body of a schema.
    pub(super) fn success(
        mut self,
        status: StatusCode,
        what: &str,
        body: &Value,
        schema: impl AsRef<str>,
    ) -> Self {
        let schema = Ref::from_schema_name(schema.as_ref());
        let content =
            ContentBuilder::new().schema(Some(schema)).example(Some(body.clone())).build();
        let response = self.0.entry(status).or_insert_with(|| Response::new(what));
        response.content.insert(JSON.into(), content.into());
        self
    }

    /// Adds a success with any other content.
    pub(super) fn content(mut self, what: &str, kind: &str, content: Content) -> Self {
        let response = self.0.entry(StatusCode::OK).or_insert_with(|| Response::new(what));
        response.content.insert(kind.into(), content.into());
        self
    }

    /// Adds a reason for the error's status. The error's sentence becomes an example.
    pub(super) fn error(mut self, error: impl Into<HttpError>, why: &str) -> Self {
        let error = error.into();
        let status = error.status();
        let sentence = error.to_string();
        let response = self.0.entry(status).or_insert_with(|| error_response(status));
        let example = ExampleBuilder::new().summary(why).value(Some(json!({ "error": sentence })));
        if let Some(RefOr::T(content)) = response.content.get_mut(JSON) {
            content.examples.insert(sentence, example.into());
        }
        self
    }

    /// Adds the errors of a body that cannot be read.
    pub(super) fn body(self) -> Self {
        self.body_up_to(BODY_BYTES_MAX)
    }

    /// The same for a body that may be longer or shorter.
    pub(super) fn body_up_to(self, most: usize) -> Self {
        self.error(HttpError::BodyTimeout, "nothing was changed")
            .error(HttpError::BodyTooLarge(most), "no valid body is that long")
            .error(HttpError::NotJson, "a charset may follow")
    }

    /// Adds the database's errors for an operation that writes.
    pub(super) fn database(self, refused: &str, unknown: &str) -> Self {
        self.database_of_a_read(refused).error(ChangeError::OutcomeUnknown("".into()), unknown)
    }

    /// Adds the database's errors for an operation that only reads.
    pub(super) fn database_of_a_read(self, refused: &str) -> Self {
        self.error(ChangeError::NotApplied("".into()), refused)
            .error(ChangeError::Internal("".into()), "the log says more")
    }

    /// Adds a header to a status that was added before.
    pub(super) fn header(mut self, status: StatusCode, name: &str, header: Header) -> Self {
        if let Some(response) = self.0.get_mut(&status) {
            response.headers.insert(name.into(), header.into());
        }
        self
    }

    /// The finished responses.
    pub(super) fn build(self) -> Responses {
        self.0
            .into_iter()
            .map(|(status, response)| (status.as_str().into(), response.into()))
            .collect()
    }
}

/// An error response with the headers that every error of its status has.
fn error_response(status: StatusCode) -> Response {
    let mut response = Response::new(status.canonical_reason().unwrap_or("Error"));
    let error = Content::new(Some(Ref::from_schema_name(Error::name())));
    response.content.insert(JSON.into(), error.into());
    let header = match status {
        StatusCode::UNAUTHORIZED => {
            ("WWW-Authenticate", always("The authentication scheme", one_of("Bearer")))
        }
        StatusCode::METHOD_NOT_ALLOWED => ("Allow", always("The methods of the path", string())),
        StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = ObjectBuilder::from(Object::with_type(Type::Integer)).minimum(Some(1));
            ("Retry-After", always("Seconds to wait", seconds))
        }
        _ => return response,
    };
    response.headers.insert(header.0.into(), header.1.into());
    response
}

/// A header that is always present.
pub(super) fn always(description: &str, schema: ObjectBuilder) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(schema))
        // OpenAPI has this member, but the builder has no method for it.
        .extensions(Some(Extensions::from_iter([("required", true)])))
        .build()
}

/// A string with one possible value.
pub(super) fn one_of(value: &str) -> ObjectBuilder {
    string().enum_values(Some([value]))
}
