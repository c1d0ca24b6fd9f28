-- The number of writes so far.
return call('HGET', state, 'writes') or '0'
