\d+ customers
