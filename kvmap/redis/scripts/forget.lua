-- Removes the numbers and answers of callers that were last heard of before a moment.
-- ARGV: caller, number, what begins a caller's name, the moment as an operation's number.
if call('HLEN', state) < 5 then return 0 end
local all = call('HGETALL', state)
local count = 0
for i = 1, #all, 2 do
  local name = all[i]
  if string.sub(name, 1, #ARGV[3]) == ARGV[3] and not string.find(name, ':answer$')
      and tonumber(all[i + 1]) < tonumber(ARGV[4]) then
    call('HDEL', state, name, name .. ':answer')
    count = count + 1
  end
end
return count
