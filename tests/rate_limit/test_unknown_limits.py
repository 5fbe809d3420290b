"""Undocumented limits in virtual time: how much of each is used over a thousand calls, and how often it refuses.

Kinds of limits, with and without Retry-After (in whole seconds), network delays and seeds, so that what the
pacer does well it does well in general. The bounds are what was measured, less a little.
"""

import random
from collections.abc import Callable

import pytest

from telemetron_batch.config.rate import Rate
from telemetron_batch.rate_limit.pacer import Pacer
from tests.support.simulate import Bucket, Changing, Course, FixedWindow, Server, SlidingLog, Unadvertised, World, run

SEEDS = range(6)
Made = Callable[[int], Server]
"""Makes a server whose windows begin at an offset chosen by the seed."""


def fixed(calls: int, seconds: float) -> Made:
    return lambda seed: FixedWindow(calls, seconds, phase=seconds * random.Random(seed).random())


def sliding(calls: int, seconds: float) -> Made:
    return lambda _: SlidingLog(calls, seconds)


def bucket(per_second: float, burst: float) -> Made:
    return lambda _: Bucket(per_second, burst)


def world(server: Server, seed: int, *, retry_after: bool = False, delay: float = 0.05) -> World:
    """Sixteen workers and a network whose delay varies by a tenth."""
    way = (0.45 * delay, 0.55 * delay)
    return World(server, workers=16, way_there=way, way_back=way, lateness=0.003, retry_after=retry_after, seed=seed)


def mean_use(courses: list[Course], per_second: float) -> float:
    return sum(min(1.0, course.use(per_second)) for course in courses) / len(courses)


def worst(courses: list[Course]) -> float:
    return max(course.refusal_share for course in courses)


# The last two columns: the share to be used without Retry-After, and with it. A Retry-After of one second, the least
# that can be told, where a tenth of it would do, costs what no pacing can win back.
GRID = [
    ("fixed 5 a second", fixed(5, 1), 5, 0.95, 0.92),
    ("fixed 10 a second", fixed(10, 1), 10, 0.95, 0.89),
    ("sliding 10 a second", sliding(10, 1), 10, 0.92, 0.88),
    ("sliding 100 in 10 s", sliding(100, 10), 10, 0.91, 0.92),
    ("bucket of 20, 10 a second", bucket(10, 20), 10, 0.98, 0.98),
    ("bucket of 5, 10 a second", bucket(10, 5), 10, 0.98, 0.91),
    ("bucket of 5, 5 a second", bucket(5, 5), 5, 0.98, 0.95),
    ("nginx, 10 a second", bucket(10, 1), 10, 0.86, 0.81),
    ("fixed 300 in a minute", fixed(300, 60), 5, 0.97, 0.98),
    ("fixed 20 a second", fixed(20, 1), 20, 0.94, 0.86),
    ("fixed 50 a second", fixed(50, 1), 50, 0.92, 0.80),
    ("fixed 100 a second", fixed(100, 1), 100, 0.92, 0.75),
    ("sliding 20 a second", sliding(20, 1), 20, 0.90, 0.86),
    ("sliding 50 a second", sliding(50, 1), 50, 0.86, 0.80),
    ("sliding 100 a second", sliding(100, 1), 100, 0.80, 0.74),
    ("bucket of 20, 20 a second", bucket(20, 20), 20, 0.98, 0.96),
    ("bucket of 20, 50 a second", bucket(50, 20), 50, 0.98, 0.81),
    ("bucket of 20, 100 a second", bucket(100, 20), 100, 0.96, 0.68),
    ("bucket of 5, 20 a second", bucket(20, 5), 20, 0.96, 0.85),
    ("bucket of 5, 50 a second", bucket(50, 5), 50, 0.92, 0.74),
    ("bucket of 5, 100 a second", bucket(100, 5), 100, 0.79, 0.56),
    ("nginx, 20 a second", bucket(20, 1), 20, 0.79, 0.71),
    ("sliding 250 in 5 s", sliding(250, 5), 50, 0.84, 0.86),
    ("fixed 250 in 5 s", fixed(250, 5), 50, 0.92, 0.96),
    ("sliding 100 in 5 s", sliding(100, 5), 20, 0.91, 0.87),
    ("sliding 600 in a minute", sliding(600, 60), 10, 0.89, 0.98),
    ("fixed 600 in a minute", fixed(600, 60), 10, 0.97, 0.98),
]


@pytest.mark.parametrize("retry_after", [False, True], ids=["silent", "Retry-After"])
@pytest.mark.parametrize(
    ("server", "per_second", "silent", "told"), [row[1:] for row in GRID], ids=[r[0] for r in GRID]
)
def test_a_thousand_calls_use_an_unknown_limit_and_are_seldom_refused(server, per_second, silent, told, retry_after):
    courses = [
        run(Pacer(Rate(1_000)), world(server(seed), seed, retry_after=retry_after), calls=1_000) for seed in SEEDS
    ]
    assert mean_use(courses, per_second) >= (told if retry_after else silent)
    assert sum(course.refusal_share for course in courses) / len(courses) <= 0.035
    assert worst(courses) <= 0.05


@pytest.mark.parametrize("retry_after", [False, True], ids=["silent", "Retry-After"])
@pytest.mark.parametrize("server", [fixed(60, 60), sliding(60, 60)], ids=["fixed", "sliding"])
def test_a_window_that_refuses_for_most_of_a_minute_is_not_asked_all_the_time(server, retry_after):
    courses = [
        run(Pacer(Rate(1_000)), world(server(seed), seed, retry_after=retry_after), calls=1_000) for seed in SEEDS
    ]
    assert mean_use(courses, 1) >= 0.94
    assert worst(courses) <= 0.045


@pytest.mark.parametrize("delay", [0.01, 0.2])
@pytest.mark.parametrize("server", [fixed(50, 1), sliding(50, 1), bucket(50, 20)], ids=["fixed", "sliding", "bucket"])
def test_a_limit_is_found_in_any_network(server, delay):
    courses = [run(Pacer(Rate(1_000)), world(server(seed), seed, delay=delay), calls=1_000) for seed in SEEDS]
    assert mean_use(courses, 50) >= 0.75
    assert worst(courses) <= 0.05


@pytest.mark.parametrize(
    ("server", "per_second"),
    [(bucket(20, 6), 20), (fixed(50, 1), 50), (fixed(20, 1), 20)],
    ids=["nginx with burst=5", "fixed 50 a second", "fixed 20 a second"],
)
def test_auto_uses_most_of_a_limit_over_a_minute(server, per_second):
    courses = [run(Pacer(Rate.AUTO), world(server(seed), seed), until=60.0) for seed in SEEDS]
    assert min(course.use(per_second) for course in courses) >= 0.85
    assert worst(courses) <= 0.03


@pytest.mark.parametrize("ceiling", [Rate(1_000), Rate.AUTO], ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_limit_that_changes_is_followed_both_ways(ceiling, seed):
    phases = (0.0, FixedWindow(50, 1)), (40.0, FixedWindow(20, 1)), (80.0, FixedWindow(50, 1))
    course = run(Pacer(ceiling), world(Changing(*phases), seed), until=120.0)
    assert course.accepted_between(42, 47) >= 75
    assert sum(40 <= at < 45 for at in course.refused) <= 20
    assert course.accepted_between(105, 115) >= 400


# Refusals for no reason of rate


class Whims(Unadvertised):
    """Refuses at random, independent of the rate."""

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.random = share, random.Random(seed)

    def admit(self, now: float) -> float | None:  # noqa: ARG002 - a server is told
        return 0.5 if self.random.random() < self.share else None


@pytest.mark.parametrize("per_second", [10, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_refusals_by_chance_do_not_keep_the_rate_low_for_long(per_second, seed):
    course = run(Pacer(Rate(per_second)), world(Whims(0.05, seed), seed), until=180.0)
    assert course.accepted_between(120, 180) >= 0.65 * 60 * per_second
