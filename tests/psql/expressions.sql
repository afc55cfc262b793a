-- Differs from PostgreSQL: expressions and views are shown as they were written, not as they were analysed.
\d expressions
\d+ big_customers
