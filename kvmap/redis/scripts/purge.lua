-- Removes some of what has expired: whether there may be more, and how many expired entries were
-- removed, by any write, since the last purge. ARGV: caller, number.
local is_done = sweep(1000) < 1000
local count = 0
if is_done then
  count = tonumber(call('HGET', state, 'expired') or 0)
  if count > 0 then call('HDEL', state, 'expired') end
end
return {is_done and 1 or 0, count}
