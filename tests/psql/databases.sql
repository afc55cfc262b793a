-- Differs from PostgreSQL: there is no template0 (CREATE DATABASE copies nothing) and no privilege on templates.
\l
