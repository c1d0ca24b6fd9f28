-- An entry's deadline: '' where it has none, false where it is missing. ARGV: field.
local field = ARGV[1]
if call('HEXISTS', values, field) == 0 then return false end
local score = call('ZSCORE', deadlines, field)
if not score then return '' end
return tonumber(score) > now() and score
