//! The rows of every kind of operation, planted with SQL: what reads and `verify` are tested with,
//! independently of the code that writes such rows.

use sqlx::PgPool;

/// Users 101 and 102, each with an opening of 10,000 at 12:00:01 and these operations, one a second:
///
/// | second | 101 | | 102 | |
/// |---|---|---|---|---|
/// | 2 | pays 102 500 | v2 | gets it | v2 |
/// | 3 to 6 | holds 400, 300, 200 and 100 | v3 to v6 | | |
/// | 7 | captures 250 of hold 3 to 102 | v7 | gets it | v3 |
/// | 8 | releases hold 4 | v8 | | |
/// | 9 | hold 5 expires | v9 | | |
/// | 10, 11 | holds 50, captures all of it | v10, v11 | | |
/// | 12 | an atomic bulk: −20 | v12 | −10 and +5, its key | v4, v5 |
///
/// Hold 6 is open. Keys are stored for some of them, and for operations that were refused. The clock of the tests is past all of these times.
pub(crate) const ROWS: &str = "\
INSERT INTO users (id, balance, held, version, changed_at, created_at) VALUES \
    (101, 9080, 100, 12, '2025-01-31 12:00:12Z', '2025-01-31 12:00:01Z'), \
    (102, 10745, 0, 5, '2025-01-31 12:00:12Z', '2025-01-31 12:00:01Z'); \
INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, balance, held, \
    created_at, key, reference, hold, peer_user, peer_version) \
SELECT user_id, version, kind::change_kind, amount, held_amount, balance, held, \
    '2025-01-31 12:00:00.000001Z'::timestamptz + second * interval '1 second', \
    key, reference, hold, peer_user, peer_version \
FROM (VALUES \
    (101, 1, 1, 'change', 10000, 0, 10000, 0, NULL, NULL, NULL, NULL, NULL), \
    (101, 2, 2, 'transfer', -500, 0, 9500, 0, 'pay', 'rent 11', NULL, 102, 2), \
    (101, 3, 3, 'hold', -400, 400, 9100, 400, 'reserve', 'room 12', 3, NULL, NULL), \
    (101, 4, 4, 'hold', -300, 300, 8800, 700, NULL, NULL, 4, NULL, NULL), \
    (101, 5, 5, 'hold', -200, 200, 8600, 900, NULL, NULL, 5, NULL, NULL), \
    (101, 6, 6, 'hold', -100, 100, 8500, 1000, NULL, 'room 13', 6, NULL, NULL), \
    (101, 7, 7, 'capture', 150, -400, 8650, 600, 'capture', NULL, 3, 102, 3), \
    (101, 8, 8, 'release', 300, -300, 8950, 300, 'release', NULL, 4, NULL, NULL), \
    (101, 9, 9, 'expiry', 200, -200, 9150, 100, NULL, NULL, 5, NULL, NULL), \
    (101, 10, 10, 'hold', -50, 50, 9100, 150, NULL, NULL, 10, NULL, NULL), \
    (101, 11, 11, 'capture', 0, -50, 9100, 100, 'all of it', NULL, 10, NULL, NULL), \
    (101, 12, 12, 'change', -20, 0, 9080, 100, NULL, 'fee', NULL, NULL, NULL), \
    (102, 1, 1, 'change', 10000, 0, 10000, 0, NULL, NULL, NULL, NULL, NULL), \
    (102, 2, 2, 'transfer', 500, 0, 10500, 0, NULL, 'rent 11', NULL, 101, 2), \
    (102, 3, 7, 'capture', 250, 0, 10750, 0, NULL, NULL, NULL, 101, 7), \
    (102, 4, 12, 'change', -10, 0, 10740, 0, 'bulk', NULL, NULL, NULL, NULL), \
    (102, 5, 12, 'change', 5, 0, 10745, 0, NULL, NULL, NULL, NULL, NULL) \
) AS entry (user_id, version, second, kind, amount, held_amount, balance, held, key, reference, \
    hold, peer_user, peer_version); \
UPDATE users SET changed_at = changed_at + interval '1 microsecond' WHERE id IN (101, 102); \
INSERT INTO holds (user_id, hold, amount, captured, state, created_at, expires_at, resolved_at) \
SELECT made.user_id, made.hold, made.held_amount, \
    CASE made.hold WHEN 3 THEN 250 WHEN 10 THEN 50 ELSE 0 END, \
    CASE ended.kind WHEN 'capture' THEN 'captured' WHEN 'release' THEN 'released' \
        WHEN 'expiry' THEN 'expired' ELSE 'open' END::hold_state, \
    made.created_at, \
    made.created_at + CASE made.hold WHEN 5 THEN 4 ELSE 604800 END * interval '1 second', \
    ended.created_at \
FROM balance_changes AS made LEFT JOIN balance_changes AS ended \
    ON ended.user_id = made.user_id AND ended.hold = made.hold AND ended.kind <> 'hold' \
WHERE made.kind = 'hold' AND made.user_id = 101; \
INSERT INTO idempotency_keys (user_id, key, fingerprint, answer) VALUES \
    (101, 'pay', 'transfer 102 500 rent 11', '{9500,2,10500,2}'), \
    (101, 'reserve', 'hold 400 604800 room 12', '{3,9100,400,1738929603000001}'), \
    (101, 'capture', 'capture 3 250 102', '{250,8650,600}'), \
    (101, 'release', 'release 4', '{8950,300}'), \
    (101, 'all of it', 'capture 10 all -', '{50,9100,100}'), \
    (101, 'no money', 'transfer 102 50000', NULL), \
    (102, 'bulk', 'all 3 00', '{10740,9080,10745}'), \
    (102, 'no bulk', 'all 3 01', '{-2}');";

/// Plants [`ROWS`].
pub(crate) async fn plant(pool: &PgPool) {
    sqlx::raw_sql(ROWS).execute(pool).await.expect("the rows are planted");
}

/// Plants hold 2 of user 1, right after its opening.
pub(crate) async fn plant_hold(pool: &PgPool) {
    let rows = "\
        UPDATE users SET balance = 9990, held = 10, version = 2 WHERE id = 1; \
        INSERT INTO balance_changes \
            (user_id, version, kind, amount, held_amount, balance, held, created_at, hold) \
        SELECT 1, 2, 'hold', -10, 10, 9990, 10, changed_at, 2 FROM users WHERE id = 1; \
        INSERT INTO holds (user_id, hold, amount, captured, state, created_at, expires_at) \
        SELECT 1, 2, 10, 0, 'open', changed_at, changed_at + interval '7 days' \
        FROM users WHERE id = 1";
    sqlx::raw_sql(rows).execute(pool).await.expect("the rows are planted");
}
