//! All integration tests, in one executable: it is linked once.
//!
//! `cfg(test)` is always true here; it tells clippy that helpers of tests may `unwrap`.

#[cfg(test)]
mod tester;
