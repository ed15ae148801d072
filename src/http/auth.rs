//! Bearer tokens, if any are configured.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, header};
use axum::middleware::Next;
use subtle::ConstantTimeEq;

use super::error::HttpError;

/// The name of the token that a request came with, in the extensions of its response: for the log.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<str>);

/// The tokens that open the guarded routes. An empty list opens them to everybody, which is meant
/// for loopback only. Clones share the list.
#[derive(Clone)]
pub struct Tokens(Arc<[String]>);

impl Tokens {
    /// From the configuration.
    pub fn new(tokens: Vec<String>) -> Self {
        Self(tokens.into())
    }

    /// Whether the guarded routes require a token.
    pub fn are_required(&self) -> bool {
        !self.0.is_empty()
    }

    /// Compares with every token in constant time, so that the time taken reveals nothing.
    fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(sent) = bearer(headers) else { return false };
        let fits = self.0.iter().map(|token| token.as_bytes().ct_eq(sent));
        fits.fold(subtle::Choice::from(0), |any, one| any | one).into()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Passes a request on, or responds with 401 before its body is read.
pub(super) async fn require_token(
    State(tokens): State<Tokens>,
    request: Request,
    next: Next,
) -> Result<Response<Body>, HttpError> {
    if !tokens.admit(request.headers()) {
        return Err(HttpError::Unauthorized);
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(tokens: &[&str], header: Option<&str>) -> bool {
        let tokens = Tokens::new(tokens.iter().map(|token| (*token).to_owned()).collect());
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        tokens.admit(&headers)
    }

    #[test]
    fn only_a_whole_token_of_the_list_is_let_in() {
        assert!(admits(&["alpha", "beta"], Some("Bearer beta")));
        assert!(admits(&["alpha"], Some("bearer alpha")));
        for wrong in ["Bearer alph", "Bearer alphaa", "Bearer ", "Basic alpha", "alpha", ""] {
            assert!(!admits(&["alpha", "beta"], Some(wrong)), "{wrong:?}");
        }
        assert!(!admits(&["alpha"], None));
    }
}
