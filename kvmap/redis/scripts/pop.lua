-- Removes an entry; returns its text, or false where it is missing. ARGV: caller, number, field.
if is_repeated then return kept_answer() end
local field = ARGV[3]
local text = live_text(field)
if text then
  remove({field})
  begin(-#field - #text, text)
end
tidy()
return text
