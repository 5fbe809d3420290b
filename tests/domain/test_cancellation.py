"""A run can be cancelled from outside with its CancelToken."""

import pytest

from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import LockedError
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.journal.layout import LOCK_NAME
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.lock import Lock, LockOwner
from tests.conftest import Desk


class Held(RunObserver):
    """An observer with a cancel token."""

    def __init__(self) -> None:
        self.interrupt = CancelToken()


def test_a_cancelled_run_stops_and_the_next_continues_it(desk: Desk) -> None:
    desk.face = Held()
    interrupt = desk.face.interrupt
    assert interrupt is not None
    desk.server.script = lambda seen: interrupt.cancel("enough") if seen.number == 3 else None
    rows = [(f"c{number}@x.com", f"d{number}", "assign") for number in range(30)]
    first = desk.run(rows, allow_suspect=True)
    assert (first.summary.exit_code, first.json["stop"]["reason"]) == (ExitCode.STOPPED, "enough")
    assert 3 <= len(desk.server.seen) < 30
    desk.face = RunObserver()
    assert desk.run(rows, allow_suspect=True).outcomes.count(Outcome.NOT_SENT) == 0
    assert len(desk.server.seen) == 30


def test_a_run_cancelled_before_sending_sends_nothing(desk: Desk) -> None:
    desk.face = Held()
    assert desk.face.interrupt is not None
    desk.face.interrupt.cancel("never mind")
    assert desk.run([("a@x.com", "d1", "assign")]).outcomes == [Outcome.NOT_SENT]
    assert desk.server.seen == []


def test_waiting_for_another_run_can_be_cancelled(desk: Desk) -> None:
    desk.face = Held()
    assert desk.face.interrupt is not None
    desk.face.interrupt.cancel("never mind")
    folder = desk.folder / "reports" / "r1"
    other = Lock.acquire(folder / LOCK_NAME, LockOwner(1, "now", "r1"), "run r1")
    try:
        before = desk.clock.wall()
        with pytest.raises(LockedError):
            desk.run([("a@x.com", "d1", "assign")], wait="1h")
        assert desk.clock.wall() - before < 10
    finally:
        other.release()


def test_a_refused_process_leaves_the_lock_of_the_holder(desk: Desk) -> None:
    folder = desk.folder / "reports" / "r1"
    other = Lock.acquire(folder / LOCK_NAME, LockOwner(1, "now", "r1"), "run r1")
    try:
        with pytest.raises(LockedError):
            desk.run([("a@x.com", "d1", "assign")])
        assert (folder / LOCK_NAME).exists()
    finally:
        other.release()


def test_only_the_first_reason_counts_and_callbacks_run_once() -> None:
    interrupt, heard = CancelToken(), []
    with interrupt.on_cancel(lambda: heard.append(1)):
        interrupt.cancel("first")
        interrupt.cancel("second")
    with interrupt.on_cancel(lambda: heard.append(2)):
        pass
    assert (interrupt.reason, heard) == ("first", [1, 2])
