"""A call that was interrupted continues as if nothing had happened."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron_batch.api.attempt_gate import AttemptSlot, StopSignal
from telemetron_batch.api.classify import (
    CallRejected,
    DeviceRejected,
    ErrorResponse,
    FailureKind,
    NoUsableResponse,
    SideEffects,
    TooManyDevices,
    Transient,
)
from telemetron_batch.api.http_client import HttpResult
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.model import Call
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import RecordedAnswer
from telemetron_batch.journal.schema import AttemptEnd, EndState
from telemetron_batch.rate_limit.pacer import Permit
from telemetron_batch.sending.call_executor import CallExecutor
from telemetron_batch.sending.call_state import (
    ANSWERED,
    AttemptRecord,
    CallState,
    attempt_records,
    devices_named_in,
    halved,
    restore,
)
from telemetron_batch.sending.rejected_search import RejectedDeviceSearch
from telemetron_batch.storage import clock

NO_MAXIMUM = 1 << 30


def call_of(*devices: str) -> Call:
    return Call(1, 0, "a@b.c", Action.ASSIGN, devices)


def fresh(folder: Path) -> Journal:
    JournalDraft(folder / "journal.sqlite3").publish({})
    return Journal(folder / "journal.sqlite3")


def later(journal: Journal) -> Journal:
    """Reopen the journal as a later process does."""
    return Journal(journal._path)


def answer(*positions: int, outcome: Outcome = Outcome.ASSIGNED) -> Answer:
    return Answer({position: DeviceResult(outcome) for position in positions})


# Bookkeeping


def test_only_attempts_that_held_all_devices_count_for_them() -> None:
    tries = [
        AttemptRecord(frozenset({0, 1, 2}), True),
        AttemptRecord(frozenset({0}), True),
        AttemptRecord(frozenset({0, 1}), False),
    ]
    work = CallState(call_of("A", "B", "C"), RejectedDeviceSearch((0, 1, 2), 9), tries)
    assert [work.count_attempts(asked) for asked in ([0], [0, 1], [2], [])] == [(3, 2), (2, 1), (1, 1), (3, 2)]


def test_a_device_may_change_late_as_long_as_its_last_attempt_that_still_can_act() -> None:
    work = CallState(call_of("A"), RejectedDeviceSearch((0,), 9))
    assert (work.pending_since(), work.unclear_attempts()) == ({}, 0)
    work.attempts += attempt_records((0,), (), SideEffects.UNCLEAR, 1.0) + attempt_records(
        (0,), (), SideEffects.UNCLEAR, 2.0
    )
    work.attempts += attempt_records((0,), (), SideEffects.UNCLEAR_BUT_OVER, 3.0) + attempt_records(
        (0,), (), SideEffects.NOT_DONE, 4.0
    )
    assert (work.pending_since(), work.unclear_attempts()) == ({0: 2.0}, 3)


@pytest.mark.parametrize(("size", "half"), [(1, 1), (2, 1), (3, 1), (4, 2), (501, 250)])
def test_too_many_are_halved_down_to_one(size: int, half: int) -> None:
    assert halved(tuple(range(size))) == half


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("SN-1 is malformed", (0,)),
        ("devices SN-12, SN-1.", (0, 1)),
        ("SN-12 is malformed", (1,)),
        ("sn-1 is malformed", ()),
        ("XSN-1 and SN-1X", ()),
        ("A+B(c) is odd", (2,)),
        ("X is odd", ()),
        ("nothing", ()),
    ],
)
def test_a_device_is_named_by_a_text_that_has_its_identifier_as_a_word(text: str, positions: tuple[int, ...]) -> None:
    assert devices_named_in(call_of("SN-1", "SN-12", "A+B(c)", "X"), (0, 1, 2, 3), text) == positions


def test_only_devices_that_were_asked_for_can_be_named() -> None:
    assert devices_named_in(call_of("SN-1", "SN-2"), (1,), "SN-1 and SN-2") == (1,)


# Taking up


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    journal = fresh(tmp_path)
    yield journal
    journal.close()


def recorded(journal: Journal, *steps: tuple[tuple[int, ...] | None, AttemptEnd | None, tuple[int, ...]]) -> None:
    """Record attempts at call 1: requested positions, end and settled positions."""

    async def main() -> None:
        for at, (asked, ending, settled) in enumerate(steps):
            number = await journal.record_start(1, asked, float(at))
            settlement = RecordedAnswer(1, answer(*settled), came_from_attempt=True) if settled else None
            if ending is not None:
                await journal.record_end(number, ending, at + 0.5, settlement)

    asyncio.run(main())


REPLY = AttemptEnd(EndState.ANSWERED, ANSWERED, 200)
UNCLEAR = AttemptEnd(EndState.UNCLEAR, Transient.code, None, Reason.NO_ANSWER, "no answer")
SUSPECT = AttemptEnd(EndState.REFUSED, DeviceRejected.code, 400, Reason.DEVICE_REFUSED, "400: bad")
TOO_MANY = AttemptEnd(EndState.REFUSED, TooManyDevices.code, 413)


def test_a_call_that_the_journal_does_not_know_is_all_open(journal: Journal) -> None:
    work = restore(call_of("A", "B", "C"), later(journal), 2)
    assert (work.search.next(), set(work.search.open()), work.attempts) == ((0, 1), {0, 1, 2}, [])


def test_an_attempt_in_flight_is_made_again_and_counts_as_one_that_may_have_acted(journal: Journal) -> None:
    recorded(journal, (None, UNCLEAR, ()), (None, None, ()))
    work = restore(call_of("A", "B"), later(journal), NO_MAXIMUM)
    assert work.search.next() == (0, 1)
    assert work.count_attempts([0, 1]) == (2, 2)
    assert work.unclear_attempts() == 2


def test_a_settled_call_has_nothing_left_to_ask(journal: Journal) -> None:
    recorded(journal, (None, REPLY, (0, 1)))
    assert restore(call_of("A", "B"), later(journal), NO_MAXIMUM).search.next() is None


def test_a_device_left_out_is_asked_for_once_more_but_not_twice(journal: Journal) -> None:
    recorded(journal, (None, REPLY, (0,)))
    work = restore(call_of("A", "B"), later(journal), NO_MAXIMUM)
    assert work.search.next() == (1,)
    assert work.search.record_accepted((1,), (1,)) == (1,)


def test_the_search_for_a_refused_device_goes_on_where_it_stopped(journal: Journal) -> None:
    recorded(journal, (None, SUSPECT, ()))
    split = RejectedDeviceSearch((0, 1, 2, 3), NO_MAXIMUM)
    split.refused((0, 1, 2, 3), SUSPECT.text)
    assert restore(call_of("A", "B", "C", "D"), later(journal), NO_MAXIMUM).search.next() == split.next()


def test_a_part_that_was_refused_whole_stays_closed_and_the_other_part_is_asked(journal: Journal) -> None:
    skipped = AttemptEnd(EndState.REFUSED, CallRejected.code, 400, Reason.NO_VALID_DEVICES, "400: No valid devices")
    recorded(journal, (None, TOO_MANY, ()), ((0, 1), skipped, (0, 1)))
    assert restore(call_of("A", "B", "C", "D"), later(journal), NO_MAXIMUM).search.next() == (2, 3)


def test_a_refused_customer_leaves_nothing_of_the_call_open(journal: Journal) -> None:
    refused = AttemptEnd(EndState.REFUSED, CallRejected.code, 400, Reason.CUSTOMER_REFUSED, "400: Customer is blocked")
    recorded(journal, (None, TOO_MANY, ()), ((0, 1), refused, (0, 1, 2, 3)))
    assert restore(call_of("A", "B", "C", "D"), later(journal), NO_MAXIMUM).search.open() == ()


def test_what_was_given_up_stays_closed_and_the_rest_is_asked(journal: Journal) -> None:
    recorded(journal, ((0, 1), UNCLEAR, ()))
    asyncio.run(
        journal.record_results(RecordedAnswer(1, answer(0, 1, outcome=Outcome.UNCONFIRMED), came_from_attempt=False))
    )
    work = restore(call_of("A", "B", "C"), later(journal), NO_MAXIMUM)
    assert set(work.search.open()) == {2}


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [((1,), DeviceRejected.code), ((0, 2), TooManyDevices.code), ((2,), CallRejected.code), ((1, 2), ANSWERED)],
)
def test_a_history_that_does_not_fit_together_costs_no_device(
    asked: tuple[int, ...], verdict: str, journal: Journal
) -> None:
    recorded(journal, (None, SUSPECT, ()), (asked, AttemptEnd(EndState.REFUSED, verdict, 400, text="?"), ()))
    assert set(restore(call_of("A", "B", "C"), later(journal), NO_MAXIMUM).search.open()) == {0, 1, 2}


def test_a_result_without_an_attempt_keeps_its_devices_closed(journal: Journal) -> None:
    asyncio.run(journal.record_results(RecordedAnswer(1, answer(1), came_from_attempt=False)))
    assert set(restore(call_of("A", "B"), later(journal), NO_MAXIMUM).search.open()) == {0}


# Interrupted and resumed equals uninterrupted


class Killed(BaseException):
    """Ends the process between a request and its answer."""


class OpenGate:
    """A gate that lets every attempt leave at once."""

    def __init__(self) -> None:
        self.stop_signal, self.successes, self.ever_reached, self.is_down = StopSignal(), 0, True, True

    async def acquire(self, call: int) -> AttemptSlot:
        return AttemptSlot(call, Permit(0, 0.0, probe=False), while_down=False)

    async def before_send(self, *_: object) -> None:
        return

    def report(self, *_: object) -> None:
        return

    def counts_as_attempt(self, *_: object) -> bool:
        return True

    on_event = report


@dataclass
class Api:
    """Answers depend only on the request and the number of earlier requests, so that a run can be interrupted."""

    guilty: frozenset[str] = frozenset()
    text: str = "400"
    maximum: int = 99
    forgotten: frozenset[tuple[int, str]] = frozenset()
    """Devices that the answer to the request of this number omits."""
    trouble: dict[int, HttpResult] = field(default_factory=dict)
    """What happens to the request of this number instead of an answer."""
    killed_at: int | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def post(self, _: str, body: bytes, *__: object) -> HttpResult:
        devices = tuple(json.loads(body)["deviceIdentifiers"])
        number = len(self.asked)
        if number == self.killed_at:
            raise Killed
        self.asked.append(devices)
        return self.trouble.get(number) or self._answer(number, devices)

    def _answer(self, number: int, devices: Iterable[str]) -> HttpResult:
        guilty = sorted(self.guilty.intersection(devices))
        if len([*devices]) > self.maximum:
            return HttpResult(ErrorResponse(413, ""), status=413)
        if guilty:
            return HttpResult(ErrorResponse(400, self.text.format(guilty[0])), status=400)
        assigned = [device for device in devices if (number, device) not in self.forgotten]
        return HttpResult(None, json.dumps({"success": True, "assignedDevices": assigned}).encode(), 200)


TROUBLE = st.sampled_from(
    [
        HttpResult(NoUsableResponse(FailureKind.TIMEOUT, sent=True, text="no answer")),
        HttpResult(NoUsableResponse(FailureKind.CONNECTION, sent=False, text="refused")),
        HttpResult(ErrorResponse(500, "oh"), status=500),
        HttpResult(ErrorResponse(429, "slow"), status=429),
        HttpResult(None, b"<html>", 200),
        HttpResult(ErrorResponse(400, "Customer is blocked"), status=400),
        HttpResult(ErrorResponse(400, "No valid devices"), status=400),
    ]
)
DEVICES = tuple(f"SN-{number:02}" for number in range(20))


@st.composite
def apis(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "guilty": frozenset(draw(st.lists(st.sampled_from(DEVICES), max_size=20))),
        "text": draw(st.sampled_from(["bad", "{} is malformed"])),
        "maximum": draw(st.sampled_from([99, 99, 12, 5, 1])),
        "forgotten": frozenset(draw(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(DEVICES)), max_size=6))),
        "trouble": draw(st.dictionaries(st.integers(0, 30), TROUBLE, max_size=5)),
    }


async def settle(api: Api, call: Call, journal: Journal) -> None:
    client = CallExecutor(api.post, journal, OpenGate(), attempts=1000, wall=lambda: 1.0)  # type: ignore[arg-type]
    await client.settle(call)


def outcomes(journal: Journal) -> dict[int, Outcome]:
    return {
        position: result.outcome
        for settlement in journal.recorded_answers()
        for position, result in settlement.answer.results.items()
    }


@settings(max_examples=40, deadline=None)
@given(apis(), st.integers(2, 20), st.data())
def test_a_call_cut_off_anywhere_goes_on_with_the_same_requests_to_the_same_end(
    tmp_path_factory: pytest.TempPathFactory, terms: dict[str, Any], size: int, data: st.DataObject
) -> None:
    call = call_of(*DEVICES[:size])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "jitter", lambda: 0.0)
        whole, journal = Api(**terms), fresh(tmp_path_factory.mktemp("whole"))
        asyncio.run(settle(whole, call, journal))
        expected = outcomes(journal)
        journal.close()

        cut = data.draw(st.integers(0, len(whole.asked) - 1), "cut before the answer to request")
        api, journal = Api(**terms, killed_at=cut), fresh(tmp_path_factory.mktemp("cut"))
        with pytest.raises(Killed):
            asyncio.run(settle(api, call, journal))
        api.killed_at = None
        journal.close()
        journal = later(journal)
        asyncio.run(settle(api, call, journal))
        assert api.asked == whole.asked
        # What is refused after an attempt that was cut off may have been done by that.
        unsure = {Outcome.FAILED: Outcome.UNCONFIRMED, Outcome.SKIPPED: Outcome.UNCONFIRMED}
        ended = outcomes(journal)
        assert ended.keys() == expected.keys()
        assert all(ended[at] in (one, unsure.get(one)) for at, one in expected.items())
        assert set(expected) == set(range(size))
        assert len([*journal.unclear_attempts()]) >= 1
        journal.close()
