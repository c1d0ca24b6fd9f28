-- Writes entries; returns the place in the order from which those of new entries count.
-- ARGV: caller, number, ttl ('each': see below), ttl of a new entry, limits of entries and of bytes, the count of
-- entries, that place ('' for the next), and the distance of each entry from it, as a JSON array (''
-- for 1, 2, 3, …); a field and a text for each entry; with 'each', the deadline of each entry ('inf'
-- for none); then a field and a form for each key whose first written form differs.
if is_repeated then return kept_answer() end
local ttl, count, base = ARGV[3], tonumber(ARGV[7]), tonumber(ARGV[8])
local distances = ARGV[9] ~= '' and cjson.decode(ARGV[9])
local start, last = 10, 9 + 2 * count
local any_deadlines = call('EXISTS', deadlines) == 1
local any_entries = call('EXISTS', values) == 1
local new = {}  -- indexes of the entries that are new
local bytes, held_bytes, expired = 0, 0, 0

-- What is there of one entry that has a place in the order.
local function look_at(i)
  local field = ARGV[i]
  local held = entry_size(field)
  bytes = bytes - held
  if held > 0 and not (any_deadlines and has_expired(field)) then return end
  new[#new + 1] = i
  if held > 0 then
    expired = expired + 1
    held_bytes = held_bytes + held
  end
end

for i = start, last do bytes = bytes + #ARGV[i] end
if not any_entries then
  local number = 0
  for i = start, last, 2 do
    number = number + 1
    new[number] = i
  end
else
  for first = start, last, 2000 do
    local upto = math.min(first + 1999, last)
    local fields = {}
    for i = first, upto, 2 do fields[#fields + 1] = ARGV[i] end
    local found_places = call('ZMSCORE', order, unpack(fields))
    for i = first, upto, 2 do
      if found_places[(i - first) / 2 + 1] then look_at(i) else new[#new + 1] = i end
    end
  end
end
local refusal = exceeded(#new, bytes + held_bytes, ARGV[5], ARGV[6])
if refusal then return refusal end

-- Each new entry's place: behind all others of this partition.
base = base or last_place()
local places = {}
for number = 1, #new do
  local index = (new[number] - start) / 2 + 1
  local wanted = base + (distances and distances[index] or index)
  place = wanted > place and wanted or place + 1
  places[number] = place
end
local answer = string.format('%.0f', base)
begin(bytes, answer)
if expired > 0 then call('HINCRBY', state, 'expired', expired) end

for first = start, last, 2000 do
  call('HSET', values, unpack(ARGV, first, math.min(first + 1999, last)))
end

-- Calls a command with some of these entries at a time, each after what `before` has for it.
local function for_each(command, key, indexes, before)
  for first = 1, #indexes, 1000 do
    local arguments, size = {}, 0
    for number = first, math.min(first + 999, #indexes) do
      if before then
        size = size + 1
        arguments[size] = before[number] or before.all
      end
      size = size + 1
      arguments[size] = ARGV[indexes[number]]
    end
    call(command, key, unpack(arguments, 1, size))
  end
end

for_each('ZADD', order, new, places)
if call('EXISTS', forms) == 1 then for_each('HDEL', forms, new) end
local timed, moments, untimed = {}, {}, {}
if ttl == 'each' then
  for i = start, last, 2 do
    local moment = ARGV[last + 1 + (i - start) / 2]
    if moment == 'inf' then
      untimed[#untimed + 1] = i
    else
      timed[#timed + 1], moments[#moments + 1] = i, moment
    end
  end
else
  local all = new
  if ttl ~= 'keep' then
    all = {}
    for i = start, last, 2 do all[#all + 1] = i end
  end
  moments.all = deadline_after(ttl == 'keep' and ARGV[4] or ttl)
  if moments.all then timed = all else untimed = all end
end
for_each('ZADD', deadlines, timed, moments)
if any_deadlines then for_each('ZREM', deadlines, untimed) end
local rest = last + 1 + (ttl == 'each' and count or 0)
if rest <= #ARGV then
  local is_new = {}
  for number = 1, #new do is_new[ARGV[new[number]]] = true end
  for i = rest, #ARGV, 2 do
    if is_new[ARGV[i]] then call('HSET', forms, ARGV[i], ARGV[i + 1]) end
  end
end
tidy()
return answer
