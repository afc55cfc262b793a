\d+ customers
\d+ big_customers
