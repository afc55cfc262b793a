\di
\di sales.*
\ds
\dv
