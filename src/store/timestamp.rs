//! Moments as the database sends them: eight bytes. A text costs the database ten times as much as the
//! rest of a row.

use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Postgres, Type};

use crate::ledger::Timestamp;

/// `timestamptz`, in every PostgreSQL.
const TIMESTAMPTZ: Oid = Oid(1184);

/// 2000-01-01T00:00:00Z, from which the database counts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl Decode<'_, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a moment as text".into());
        }
        let micros = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self::from_micros(micros.saturating_add(EPOCH_MICROS)))
    }
}
