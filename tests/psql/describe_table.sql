\d customers
\d sales.orders
