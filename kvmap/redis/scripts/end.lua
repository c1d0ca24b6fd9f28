-- The place of the first or the last entry in the order; false where there is none. ARGV: which.
return call(ARGV[1] == 'first' and 'ZRANGE' or 'ZREVRANGE', order, 0, 0, 'WITHSCORES')[2]
