-- One exchange of one process with the store of a shared rate limit: the process reports what became
-- of its attempts and may ask for a permit. Redis runs each exchange atomically, by its own clock.
--
-- The rules are those of pacer.py and adaptive_rate.py; a test compares the two step by step. Their
-- constants stand before this text as the table N, which script_backend.py renders from Python. Only the
-- end of an incident is not computed here: the process whose probe ended it gets the facts and sends back
-- the learned state; all wait for it.
--
-- KEYS  the state (one packed table); departures by permit; times of answers since the last incident
-- ARGV  the request. Times in it and in the answer are seconds from now (see `SharedRateLimiter._exchange`)

local STATE, LOG, ACCEPTED = KEYS[1], KEYS[2], KEYS[3]
local ask = cjson.decode(ARGV[1])
local answer = {}

local packed = redis.call('GET', STATE)
local s = packed and cmsgpack.unpack(packed)
  or {epoch = 0, streak = 0, count = 0, refused = 0, closed = 0, members = {}, flying = {},
      age = 0, period = N.MIN_PERIOD_S, spread = N.MIN_SPREAD, memory = N.MIN_MEMORY_S, ramp = N.INITIAL_RATE, incidents = {}}

-- Time must never run back, even if a clock is set or another master takes over.
local time = redis.call('TIME')
local now = (ask.now or time[1] + time[2] / 1e6) + (s.ahead or 0)
if s.now and now < s.now then
  s.ahead, now = (s.ahead or 0) + s.now - now, s.now
end
-- The process has given up on this request, which was delayed on its way or by Redis.
if ask.by and now > ask.by then
  return cjson.encode({now = now, stale = true})
end
s.now, answer.now = now, now

-- The processes that share the limit. The lowest of their rates applies to all.
local me = ask.member
local turn_at = s.members[me] and s.members[me].turn
s.members[me] = not ask.leaves and {seen = now, rule = ask.rule, alone = ask.alone and true, turn = turn_at} or nil
local rule, sharers, horizon = {places = 1, span = 0, gap = 0}, 0, N.MIN_LOG_S
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

-- Attempts that have passed their longest time can no longer be answered.
local in_flight = 0
for id, attempt in pairs(s.flying) do
  if now - attempt[1] > attempt[2] then s.flying[id] = nil else in_flight = in_flight + 1 end
end

-- The rate (AdaptiveRate.rate, .add_accepted, .begin_incident, .add_refusal; Pacer.rate)

local function adaptive_rate()
  local rate = ceiling or s.ramp
  if s.plateau then
    local spread, distance = math.log(s.spread) / math.log(2), s.age / s.period - 1
    local unrefused = math.max(0, s.age - N.PERIODS_BEFORE_DOUBLING * s.period)
    local doublings = math.min(N.MAX_DOUBLINGS, spread * distance ^ 3, spread + unrefused / N.DOUBLING_TIME_S)
    rate = math.min(N.MAX_RATE, math.max(N.MIN_RATE, s.plateau * 2 ^ doublings))
  end
  return math.min(rate, ceiling or rate)
end

local function rate()
  local most = adaptive_rate()
  if s.quota and now < s.quota_ends then most = math.min(most, s.quota) end
  return most
end

local function add_accepted(sent_at)
  redis.call('RPUSH', ACCEPTED, string.format('%.17g', now))
  redis.call('LTRIM', ACCEPTED, -N.MAX_REMEMBERED_ANSWERS, -1)
  local passed = now - s.last
  s.last = now
  if s.pressed and s.plateau then
    s.age = s.age + math.min(passed, math.max(N.MIN_COUNTED_GAP_S, N.COUNTED_GAPS / adaptive_rate()))
  elseif s.pressed and not ceiling and now - N.INITIAL_DOUBLING_TIME_S >= s.stepped and s.stepped <= sent_at then
    s.ramp, s.stepped = math.min(N.MAX_RATE, 2 * s.ramp), now
  end
end

local function begin_incident()
  s.refused_at, s.onset = adaptive_rate(), now
  s.closed = math.max(s.closed, now)
end

local function add_refusal(wait)
  s.refused = s.refused + 1
  local needed = (wait or 0) - N.RETRY_AFTER_ROUNDING_S
  s.closed = math.max(s.closed, now, now + N.UPPER_BOUND_WEIGHT * needed)
end

-- Pauses (Pacer._pause_seconds, ._extend_pause, ._pause_wait)

local function pause(wait, jitter)
  local first = math.max(N.MIN_FIRST_PAUSE_S, math.min(N.MAX_FIRST_PAUSE_S, s.memory * N.FIRST_PAUSE_PER_MEMORY))
  local full = math.min(N.MAX_PAUSE_S, first * 2 ^ math.min(s.streak, N.MAX_PAUSE_DOUBLINGS))
  local own = (N.MIN_PAUSE_FRACTION + jitter * (1 - N.MIN_PAUSE_FRACTION)) * full
  return wait and math.max(own, wait + jitter * math.min(N.MAX_EXTRA_WAIT_S, wait * N.MAX_EXTRA_WAIT_FRACTION)) or own
end

local function hold(until_)
  s.held = math.max(s.held or until_, until_)
end

local function hold_wait()
  if not s.held then return 0 end
  local probe = s.probe
  local owner = probe and s.members[probe.member]
  if owner and now - owner.seen < N.DEAD_AFTER_S and now - probe.at < probe.lost then
    return math.max(N.PROBE_POLL_S, sharers * N.PROBE_POLL_PER_SHARER_S)
  end
  return s.held - now
end

local function end_hold()
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

-- Reports (Pacer.succeeded, .throttled, .abandoned, .apply_quotas)

local handlers = {}

local function take_in_flight(id)
  local attempt = s.flying[id]
  if attempt then s.flying[id], in_flight = nil, in_flight - 1 end
  return attempt
end

local function take_probe(id)
  local probe = s.probe and s.probe.id == id
  if probe then s.probe = nil end
  return probe
end

function handlers.succeeded(report)
  local attempt = take_in_flight(report.id)
  if not attempt then return end
  add_accepted(attempt[1])
  if take_probe(report.id) and s.held and s.held <= now then
    if s.onset then
      s.probe = {id = 'lesson', member = me, at = now, lost = N.DEAD_AFTER_S}
      answer.facts = facts()
    else
      end_hold()
    end
  end
end

function handlers.lesson(report)
  if not s.probe or s.probe.id ~= 'lesson' or s.probe.member ~= me then return end
  for name, value in pairs(report.known) do s[name] = value end
  s.probe, s.onset, s.refused = nil, nil, 0
  s.since, s.last = now, now
  redis.call('DEL', ACCEPTED)
  redis.call('RPUSH', ACCEPTED, string.format('%.17g', now))
  end_hold()
end

function handlers.throttled(report)
  take_in_flight(report.id)
  add_refusal(report.wait)
  if take_probe(report.id) then
    s.streak = s.streak + 1
  elseif report.epoch == s.epoch then
    s.epoch = s.epoch + 1
    begin_incident()
  elseif not report.wait then
    return
  end
  hold(now + pause(report.wait, report.jitter))
end

function handlers.abandoned(report)
  take_in_flight(report.id)
  if take_probe(report.id) then hold(now + pause(nil, 0)) end
end

function handlers.quotas(report)
  local spread, ends
  for _, quota in ipairs(report.quotas) do
    local room, renewed_in = quota[1] - in_flight, quota[2]
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

function handlers.late(report)
  redis.call('ZADD', LOG, 'XX', string.format('%.17g', now), report.id)
end

for _, report in ipairs(ask.news) do handlers[report.kind](report) end

-- Permits (Pacer.acquire, _Schedule)

local function window_free_at()
  local nth = redis.call('ZREVRANGE', LOG, rule.places - 1, rule.places - 1, 'WITHSCORES')
  return nth[2] and tonumber(nth[2]) + rule.span or 0
end

local function add_departure(id)
  redis.call('ZADD', LOG, string.format('%.17g', now), id)
  redis.call('ZREMRANGEBYSCORE', LOG, '-inf', string.format('(%.17g', now - horizon))
end

-- Processes that were alone keep sending at their shares until all have returned.
local function return_wait()
  if s.settles and s.settles <= now then
    s.due = math.max(s.due or 0, s.settles + sharers * math.max(rule.gap, 1 / rate()))
    s.settles, s.since, s.last = nil, now, now -- answers in between were not reported
    redis.call('DEL', ACCEPTED)
  end
  return s.settles and s.settles - now or 0
end

local function wait()
  local seconds = return_wait()
  return math.max(seconds, (s.due or now) - now, window_free_at() - now, (s.renewed or now) - now, hold_wait())
end

-- Each process gets a different time at which to ask again, so that few ask in vain. A process whose turn
-- has come keeps it until there is room; moved to the end of the queue, it could lose every time.
local function next_turn(seconds)
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

local function acquire()
  local seconds = wait()
  if seconds > 0 then
    s.pressed = true
    answer.wait = math.max(next_turn(seconds), N.MIN_WAIT_S)
    return
  end
  if not s.due or now - s.due > N.MAX_LATENESS_S then s.pressed = false end
  if not s.stepped then s.since, s.stepped, s.last = now, now, now end
  s.due = math.max(s.due or now, now - N.MAX_LATENESS_S) + math.max(1 / rate(), rule.gap)
  s.count, s.members[me].turn = s.count + 1, nil
  local id = me .. ':' .. s.count
  add_departure(id)
  s.flying[id] = {now, ask.lost}
  if s.held then s.probe = {id = id, member = me, at = now, lost = ask.lost} end
  answer.permit = {id = id, epoch = s.epoch, probe = s.held ~= nil}
end

-- A permitted attempt leaves only now: check the window that ends here.
local function confirm_departure(id)
  local before = redis.call('ZSCORE', LOG, id)
  redis.call('ZREM', LOG, id)
  local free = window_free_at()
  if free > now then
    if before then redis.call('ZADD', LOG, before, id) end
    answer.wait = math.max(free - now, N.MIN_WAIT_S)
  else
    add_departure(id)
    answer.wait = 0
  end
end

-- A process returns after `alone` seconds without Redis: at once if others used Redis meanwhile, else once all
-- had time to notice that it is back.
local function rejoin()
  local others = false
  for id, member in pairs(s.members) do
    others = others or (id ~= me and not member.alone and member.seen > now - ask.alone + N.LOSS_NOTICED_S)
  end
  if not s.settles and not others then s.settles = now + N.RETURN_NOTICED_S end
  answer.wait = s.settles and math.max(0, s.settles - now) or 0
end

if ask.alone then rejoin() end
if ask.wants then acquire() end
if ask.move then confirm_departure(ask.move) end

local held_for = math.max((s.held or now) - now, (s.renewed or now) - now)
answer.rate, answer.found, answer.sharers = rate(), s.plateau, sharers
answer.held = (s.held or held_for > 0) and held_for or nil
answer.attempts, answer.seconds = rule.attempts, rule.seconds

local keep = string.format('%d', 1000 * (N.STATE_TTL_S + math.max(0, held_for)))
redis.call('SET', STATE, cmsgpack.pack(s), 'PX', keep)
redis.call('PEXPIRE', ACCEPTED, keep)
redis.call('PEXPIRE', LOG, string.format('%d', 1000 * (N.STATE_TTL_S + horizon)))
return cjson.encode(answer)
