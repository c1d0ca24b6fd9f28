-- Removes all entries. ARGV: caller, number.
if is_repeated then return 1 end
call('UNLINK', values, order, deadlines, forms)
found[4] = 0
begin(0)
return 1
