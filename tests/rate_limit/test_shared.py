"""The shared limiter decides as a single pacer would; a process that is alone keeps to its share."""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest
import redis

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.rate_limit.pacer import Pacer, Permit
from telemetron_batch.rate_limit.redis_backend import RedisBackend
from telemetron_batch.rate_limit.script_backend import SCRIPT, LimitBackendError
from telemetron_batch.rate_limit.shared import LimiterSettings, SharedRateLimiter
from telemetron_batch.storage import clock
from tests.conftest import FakeClock
from tests.support.redis_server import PROGRAM, Member, RedisServer
from tests.support.simulate import (
    Bucket,
    Course,
    FixedWindow,
    Server,
    Simulation,
    SlidingLog,
    TalkativeWindow,
    World,
    leave,
    most_in_a_window,
)

pytestmark = pytest.mark.skipif(not PROGRAM, reason="needs redis-server")
BEGINS = 1_700_000_000.0
TEN = Rate(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


# As one process


def course(pacer: object, world: World) -> Course:
    return Simulation(pacer, world, begins=BEGINS).run()  # type: ignore[arg-type]


LIMITS: dict[str, tuple[Callable[[], Server], Rate, dict[str, object]]] = {
    "told": (lambda: SlidingLog(40, 1), Rate(40), {}),
    "told, in a minute": (lambda: FixedWindow(600, 60), Rate.parse("600/min"), {}),
    "unknown, silent": (lambda: SlidingLog(50, 1), Rate(1_000), {}),
    "unknown, Retry-After": (lambda: FixedWindow(100, 5), Rate(1_000), {"retry_after": True}),
    "auto": (lambda: Bucket(20, 6), Rate.AUTO, {}),
    "quotas told": (lambda: TalkativeWindow(100, 5), Rate(1_000), {}),
    "answers lost": (lambda: Bucket(20, 1), Rate(30), {"lost": 0.05, "retry_after": True}),
}


@pytest.mark.parametrize(("limit", "rate", "besides"), LIMITS.values(), ids=LIMITS)
def test_for_one_process_the_script_decides_as_its_own_pacer_would(
    client: redis.Redis, limit: Callable[[], Server], rate: Rate, besides: dict[str, object]
) -> None:
    worlds = [World(limit(), calls=400, workers=8, until=BEGINS + 3600, **besides) for _ in range(2)]  # type: ignore[arg-type]
    own, shared = course(Pacer(rate), worlds[0]), course(Member(client, rate), worlds[1])
    assert len(own.departed) >= 400
    assert shared.departed == pytest.approx(own.departed, rel=0, abs=0.001)
    assert shared.refused == pytest.approx(own.refused, rel=0, abs=0.001)


def test_the_script_repeats_no_constant_of_a_rule() -> None:
    _, _, text = SCRIPT.partition("\n")
    code = re.sub(r"--.*|'[^']*'", "", text)
    numbers = {float(number) for number in re.findall(r"(?<![\w.])\d[\d.e]*", code)}
    arithmetic = {0, 1, 2, 3, 1_000, 1e6}  # indexes, powers and units
    assert numbers <= arithmetic


# Several, one exchange at a time


def members(client: redis.Redis, *names: str, rate: Rate = TEN, lost: float = 35.0) -> list[Member]:
    found = [Member(client, rate, name, lost) for name in names]
    for one in found:
        one.exchange(BEGINS)
    return found


def refused(member: Member, wait: float) -> float:
    """Let one attempt leave and be refused at once; return its time."""
    permit, now = leave(member, BEGINS)
    member.throttled(permit, now, wait, 0.0)
    return now


def test_a_refusal_that_one_hears_holds_all_as_long_as_it_asks(client: redis.Redis) -> None:
    one, two = members(client, "one", "two")
    now = refused(one, wait=30.0)
    assert two.acquire(now + 0.2) == pytest.approx(29.8)
    assert two.answer["held"] == pytest.approx(29.8)


def test_after_a_hold_one_probe_leaves_for_all(client: redis.Redis) -> None:
    one, two = members(client, "one", "two")
    now = refused(one, wait=5.0)
    probe, now = leave(two, now + 5)
    assert probe.probe
    assert isinstance(one.acquire(now + 1), float)
    two.succeeded(probe, now + 1)
    after, later = leave(one, now + 1)
    assert not after.probe
    assert later <= now + 2.1


def test_a_probe_whose_process_falls_silent_is_taken_over_after_a_while(client: redis.Redis) -> None:
    one, two = members(client, "one", "two", lost=600.0)
    now = refused(one, wait=5.0)
    probe, sent = leave(two, now + 5)
    assert isinstance(one.acquire(sent + 4), float)
    taken_over, _ = leave(one, sent + 4)
    assert probe.probe
    assert taken_over.probe


def test_a_learned_state_that_is_never_sent_back_is_learned_with_the_next_probe(client: redis.Redis) -> None:
    one, two = members(client, "one", "two", lost=600.0)
    now = refused(one, wait=5.0)
    probe, now = leave(two, now + 5)
    request = {"member": "two", "rule": two.rule, "lost": 600, "now": now + 0.1}
    news = [{"kind": "succeeded", "id": probe.id}]  # type: ignore[attr-defined]
    two.script(keys=["state", "log", "accepted"], args=[json.dumps(request | {"news": news})])
    next_probe, later = leave(one, now + 0.1)
    assert next_probe.probe
    one.succeeded(next_probe, later + 0.1)
    assert one.exchange(later + 0.1)["found"] is not None
    assert not leave(one, later + 0.1)[0].probe


def test_refusals_of_one_incident_in_several_processes_cut_the_rate_once(client: redis.Redis) -> None:
    one, two = members(client, "one", "two", rate=Rate(40))
    sent, now = [], BEGINS
    for member in (one, two) * 20:
        permit, now = leave(member, now)
        sent.append((member, permit))
    for member, permit in sent[:-4]:
        member.succeeded(permit, now + 0.1)
    for member, permit in sent[-4:]:
        member.throttled(permit, now + 0.2, None, 0.5)
    assert {permit.epoch for _, permit in sent} == {0}
    probe, later = leave(two, now + 0.2)
    assert probe.epoch == 1
    two.succeeded(probe, later)
    once = two.exchange(later)["found"]
    assert 20 < once < 40


def test_after_a_fluke_the_rate_is_back_at_the_ceiling_within_two_minutes(client: redis.Redis) -> None:
    pair = members(client, "one", "two", rate=Rate(10))
    now = BEGINS
    for number in range(1_000):
        member = pair[number % 2]
        permit, now = leave(member, now)
        if number == 100:
            member.throttled(permit, now, None, 0.0)
        else:
            member.succeeded(permit, now)
    assert member.exchange(now)["rate"] == pytest.approx(10)


def test_a_quota_reported_by_one_process_applies_to_all(client: redis.Redis) -> None:
    one, two = members(client, "one", "two")
    one.apply_quotas([(0, 7.0)], BEGINS)
    assert two.acquire(BEGINS) == pytest.approx(7.0)


def test_the_lowest_rate_of_all_processes_applies_until_its_process_leaves(client: redis.Redis) -> None:
    fast, slow = Member(client, Rate(40), "fast"), Member(client, Rate(2), "slow")
    fast.exchange(BEGINS)
    assert fast.exchange(BEGINS)["rate"] == 40
    slow.exchange(BEGINS)
    assert fast.exchange(BEGINS)["rate"] == 2
    slow.exchange(BEGINS, leaves=True)
    assert fast.exchange(BEGINS)["rate"] == 40


def test_an_attempt_that_leaves_late_waits_until_the_window_has_room(client: redis.Redis) -> None:
    (one,) = members(client, "one", rate=Rate(2))
    late, now = leave(one, BEGINS)
    one.before_send(leave(one, now)[0], now + 0.6)
    one.before_send(leave(one, now + 1.2)[0], now + 1.2)
    assert one.before_send(late, now + 1.3) == pytest.approx(0.6 + 1.025 - 1.3, abs=0.02)
    assert one.before_send(late, now + 1.7) == 0


def test_a_clock_that_is_set_back_delays_no_process(client: redis.Redis) -> None:
    (one,) = members(client, "one")
    _, now = leave(one, BEGINS)
    _, later = leave(one, now - 3600)
    assert 0 < later - (now - 3600) <= 0.11


def test_what_is_kept_expires_by_itself_but_not_during_a_hold(client: redis.Redis) -> None:
    (one,) = members(client, "one")
    permit, now = leave(one, BEGINS)
    assert all(0 < client.pttl(key) <= 700_000 for key in ("state", "log"))
    one.throttled(permit, now, 3_600.0, 0.0)
    assert client.pttl("state") > 4_000_000


def test_processes_get_different_turns_so_that_few_ask_in_vain(client: redis.Redis) -> None:
    names = [str(number) for number in range(8)]
    asked, due = 0, dict.fromkeys(names, BEGINS)
    found = dict(zip(names, members(client, *names, rate=Rate(40)), strict=True))
    left: dict[str, int] = dict.fromkeys(names, 0)
    while sum(left.values()) < 400:
        name = min(due, key=lambda one: due[one])
        answer = found[name].acquire(due[name])
        asked += 1
        if isinstance(answer, Permit):
            left[name] += 1
            found[name].succeeded(answer, due[name])
        else:
            due[name] += answer
    assert asked <= 2.2 * 400
    assert max(left.values()) - min(left.values()) <= 10


# Several, each with its way to Redis, in virtual time


class Way:
    """One process's connection to Redis, which can be cut; Redis gets the loop's time."""

    address = "Redis at nowhere:6379"

    def __init__(self, client: redis.Redis) -> None:
        self.script = client.register_script(SCRIPT)
        self.cut = False
        self.held_up: list[tuple[float, str]] = []

    async def eval_script(self, request: str) -> str:
        if self.cut:
            self.held_up.append((clock.now(), request))
            await clock.sleep(1.0)
            raise LimitBackendError("Connection refused")
        await clock.sleep(0.001)
        return self.arrive(request)

    def arrive(self, request: str) -> str:
        told = json.loads(request) | {"now": BEGINS + clock.now()}
        return str(self.script(keys=["state", "log", "accepted"], args=[json.dumps(told)]))

    async def close(self) -> None:
        pass


class Party:
    """Processes that share a limit, each with some workers, and a server that refuses only on request."""

    def __init__(self, client: redis.Redis, rate: Rate, number: int, share: Rate | None = None) -> None:
        self.ways = [Way(client) for _ in range(number)]
        self.told: list[tuple[float, int, str, str]] = []
        terms = LimiterSettings(rate, share or rate, 35.0)
        self.paces = [SharedRateLimiter(way, terms, self.teller(at)) for at, way in enumerate(self.ways)]
        self.left: list[tuple[float, int]] = []
        self.refuse: Callable[[float], float | None] = lambda _: None

    def teller(self, number: int) -> Any:
        def tell(kind: str, text: str, **_: bool) -> None:
            self.told.append((clock.now(), number, kind, text))

        return tell

    async def run(self, seconds: float, *events: tuple[float, Callable[[], None]]) -> None:
        until = clock.now() + seconds
        self.began = clock.now()
        async with AsyncExitStack() as stack:
            for pace in self.paces:
                await stack.enter_async_context(pace.joined())
            workers = [asyncio.create_task(self.work(at, until)) for at in range(len(self.paces)) for _ in range(4)]
            for after, event in events:
                await clock.sleep(self.began + after - clock.now())
                event()
            await asyncio.gather(*workers)

    async def work(self, number: int, until: float) -> None:
        pace = self.paces[number]
        while (now := clock.now()) < until:
            answer = await pace.acquire(now)
            if not isinstance(answer, Permit):
                await clock.sleep(answer)
                continue
            while (wait := await pace.before_send(answer, clock.now())) > 0:
                await clock.sleep(wait)
            at = clock.now()
            self.left.append((at - self.began, number))
            await clock.sleep(0.05)
            asked = self.refuse(at)
            if asked is None:
                pace.succeeded(answer, clock.now())
            else:
                pace.throttled(answer, clock.now(), asked, 0.5)

    def cut(self, *, off: bool) -> Callable[[], None]:
        def cut() -> None:
            for way in self.ways:
                way.cut = off

        return cut

    def times(self, begins: float = 0.0, ends: float = 1e9) -> list[float]:
        return sorted(at for at, _ in self.left if begins <= at < ends)


@pytest.mark.parametrize(("rate", "number"), [(40, 8), (20, 4), (10, 3)])
def test_all_together_keep_the_rate_in_any_window_and_use_it(client: redis.Redis, rate: int, number: int) -> None:
    party = Party(client, Rate(rate), number)
    FakeClock().run(party.run(20))
    assert most_in_a_window(party.times(), 1.0) <= rate
    assert len(party.left) >= 0.96 * 20 * rate
    each = [sum(which == at for _, which in party.left) for at in range(number)]
    assert max(each) <= 1.1 * min(each)


@pytest.mark.parametrize("meanwhile", ["keeps all", "forgets all", "is frozen"])
def test_without_redis_each_keeps_to_its_share_and_with_it_all_share_again(client: redis.Redis, meanwhile: str) -> None:
    party = Party(client, Rate(40), 8)

    def back() -> None:
        if meanwhile == "forgets all":
            client.flushall()
        if meanwhile == "is frozen":
            for _, request in sorted(one for way in party.ways for one in way.held_up):
                if "alone" not in json.loads(request):  # those that it has accepted already
                    party.ways[0].arrive(request)
        party.cut(off=False)()

    FakeClock().run(party.run(40, (5.0, party.cut(off=True)), (15.0, back)))
    assert most_in_a_window(party.times(), 1.0) <= 40
    assert len(party.times(7, 15)) >= 0.9 * 40 * 8
    assert len(party.times(20, 40)) >= 0.96 * 40 * 20
    assert [(number, kind) for _, number, kind, _ in sorted(party.told, key=lambda one: one[1])] == [
        (number, kind) for number in range(8) for kind in ("alone", "shared")
    ]
    assert "cannot reach Redis at nowhere:6379 (Connection refused)" in party.told[0][3]
    assert "one of 8 processes, goes on alone at 5/s" in party.told[0][3]


def test_a_process_that_alone_loses_redis_returns_without_stopping_the_others(client: redis.Redis) -> None:
    party = Party(client, Rate(40), 4)

    def lose(*, off: bool) -> Callable[[], None]:
        return lambda: setattr(party.ways[0], "cut", off)

    FakeClock().run(party.run(30, (5.0, lose(off=True)), (15.0, lose(off=False))))
    others = sorted(at for at, number in party.left if number)
    assert max(later - sooner for sooner, later in pairwise(others)) < 0.5
    assert [kind for _, _, kind, _ in party.told] == ["alone", "shared"]
    assert max(party.times(17)) > 29
    assert most_in_a_window(party.times(17), 1.0) <= 40


def test_a_configured_share_applies_if_it_is_the_smaller_one(client: redis.Redis) -> None:
    party = Party(client, Rate(40), 2, share=Rate(4))
    FakeClock().run(party.run(15, (2.0, party.cut(off=True))))
    assert {text.rpartition(" at ")[2] for *_, text in party.told} == {"4/s"}
    assert most_in_a_window(party.times(4), 1.0) <= 8


def test_an_unknown_rate_is_shared_alone_as_it_was_found(client: redis.Redis) -> None:
    party = Party(client, Rate.AUTO, 2)
    FakeClock().run(party.run(12, (1.5, party.cut(off=True))))
    assert {kind for _, _, kind, _ in party.told} == {"alone"}
    assert 0 < len(party.times(3)) <= 20 * 10


def test_a_hold_goes_on_without_redis(client: redis.Redis) -> None:
    party = Party(client, Rate(40), 4)
    party.refuse = lambda at: 10.0 if party.began + 3.0 <= at < party.began + 3.1 else None
    FakeClock().run(party.run(20, (4.0, party.cut(off=True))))
    assert party.times(3.3, 13) == []
    assert len(party.times(15, 20)) >= 0.8 * 40 * 5


def test_a_refusal_stops_all_and_one_probes(client: redis.Redis) -> None:
    party = Party(client, Rate(40), 4)
    party.refuse = lambda at: 5.0 if party.began + 3.0 <= at < party.began + 3.1 else None
    FakeClock().run(party.run(15))
    assert party.times(3.3, 8) == []
    assert len(party.times(8, 8.3)) <= 2
    assert all(pace.learned_rate is not None for pace in party.paces)


def test_a_process_that_cannot_reach_redis_does_not_start(client: redis.Redis) -> None:
    party = Party(client, Rate(40), 1)
    party.ways[0].cut = True
    with pytest.raises(ConfigError, match=r"cannot reach Redis at nowhere:6379 \(.*\); nothing was sent"):
        FakeClock().run(party.run(5))
    assert party.left == []


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match=r"--limit-url needs redis; pip install 'telemetron-batch\[redis\]'"):
        RedisBackend(Secret("redis://127.0.0.1:6379/0"), "name")
