-- What docs/sql.md is made of. `## title` begins a section, `= label` a case: the statements below it, up to an empty
-- line, are run one after another in one session. `!` instead of a label: preparation, not shown. Cases see what earlier
-- ones did; what a case leaves open is rolled back.

!
CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, price numeric(10, 2), tags text[], made timestamptz DEFAULT now(), doc jsonb);
INSERT INTO item VALUES (1, 'nail', 0.05, '{iron}', now(), '{"a": 1}'), (2, 'board', 12.50, NULL, now(), NULL), (3, 'glue', NULL, NULL, now(), '[]');
CREATE TABLE sale (item_id int, quantity int, day date);
INSERT INTO sale VALUES (1, 100, '2024-01-01'), (1, 50, '2024-01-02'), (2, 3, '2024-01-02');
CREATE SEQUENCE counter;
CREATE VIEW priced AS SELECT id, name FROM item WHERE price IS NOT NULL;
CREATE ROLE clerk LOGIN;

## Queries
= SELECT with expressions
SELECT id, upper(name), price * 2 AS twice FROM item WHERE id > 1;

= ORDER BY, LIMIT, OFFSET
SELECT name FROM item ORDER BY price DESC NULLS LAST, 1 LIMIT 2 OFFSET 1;

= FETCH FIRST … ROWS ONLY
SELECT id FROM item ORDER BY id FETCH FIRST 2 ROWS ONLY;

= FETCH FIRST … WITH TIES
SELECT id FROM item ORDER BY id FETCH FIRST 2 ROWS WITH TIES;

= DISTINCT
SELECT DISTINCT item_id FROM sale;

= DISTINCT ON
SELECT DISTINCT ON (item_id) item_id, quantity FROM sale ORDER BY item_id, quantity;

= INNER JOIN, USING, NATURAL
SELECT * FROM item JOIN sale ON item.id = sale.item_id;
SELECT * FROM sale a JOIN sale b USING (item_id);
SELECT * FROM sale a NATURAL JOIN sale b;

= LEFT, RIGHT and FULL JOIN
SELECT * FROM item LEFT JOIN sale ON id = item_id;
SELECT * FROM item RIGHT JOIN sale ON id = item_id;
SELECT * FROM item FULL JOIN sale ON id = item_id;

= CROSS JOIN
SELECT count(*) FROM item CROSS JOIN sale;

= LATERAL
SELECT id, s.quantity FROM item, LATERAL (SELECT quantity FROM sale WHERE item_id = id) s;

= GROUP BY, HAVING
SELECT item_id, sum(quantity) FROM sale GROUP BY item_id HAVING count(*) > 1;

= Aggregates with DISTINCT, FILTER and ORDER BY
SELECT count(DISTINCT item_id), sum(quantity) FILTER (WHERE quantity > 3), array_agg(quantity ORDER BY quantity) FROM sale;

= Ordered-set aggregates (WITHIN GROUP)
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY quantity) FROM sale;

= GROUPING SETS, CUBE, ROLLUP
SELECT item_id, day, sum(quantity) FROM sale GROUP BY ROLLUP (item_id, day);

= Window functions
SELECT item_id, row_number() OVER (PARTITION BY item_id ORDER BY day), sum(quantity) OVER w FROM sale WINDOW w AS (ORDER BY day);

= Window frames (ROWS, RANGE)
SELECT sum(quantity) OVER (ORDER BY day ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM sale;
SELECT sum(quantity) OVER (ORDER BY day RANGE UNBOUNDED PRECEDING) FROM sale;

= UNION, INTERSECT, EXCEPT, with and without ALL
SELECT id FROM item UNION SELECT item_id FROM sale;
SELECT id FROM item INTERSECT ALL SELECT item_id FROM sale;
SELECT id FROM item EXCEPT SELECT item_id FROM sale;

= WITH
WITH big AS (SELECT * FROM sale WHERE quantity > 10) SELECT count(*) FROM big;

= WITH RECURSIVE
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n;

= WITH that changes data
WITH gone AS (DELETE FROM sale WHERE quantity = -1 RETURNING *) SELECT count(*) FROM gone;

= Subqueries: scalar, IN, EXISTS, ANY, ALL, correlated
SELECT (SELECT max(quantity) FROM sale WHERE item_id = id) FROM item;
SELECT id FROM item WHERE id IN (SELECT item_id FROM sale) AND EXISTS (SELECT FROM sale WHERE item_id = id);
SELECT id FROM item WHERE id = ANY (SELECT item_id FROM sale) AND id <= ALL (SELECT item_id FROM sale);

= VALUES, TABLE
VALUES (1, 'a'), (2, 'b');
TABLE item;

= FOR UPDATE, FOR SHARE, NOWAIT, SKIP LOCKED
SELECT * FROM item WHERE id = 1 FOR UPDATE;
SELECT * FROM item WHERE id = 1 FOR SHARE NOWAIT;
SELECT * FROM item FOR UPDATE SKIP LOCKED;

= TABLESAMPLE
SELECT * FROM item TABLESAMPLE SYSTEM (10);

= SELECT INTO
SELECT id INTO copied FROM item;

= Functions in FROM, WITH ORDINALITY
SELECT * FROM generate_series(1, 3) AS n;
SELECT * FROM unnest(ARRAY['a', 'b']) WITH ORDINALITY;

## Expressions
= CASE, COALESCE, NULLIF, GREATEST, LEAST
SELECT CASE WHEN id > 1 THEN 'b' ELSE 'a' END, coalesce(price, 0), nullif(id, 1), greatest(1, 2), least(1, 2) FROM item;

= CAST and ::
SELECT CAST('1' AS int), '2024-02-29'::date, 1::text;

= LIKE, ILIKE, regular expressions
SELECT name LIKE 'n%', name ILIKE 'N%', name ~ '^n', name !~* 'X' FROM item;

= SIMILAR TO
SELECT 'abc' SIMILAR TO 'a(b|c)*';

= BETWEEN, IN, IS DISTINCT FROM, IS TRUE
SELECT 1 BETWEEN 0 AND 2, 1 IN (1, 2), NULL IS DISTINCT FROM 1, true IS NOT FALSE;

= BETWEEN SYMMETRIC
SELECT 2 BETWEEN SYMMETRIC 3 AND 1, 2 NOT BETWEEN SYMMETRIC 1 AND 3;

= Named arguments
SELECT make_interval(days => 10, hours => 2);

= Row values
SELECT (1, 2) < (1, 3), ROW(1, 2) = ROW(1, 2);

= Arrays: ARRAY[], subscripts, ANY
SELECT ARRAY[1, 2, 3], (ARRAY[1, 2])[1], 2 = ANY (ARRAY[1, 2]), ARRAY(SELECT id FROM item);

= Array slices
SELECT (ARRAY[1, 2, 3])[1:2];

= JSON operators
SELECT doc -> 'a', doc ->> 'a', doc @> '{"a": 1}', doc #> '{a}', doc ? 'a' FROM item;

= JSON path
SELECT jsonb_path_query('{"a": 1}', '$.a');

= EXTRACT, AT TIME ZONE, INTERVAL
SELECT extract(year FROM now()), now() AT TIME ZONE 'UTC', interval '1 day 2 hours';

= SUBSTRING, POSITION, TRIM, OVERLAY
SELECT substring('abc' FROM 2), position('b' IN 'abc'), trim(both ' ' FROM ' a '), overlay('abc' PLACING 'x' FROM 2);

= COLLATE
SELECT 'a' COLLATE "C" < 'B';

= Full-text search
SELECT to_tsvector('a b') @@ to_tsquery('a');

## Changing data
= INSERT with VALUES, SELECT, DEFAULT
INSERT INTO item (id, name) VALUES (10, 'x'), (11, 'y');
INSERT INTO sale SELECT id, 1, '2024-03-01' FROM item WHERE id = 10;
INSERT INTO item (id, name, made) VALUES (12, 'z', DEFAULT);

= INSERT … ON CONFLICT DO NOTHING, DO UPDATE
INSERT INTO item (id, name) VALUES (1, 'again') ON CONFLICT DO NOTHING;
INSERT INTO item (id, name) VALUES (1, 'nail') ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE item.name <> excluded.name;

= UPDATE, UPDATE … FROM
UPDATE item SET price = price + 1 WHERE id = 10;
UPDATE item SET price = s.quantity FROM sale s WHERE s.item_id = item.id AND item.id = 10;

= UPDATE with a row of columns
UPDATE item SET (name, price) = ('w', 2) WHERE id = 10;

= DELETE, DELETE … USING
DELETE FROM item WHERE id = 11;
DELETE FROM sale USING item WHERE sale.item_id = item.id AND item.id = 10;

= RETURNING
INSERT INTO item (id, name) VALUES (20, 'r') RETURNING id, name;
UPDATE item SET name = 's' WHERE id = 20 RETURNING *;
DELETE FROM item WHERE id = 20 RETURNING id;

= MERGE
MERGE INTO item USING sale ON item.id = sale.item_id WHEN MATCHED THEN DELETE;

= TRUNCATE
TRUNCATE sale RESTART IDENTITY;

= COPY FROM STDIN and TO STDOUT, text, csv and binary
COPY item TO STDOUT;
COPY (SELECT id, name FROM item) TO STDOUT WITH (FORMAT csv, HEADER);
COPY item TO STDOUT WITH (FORMAT binary);
COPY sale FROM STDIN;

= COPY with a file or program on the server
COPY item TO '/tmp/item';

= Writing through views
UPDATE priced SET name = 'a' WHERE id = 1;

## Transactions
= BEGIN, COMMIT, ROLLBACK
BEGIN;
INSERT INTO sale VALUES (1, 1, now()::date);
ROLLBACK;

= SAVEPOINT, ROLLBACK TO, RELEASE
BEGIN;
SAVEPOINT a;
ROLLBACK TO SAVEPOINT a;
RELEASE SAVEPOINT a;
COMMIT;

= READ COMMITTED
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT 1;
COMMIT;

= REPEATABLE READ
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1;
COMMIT;

= SERIALIZABLE
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT 1;
COMMIT;

= READ ONLY
BEGIN READ ONLY;
SELECT 1;
COMMIT;

= COMMIT AND CHAIN
BEGIN;
COMMIT AND CHAIN;
ROLLBACK;

= LOCK TABLE
BEGIN;
LOCK TABLE item IN SHARE MODE;
COMMIT;

= PREPARE TRANSACTION (two-phase commit)
BEGIN;
PREPARE TRANSACTION 'x';

= Advisory locks
SELECT pg_advisory_lock(1);

## Tables
= CREATE TABLE with defaults, NOT NULL, CHECK, UNIQUE, PRIMARY KEY
CREATE TABLE t1 (a int PRIMARY KEY, b text NOT NULL DEFAULT 'x', c int CHECK (c > 0), UNIQUE (b, c));

= CREATE TABLE IF NOT EXISTS, LIKE
CREATE TABLE IF NOT EXISTS t1 (a int);
CREATE TABLE t2 (LIKE t1);

= CREATE TABLE (LIKE … INCLUDING ALL)
CREATE TABLE t2c (LIKE t1 INCLUDING ALL);

= CREATE TABLE AS
CREATE TABLE t3 AS SELECT id, name FROM item;

= serial, GENERATED … AS IDENTITY
CREATE TABLE t4 (a serial, b int GENERATED ALWAYS AS IDENTITY, c bigint GENERATED BY DEFAULT AS IDENTITY);

= Generated columns
CREATE TABLE t5 (a int, b int GENERATED ALWAYS AS (a * 2) STORED);

= FOREIGN KEY, actions, MATCH FULL
CREATE TABLE t6 (a int REFERENCES item (id), b int, FOREIGN KEY (b) REFERENCES item MATCH FULL ON DELETE CASCADE ON UPDATE SET NULL);
ALTER TABLE t6 ADD CONSTRAINT again FOREIGN KEY (b) REFERENCES item ON DELETE SET DEFAULT;
DROP TABLE t6;

= Deferrable foreign keys
CREATE TABLE t6 (a int REFERENCES item DEFERRABLE INITIALLY DEFERRED);

= EXCLUDE constraints
CREATE TABLE t6 (a int, EXCLUDE USING gist (a WITH =));

= Deferrable constraints
CREATE TABLE t6 (a int UNIQUE DEFERRABLE);

= Temporary tables
CREATE TEMP TABLE t7 (a int);

= Unlogged tables
CREATE UNLOGGED TABLE t7 (a int);

= Partitioned tables
CREATE TABLE t7 (a int) PARTITION BY RANGE (a);

= Inheritance
CREATE TABLE t7 (x int) INHERITS (t1);

= ALTER TABLE: add, drop and rename columns
ALTER TABLE t1 ADD COLUMN d int DEFAULT 5;
ALTER TABLE t1 RENAME COLUMN d TO e;
ALTER TABLE t1 DROP COLUMN e;

= ALTER TABLE: type, default, NOT NULL
ALTER TABLE t1 ALTER COLUMN c TYPE bigint;
ALTER TABLE t1 ALTER COLUMN b SET DEFAULT 'y';
ALTER TABLE t1 ALTER COLUMN b DROP NOT NULL;

= ALTER TABLE: constraints
ALTER TABLE t1 ADD CONSTRAINT positive CHECK (a > 0);
ALTER TABLE t1 DROP CONSTRAINT positive;
ALTER TABLE t3 ADD PRIMARY KEY (id);

= ALTER TABLE: rename, owner
ALTER TABLE t2 RENAME TO t2b;
ALTER TABLE t2b OWNER TO clerk;

= DROP TABLE, CASCADE
DROP TABLE t2b;
DROP TABLE IF EXISTS nothing CASCADE;

= COMMENT ON
COMMENT ON TABLE item IS 'things';
COMMENT ON COLUMN item.name IS 'what it is called';

## Indexes
= CREATE INDEX, several columns, DESC, NULLS FIRST
CREATE INDEX item_name ON item (name, price DESC NULLS FIRST);

= CREATE UNIQUE INDEX
CREATE UNIQUE INDEX item_unique ON item (name, id);

= CREATE INDEX CONCURRENTLY
CREATE INDEX CONCURRENTLY item_price ON item (price);

= Index on an expression
CREATE INDEX item_upper ON item (upper(name));

= Partial index
CREATE INDEX item_cheap ON item (price) WHERE price < 1;

= INCLUDE
CREATE INDEX item_cover ON item (name) INCLUDE (price);

= Other methods: hash, gin, gist, brin
CREATE INDEX item_doc ON item USING gin (doc);

= DROP INDEX, ALTER INDEX … RENAME
ALTER INDEX item_name RENAME TO item_name_price;
DROP INDEX item_name_price;

= REINDEX
REINDEX TABLE item;

## Other objects
= Views
CREATE VIEW cheap AS SELECT * FROM item WHERE price < 1;
CREATE OR REPLACE VIEW cheap AS SELECT * FROM item WHERE price < 2;
DROP VIEW cheap;

= Materialized views
CREATE MATERIALIZED VIEW m AS SELECT 1;

= Sequences
CREATE SEQUENCE s INCREMENT BY 5 START 10;
SELECT nextval('s'), currval('s'), setval('s', 100);
ALTER SEQUENCE s RESTART;
DROP SEQUENCE s;

= Schemas
CREATE SCHEMA app;
CREATE TABLE app.t (a int);
DROP SCHEMA app CASCADE;

= Databases
CREATE DATABASE other;
DROP DATABASE other;

= Roles and passwords
CREATE ROLE writer LOGIN PASSWORD 'secret';
ALTER ROLE writer NOLOGIN;
GRANT writer TO clerk;
DROP ROLE writer;

= GRANT, REVOKE on tables
GRANT SELECT, INSERT ON item TO clerk;
REVOKE ALL ON item FROM clerk;

= Privileges on columns
GRANT SELECT (id) ON item TO clerk;

= Row-level security
ALTER TABLE item ENABLE ROW LEVEL SECURITY;

= Functions and procedures
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';

= DO blocks
DO $$ BEGIN END $$;

= Triggers
CREATE TRIGGER t BEFORE INSERT ON item EXECUTE FUNCTION f();

= Enumerated types
CREATE TYPE mood AS ENUM ('sad', 'happy');

= Composite types
CREATE TYPE pair AS (a int, b int);

= Domains
CREATE DOMAIN positive AS int CHECK (VALUE > 0);

= Extensions
CREATE EXTENSION hstore;

## Sessions and tools
= PREPARE, EXECUTE, DEALLOCATE
PREPARE p (int) AS SELECT $1 + 1;
EXECUTE p (1);
DEALLOCATE p;

= DECLARE, FETCH, CLOSE
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM item;
FETCH 2 FROM c;
CLOSE c;
COMMIT;

= MOVE
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM item;
MOVE 1 FROM c;
COMMIT;

= Scrollable cursors
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM item;
COMMIT;

= Cursors WITH HOLD
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT id FROM item;
COMMIT;

= SET, SET LOCAL, SHOW, RESET
SET statement_timeout = '5s';
SHOW statement_timeout;
RESET statement_timeout;
SHOW ALL;

= SET ROLE, SET SESSION AUTHORIZATION
SET ROLE clerk;

= DISCARD
DISCARD ALL;

= EXPLAIN, EXPLAIN ANALYZE
EXPLAIN SELECT * FROM item WHERE id = 1;
EXPLAIN (ANALYZE, COSTS off) SELECT * FROM item;

= EXPLAIN (FORMAT json)
EXPLAIN (FORMAT json) SELECT * FROM item;

= ANALYZE
ANALYZE item;

= VACUUM
VACUUM item;

= CHECKPOINT
CHECKPOINT;

= LISTEN, NOTIFY
LISTEN channel;

= pg_catalog and information_schema
SELECT relname FROM pg_catalog.pg_class WHERE relname = 'item';
SELECT column_name FROM information_schema.columns WHERE table_name = 'item';
