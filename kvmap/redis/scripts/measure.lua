-- Figures about the next entries in the order: the last place, the lengths of the texts and the
-- deadlines ('inf' for none) as lists with commas, the bytes of the keys. ARGV: place, most.
local found = call('ZRANGEBYSCORE', order, ARGV[1] == '' and '-inf' or '(' .. ARGV[1], '+inf',
  'WITHSCORES', 'LIMIT', 0, ARGV[2])
if #found == 0 then return false end
local lengths, ends, bytes = {}, {}, 0
for i = 1, #found, 2 do
  local field = found[i]
  if not has_expired(field) then
    lengths[#lengths + 1] = call('HSTRLEN', values, field)
    ends[#ends + 1] = call('ZSCORE', deadlines, field) or 'inf'
    bytes = bytes + #field
  end
end
return {found[#found], table.concat(lengths, ','), table.concat(ends, ','), bytes}
