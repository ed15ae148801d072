//! Who may call: tokens and their scopes, the internal address, TLS, and how both tokens and certificate
//! are replaced.

mod certificate;
mod client;
mod internal;
mod rotation;
mod scopes;
mod tls;
mod tls_limits;
