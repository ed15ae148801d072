//! The service's executable.

fn main() {}
