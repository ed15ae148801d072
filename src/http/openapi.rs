//! `GET /openapi.json`: the contract, generated from the routes and the types that serve it.
//!
//! A route enters the document by being a route: the router and the document are collected from the
//! same lists, `guarded` and `open` of [`http`](super). What its annotation need not say, because
//! it holds for many routes, is added here: the token, the wrong method, the head that is too large,
//! the closed objects.
//!
//! - [`schemas`]: the values that travel
//! - [`parameters`]: what comes in path, query and headers
//! - [`answers`]: statuses, with sentences and headers taken from [`error`](super::error)

pub mod answers;
pub mod parameters;
pub mod schemas;

use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr, Schema};

use super::answer::json;
use super::users;

const BEARER: &str = "bearer";

/// Computed once: the routes do not change while the service runs.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = document().to_pretty_json();
    text.expect("strings, numbers and maps with string keys are always JSON").into()
});

/// Shows this document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "showDocument",
    tag = "Service",
    responses(answers::Document)
)]
pub async fn show() -> Response<Body> {
    json(StatusCode::OK, DOCUMENT.clone())
}

/// The contract of all routes, as OpenAPI 3.1.
pub fn document() -> OpenApi {
    let mut guarded = super::guarded().into_openapi();
    for operation in operations(&mut guarded) {
        answers::add(operation, answers::unauthorized());
        // Either with nothing or with a token: whether one is asked for is configured.
        operation.security =
            Some(vec![SecurityRequirement::default(), SecurityRequirement::new(BEARER, NOTHING)]);
    }
    let mut whole = Frame::openapi();
    whole.merge(guarded);
    whole.merge(super::open().into_openapi());
    for operation in operations(&mut whole) {
        answers::add(operation, answers::wrong_method());
        answers::add(operation, answers::head_too_large());
    }
    let components = whole.components.get_or_insert_default();
    for schema in components.schemas.values_mut() {
        close(schema);
    }
    components.security_schemes.insert(BEARER.into(), RefOr::T(bearer()));
    whole
}

/// Everything but the routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Plimsoll",
        description = "A balance service with a line that is never crossed: no balance goes below \
            zero, whoever else changes it at that moment.\n\n\
            All amounts are whole numbers of minor units (cents) of up to 64 bits. Clients must \
            not read them into floats: JavaScript's `JSON.parse` rounds beyond 2^53.\n\n\
            Every error body is exactly `{\"error\":\"<sentence>\"}`. That holds as well for a request \
            that no operation gets to see, because its head is not valid HTTP: 400."
    ),
    tags(
        (name = "Changes", description = "Moving a balance"),
        (name = "Users", description = "Creating users, and explaining their balances"),
        (name = "Service", description = "The service itself")
    ),
    components(schemas(
        schemas::Error, schemas::NewBalance, schemas::Status, users::User, users::Changes
    ))
)]
struct Frame;

const NOTHING: [&str; 0] = [];

fn bearer() -> SecurityScheme {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some("One of `AUTH_TOKENS`, where the service has any.".into());
    SecurityScheme::Http(scheme)
}

/// An unknown member is refused, and none is answered.
fn close(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema
        && !object.properties.is_empty()
    {
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    }
}

fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    document.paths.paths.values_mut().flat_map(|item| {
        let PathItem { get, put, post, delete, patch, .. } = item;
        [get, put, post, delete, patch].into_iter().flatten()
    })
}
