begin;
insert into sales.orders (customer, amount) values (1, 2.5) returning id, active;
savepoint s;
delete from sales.orders;
rollback to s;
select count(*) from sales.orders;
rollback;
select count(*) from sales.orders;
\set AUTOCOMMIT off
insert into sales.orders (customer) values (7);
rollback;
\set AUTOCOMMIT on
select count(*) from sales.orders;
