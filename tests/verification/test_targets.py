"""Finding the customers to query: a large run keeps neither the event loop nor a stop waiting."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from telemetron_batch.api.attempt_gate import StopSignal
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import VerifyError
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.journal import reader
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import JournalReader
from telemetron_batch.run.locking import open_journal
from telemetron_batch.run.replan import replan_from_journal
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.scheduler import RunLimits
from telemetron_batch.storage.spill import Scratch
from telemetron_batch.verification import verify
from telemetron_batch.verification.targets import Targets, find_targets
from tests.conftest import Desk

CUSTOMERS = [f"user{number:02}@x.com" for number in range(12)]
ROWS = [(customer, "SN-1", "assign") for customer in CUSTOMERS]
PATIENCE_S = 30
"""How long a thread waits for what must come, before the test fails."""


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the answers one by one, as if each were as large as a batch."""
    monkeypatch.setattr(reader, "_BATCH_BYTES", 1)


def before_each_batch(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> list[int]:
    """Call `act` with the number of each batch of answers before it is read; return the list of these numbers."""
    read: list[int] = []
    answers = JournalReader.answers

    def acting(journal: JournalReader) -> Iterator[Any]:
        for number, batch in enumerate(answers(journal)):
            act(number)
            read.append(number)
            yield batch

    monkeypatch.setattr(JournalReader, "answers", acting)
    return read


def targets_of(desk: Desk, journal: Journal, stop_signal: StopSignal) -> Any:
    plan = replan_from_journal(journal, Scratch(desk.folder / "scratch"))
    return find_targets(plan, journal, RunLimits(concurrency=1), stop_signal)


@pytest.mark.usefixtures("small_batches")
def test_the_event_loop_goes_on_while_the_answers_are_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = desk.run(ROWS).folder
    turns, turned = [0], threading.Event()

    def wait_for_a_turn_of_the_loop(_: int) -> None:
        turned.clear()
        assert turned.wait(PATIENCE_S), "the event loop is blocked"

    async def count_turns() -> None:
        while True:
            turns[0] += 1
            turned.set()
            await asyncio.sleep(0)

    async def find(journal: Journal) -> Targets | None:
        counting = asyncio.create_task(count_turns())
        targets: Targets | None = await targets_of(desk, journal, StopSignal())
        counting.cancel()
        return targets

    with open_journal(folder) as journal:
        before_each_batch(monkeypatch, wait_for_a_turn_of_the_loop)
        targets = asyncio.run(find(journal))
    assert targets is not None
    assert [customer for _, customer in targets.remaining] == CUSTOMERS
    assert turns[0] >= len(CUSTOMERS)


@pytest.mark.usefixtures("small_batches")
def test_a_stop_ends_the_work_at_the_next_batch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = desk.run(ROWS).folder

    async def find(journal: Journal) -> tuple[Targets | None, list[int]]:
        stop_signal, loop, stopped = StopSignal(), asyncio.get_running_loop(), threading.Event()

        def deadline_passes() -> None:
            stop_signal.set(Stop(StopReason.DEADLINE))
            stopped.set()

        def act(number: int) -> None:
            if number == 3:
                loop.call_soon_threadsafe(deadline_passes)
                assert stopped.wait(PATIENCE_S), "the event loop is blocked"

        read = before_each_batch(monkeypatch, act)
        return await targets_of(desk, journal, stop_signal), read

    with open_journal(folder) as journal:
        targets, read = asyncio.run(find(journal))
    assert targets is None
    assert max(read) < len(CUSTOMERS) - 1


@pytest.mark.usefixtures("small_batches")
def test_verify_that_is_stopped_meanwhile_queries_nobody_and_the_next_one_does(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, token, stopped = desk.run(ROWS), CancelToken(), threading.Event()
    sent = len(desk.server.seen)
    desk.face.interrupt = token
    stop = StopSignal.set

    def stop_and_tell(stop_signal: StopSignal, reason: Stop) -> None:
        stop(stop_signal, reason)
        stopped.set()

    def act(number: int) -> None:
        if number == 3:
            token.cancel("stopped by SIGTERM")
            assert stopped.wait(PATIENCE_S), "the event loop is blocked"

    with monkeypatch.context() as patch:
        patch.setattr(StopSignal, "set", stop_and_tell)
        before_each_batch(patch, act)
        with pytest.raises(VerifyError, match="SIGTERM"):
            desk.verify(ran)
    with open_journal(ran.folder) as journal:
        assert journal.fact(Fact.VERIFY) is None
    assert len(desk.server.seen) == sent
    desk.face = RunObserver()
    assert {row["verified"] for row in desk.verify(ran).rows} == {"yes"}


def test_a_run_whose_deadline_passes_meanwhile_stops_and_continues_with_the_same_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = verify.find_targets

    async def stop_first(plan: Any, journal: Any, limits: Any, stop_signal: StopSignal) -> Any:
        stop_signal.set(Stop(StopReason.DEADLINE))
        return await find(plan, journal, limits, stop_signal)

    with monkeypatch.context() as patch:
        patch.setattr(verify, "find_targets", stop_first)
        stopped = desk.run(ROWS, verify=True)
    assert stopped.summary.exit_code == 3
    assert desk.run(ROWS, verify=True).summary.exit_code == 0
    assert {row["verified"] for row in desk.run(ROWS, verify=True).rows} == {"yes"}
