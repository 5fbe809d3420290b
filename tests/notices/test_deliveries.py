"""Notices in threads of their own: in order, and never longer than the limit."""

import threading
from functools import partial
from itertools import count

import pytest

from telemetron_batch.notices.deliveries import LIMIT_S, Delivered, Deliveries


def _wait(gate: threading.Event) -> None:
    gate.wait()


def test_all_notices_together_may_take_ten_seconds() -> None:
    assert LIMIT_S == 10


def test_what_became_of_each_notice_is_told_in_order() -> None:
    deliveries = Deliveries()
    deliveries.begin("one", lambda: None)
    deliveries.begin("two", lambda: "it is closed")
    assert deliveries.finish() == [Delivered("one", None), Delivered("two", "it is closed")]
    assert deliveries.finish() == []


def test_an_exception_is_a_problem() -> None:
    def fail() -> str | None:
        raise ValueError("no\nsuch")

    deliveries = Deliveries()
    deliveries.begin("one", fail)
    assert deliveries.finish() == [Delivered("one", "ValueError: no such")]


def test_a_notice_waits_for_those_that_it_comes_after_even_if_they_fail() -> None:
    began, gate, order = count(), threading.Event(), []

    def first() -> str | None:
        gate.wait()
        order.append(("first", next(began)))
        return "failed"

    deliveries = Deliveries()
    one = deliveries.begin("first", first)
    deliveries.begin("second", lambda: order.append(("second", next(began))), [one])
    gate.set()
    assert [each.what for each in deliveries.finish()] == ["first", "second"]
    assert order == [("first", 0), ("second", 1)]


def test_a_notice_that_hangs_is_given_up_and_the_others_are_not() -> None:
    gate = threading.Event()
    deliveries = Deliveries(limit_s=0.05)
    deliveries.begin("hangs", partial(_wait, gate))
    deliveries.begin("works", lambda: None)
    delivered = {one.what: one.problem for one in deliveries.finish()}
    gate.set()
    assert delivered == {"hangs": "not sent within 0.05 s", "works": None}


def test_the_threads_do_not_keep_a_process_from_ending() -> None:
    gate = threading.Event()
    deliveries = Deliveries(limit_s=0)
    deliveries.begin("hangs", partial(_wait, gate))
    [thread] = [one for one in threading.enumerate() if one.name == "notice: hangs"]
    gate.set()
    assert thread.daemon


def test_an_interrupt_ends_the_wait_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    deliveries, gate = Deliveries(), threading.Event()
    deliveries.begin("hangs", partial(_wait, gate))
    monkeypatch.setattr("telemetron_batch.notices.deliveries.wait", interrupted)
    assert deliveries.finish() == [Delivered("hangs", "not sent within 10 s")]
    gate.set()
