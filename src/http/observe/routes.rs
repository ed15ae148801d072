//! Which route a request is for, with the metrics of each.
//!
//! Made of the OpenAPI document, as the router is, so the two cannot differ. The router itself tells its
//! choice only to the handler, in an extension of the request that would have to be allocated.

use axum::http::Method;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};

use crate::approach::registry;
use crate::metrics::requests::{Requests, RouteCounters};

/// The parameter that has a route for each of its values.
const APPROACH: &str = "{approach}";

/// All routes of a service.
pub(super) struct Routes {
    /// By method. The last one is for every other request.
    all: Vec<Route>,
}

/// The position of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteId(u16);

/// A route.
pub(super) struct Route {
    /// Its path, with the names of its parameters.
    pub(super) name: String,
    pub(super) method: &'static str,
    /// Its name in the OpenAPI document.
    pub(super) operation: String,
    pub(super) approach: Option<&'static str>,
    pub(super) counters: RouteCounters,
    has_parameters: bool,
}

impl Routes {
    /// The routes of a document, and one for what it does not have.
    pub(super) fn of(document: &OpenApi, requests: &Requests) -> Self {
        let mut all = Vec::new();
        let mut add = |method, name: &str, operation: &str, approach| {
            all.push(Route {
                name: name.to_owned(),
                method,
                operation: operation.to_owned(),
                approach,
                counters: requests.route(method, name),
                has_parameters: name.contains('{'),
            });
        };
        for (path, item) in &document.paths.paths {
            for (method, operation) in operations(item) {
                let id = operation.operation_id.as_deref().unwrap_or_default();
                if path.contains(APPROACH) {
                    for name in registry::names() {
                        add(method, &path.replace(APPROACH, name), id, Some(name));
                    }
                }
                add(method, path, id, None);
            }
        }
        add("other", "other", "none", None);
        Self { all }
    }

    /// The route of a request.
    pub(super) fn find(&self, method: &Method, path: &str) -> RouteId {
        // The router answers HEAD like GET.
        let method = if *method == Method::HEAD { Method::GET.as_str() } else { method.as_str() };
        let found = self.all.iter().position(|route| route.method == method && route.fits(path));
        RouteId(u16::try_from(found.unwrap_or(self.all.len() - 1)).unwrap_or(u16::MAX))
    }

    pub(super) fn get(&self, RouteId(position): RouteId) -> &Route {
        &self.all[usize::from(position)]
    }
}

impl Route {
    fn fits(&self, path: &str) -> bool {
        if self.name == path {
            return true;
        }
        if !self.has_parameters {
            return false;
        }
        let mut parts = path.split('/');
        let is_same = |expected: &str| {
            parts.next().is_some_and(|part| {
                if expected.starts_with('{') { !part.is_empty() } else { part == expected }
            })
        };
        self.name.split('/').all(is_same) && parts.next().is_none()
    }
}

fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [("PATCH", patch), ("POST", post), ("GET", get), ("PUT", put), ("DELETE", delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::document;
    use crate::metrics::Metrics;

    #[test]
    fn each_route_of_the_document_is_found_by_its_requests_and_by_no_other() {
        let metrics = Metrics::default();
        let routes = Routes::of(&document(), metrics.requests());
        let find = |method: &str, path: &str| {
            let route = routes.get(routes.find(&method.parse().unwrap(), path));
            (route.name.clone(), route.operation.clone(), route.approach)
        };
        for route in &routes.all[..routes.all.len() - 1] {
            let path = route.name.replace("{id}", "17").replace("{hold}", "2");
            let path = path.replace("{file}", "page.js").replace(APPROACH, "none");
            let expected = (route.name.clone(), route.operation.clone(), route.approach);
            assert_eq!(find(route.method, &path), expected);
            for other in [format!("{path}/"), format!("/x{path}"), format!("{path}/x/y/z")] {
                assert_eq!(find(route.method, &other).0, "other", "{other}");
            }
        }
        let batched = ("/approach/batched/balance".into(), "changeThroughApproach".into());
        let (name, operation, approach) = find("PATCH", "/approach/batched/balance");
        assert_eq!(((name, operation), approach), (batched, Some("batched")));
        assert_eq!(find("HEAD", "/healthz").0, "/healthz");
        for (method, path) in
            [("GET", "/nowhere"), ("PUT", "/users/1"), ("PROPFIND", "/users"), ("GET", "/users//")]
        {
            assert_eq!(find(method, path).0, "other", "{method} {path}");
        }
    }
}
