-- Removes all entries. ARGV: caller, number.
if is_repeated then return 1 end
call('UNLINK', values, order, deadlines, forms)
begin(-(found[4] or 0))
return 1
