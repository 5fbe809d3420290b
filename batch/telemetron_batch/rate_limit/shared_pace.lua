-- One exchange of a process with all that share its limit: it tells what became of its attempts,
-- and may ask whether one more may leave. Redis runs it as a whole, by its own clock.
--
-- The rules are those of pacing.py and climb.py, whose numbers stand before this text as a table N;
-- a test compares the two step by step. Only what an incident teaches is not worked out here: the
-- process whose probe ended it gets the facts, and sends back the lesson, for which all wait.
--
-- KEYS  the state, one packed table; departures, by permit; when answers came since the last incident
-- ARGV  the request and, in the answer, times as seconds from now (see `SharedPace._exchange`)

local STATE, LOG, ACCEPTED = KEYS[1], KEYS[2], KEYS[3]
local ask = cjson.decode(ARGV[1])
local answer = {}

local packed = redis.call('GET', STATE)
local s = packed and cmsgpack.unpack(packed)
  or {epoch = 0, streak = 0, count = 0, refused = 0, closed = 0, members = {}, flying = {},
      age = 0, period = N.MIN_PERIOD_S, spread = N.MIN_SPREAD, memory = N.MIN_MEMORY_S, ramp = N.INITIAL_RATE, incidents = {}}

-- Time never runs back, whoever sets the clock or takes over as master.
local told = redis.call('TIME')
local now = (ask.now or told[1] + told[2] / 1e6) + (s.ahead or 0)
if s.now and now < s.now then
  s.ahead, now = (s.ahead or 0) + s.now - now, s.now
end
-- Whoever asked so long ago has given up: this was held up on the way, or Redis was.
if ask.by and now > ask.by then
  return cjson.encode({now = now, stale = true})
end
s.now, answer.now = now, now

-- Who shares the limit. The lowest of their rates holds for all.
local me = ask.member
local turn_of = s.members[me] and s.members[me].turn
s.members[me] = not ask.leaves and {seen = now, rule = ask.rule, alone = ask.alone and true, turn = turn_of} or nil
local rule, sharers, horizon = {places = 1, span = 0, gap = 0}, 0, 1
for id, member in pairs(s.members) do
  if now - member.seen > N.SHARE_TTL_S then
    s.members[id] = nil
  else
    sharers = sharers + 1
    horizon = math.max(horizon, member.rule.span)
    if member.rule.gap > rule.gap then rule = member.rule end
  end
end
local ceiling = rule.attempts and rule.attempts / rule.seconds

-- What an attempt may take at most has passed: nothing more is heard of it.
local flying = 0
for id, flown in pairs(s.flying) do
  if now - flown[1] > flown[2] then s.flying[id] = nil else flying = flying + 1 end
end

-- The rate (Climb.rate, .answered, .cut, .refused; Pacer.rate)

local function climbed()
  local rate = ceiling or s.ramp
  if s.plateau then
    local spread, way = math.log(s.spread) / math.log(2), s.age / s.period - 1
    local doublings = math.min(spread * way ^ 3, spread + math.max(0, s.age - 2 * s.period) / N.DOUBLING_TIME_S)
    rate = math.min(N.MAX_RATE, math.max(N.MIN_RATE, s.plateau * 2 ^ math.min(40, doublings)))
  end
  return math.min(rate, ceiling or rate)
end

local function rate()
  local most = climbed()
  if s.quota and now < s.quota_ends then most = math.min(most, s.quota) end
  return most
end

local function accepted(sent_at)
  redis.call('RPUSH', ACCEPTED, string.format('%.17g', now))
  redis.call('LTRIM', ACCEPTED, -N.MAX_REMEMBERED_ANSWERS, -1)
  local passed = now - s.last
  s.last = now
  if s.pressed and s.plateau then
    s.age = s.age + math.min(passed, math.max(1, 2 / climbed()))
  elseif s.pressed and not ceiling and now - 1 >= s.stepped and s.stepped <= sent_at then
    s.ramp, s.stepped = math.min(N.MAX_RATE, 2 * s.ramp), now
  end
end

local function cut()
  s.refused_at, s.onset = climbed(), now
  s.closed = math.max(s.closed, now)
end

local function refused(wait)
  s.refused = s.refused + 1
  s.closed = math.max(s.closed, now, now + N.UPPER_BOUND_WEIGHT * ((wait or 0) - 1))
end

-- Holds (Pacer._pause, ._hold, ._held)

local function pause(wait, jitter)
  local first = math.max(N.MIN_FIRST_PAUSE_S, math.min(N.MAX_FIRST_PAUSE_S, s.memory * N.FIRST_PAUSE_PER_MEMORY))
  local own = (0.5 + jitter / 2) * math.min(N.MAX_PAUSE_S, first * 2 ^ math.min(s.streak, N.MAX_PAUSE_DOUBLINGS))
  return wait and math.max(own, wait + jitter * math.min(1, wait / 20)) or own
end

local function hold(until_)
  s.held = math.max(s.held or until_, until_)
end

local function held()
  if not s.held then return 0 end
  local probe = s.probe
  local owner = probe and s.members[probe.member]
  if owner and now - owner.seen < N.DEAD_AFTER_S and now - probe.at < probe.lost then
    return math.max(N.PROBE_POLL_S, sharers * N.PROBE_POLL_S / 10)
  end
  return s.held - now
end

local function resume()
  if s.held > now then return end
  s.held, s.streak = nil, 0
  s.due = math.max(s.due or now, now + math.min(N.MAX_GAP_AFTER_PROBE_S, 1 / rate()))
end

local function facts()
  local course = {since = s.since - now, onset = s.onset - now, closed = s.closed - now,
                  refused_at = s.refused_at, refused = s.refused, accepted = {}}
  for at, time in ipairs(redis.call('LRANGE', ACCEPTED, 0, -1)) do course.accepted[at] = tonumber(time) - now end
  local known = {}
  for _, name in ipairs({'plateau', 'age', 'period', 'spread', 'memory', 'chance', 'incidents'}) do
    known[name] = s[name]
  end
  return {course = course, known = known}
end

-- News of attempts (Pacer.succeeded, .throttled, .abandoned, .heed)

local heard = {}

local function landed(id)
  local flown = s.flying[id]
  if flown then s.flying[id], flying = nil, flying - 1 end
  return flown
end

local function was_probe(id)
  local probe = s.probe and s.probe.id == id
  if probe then s.probe = nil end
  return probe
end

function heard.succeeded(news)
  local flown = landed(news.id)
  if not flown then return end
  accepted(flown[1])
  if was_probe(news.id) and s.held and s.held <= now then
    if s.onset then
      s.probe = {id = 'lesson', member = me, at = now, lost = N.DEAD_AFTER_S}
      answer.facts = facts()
    else
      resume()
    end
  end
end

function heard.lesson(news)
  if not s.probe or s.probe.id ~= 'lesson' or s.probe.member ~= me then return end
  for name, value in pairs(news.known) do s[name] = value end
  s.probe, s.onset, s.refused = nil, nil, 0
  s.since, s.last = now, now
  redis.call('DEL', ACCEPTED)
  redis.call('RPUSH', ACCEPTED, string.format('%.17g', now))
  resume()
end

function heard.throttled(news)
  landed(news.id)
  refused(news.wait)
  if was_probe(news.id) then
    s.streak = s.streak + 1
  elseif news.epoch == s.epoch then
    s.epoch = s.epoch + 1
    cut()
  elseif not news.wait then
    return
  end
  hold(now + pause(news.wait, news.jitter))
end

function heard.abandoned(news)
  landed(news.id)
  if was_probe(news.id) then hold(now + pause(nil, 0)) end
end

function heard.quotas(news)
  local spread, ends
  for _, quota in ipairs(news.quotas) do
    local room, renewed_in = quota[1] - flying, quota[2]
    if room <= 0 then
      s.renewed = math.max(s.renewed or 0, now + renewed_in)
    elseif renewed_in > 0 and renewed_in <= N.MAX_PACED_QUOTA_S and (not spread or room / renewed_in < spread) then
      spread, ends = room / renewed_in, now + renewed_in
    end
  end
  if spread then
    s.quota, s.quota_ends = spread, ends
    s.due = math.max(s.due or now, now)
  end
end

function heard.late(news)
  redis.call('ZADD', LOG, 'XX', string.format('%.17g', now), news.id)
end

for _, news in ipairs(ask.news) do heard[news.kind](news) end

-- Leave (Pacer.take, _Schedule)

local function window_free()
  local nth = redis.call('ZREVRANGE', LOG, rule.places - 1, rule.places - 1, 'WITHSCORES')
  return nth[2] and tonumber(nth[2]) + rule.span or 0
end

local function logged(id)
  redis.call('ZADD', LOG, string.format('%.17g', now), id)
  redis.call('ZREMRANGEBYSCORE', LOG, '-inf', string.format('(%.17g', now - horizon))
end

-- Those who were alone for a while send at their shares until all have come back.
local function settled()
  if s.settles and s.settles <= now then
    s.due = math.max(s.due or 0, s.settles + sharers * math.max(rule.gap, 1 / rate()))
    s.settles, s.since, s.last = nil, now, now -- nobody told what was answered meanwhile
    redis.call('DEL', ACCEPTED)
  end
  return s.settles and s.settles - now or 0
end

local function wait()
  local seconds = settled()
  return math.max(seconds, (s.due or now) - now, window_free() - now, (s.renewed or now) - now, held())
end

-- Each process is told another moment to ask again, in turn; who asks at the right one is not turned away,
-- and whose turn has come keeps it until there is room: sent to the end of the line, the same could always lose.
local function turn(seconds)
  local mine = s.members[me]
  if s.held or (s.renewed or now) > now then
    mine.turn = nil
    return seconds
  end
  if mine.turn and mine.turn <= now + N.MIN_WAIT_S then return seconds end
  local step, ahead = math.max(rule.gap, 1 / rate()), 0
  for id, member in pairs(s.members) do
    if id ~= me and member.turn and member.turn > now - step then ahead = ahead + 1 end
  end
  mine.turn = now + seconds + ahead * step
  return mine.turn - now
end

local function take()
  local seconds = wait()
  if seconds > 0 then
    s.pressed = true
    answer.wait = math.max(turn(seconds), N.MIN_WAIT_S)
    return
  end
  if not s.due or now - s.due > N.MAX_LATENESS_S then s.pressed = false end
  if not s.stepped then s.since, s.stepped, s.last = now, now, now end
  s.due = math.max(s.due or now, now - N.MAX_LATENESS_S) + math.max(1 / rate(), rule.gap)
  s.count, s.members[me].turn = s.count + 1, nil
  local id = me .. ':' .. s.count
  logged(id)
  s.flying[id] = {now, ask.lost}
  if s.held then s.probe = {id = id, member = me, at = now, lost = ask.lost} end
  answer.permit = {id = id, epoch = s.epoch, probe = s.held ~= nil}
end

-- A permitted attempt leaves only now: is there room in the window that ends here?
local function move(id)
  local before = redis.call('ZSCORE', LOG, id)
  redis.call('ZREM', LOG, id)
  local free = window_free()
  if free > now then
    if before then redis.call('ZADD', LOG, before, id) end
    answer.wait = math.max(free - now, N.MIN_WAIT_S)
  else
    logged(id)
    answer.wait = 0
  end
end

-- Back after `alone` seconds without Redis: at once if others had it meanwhile, else when all had time to notice.
local function come_back()
  local others = false
  for id, member in pairs(s.members) do
    others = others or (id ~= me and not member.alone and member.seen > now - ask.alone + N.LOSS_NOTICED_S)
  end
  if not s.settles and not others then s.settles = now + N.RETURN_NOTICED_S end
  answer.wait = s.settles and math.max(0, s.settles - now) or 0
end

if ask.alone then come_back() end
if ask.wants then take() end
if ask.move then move(ask.move) end

local held_for = math.max((s.held or now) - now, (s.renewed or now) - now)
answer.rate, answer.found, answer.sharers = rate(), s.plateau, sharers
answer.held = (s.held or held_for > 0) and held_for or nil
answer.attempts, answer.seconds = rule.attempts, rule.seconds

local keep = string.format('%d', 1000 * (N.STATE_TTL_S + math.max(0, held_for)))
redis.call('SET', STATE, cmsgpack.pack(s), 'PX', keep)
redis.call('PEXPIRE', ACCEPTED, keep)
redis.call('PEXPIRE', LOG, string.format('%d', 1000 * (N.STATE_TTL_S + horizon)))
return cjson.encode(answer)
