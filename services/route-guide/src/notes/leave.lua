-- Appends a note at a point and returns the earlier ones, oldest first: one round trip, one key.
-- KEYS: the point. ARGV: the entry (its id and the note), maximum entries, milliseconds until expiry.
local key, entry, most, expire = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local at = redis.call('LPOS', key, entry)
if at == 0 then
    return {}
elseif at then
    -- An earlier attempt came this far, and its answer was lost. What it dropped is gone.
    return redis.call('LRANGE', key, 0, at - 1)
end
local earlier = redis.call('LRANGE', key, -most, -1)
redis.call('RPUSH', key, entry)
redis.call('LTRIM', key, -most, -1)
redis.call('PEXPIRE', key, expire)
return earlier
