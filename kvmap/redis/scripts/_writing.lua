-- Stands before every script that writes. ARGV[1] names who calls, ARGV[2] is the number of this
-- operation, which rises from one call of the same caller to the next. `state` keeps the number of
-- each caller's last operation, and its answer, so that a repeated call changes nothing.
local caller, number = ARGV[1], ARGV[2]
local found = call('HMGET', state, caller, 'writes', 'place', 'bytes')
local is_repeated = found[1] and tonumber(found[1]) >= tonumber(number)

-- The answer to the operation that was done before.
local function kept_answer()
  local answer = found[1] == number and call('HGET', state, caller .. ':answer')
  if not answer then
    return redis.error_reply('KVMAPUNKNOWN the operation was done, its answer is lost')
  end
  return answer
end

local place = tonumber(found[3] or 0)

-- The place in the order behind which new entries go. `Script.for_many` lets several partitions go by
-- the servers' clocks.
local function last_place()
  return place
end

local function next_place()
  place = last_place() + 1
  return place
end

-- Keeps the operation's number, and its answer unless that is long, and counts it as a write. It is
-- the first command of a script that adds something: a server without memory to spare refuses a
-- script's first command, or none. A number that Lua passes on costs half a microsecond, so that
-- those which stay are left out.
local function begin(bytes, answer)
  local writes = (found[2] or 0) + 1
  if bytes == 0 and place == tonumber(found[3] or 0) then
    call('HSET', state, caller, number, 'writes', writes)
  else
    call('HSET', state, caller, number, 'writes', writes, 'place', place,
      'bytes', (found[4] or 0) + bytes)
  end
  if answer then
    if #answer <= 65536 then
      call('HSET', state, caller .. ':answer', answer)
    else
      call('HDEL', state, caller .. ':answer')
    end
  end
end

-- What an entry counts for in `bytes`; 0 where it is missing.
local function entry_size(field)
  local size = call('HSTRLEN', values, field)
  return size > 0 and size + #field or 0
end

local function remove(fields)
  call('HDEL', values, unpack(fields))
  call('ZREM', order, unpack(fields))
  call('ZREM', deadlines, unpack(fields))
  call('HDEL', forms, unpack(fields))
end

-- Removes up to `most` entries that have expired; returns how many.
local function sweep(most)
  local gone = call('ZRANGEBYSCORE', deadlines, '-inf', now(), 'LIMIT', 0, most)
  if #gone == 0 then return 0 end
  local bytes = 0
  for _, field in ipairs(gone) do bytes = bytes + entry_size(field) end
  remove(gone)
  call('HINCRBY', state, 'bytes', -bytes)
  call('HINCRBY', state, 'expired', #gone)
  return #gone
end

-- Removes a few expired entries at every 16th write, which costs the others nothing.
local function tidy()
  if (found[2] or 0) % 16 == 0 then sweep(200) end
end

-- The deadline that a time to live means; nil where there is none.
local function deadline_after(ttl)
  return ttl ~= 'inf' and now() + tonumber(ttl) or nil
end

-- Gives an entry its deadline, or none.
local function set_deadline(field, deadline)
  if deadline then
    call('ZADD', deadlines, deadline, field)
  else
    call('ZREM', deadlines, field)
  end
end

-- Writes one entry. `is_new`: it goes to the end of the order, under the key that `form` gives.
local function write(field, text, is_new, form)
  call('HSET', values, field, text)
  if is_new then
    call('ZADD', order, next_place(), field)
    if form ~= '' then
      call('HSET', forms, field, form)
    else
      call('HDEL', forms, field)
    end
  end
end

local function beyond(limit, wanted, most)
  return redis.error_reply(string.format('KVMAPLIMIT %s %d %s', limit, wanted, most))
end

-- An error where so many more entries and bytes exceed a limit ('' for no limit); else nil. What
-- has expired does not count, and is removed first where that decides.
local function exceeded(entries, bytes, most_entries, most_bytes)
  if entries > 0 and most_entries ~= '' then
    local count = count_live() + entries
    if count > tonumber(most_entries) then return beyond('entries', count, most_entries) end
  end
  if bytes > 0 and most_bytes ~= '' then
    local held = tonumber(found[4] or 0)
    if held + bytes > tonumber(most_bytes) then
      for _, field in ipairs(call('ZRANGEBYSCORE', deadlines, '-inf', now())) do
        held = held - entry_size(field)
      end
      if held + bytes > tonumber(most_bytes) then
        return beyond('store_bytes', held + bytes, most_bytes)
      end
    end
  end
end
