-- Removes entries; returns how many were there. ARGV: caller, number, fields.
if is_repeated then return kept_answer() end
local any_deadlines = call('EXISTS', deadlines) == 1
local count, bytes = 0, 0
local fields = {}
for i = 3, #ARGV do
  local size = entry_size(ARGV[i])
  if size > 0 and not (any_deadlines and has_expired(ARGV[i])) then
    fields[#fields + 1] = ARGV[i]
    bytes = bytes + size
  end
end
for first = 1, #fields, 1000 do
  remove({unpack(fields, first, math.min(first + 999, #fields))})
end
if #fields > 0 then begin(-bytes, tostring(#fields)) end
tidy()
return tostring(#fields)
