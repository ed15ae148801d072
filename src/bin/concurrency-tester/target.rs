//! The address of the service.

use std::num::NonZeroU16;
use std::str::FromStr;

use hyper::Uri;

/// A parsed address: `http://host[:port][/base]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Value of the `Host` header.
    pub(crate) authority: String,
    /// `host:port`, to resolve and connect to.
    pub(crate) address: String,
    /// The prefix of every path: empty, or `/base` without a trailing slash.
    pub(crate) base: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = text.parse::<Uri>().map_err(|error| format!("not an address: {error}"))?;
        let shape = || "must look like http://127.0.0.1:3000".to_owned();
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err("only http:// addresses: this speaks no TLS, so test the service \
                            behind its proxy"
                    .to_owned());
            }
            _ => return Err(shape()),
        }
        let authority = uri.authority().ok_or_else(shape)?;
        if authority.as_str().contains('@') {
            return Err("no user or password in the address: use --token".to_owned());
        }
        if uri.query().is_some() || authority.host().is_empty() {
            return Err(shape());
        }
        // `Authority::port` returns `None` for invalid ports such as 99999.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 80,
            Some(port) => {
                port.trim_start_matches(':').parse::<NonZeroU16>().map_err(|_| shape())?.get()
            }
            None => return Err(shape()),
        };
        Ok(Self {
            authority: authority.as_str().to_owned(),
            address: format!("{}:{port}", authority.host()),
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn an_address_is_taken_apart() {
        let plain = target("http://127.0.0.1:3000");
        assert_eq!((plain.address.as_str(), plain.base.as_str()), ("127.0.0.1:3000", ""));
        assert_eq!(target("http://localhost/").address, "localhost:80");
        assert_eq!(target("http://[::1]:8080").address, "[::1]:8080");
        assert_eq!(target("http://host:1/money/").base, "/money");
        assert_eq!(target("http://host:1/money/").to_string(), "http://host:1/money");
    }

    #[test]
    fn what_is_not_a_plain_http_address_is_refused() {
        for text in [
            "",
            "127.0.0.1:3000",
            "localhost",
            "ftp://host",
            "https://host",
            "http://",
            "http://host:99999",
            "http://host:0",
            "http://host:/",
            "http://me:secret@host",
            "http://host?x=1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text} was accepted");
        }
    }
}
