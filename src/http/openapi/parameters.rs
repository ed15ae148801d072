//! What comes in path, query and headers.

use serde_json::json;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Required, Schema};
use utoipa::{IntoParams, ToSchema};

use super::schemas::whole_number;
use crate::approach;
use crate::balance::{Key, UserId};
use crate::http::{docs, users};

/// `{approach}` in a path.
pub struct ApproachName;

impl IntoParams for ApproachName {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let names = ObjectBuilder::from(Object::with_type(Type::String))
            .enum_values(Some(approach::names()))
            .examples([json!(approach::DEFAULT)]);
        vec![in_path("approach", "The way in which the change is applied", names)]
    }
}

/// `{id}` in a path.
pub struct User;

impl IntoParams for User {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = Ref::from_schema_name(UserId::name());
        vec![in_path("id", "The user's number", id)]
    }
}

/// `{file}` in a path.
pub struct DocsFile;

impl IntoParams for DocsFile {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let names = ObjectBuilder::from(Object::with_type(Type::String))
            .enum_values(Some(docs::file_names()));
        vec![in_path("file", "A file that the page needs", names)]
    }
}

/// Which page of a history.
pub struct Page;

impl IntoParams for Page {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = whole_number(1, users::PAGE_MAX).default(Some(json!(users::PAGE)));
        let before = whole_number(1, i64::MAX);
        vec![
            optional("limit", ParameterIn::Query)
                .description(Some("The most changes on the page"))
                .schema(Some(limit))
                .build(),
            optional("before", ParameterIn::Query)
                .description(Some(
                    "Only changes with versions below this one: the `next` of the page before. \
                     1 to 9223372036854775807",
                ))
                .schema(Some(before))
                .build(),
        ]
    }
}

/// `Idempotency-Key`.
pub struct IdempotencyKey;

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = ObjectBuilder::from(Object::with_type(Type::String))
            .min_length(Some(1))
            // Two quotes, and every character behind a backslash.
            .max_length(Some(2 * Key::LENGTH_MAX + 2))
            .pattern(Some(key_pattern()))
            .examples([json!("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"")]);
        vec![
            optional("Idempotency-Key", ParameterIn::Header)
                .description(Some(format!(
                    "With a key, it happens at most once, however often it is sent; what came of \
                     it is answered again. 1 to {} visible ASCII characters, bare or as a string \
                     in double quotes, in which `\\` stands before `\"` and `\\`. To be sent once. \
                     Without it, two equal requests are two changes.",
                    Key::LENGTH_MAX
                )))
                .schema(Some(key))
                .build(),
        ]
    }
}

/// A bare key does not begin with a quote; in a quoted one, quotes and backslashes are escaped.
fn key_pattern() -> String {
    let (most, rest) = (Key::LENGTH_MAX, Key::LENGTH_MAX - 1);
    format!(r#"^([!#-~][!-~]{{0,{rest}}}|"([!#-\[\]-~]|\\["\\]){{1,{most}}}")$"#)
}

fn in_path(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn optional(name: &str, place: ParameterIn) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(place).required(Required::False)
}
