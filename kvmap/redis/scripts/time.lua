-- The server's time in Unix seconds.
return string.format('%.6f', now())
