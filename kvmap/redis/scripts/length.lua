-- The number of entries that have not expired.
return count_live()
