\set user random(:first_user, :last_user)
SELECT peer_change(:user, :amount);
