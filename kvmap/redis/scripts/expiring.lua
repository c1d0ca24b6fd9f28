-- Entries that expire within so many seconds, soonest first: the server's time, their keys as a
-- JSON array, their texts each followed by a zero byte.
-- ARGV: seconds, the time of the first page ('' for the first), how many to pass over, the most.
local from = ARGV[2] == '' and now() or tonumber(ARGV[2])
local fields = call('ZRANGEBYSCORE', deadlines, string.format('(%.17g', from),
  from + tonumber(ARGV[1]), 'LIMIT', ARGV[3], ARGV[4])
local text = ''
if #fields > 0 then
  local texts = call('HMGET', values, unpack(fields))
  for i = 1, #texts do texts[i] = texts[i] or '' end
  text = table.concat(texts, '\0') .. '\0'
end
return {string.format('%.17g', from), json_array(fields), text}
