\df
\df md5
\df repeat
