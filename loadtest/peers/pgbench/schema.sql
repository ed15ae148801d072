-- The table of the peers, and the function that `locking.sql` calls.
CREATE TABLE IF NOT EXISTS peer_users (
    id bigint PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50);

INSERT INTO peer_users VALUES (1, 10000) ON CONFLICT DO NOTHING;

-- Locks the row, decides, and writes. NULL says that the balance does not suffice.
CREATE OR REPLACE FUNCTION peer_change(of_user bigint, by_amount bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    now_there bigint;
BEGIN
    SELECT balance INTO STRICT now_there FROM peer_users WHERE id = of_user FOR UPDATE;
    IF now_there + by_amount < 0 THEN
        RETURN NULL;
    END IF;
    UPDATE peer_users SET balance = now_there + by_amount WHERE id = of_user;
    RETURN now_there + by_amount;
END
$$;
