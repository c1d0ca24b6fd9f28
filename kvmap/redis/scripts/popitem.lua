-- Removes the entry at one end of the order; returns its key and text, a zero byte between them;
-- false where there is none, '' where only expired entries were met so far.
-- ARGV: caller, number, 'first' or 'last'.
if is_repeated then return kept_answer() end
for _ = 1, 1000 do
  local field = call(ARGV[3] == 'first' and 'ZRANGE' or 'ZREVRANGE', order, 0, 0)[1]
  if not field then return false end
  local text = call('HGET', values, field)
  if text and not has_expired(field) then
    local answer = written_form(field) .. '\0' .. text
    remove({field})
    begin(-#field - #text, answer)
    tidy()
    return answer
  end
  local size = entry_size(field)
  remove({field})
  call('HINCRBY', state, 'bytes', -size)
  call('HINCRBY', state, 'expired', 1)
end
return ''
