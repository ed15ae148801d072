//! The contract as an OpenAPI document, generated from the routes and the types that serve it.
//!
//! The router and the document share their lists of routes, so every route is documented. Handlers
//! annotate what is particular to them. [`document`] adds the parts that many routes share: the
//! token, the wrong method, the head that is too large, the ids for logs, the closed objects.
//!
//! - [`schemas`]: the bodies
//! - [`parameters`]: path, query and headers
//! - [`responses`]: statuses, with sentences and headers taken from [`error`](super::error)

pub mod parameters;
pub mod responses;
pub mod schemas;

use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr, Schema};

use super::wire::{
    BalanceThen, Changes, ConsoleAccess, ConsoleCharts, Hold, HoldCaptured, HoldNumber,
    HoldReleased, HoldState, Holds, NewHoldDone, TransferDone, User, UserNow,
};
use crate::config::tokens::Scope;

const BEARER: &str = "bearer";

/// Puts the document together from the routes that may require a token of a scope, and those that
/// never require one.
pub fn document(guarded: impl IntoIterator<Item = (Scope, OpenApi)>, open: OpenApi) -> OpenApi {
    let mut whole = Frame::openapi();
    for (scope, mut routes) in guarded {
        for operation in operations(&mut routes) {
            responses::add(operation, responses::unauthorized());
            responses::add(operation, responses::forbidden());
            // Both no token and a token are valid: the configuration decides which.
            operation.security = Some(vec![
                SecurityRequirement::default(),
                SecurityRequirement::new(BEARER, [scope.name()]),
            ]);
        }
        whole.merge(routes);
    }
    whole.merge(open);
    for operation in operations(&mut whole) {
        responses::add(operation, responses::wrong_method());
        responses::add(operation, responses::head_too_large());
        operation.parameters.get_or_insert_default().extend(parameters::tracing().map(RefOr::T));
        responses::trace(operation);
    }
    let components = whole.components.get_or_insert_default();
    for schema in components.schemas.values_mut() {
        close(schema);
    }
    components.security_schemes.insert(BEARER.into(), RefOr::T(bearer()));
    whole
}

/// The document without its routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Plimsoll",
        description = "A balance service with a line that is never crossed: no balance drops below \
            zero, whatever runs concurrently.\n\n\
            All amounts are whole numbers of minor units (cents) of up to 64 bits. Clients must \
            not read them into floats: JavaScript's `JSON.parse` rounds beyond 2^53.\n\n\
            Every error body is exactly `{\"error\":\"<sentence>\"}`. A request whose head is \
            not valid HTTP reaches no operation, and gets such a body with status 400."
    ),
    tags(
        (name = "Changes", description = "Changing a balance"),
        (name = "Transfers", description = "Paying somebody"),
        (name = "Holds", description = "Setting money aside, and taking it later"),
        (name = "Users", description = "Creating users, and showing their balances and histories"),
        (name = "Service", description = "The service itself")
    ),
    components(schemas(
        schemas::Error, schemas::NewBalance, schemas::Results, schemas::Status, User, UserNow, BalanceThen, Changes,
        TransferDone, NewHoldDone, HoldCaptured, HoldReleased, Hold, Holds, HoldNumber, HoldState,
        ConsoleAccess, ConsoleCharts
    ))
)]
struct Frame;

fn bearer() -> SecurityScheme {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    let description = "One of the service's tokens, if it has any. A token has scopes, and each \
        operation names the one that it needs: `read`, `write` or `metrics`. None includes another.";
    scheme.description = Some(description.into());
    SecurityScheme::Http(scheme)
}

/// Forbids unknown members: no request may have them, and no response has them.
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
