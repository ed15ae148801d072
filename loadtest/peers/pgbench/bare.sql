\set user random(:first_user, :last_user)
UPDATE peer_users SET balance = balance + :amount
WHERE id = :user AND balance + :amount >= 0 RETURNING balance;
