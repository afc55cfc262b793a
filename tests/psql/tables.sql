\d
\dt
\dt sales.*
\dt customers
\dt missing
