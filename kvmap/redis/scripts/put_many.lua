-- Writes entries; returns the place in the order from which those of new entries count.
-- ARGV: caller, number, ttl, ttl of a new entry, limits of entries and of bytes, the count of
-- entries, that place ('' for the next), and the distance of each entry from it, as a JSON array (''
-- for 1, 2, 3, …); a field and a text for each entry; then a field and a form for each key whose
-- first written form differs.
if is_repeated then return kept_answer() end
local ttl, count, base = ARGV[3], tonumber(ARGV[7]), tonumber(ARGV[8])
local distances = ARGV[9] ~= '' and cjson.decode(ARGV[9])
local start, last = 10, 9 + 2 * count
local any_deadlines = call('EXISTS', deadlines) == 1
local new, bytes, held_bytes, expired = {}, 0, 0, 0
for i = start, last, 2 do
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

-- Each new entry's place: behind all others of this partition.
base = base or last_place()
if news > 0 then
  for i = start, last, 2 do
    if new[ARGV[i]] then
      local index = (i - start) / 2 + 1
      place = math.max(place + 1, base + (distances and distances[index] or index))
      new[ARGV[i]] = place
    end
  end
end
local answer = string.format('%.0f', base)
begin(bytes, answer)
if expired > 0 then call('HINCRBY', state, 'expired', expired) end

for first = start, last, 2000 do
  local upto = math.min(first + 1999, last)
  call('HSET', values, unpack(ARGV, first, upto))
  local places, fields, some_forms = {}, {}, call('EXISTS', forms) == 1
  for i = first, upto, 2 do
    local field = ARGV[i]
    fields[#fields + 1] = field
    if new[field] then
      places[#places + 1] = new[field]
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
return answer
