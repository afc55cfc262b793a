\set VERBOSITY sqlstate
\set ON_ERROR_STOP off
\set SHOW_CONTEXT never
selec 1;
\set VERBOSITY default
select nothing from customers;
select * from customers where
  name = 5 and
  missing;
insert into customers (id, name) values (1, 'again');
insert into customers (name, created) values (null, null);
begin;
select 1/0;
select 1;
commit;
drop table if exists missing;
\echo :LAST_ERROR_SQLSTATE
