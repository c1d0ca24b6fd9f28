-- Gives an entry a new deadline, or none; returns 1, or 0 where it is missing.
-- ARGV: caller, number, field, ttl.
if is_repeated then return 1 end
if not live_text(ARGV[3]) then return 0 end
begin(0)
set_deadline(ARGV[3], deadline_after(ARGV[4]))
tidy()
return 1
