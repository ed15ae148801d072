//! The one integration binary: everything that needs a running PostgreSQL.

mod cluster;
mod private_cluster;
