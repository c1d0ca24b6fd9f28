-- Writes entries. ARGV: caller, number, ttl, ttl of a new entry, limits of entries and of bytes, the
-- count of entries, a field and a text for each; then a field and a form for each key whose first
-- written form differs.
if is_repeated then return 1 end
local ttl, count = ARGV[3], tonumber(ARGV[7])
local last = 7 + 2 * count
local any_deadlines = call('EXISTS', deadlines) == 1
local new, bytes, held_bytes, expired = {}, 0, 0, 0
for i = 8, last, 2 do
  local field = ARGV[i]
  local held = entry_size(field)
  bytes = bytes + #field + #ARGV[i + 1]
  if held == 0 then
    new[field] = true
  elseif any_deadlines and has_expired(field) then
    new[field] = true
    expired = expired + 1
    bytes = bytes - held
    held_bytes = held_bytes + held
  else
    bytes = bytes - held
  end
end
local news = 0
for _ in pairs(new) do news = news + 1 end
local refusal = exceeded(news, bytes + held_bytes, ARGV[5], ARGV[6])
if refusal then return refusal end

if news > 0 then
  next_place()
  place = place + news
end
begin(bytes)
if expired > 0 then call('HINCRBY', state, 'expired', expired) end

local at = place - news
for first = 8, last, 2000 do
  local upto = math.min(first + 1999, last)
  call('HSET', values, unpack(ARGV, first, upto))
  local places, fields, some_forms = {}, {}, call('EXISTS', forms) == 1
  for i = first, upto, 2 do
    local field = ARGV[i]
    fields[#fields + 1] = field
    if new[field] then
      at = at + 1
      places[#places + 1] = at
      places[#places + 1] = field
      if some_forms then call('HDEL', forms, field) end
    end
  end
  if #places > 0 then call('ZADD', order, unpack(places)) end
  if ttl == 'keep' then
    local deadline = deadline_after(ARGV[4])
    for _, field in ipairs(fields) do
      if new[field] and (deadline or any_deadlines) then set_deadline(field, deadline) end
    end
  elseif ttl ~= 'inf' then
    local scores, deadline = {}, deadline_after(ttl)
    for _, field in ipairs(fields) do
      scores[#scores + 1] = deadline
      scores[#scores + 1] = field
    end
    call('ZADD', deadlines, unpack(scores))
  elseif any_deadlines then
    call('ZREM', deadlines, unpack(fields))
  end
end
for i = last + 1, #ARGV, 2 do
  if new[ARGV[i]] then call('HSET', forms, ARGV[i], ARGV[i + 1]) end
end
tidy()
return 1
