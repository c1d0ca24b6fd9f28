-- Writes one entry if a condition holds; returns 1, or 0 where it does not.
-- ARGV: caller, number, field, text, ttl (seconds, 'inf' or 'keep'), ttl of a new entry,
-- condition ('', 'absent', 'present' or '=' and the text that is there), form, limits of entries
-- and of bytes.
if is_repeated then return 1 end
local field, text, ttl, condition = ARGV[3], ARGV[4], ARGV[5], ARGV[7]
local held = entry_size(field)
local deadline = held > 0 and deadline_of(field)
local is_expired = deadline and deadline <= now()
local is_new = held == 0 or is_expired
if condition ~= '' then
  if condition == 'absent' then
    if not is_new then return 0 end
  elseif is_new then
    return 0
  elseif condition ~= 'present' and '=' .. call('HGET', values, field) ~= condition then
    return 0
  end
end

local bytes = #field + #text
local live = is_new and 0 or held
local refusal = exceeded(is_new and 1 or 0, bytes - live, ARGV[9], ARGV[10])
if refusal then return refusal end

if is_new then next_place() end
begin(bytes - held)
if is_expired then call('HINCRBY', state, 'expired', 1) end
call('HSET', values, field, text)
if is_new then
  call('ZADD', order, place, field)
  if ARGV[8] ~= '' then
    call('HSET', forms, field, ARGV[8])
  elseif is_expired then
    call('HDEL', forms, field)
  end
end
if ttl == 'keep' then ttl = is_new and ARGV[6] end
if ttl and (deadline or ttl ~= 'inf') then set_deadline(field, deadline_after(ttl)) end
tidy()
return 1
