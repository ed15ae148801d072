-- Holds: money that is set aside until it is captured, released or expired. The entry of the journal
-- that made a hold explains it; this table is the state that it is in now.
--
-- Where the tables are sharded, distribute this one by `user_id` as well; see docs/upgrading.md.
SET LOCAL citus.multi_shard_modify_mode TO 'sequential';

CREATE TYPE hold_state AS ENUM ('open', 'captured', 'released', 'expired');

CREATE TABLE holds (
    user_id     bigint NOT NULL,
    -- The version of the entry that made the hold.
    hold        bigint NOT NULL,
    amount      bigint NOT NULL CHECK (amount >= 1),
    -- What a capture took of it; the rest was released with the same entry.
    captured    bigint NOT NULL CHECK (captured BETWEEN 0 AND amount),
    state       hold_state NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    -- When it was captured, released or expired.
    resolved_at timestamptz,
    PRIMARY KEY (user_id, hold)
);
-- The indexes have the open holds only, which are few beside those that were resolved.
-- Which holds of a user have expired, and which ones expired first.
CREATE INDEX holds_open_by_expiry ON holds (user_id, expires_at) WHERE state = 'open';
CREATE INDEX holds_expiring ON holds (expires_at, user_id, hold) WHERE state = 'open';
-- A page of a user's open holds.
CREATE INDEX holds_open ON holds (user_id, hold) WHERE state = 'open';
