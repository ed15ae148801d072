//! Who can listen in, and who may call.

use std::net::IpAddr;

use sqlx::postgres::PgSslMode;

use super::report::Verdict;
use super::subject::Subject;

pub(super) async fn encryption(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let options = subject.options;
    if options.get_socket().is_some() || is_loopback(options.get_host()) {
        return Ok(Verdict::ok("the database is on this machine"));
    }
    let is_encrypted: Option<bool> =
        sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .fetch_optional(&mut *subject.connection)
            .await?;
    let is_checked = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
    Ok(judge_encryption(is_encrypted.unwrap_or(false), is_checked))
}

fn judge_encryption(is_encrypted: bool, is_checked: bool) -> Verdict {
    let advice = "append ?sslmode=verify-full to DATABASE_URL (and sslrootcert=… for an authority of \
                  your own)";
    match (is_encrypted, is_checked) {
        (false, _) => Verdict::fail("none, and the database is on another machine", advice),
        (true, false) => Verdict::warn("TLS, but the server's certificate is not checked", advice),
        (true, true) => Verdict::ok("TLS, and the server's certificate is checked"),
    }
}

fn is_loopback(host: &str) -> bool {
    let is_address = host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback());
    is_address || host == "localhost"
}

pub(super) async fn access(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let config = subject.config;
    let is_local = config.listen.ip().to_canonical().is_loopback();
    Ok(judge_access(is_local, config.tokens.is_set()))
}

fn judge_access(is_local: bool, has_tokens: bool) -> Verdict {
    match (is_local, has_tokens) {
        (_, true) => Verdict::ok("a token is required"),
        (true, false) => Verdict::warn(
            "no token is required, but only this machine can connect: every program on it can",
            "set AUTH_TOKENS",
        ),
        (false, false) => Verdict::fail(
            "no token is required: whoever reaches the port can change every balance",
            "set AUTH_TOKENS, and unset DANGEROUSLY_OPEN_TO_EVERYONE",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn a_database_elsewhere_needs_encryption_and_a_certificate_that_is_checked() {
        assert_eq!(judge_encryption(false, true).status(), Status::Fail);
        assert_eq!(judge_encryption(true, false).status(), Status::Warn);
        assert_eq!(judge_encryption(true, true).status(), Status::Ok);
        for host in ["127.0.0.1", "::1", "localhost", "::ffff:127.0.0.1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["10.0.0.1", "db", "localhost.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn an_open_door_is_worse_outside() {
        assert_eq!(judge_access(false, true).status(), Status::Ok);
        assert_eq!(judge_access(true, false).status(), Status::Warn);
        assert_eq!(judge_access(false, false).status(), Status::Fail);
    }
}
