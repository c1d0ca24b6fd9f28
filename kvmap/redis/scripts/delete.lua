-- Removes an entry; returns 1, or 0 where it is missing. ARGV: caller, number, field.
if is_repeated then return 1 end
local field = ARGV[3]
local size = entry_size(field)
local is_there = size > 0 and not has_expired(field)
if is_there then
  remove({field})
  begin(-size)
end
tidy()
return is_there and 1 or 0
