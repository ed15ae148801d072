//! Everything that speaks to PostgreSQL, apart from the approaches themselves.

pub mod private_cluster;
