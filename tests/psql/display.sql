select 1 as int, 1.50 as numeric, 'x' as text, true as bool, null as none;
\pset null '(none)'
select null::int as a, ''::text as b;
\x on
select id, name, note from customers order by id limit 2;
\x off
select id, name from customers order by id \gdesc
select 41 + 1 as answer \gset
\echo :answer
\set name Ada
select id from customers where name = :'name';
select 'multi
line' as text, 'ünïcödé' as wide;
select count(*) from customers where false;
\t on
\a
select id, name from customers order by id;
