-- Differs from PostgreSQL: public belongs to postgres; there is no role pg_database_owner.
\dn
