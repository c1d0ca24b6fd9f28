-- Stands before every script. KEYS are the five keys of one partition. A field is a key's JSON
-- text in the one form that equal keys share; `forms` holds the text as first written where it
-- differs. An entry is in `values` and `order`, and in `deadlines` where it has a deadline.
local values, order, deadlines, forms, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call = redis.call

local clock
local function now()
  if not clock then
    local time = call('TIME')
    clock = time[1] + time[2] / 1000000
  end
  return clock
end

local function deadline_of(field)
  local score = call('ZSCORE', deadlines, field)
  return score and tonumber(score)
end

local function has_expired(field)
  local deadline = deadline_of(field)
  return deadline and deadline <= now()
end

-- The text of an entry that has not expired, or false.
local function live_text(field)
  local text = call('HGET', values, field)
  return text and not has_expired(field) and text
end

local function count_live()
  local count = call('HLEN', values)
  if count == 0 then return 0 end
  return count - call('ZCOUNT', deadlines, '-inf', now())
end

-- The key's text as it was first written.
local function written_form(field)
  return call('HGET', forms, field) or field
end

-- A JSON array of keys, as they were first written.
local function json_array(fields)
  if #fields == 0 then return '[]' end
  if call('EXISTS', forms) == 1 then
    local found = call('HMGET', forms, unpack(fields))
    for i = 1, #fields do fields[i] = found[i] or fields[i] end
  end
  return '[' .. table.concat(fields, ',') .. ']'
end
