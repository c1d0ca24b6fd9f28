-- Deletes and writes entries if what a transaction has read is still so.
-- ARGV: caller, number, limits of entries and of bytes, the number of writes that was seen ('' for
-- none); then, each after its count: fields and texts that were seen ('' for a missing one); fields
-- to delete; field, text, deadline ('inf' for none) and form of each entry to write.
if is_repeated then return 1 end
local at = 5
local function take()
  at = at + 1
  return ARGV[at]
end

if ARGV[5] ~= '' and (found[2] or '0') ~= ARGV[5] then
  return redis.error_reply('KVMAPCONFLICT')
end
for _ = 1, tonumber(take()) do
  local field, text = take(), take()
  if (live_text(field) or '') ~= text then return redis.error_reply('KVMAPCONFLICT ' .. field) end
end

local bytes, entries, expired_bytes = 0, 0, 0
local deleted, fields, written = {}, {}, {}

local function delete(field)
  local size = entry_size(field)
  if size == 0 or deleted[field] then return end
  deleted[field] = true
  fields[#fields + 1] = field
  bytes = bytes - size
  if has_expired(field) then
    expired_bytes = expired_bytes + size
  else
    entries = entries - 1
  end
end

for _ = 1, tonumber(take()) do delete(take()) end
for _ = 1, tonumber(take()) do
  local each = {field = take(), text = take(), deadline = take(), form = take()}
  if each.deadline ~= 'inf' and tonumber(each.deadline) <= now() then
    delete(each.field)
  else
    local held = deleted[each.field] and 0 or entry_size(each.field)
    local is_expired = held > 0 and has_expired(each.field)
    each.is_new = held == 0 or is_expired
    if is_expired then expired_bytes = expired_bytes + held end
    if each.is_new then entries = entries + 1 end
    bytes = bytes + #each.field + #each.text - held
    written[#written + 1] = each
  end
end
local refusal = exceeded(entries, bytes + expired_bytes, ARGV[3], ARGV[4])
if refusal then return refusal end
if #fields == 0 and #written == 0 then return 1 end

-- Without anything to add, a server without memory to spare lets the entries be removed.
if #written > 0 then begin(bytes) end
for first = 1, #fields, 1000 do
  remove({unpack(fields, first, math.min(first + 999, #fields))})
end
if #written == 0 then begin(bytes) end
for _, each in ipairs(written) do
  write(each.field, each.text, each.is_new, each.form)
  set_deadline(each.field, each.deadline ~= 'inf' and each.deadline or nil)
end
call('HSET', state, 'place', place)
tidy()
return 1
