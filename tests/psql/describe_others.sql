\d customers_pkey
\d sales.orders_customer
\d big_customers
\d counter
\d missing
