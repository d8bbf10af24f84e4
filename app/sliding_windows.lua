-- KEYS[1]: where the windows of one name are kept. ARGV[1]: the cost, then amount and seconds of each limit.
-- Counts the cost in every window when all have room, else in none. A cost below zero gives back, one of zero looks.
-- Gives 1 or 0, then for each limit: the count before, the running count, the running window's age in milliseconds.
-- One text each way: packing and unpacking numbers one by one would cost the proxy more than the turn itself.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local numbers = {}
for number in string.gmatch(ARGV[1], '%S+') do
    numbers[#numbers + 1] = tonumber(number)
end
local cost = numbers[1]

local fields, limits = {}, {}
for i = 2, #numbers, 2 do
    limits[#limits + 1] = { amount = numbers[i], length = numbers[i + 1] * 1000 }
    fields[#fields + 1] = #limits .. ':' .. numbers[i + 1]
end

local kept = redis.call('HMGET', KEYS[1], unpack(fields))
local admitted, longest = 1, 0
for i, limit in ipairs(limits) do
    local begun, previous, current = string.match(kept[i] or '', '^(%d+) (%d+) (%d+)$')
    begun, previous, current = tonumber(begun) or now, tonumber(previous) or 0, tonumber(current) or 0
    local age = math.max(0, now - begun) -- the server's clock may have been set back
    if age >= 2 * limit.length then
        begun, previous, current, age = now, 0, 0, 0
    elseif age >= limit.length then
        begun, previous, current, age = begun + limit.length, current, 0, age - limit.length
    end
    local used = math.floor(previous * (limit.length - age) / limit.length) + current
    if cost > 0 and used + cost > limit.amount then
        admitted = 0
    end
    limit.begun, limit.previous, limit.current, limit.age = begun, previous, current, age
    longest = math.max(longest, limit.length)
end

local change, answer = {}, tostring(admitted)
for i, limit in ipairs(limits) do
    local current = math.max(0, limit.current + cost * admitted)
    change[2 * i - 1] = fields[i]
    change[2 * i] = string.format('%d %d %d', limit.begun, limit.previous, current)
    answer = answer .. string.format(' %d %d %d', limit.previous, current, limit.age)
end
if admitted == 1 and cost ~= 0 then
    redis.call('HSET', KEYS[1], unpack(change))
    redis.call('PEXPIRE', KEYS[1], 2 * longest)
end
return answer
