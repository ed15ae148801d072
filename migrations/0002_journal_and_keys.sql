-- The journal: every accepted change, append-only. It explains each balance, and `verify` proves
-- that the two agree. No foreign key to users: it would be a trigger that locks the hot row once
-- per journal row, and users are never deleted.
CREATE TABLE balance_changes (
    user_id    bigint NOT NULL,
    -- 1, 2, 3 … per user, without a gap.
    version    bigint NOT NULL CHECK (version >= 1),
    amount     bigint NOT NULL CHECK (amount <> 0),
    -- The balance right after this change.
    balance    bigint NOT NULL CHECK (balance >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The idempotency key that the change came with. Kept here, too, because the keys expire and
    -- the explanation must not.
    key        text,
    -- Starts with the user, so that it shards with the user, and serves a page of a user's history
    -- from its newest end.
    PRIMARY KEY (user_id, version)
);

-- The outcomes of changes that came with a key. The primary key is what makes "at most once" true:
-- a second change with the same key cannot commit, whoever sends it through whatever approach.
CREATE TABLE idempotency_keys (
    user_id    bigint NOT NULL,
    key        text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    amount     bigint NOT NULL,
    -- The balance that was answered; NULL: refused for want of funds.
    balance    bigint CHECK (balance >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
-- For the expiry, which looks for the oldest.
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- The same for the creation of users, which has no user yet to start its key with.
CREATE TABLE user_creation_keys (
    key        text PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 255),
    -- What was asked for, and what came of it.
    balance    bigint NOT NULL CHECK (balance >= 0),
    user_id    bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_creation_keys_created_at ON user_creation_keys (created_at);

-- Users from before the journal start it with the balance that they have.
UPDATE users SET version = CASE WHEN balance > 0 THEN 1 ELSE 0 END;
INSERT INTO balance_changes (user_id, version, amount, balance)
SELECT id, 1, balance, balance FROM users WHERE balance > 0;
