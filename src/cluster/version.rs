//! Versions of PostgreSQL.

/// The oldest major version that is supported.
pub(super) const OLDEST_MAJOR: u32 = 14;

/// The major version in `postgres (PostgreSQL) 15.18 (Debian …)`, `… 18beta1`, `… 19devel`.
pub(super) fn major_of(answer: &str) -> Option<u32> {
    let (_, version) = answer.split_once("(PostgreSQL) ")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn the_major_version_is_read_from_every_form_of_the_answer() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(major_of("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(major_of("initdb: unknown option\n"), None);
        assert_eq!(major_of("postgres (PostgreSQL) next\n"), None);
    }
}
