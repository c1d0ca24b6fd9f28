-- The deadlines of entries, each followed by a zero byte: 'inf' for none, nothing before it where the
-- entry is missing. ARGV: fields.
local found = {}
for first = 1, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  local places = call('ZMSCORE', order, unpack(ARGV, first, last))
  local scores = call('ZMSCORE', deadlines, unpack(ARGV, first, last))
  for i = first, last do
    local score = scores[i - first + 1] or 'inf'
    if not places[i - first + 1] or tonumber(score) <= now() then score = '' end
    found[i] = score
  end
end
return table.concat(found, '\0') .. '\0'
