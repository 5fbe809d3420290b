"""A store with wrong content can neither raise the rate of a process nor stop it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.rate_limit.pacer import Permit, WindowLimiter
from telemetron_batch.rate_limit.redis_backend import RedisBackend
from telemetron_batch.rate_limit.script_backend import LimitBackendError
from telemetron_batch.rate_limit.shared import LimiterSettings, SharedRateLimiter
from telemetron_batch.rate_limit.shared_answer import learned_from_incident, read_answer
from telemetron_batch.storage import clock
from tests.conftest import FakeClock
from tests.support.simulate import most_in_a_window

FINE: Mapping[str, Any] = {"now": 1e9, "rate": 10.0, "sharers": 1, "attempts": 10, "seconds": 1}
PERMIT = {"id": "x", "epoch": 0, "probe": False}
Answers = Callable[[dict[str, Any]], str]


class Liar:
    """Answers at once with given answers, from the second request on."""

    address = "Redis at nowhere:6379"

    def __init__(self, answers: Answers) -> None:
        self.answers, self.asked = answers, 0

    async def eval_script(self, request: str) -> str:
        self.asked += 1
        await clock.sleep(0.001)
        return json.dumps(FINE) if self.asked == 1 else self.answers(json.loads(request))

    async def close(self) -> None:
        pass


class Ran:
    """A process that runs for some seconds with eight workers against such a store."""

    def __init__(self, answers: Answers, rate: Rate, seconds: float = 20.0) -> None:
        self.line = Liar(answers)
        self.told: list[str] = []
        self.left: list[float] = []
        self.pace = SharedRateLimiter(
            self.line, LimiterSettings(rate, rate, 35.0), lambda kind, _, **__: self.told.append(kind)
        )
        FakeClock().run(self._run(seconds))

    async def _run(self, seconds: float) -> None:
        until = clock.now() + seconds
        async with self.pace.joined():
            await asyncio.gather(*(self._work(until) for _ in range(8)))

    async def _work(self, until: float) -> None:
        while (now := clock.now()) < until:
            answer = await self.pace.acquire(now)
            if not isinstance(answer, Permit):
                await clock.sleep(min(answer, max(0.0, until - now)))
                continue
            while (wait := await self.pace.before_send(answer, clock.now())) > 0:
                await clock.sleep(wait)
            self.left.append(clock.now())
            await clock.sleep(0.01)
            self.pace.succeeded(answer, clock.now())


def always(**fields: Any) -> Answers:
    """Answer every request with the usual fields and these."""
    return lambda _: json.dumps({**FINE, **fields})


@pytest.mark.parametrize("rate", ["10/s", "600/min", "3/s", "90/min"])
@pytest.mark.parametrize("fields", [{}, {"sharers": 1000.0}, {"rate": 1e9, "attempts": 1e9}, {"rate": 1e-9}])
def test_permits_without_end_do_not_exceed_the_rate(rate: str, fields: dict[str, Any]) -> None:
    told = Rate.parse(rate)
    ran = Ran(always(permit=PERMIT, wait=0, **fields), told, seconds=150)
    assert most_in_a_window(ran.left, told.seconds) <= told.attempts
    assert len(ran.left) >= 0.9 * 150 * told.per_second
    assert ran.told == []


def test_permits_of_a_store_that_sometimes_fails_do_not_exceed_the_rate() -> None:
    turn = 0

    def answers(_: dict[str, Any]) -> str:
        nonlocal turn
        turn += 1
        return "oops" if turn % 40 == 0 else json.dumps({**FINE, "permit": PERMIT, "wait": 0})

    ran = Ran(answers, Rate(10), seconds=60)
    assert {"alone", "shared"} == {*ran.told}
    assert most_in_a_window(ran.left, 1.0) <= 10
    assert len(ran.left) >= 0.5 * 60 * 10


def test_an_unknown_rate_has_a_ceiling_too() -> None:
    assert WindowLimiter(Rate.AUTO).wait(0.0) == 0.0
    ceiling, now = WindowLimiter(Rate(2)), 0.0
    for _ in range(10):
        now += ceiling.wait(now)
        ceiling.add(now)
    assert now == pytest.approx(4.0)


@pytest.mark.parametrize(
    "answer",
    [
        "oops",
        "",
        "{}",
        "[]",
        "null",
        "[" * 100_000,
        '{"now": 1, "z": ' + "[" * 100_000,
        "\ud800",
        json.dumps({**FINE, "wait": -1}),
        json.dumps({**FINE, "wait": float("nan")}),
        json.dumps({**FINE, "wait": 1e300}),
        json.dumps({**FINE, "wait": "1"}),
        json.dumps(FINE),
        json.dumps({**FINE, "permit": None}),
        json.dumps({**FINE, "permit": {}}),
        json.dumps({**FINE, "permit": {**PERMIT, "epoch": -1}}),
        json.dumps({**FINE, "permit": {**PERMIT, "id": "x" * 1000}}),
        json.dumps({**FINE, "wait": 1, "attempts": 0}),
        json.dumps({**FINE, "wait": 1, "sharers": 0}),
        json.dumps({**FINE, "wait": 1, "rate": -5}),
        json.dumps({**FINE, "wait": 1, "held": -1}),
        json.dumps({**FINE, "wait": 1, "facts": {}}),
        json.dumps({**FINE, "wait": 1, "facts": {"course": 1, "known": {}}}),
        json.dumps({"now": 1e9, "stale": True}),
        json.dumps({**FINE, "z": "x" * (5 << 20)}),
    ],
)
def test_an_invalid_answer_counts_as_none(answer: str) -> None:
    ran = Ran(lambda _: answer, Rate(10))
    assert ran.told == ["alone"]
    assert most_in_a_window(ran.left, 1.0) <= 10
    assert len(ran.left) >= 0.9 * 20 * 10


def test_an_answer_without_permit_and_wait_counts_as_none() -> None:
    ran = Ran(always(wait=0), Rate(10), seconds=60)
    assert {*ran.told} == {"alone", "shared"}
    assert most_in_a_window(ran.left, 1.0) <= 10
    assert ran.line.asked <= 60 * 10


@pytest.mark.parametrize("wait", [1e-9, 1e-4, 0.004])
def test_the_store_is_asked_at_most_two_hundred_times_a_second(wait: float) -> None:
    ran = Ran(always(wait=wait), Rate(10), seconds=2)
    assert ran.left == []
    assert ran.line.asked <= 2 * 200 + 10


def test_the_store_is_asked_again_after_any_wait() -> None:
    said = iter([1e9])

    def answers(request: dict[str, Any]) -> str:
        turn = {"wait": next(said, None)} if "wants" in request else {}
        return json.dumps({**FINE, **({"permit": PERMIT} if turn == {"wait": None} else turn)})

    assert Ran(answers, Rate(10), seconds=70).left


def test_an_invalid_first_answer_is_an_error_of_one_line() -> None:
    pace = SharedRateLimiter(Liar(lambda _: ""), LimiterSettings(Rate(10), Rate(10), 35.0), lambda *_, **__: None)
    pace._backend.asked = 1  # type: ignore[attr-defined]

    async def join() -> None:
        async with pace.joined():
            pass

    with pytest.raises(ConfigError, match=r"cannot reach Redis at nowhere:6379 \(its answer cannot be read\)"):
        FakeClock().run(join())


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*FINE, "wait", "permit"]), inner),
    max_leaves=8,
)
FACTS = st.fixed_dictionaries(
    {
        "known": st.dictionaries(st.sampled_from(["age", "period", "spread", "memory", "chance", "incidents"]), JSON),
        "course": st.dictionaries(
            st.sampled_from(["since", "accepted", "onset", "refused_at", "refused", "closed"]), JSON
        ),
    }
)


@given(st.dictionaries(st.sampled_from([*FINE, "wait", "permit", "held", "found", "stale", "facts"]), JSON) | JSON)
def test_any_answer_is_read_or_refused(answer: object) -> None:
    with suppress(LimitBackendError):
        read_answer(json.dumps(answer))


@given(FACTS | st.dictionaries(st.text(max_size=3), JSON))
def test_any_facts_are_learned_from_or_refused(facts: dict[str, Any]) -> None:
    with suppress(LimitBackendError):
        learned_from_incident(facts)


@pytest.mark.parametrize(("scheme", "checked"), [("rediss", True), ("redis", None)])
def test_over_tls_the_certificate_has_to_be_that_of_the_host(scheme: str, checked: bool | None) -> None:
    pytest.importorskip("redis.asyncio")
    line = RedisBackend(Secret(f"{scheme}://example.com:6379/0"), "name")
    line._connect()
    assert line._redis is not None
    assert line._redis.connection_pool.connection_kwargs.get("ssl_check_hostname") is checked
