-- The two roles of Plimsoll and its database. Run it once, as a superuser, with psql 15 or later; it may
-- be repeated:
--
--   export PLIMSOLL_OWNER_PASSWORD=… PLIMSOLL_SERVICE_PASSWORD=…
--   psql --dbname=postgres --file=deploy/postgres/roles.sql
--
-- The owner migrates, and the service only serves. The rights on the tables follow from
-- `plimsoll migrate --grant-to plimsoll_service`, which knows the tables of each version.
--
-- Other names: --set=owner=… --set=service=… --set=database=…. Without a password in the environment, that
-- of the role stays as it is (none at first: see \password).
\set ON_ERROR_STOP on
\if :{?owner}
\else
    \set owner plimsoll
\endif
\if :{?service}
\else
    \set service plimsoll_service
\endif
\if :{?database}
\else
    \set database plimsoll
\endif
\getenv owner_password PLIMSOLL_OWNER_PASSWORD
\getenv service_password PLIMSOLL_SERVICE_PASSWORD

SELECT format('CREATE ROLE %I', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner')
\gexec
SELECT format('CREATE ROLE %I', :'service')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'service')
\gexec
ALTER ROLE :"owner" LOGIN;
ALTER ROLE :"service" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
\if :{?owner_password}
    ALTER ROLE :"owner" PASSWORD :'owner_password';
\endif
\if :{?service_password}
    ALTER ROLE :"service" PASSWORD :'service_password';
\endif

SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
\gexec
-- Without this, every role of the server may connect, and make temporary tables.
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"service";
-- A transaction that somebody forgets must not keep the row lock of a hot account.
ALTER DATABASE :"database" SET idle_in_transaction_session_timeout = '15s';

\connect :"database"
-- Up to PostgreSQL 14, every role may create tables here.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"service";
