//! Whether the service's role can do more than serve.

use super::report::Verdict;
use super::subject::Subject;

const OWN_ROLE: &str = "give the service a role of its own: deploy/postgres/roles.sql, then \
                        `plimsoll migrate --grant-to` as the owner, and MIGRATE_ON_START=false";

pub(super) async fn role(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let (name, is_super, is_mighty, owns): (String, bool, bool, bool) = sqlx::query_as(
        r"
SELECT rolname::text, rolsuper, rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
       EXISTS (SELECT FROM pg_class
               WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
                 AND pg_has_role(current_user, relowner, 'MEMBER'))
FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    Ok(if is_super {
        Verdict::warn(format!("{name} is a superuser"), OWN_ROLE)
    } else if owns {
        Verdict::warn(format!("{name} owns the tables, and can change or drop them"), OWN_ROLE)
    } else if is_mighty {
        let advice = format!(
            "ALTER ROLE {name} NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS; as a superuser"
        );
        Verdict::warn(format!("{name} may create roles or databases, or replicate"), advice)
    } else {
        Verdict::ok(format!("{name} only serves"))
    })
}

/// Neither the owner nor a superuser is refused anything, so this warns for them as well.
pub(super) async fn journal(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let rights: Option<Vec<String>> = sqlx::query_scalar(
        r"
SELECT array_agg(lower(name)) FROM unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS name
WHERE CASE WHEN name = 'UPDATE'
           THEN has_any_column_privilege(to_regclass('balance_changes'), name)
           ELSE has_table_privilege(to_regclass('balance_changes'), name) END",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    Ok(match rights {
        None => Verdict::ok("append-only for this role"),
        Some(rights) => {
            Verdict::warn(format!("the role can rewrite it ({})", rights.join(", ")), OWN_ROLE)
        }
    })
}

pub(super) async fn schema_rights(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let may_create: bool = sqlx::query_scalar(
        "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    Ok(if may_create {
        Verdict::warn(
            "the role may create tables and functions",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; as the owner of the schema, and see `role`",
        )
    } else {
        Verdict::ok("the role may create nothing")
    })
}
