//! Values of flags, as clap takes them.

use hyper::header::HeaderValue;
use sqlx::postgres::PgConnectOptions;

/// Only checks that the name fits into a path: the service knows which approaches exist.
pub(super) fn approach_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    if text.is_empty() || !text.bytes().all(fits) {
        return Err("an approach is named by letters, digits and dashes".to_owned());
    }
    Ok(text.to_owned())
}

pub(crate) fn bearer(token: &str) -> Result<HeaderValue, String> {
    // The token itself stays out of the message.
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "a token must consist of visible ASCII characters".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

pub(crate) fn database(url: &str) -> Result<PgConnectOptions, String> {
    let scheme_fits = url.starts_with("postgres://") || url.starts_with("postgresql://");
    url.parse()
        .ok()
        .filter(|_| scheme_fits)
        .ok_or_else(|| "must be postgres://user:password@host:port/database".to_owned())
}
