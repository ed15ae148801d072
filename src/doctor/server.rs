//! The server: its version, its state, its schema.

use super::report::Verdict;
use super::subject::{Subject, setting};
use crate::store::schema::{self, SchemaState};

/// The oldest and the newest major version that Plimsoll is tried with.
const SUPPORTED: std::ops::RangeInclusive<u32> = 14..=18;

pub(super) async fn version(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let number = setting(subject.connection, "server_version_num").await?;
    let text = setting(subject.connection, "server_version").await?;
    Ok(judge_version(number.parse().unwrap_or(0), &text))
}

fn judge_version(number: u32, text: &str) -> Verdict {
    let (major, seen) = (number / 10_000, format!("PostgreSQL {text}"));
    let (oldest, newest) = (SUPPORTED.start(), SUPPORTED.end());
    if major < *oldest {
        return Verdict::fail(seen, format!("upgrade to PostgreSQL {oldest} or later"));
    }
    if major > *newest {
        let advice =
            format!("Plimsoll was tried with PostgreSQL {oldest} to {newest}: test it first");
        return Verdict::warn(seen, advice);
    }
    Verdict::ok(seen)
}

pub(super) async fn accepts_changes(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let (is_standby, is_read_only): (bool, bool) = sqlx::query_as(
        "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    if is_standby {
        return Ok(Verdict::fail("a standby", "let DATABASE_URL name the primary"));
    }
    if is_read_only {
        let advice =
            "reset default_transaction_read_only for the server, the database and the role";
        return Ok(Verdict::fail("transactions are read-only", advice));
    }
    Ok(Verdict::ok("a primary"))
}

pub(super) async fn schema(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let state = schema::state(subject.connection).await?;
    Ok(match state {
        SchemaState::Current(_) => Verdict::ok(state.to_string()),
        SchemaState::Hidden => Verdict::fail(
            "hidden from this role",
            "as the owner run `plimsoll migrate --grant-to` with the name of this role",
        ),
        SchemaState::Behind { at, needed } => Verdict::fail(
            format!("at migration {at}, but {needed} is needed"),
            "run `plimsoll migrate` as the owner",
        ),
        SchemaState::Ahead { .. } | SchemaState::Different(_) => {
            Verdict::fail(state.to_string(), "run the version of Plimsoll that migrated it")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn a_version_that_is_too_old_fails_and_one_that_is_too_new_is_not_tried() {
        assert_eq!(judge_version(130_020, "13.20").status(), Status::Fail);
        assert_eq!(judge_version(140_000, "14.0").status(), Status::Ok);
        assert_eq!(judge_version(180_001, "18.1").status(), Status::Ok);
        assert_eq!(judge_version(190_000, "19beta1").status(), Status::Warn);
    }
}
