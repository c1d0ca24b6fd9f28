-- The next entries in the order: their places and their keys, as JSON arrays, and with their texts,
-- each followed by a zero byte. Before these, the last place that was looked at; '' at the end.
-- ARGV: 'up' or 'down', the place after which to begin ('' for the first page), the most entries,
-- the bytes of texts after which to stop ('' for no texts).
local is_up, after, most = ARGV[1] == 'up', ARGV[2], ARGV[3]
local found
if is_up then
  found = call('ZRANGEBYSCORE', order, after == '' and '-inf' or '(' .. after, '+inf',
    'WITHSCORES', 'LIMIT', 0, most)
else
  found = call('ZREVRANGEBYSCORE', order, after == '' and '+inf' or '(' .. after, '-inf',
    'WITHSCORES', 'LIMIT', 0, most)
end
if #found == 0 then return false end

local fields, places = {}, {}
local any_deadlines = call('EXISTS', deadlines) == 1
for i = 1, #found, 2 do
  if not (any_deadlines and has_expired(found[i])) then
    fields[#fields + 1] = found[i]
    places[#places + 1] = found[i + 1]
  end
end
local last = #found < 2 * most and '' or found[#found]

local bytes_wanted = ARGV[4]
if bytes_wanted == '' then
  return {last, '[' .. table.concat(places, ',') .. ']', json_array(fields)}
end

-- Few texts at first, then twice as many each time, so that large ones do not add up.
local texts, bytes, done, step = {}, 0, 0, 1
while done < #fields and bytes < tonumber(bytes_wanted) do
  local upto = math.min(done + step, #fields)
  local part = call('HMGET', values, unpack(fields, done + 1, upto))
  for i = 1, #part do
    texts[done + i] = part[i] or ''
    bytes = bytes + #texts[done + i]
  end
  done, step = upto, step * 2
end
if done < #fields then
  last = places[done]
  for i = #fields, done + 1, -1 do fields[i], places[i] = nil, nil end
end
if done == 0 then return {last, '[]', '[]', ''} end
return {last, '[' .. table.concat(places, ',') .. ']', json_array(fields),
  table.concat(texts, '\0') .. '\0'}
