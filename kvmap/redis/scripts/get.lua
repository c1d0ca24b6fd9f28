-- The text of one entry. ARGV: field.
return live_text(ARGV[1])
