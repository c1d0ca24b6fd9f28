-- The texts of entries, each followed by a zero byte; nothing before it where one is missing.
-- ARGV: fields.
local texts = {}
local any_deadlines = call('EXISTS', deadlines) == 1
for first = 1, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  local part = call('HMGET', values, unpack(ARGV, first, last))
  for i = first, last do
    local text = part[i - first + 1]
    if text and any_deadlines and has_expired(ARGV[i]) then text = false end
    texts[i] = text or ''
  end
end
return table.concat(texts, '\0') .. '\0'
