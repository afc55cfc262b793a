\copy customers (id, name, balance, note) to stdout
\copy (select id, name, note from customers order by id) to 'out.csv' with (format csv, header)
\! cat out.csv
create table copied (id int, name text, note text);
\copy copied from 'out.csv' with (format csv, header)
select * from copied order by id;
\copy copied from stdin
4	four	\N
5	fi\tve	a\\b
\.
select id, name, note is null as missing from copied where id > 3 order by id;
copy copied to stdout with (delimiter ',', null 'none');
\copy copied from stdin
6	six	x	y
\.
drop table copied;
