-- Whether an entry is there: 1 or 0. ARGV: field.
if call('HEXISTS', values, ARGV[1]) == 0 or has_expired(ARGV[1]) then return 0 end
return 1
