-- From one operation, a change of one balance, to a ledger: money can be held, entries have a kind,
-- and a key stores the outcome of any operation.
--
-- On a database that is sharded already (elsewhere it means nothing): there, a type can only be made
-- where everything runs over one connection to each node.
SET LOCAL citus.multi_shard_modify_mode TO 'sequential';

-- Blocks all use of these tables until it ends; see docs/upgrading.md. The order is that of
-- the service's row locks; if the two still wait for each other, the service's `lock_timeout` ends it.
LOCK TABLE users, balance_changes, idempotency_keys IN ACCESS EXCLUSIVE MODE;

-- Constants as defaults: the rows themselves are not rewritten. Then the defaults are dropped, so
-- that whoever writes has to say each value. That also stops an instance of the version before this
-- one: each of its changes fails instead of leaving rows that it did not know how to fill.
ALTER TABLE users
    -- Set aside by holds. What can be spent is `balance` alone.
    ADD COLUMN held bigint NOT NULL DEFAULT 0,
    -- No entry of the user is stamped earlier from now on. Not necessarily that of the last entry.
    ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE users
    ALTER COLUMN held DROP DEFAULT,
    ALTER COLUMN changed_at DROP DEFAULT;
-- The last line of defence, like that of the balance. The upper bound keeps room for what is held, so
-- that a hold can always be released.
ALTER TABLE users ADD CONSTRAINT users_held_check
    CHECK (held BETWEEN 0 AND 9223372036854775807 - balance);

-- PostgreSQL parses the checks of a table for each statement that writes to it, which is a tenth of the
-- cost of a small one. So there are only those that guard money. Versions and zero amounts are left to
-- `verify`, and a kind is a type instead of a text with a check.
ALTER TABLE users DROP CONSTRAINT users_version_check;
ALTER TABLE balance_changes
    DROP CONSTRAINT balance_changes_version_check,
    DROP CONSTRAINT balance_changes_amount_check;
CREATE TYPE change_kind AS ENUM ('change', 'transfer', 'hold', 'capture', 'release', 'expiry');

ALTER TABLE balance_changes
    ADD COLUMN kind change_kind NOT NULL DEFAULT 'change',
    -- By how much `held` changed, and `held` right after it.
    ADD COLUMN held_amount bigint NOT NULL DEFAULT 0,
    ADD COLUMN held bigint NOT NULL DEFAULT 0,
    -- The client's own text.
    ADD COLUMN reference text,
    -- The number of the hold that the entry is about: the version of the entry that made it.
    ADD COLUMN hold bigint,
    -- The other side of a transfer: the two entries name each other.
    ADD COLUMN peer_user bigint,
    ADD COLUMN peer_version bigint;
ALTER TABLE balance_changes
    ALTER COLUMN kind DROP DEFAULT,
    ALTER COLUMN held_amount DROP DEFAULT,
    ALTER COLUMN held DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT;

-- Times were those of the start of a transaction, before it waited for the user's row, so they can
-- run backwards. Those that do are raised to the latest one before them.
UPDATE balance_changes AS entry
SET created_at = ordered.latest
FROM (
    SELECT user_id, version, created_at,
           max(created_at) OVER (PARTITION BY user_id ORDER BY version) AS latest
    FROM balance_changes
) AS ordered
WHERE entry.user_id = ordered.user_id AND entry.version = ordered.version
  AND ordered.created_at < ordered.latest;
-- Entries can be later than now where the clock was set back.
UPDATE users
SET changed_at = ahead.latest
FROM (
    SELECT user_id, max(created_at) AS latest FROM balance_changes
    WHERE created_at > now()
    GROUP BY user_id
) AS ahead
WHERE users.id = ahead.user_id;

-- What was asked, as text, instead of one number; and what was answered, as numbers whose meaning
-- depends on the operation. For a change that is the balance; NULL is a refusal for insufficient
-- funds. The form of the text is that of `Change::fingerprint`.
ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_balance_check;
ALTER TABLE idempotency_keys RENAME COLUMN amount TO fingerprint;
ALTER TABLE idempotency_keys RENAME COLUMN balance TO answer;
ALTER TABLE idempotency_keys
    ALTER COLUMN fingerprint TYPE text USING 'change ' || fingerprint,
    ALTER COLUMN answer TYPE bigint[]
        USING CASE WHEN answer IS NOT NULL THEN ARRAY[answer] END;
