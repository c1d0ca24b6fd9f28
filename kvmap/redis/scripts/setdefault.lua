-- Writes an entry where the key is missing; returns the text that is there afterwards.
-- ARGV: caller, number, field, text, ttl, form, limits of entries and of bytes.
local field, text = ARGV[3], ARGV[4]
if is_repeated then return text end
local there = live_text(field)
if there then return there end
local held = entry_size(field)
local bytes = #field + #text
local refusal = exceeded(1, bytes, ARGV[7], ARGV[8])
if refusal then return refusal end
begin(bytes - held)
if held > 0 then call('HINCRBY', state, 'expired', 1) end
write(field, text, true, ARGV[6])
call('HSET', state, 'place', place)
set_deadline(field, deadline_after(ARGV[5]))
tidy()
return text
