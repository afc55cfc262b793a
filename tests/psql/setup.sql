CREATE SCHEMA sales;
CREATE TABLE customers (
    id serial PRIMARY KEY,
    name varchar(40) NOT NULL,
    code char(3),
    balance numeric(12,2) DEFAULT 0 NOT NULL,
    note text,
    born date CHECK (born < created),
    created timestamptz DEFAULT now(),
    tags text[],
    UNIQUE (name, code));
CREATE TABLE sales.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer int NOT NULL,
    amount double precision,
    payload jsonb,
    active boolean DEFAULT true,
    spent interval);
CREATE INDEX orders_customer ON sales.orders (customer, amount DESC NULLS LAST);
CREATE UNIQUE INDEX customers_note ON customers (note);
CREATE VIEW big_customers AS SELECT id, name FROM customers WHERE balance > 100;
CREATE SEQUENCE counter START 5 INCREMENT 5;
CREATE ROLE clerk LOGIN;
CREATE ROLE auditor NOLOGIN;
CREATE TABLE expressions (a text DEFAULT 'abc', b numeric CHECK (b > 5), c int CHECK (c IN (1, 2)));
COMMENT ON TABLE customers IS 'People who buy';
COMMENT ON COLUMN customers.note IS 'Free text';
INSERT INTO customers (name, balance, note, born, created, tags) VALUES
    ('Ada', 12.50, 'first', '1815-12-10', '2024-01-02 03:04:05.678+00', ARRAY['a','b c']),
    ('Grace', 250, E'tab\there', '1906-12-09', '2024-02-03 00:00:00+00', NULL),
    ('Edsger', 0.01, NULL, NULL, NULL, '{}');
