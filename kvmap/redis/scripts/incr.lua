-- Adds a whole number to one, exactly. Returns the sum's text; false where the key is missing and
-- there is no text to begin with; a list of the text that is there where this script can't add.
-- ARGV: caller, number, field, what to add ('' where it is no 64-bit integer), ttl, ttl of a new
-- entry, text of a new entry, form, limits of entries and of bytes.
if is_repeated then return kept_answer() end
local field, by, ttl = ARGV[3], ARGV[4], ARGV[5]
local text = live_text(field)
if not text then
  text = ARGV[7]
  if text == '' then return false end
  local held = entry_size(field)
  local bytes = #field + #text
  local refusal = exceeded(1, bytes, ARGV[9], ARGV[10])
  if refusal then return refusal end
  begin(bytes - held, text)
  if held > 0 then call('HINCRBY', state, 'expired', 1) end
  write(field, text, true, ARGV[8])
  call('HSET', state, 'place', place)
  set_deadline(field, deadline_after(ttl == 'keep' and ARGV[6] or ttl))
  tidy()
  return text
end
if by == '' or not string.find(text, '^%-?%d+$') then return {text} end
local sum = redis.pcall('HINCRBY', values, field, by)
if type(sum) == 'table' then
  if string.find(sum.err, 'overflow') or string.find(sum.err, 'not an integer') then
    return {text}
  end
  return sum
end
local after = call('HGET', values, field)  -- Lua's own numbers are exact up to 2^53 only
local refusal = exceeded(0, #after - #text, '', ARGV[10])
if refusal then
  call('HSET', values, field, text)
  return refusal
end
begin(#after - #text, after)
if ttl ~= 'keep' then set_deadline(field, deadline_after(ttl)) end
tidy()
return after
