//! The embedded default: a PostgreSQL of our own.
