"""Lost commits are detected, whatever was damaged; a journal after a crash is accepted."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.errors import DiskError, JournalError
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.journal import journal as journal_module
from telemetron_batch.journal.connection import connect
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.reader import RecordedAnswer
from telemetron_batch.journal.schema import AttemptEnd
from telemetron_batch.journal.takeover import replace_with_copy
from telemetron_batch.journal.witness import witness_of
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.run import pipeline
from telemetron_batch.run.listing import list_runs
from telemetron_batch.sharding.report import report_run
from tests.conftest import ENVIRON, Desk, Ran
from tests.journal.test_journal import killed
from tests.support.builders import planned, settle

A = "a@x.com"
CALLS = 12
FILES = ("", "-wal", "-witness")


def beside(journal: Path, tail: str) -> Path:
    return journal.with_name(journal.name + tail)


def copied(journal: Path, folder: Path, tails: tuple[str, ...] = FILES) -> Path:
    """Copy the files of a journal as a kill would leave them now, to another folder."""
    folder.mkdir(exist_ok=True)
    for tail in tails:
        beside(folder / JOURNAL_NAME, tail).unlink(missing_ok=True)
        if beside(journal, tail).exists():
            shutil.copyfile(beside(journal, tail), beside(folder / JOURNAL_NAME, tail))
    return folder / JOURNAL_NAME


def content(journal: Journal) -> list[Any]:
    """Return all records about what was sent."""
    calls = range(1, CALLS + 1)
    attempts = [journal.attempts_of(call) for call in calls]
    return [attempts, [*journal.recorded_answers()], journal.fact("count"), [*journal.all_holdings()]]


def seen_in(journal: Path) -> tuple[list[Any], int]:
    """Return the records of a journal, and its minimum number of lost records."""
    with closing(Journal(journal)) as one:
        return content(one), one.records_lost


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Yield copies of a journal after each of its commits, with some checkpoints in between."""
    folder = tmp_path_factory.mktemp("states")
    path = folder / JOURNAL_NAME
    JournalDraft(path).publish({"runId": "r1", "count": 0})
    found: list[Path] = []

    def keep() -> None:
        found.append(copied(path, folder / str(len(found))))

    def often_folded(journal: Path) -> sqlite3.Connection:
        connection = connect(journal)
        connection.execute("PRAGMA wal_autocheckpoint=40")
        return connection

    async def fill(journal: Journal) -> None:
        for call in range(1, CALLS + 1):
            await journal.record_holdings(f"{call}@x.com", ["SN-1"])
            keep()
            attempt = await journal.record_start(call, tuple(range(300)), float(call))
            keep()
            if call % 3 == 0:
                await journal.record_end(attempt, AttemptEnd("refused", "Throttled", 429), call + 0.5)
            else:
                done = Answer({0: DeviceResult(Outcome.ASSIGNED, text="x" * 50)})
                await journal.record_end(
                    attempt, AttemptEnd("answered", "Reply", 200), 9.0, RecordedAnswer(call, done, True)
                )
            keep()
            if call % 4 == 0:
                held = Answer({0: DeviceResult(Outcome.HELD)})
                await journal.record_results(RecordedAnswer(call, held, came_from_attempt=False))
                keep()
            if call % 5 == 0:
                journal.delete_results([number for number, _ in journal.results_without_attempt()])
                keep()
            if call % 6 == 0:
                journal.set_facts(count=call)
                keep()

    with pytest.MonkeyPatch.context() as patch, closing(Journal(path)) as journal:
        patch.setattr(journal_module, "connect", often_folded)
        keep()
        journal.set_facts(count=-1)
        keep()
        asyncio.run(fill(journal))
        yield found


def test_the_state_after_each_kill_is_accepted(states: list[Path], tmp_path: Path) -> None:
    assert len(states) > 3 * CALLS
    for state in states:
        assert seen_in(copied(state, tmp_path / "one"))[1] == 0


def test_any_older_witness_after_a_power_loss_is_accepted(states: list[Path], tmp_path: Path) -> None:
    for at, state in enumerate(states):
        for former in [*states[:at:5], *states[max(0, at - 2) : at]]:
            path = copied(state, tmp_path / "one", ("", "-wal"))
            beside(path, "-witness").unlink(missing_ok=True)
            if witness_of(former).exists():
                shutil.copyfile(witness_of(former), witness_of(path))
            assert seen_in(path)[1] == 0


@pytest.mark.parametrize(
    "spoil", [lambda _: b"", lambda text: bytes(len(text)), lambda text: text[:10], lambda _: b"?"]
)
def test_a_missing_or_damaged_witness_is_ignored(
    spoil: Callable[[bytes], bytes], states: list[Path], tmp_path: Path
) -> None:
    path = copied(states[5], tmp_path / "one")
    witness = witness_of(states[-1])
    witness_of(path).write_bytes(spoil(witness.read_bytes()))
    assert seen_in(path)[1] == 0
    witness_of(path).unlink()
    assert seen_in(path)[1] == 0
    assert not witness_of(path).exists()


def test_the_complete_one_of_two_records_counts(states: list[Path], tmp_path: Path) -> None:
    path = copied(states[5], tmp_path / "one")
    text = witness_of(states[-1]).read_bytes()
    for torn in (b"?" * 20 + text[20:], text[:-50] + b"?" * 50):
        copied(states[5], tmp_path / "one")
        witness_of(path).write_bytes(torn)
        assert seen_in(path)[1] > 0


def test_a_journal_behind_its_witness_reports_lost_records(states: list[Path], tmp_path: Path) -> None:
    for at, state in enumerate(states[:-1]):
        for later in (*states[at + 1 : at + 4], states[-1]):
            path = copied(state, tmp_path / "one", ("", "-wal"))
            shutil.copyfile(witness_of(later), witness_of(path))
            assert seen_in(path)[1] > 0, at


DAMAGE = st.sampled_from(["lost", "cut", "garbled", "old file", "old file, log lost", "other log"])


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data(), DAMAGE, st.floats(0, 1), st.binary(min_size=1, max_size=200))
def test_no_damage_goes_unnoticed(
    states: list[Path], tmp_path: Path, data: st.DataObject, damage: str, where: float, garbage: bytes
) -> None:
    at = data.draw(st.integers(2, len(states) - 1))
    former = states[data.draw(st.integers(0, at - 1))]
    truth, _ = seen_in(copied(states[at], tmp_path / "whole"))
    path = copied(states[at], tmp_path / "damaged")
    log = beside(path, "-wal")
    text = log.read_bytes()
    offset = int(where * len(text))
    if damage == "cut":
        log.write_bytes(text[:offset])
    elif damage == "garbled":
        log.write_bytes((text[:offset] + garbage + text[offset + len(garbage) :])[: len(text)])
    elif damage == "lost":
        log.unlink()
    else:
        if damage.startswith("old file"):
            shutil.copyfile(former, path)
        log.unlink()
        if damage != "old file, log lost" and beside(former, "-wal").exists():
            shutil.copyfile(beside(former, "-wal"), log)
    try:
        found, lost = seen_in(path)
    except (JournalError, DiskError):
        return
    assert (found == truth) == (lost == 0), (damage, at, lost)


def test_a_file_with_a_partial_checkpoint_of_a_lost_log_is_detected(states: list[Path], tmp_path: Path) -> None:
    opened = 0
    for state in states[-1:0:-6]:
        whole = copied(state, tmp_path / "whole")
        (attempts, answers, *_), _ = seen_in(whole)
        before, after = state.read_bytes(), whole.read_bytes()
        for pages in range(len(after) // 4096):
            path = copied(state, tmp_path / "one", ("", "-witness"))
            beside(path, "-wal").unlink(missing_ok=True)
            path.write_bytes(after[: pages * 4096] + before[pages * 4096 :])
            try:
                found, lost = seen_in(path)
            except JournalError:
                continue
            opened += 1
            assert lost > 0 or found[:2] == [attempts, answers], pages
    assert opened > 0


def test_a_log_lost_after_a_kill_is_detected(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    JournalDraft(path).publish({})
    killed("j = Journal(path)\nasync def fill():\n for n in range(9): await j.record_start(n, None, 1.0)\n"
           "asyncio.run(fill())", path)  # fmt: skip
    assert seen_in(copied(path, tmp_path / "whole"))[1] == 0
    beside(path, "-wal").unlink()
    beside(path, "-shm").unlink()
    with closing(Journal(path)) as journal:
        assert journal.records_lost >= 9
        with pytest.raises(JournalError, match=r"lost at least \d+ records: rows may have been sent without a record"):
            journal.require_complete()


def test_lost_records_stay_known_after_more_writes(states: list[Path], tmp_path: Path) -> None:
    path = copied(states[5], tmp_path / "one")
    shutil.copyfile(witness_of(states[-1]), witness_of(path))
    lost = seen_in(path)[1]
    for at in range(40):
        with closing(Journal(path)) as journal:
            journal.set_facts(count=at)
            asyncio.run(journal.record_start(1, None, 1.0))
    assert seen_in(path)[1] == lost
    witness_of(path).unlink()
    assert seen_in(path)[1] == lost


def test_a_new_journal_ignores_the_witness_of_a_former_one(states: list[Path], tmp_path: Path) -> None:
    path = copied(states[-1], tmp_path / "one", ("-witness",))
    witness = witness_of(path).read_bytes()
    JournalDraft(path).publish({})
    assert not witness_of(path).exists()
    witness_of(path).write_bytes(witness)  # a power loss may bring it back
    assert seen_in(path)[1] == 0


def test_reading_does_not_change_the_witness(states: list[Path], tmp_path: Path) -> None:
    path = copied(states[5], tmp_path / "one")
    before = witness_of(path).stat()
    seen_in(path)
    after = witness_of(path).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


# A journal that was set apart


def test_a_late_write_of_a_former_owner_does_not_reach_the_new_witness(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    JournalDraft(path).publish({"count": 0})
    former = Journal(path)
    former.set_facts(count=1)
    replace_with_copy(path)
    for at in range(5):
        former.set_facts(count=at)
    assert seen_in(path)[1] == 0
    with closing(Journal(path)) as newer:
        newer.set_facts(count=2)
        former.set_facts(count=3)
    assert seen_in(path)[1] == 0


def test_a_copied_journal_still_reports_its_lost_records(states: list[Path], tmp_path: Path) -> None:
    path = copied(states[5], tmp_path / "one")
    shutil.copyfile(witness_of(states[-1]), witness_of(path))
    replace_with_copy(path)
    assert seen_in(path)[1] > 0


# A run whose journal has lost records


ROWS = [(f"u{number}@x.com", f"SN-{number}", "assign") for number in range(12)]


@pytest.fixture
def damaged(desk: Desk) -> Ran:
    """Return a stopped run whose journal was replaced by an older copy."""
    ran = desk.run(ROWS, rate="1/s", deadline="3s")
    older = (ran.folder / JOURNAL_NAME).read_bytes()
    desk.run(ROWS, rate="1/s", deadline="3s")
    (ran.folder / JOURNAL_NAME).write_bytes(older)
    return ran


def test_a_run_with_lost_records_is_not_continued(desk: Desk, damaged: Ran) -> None:
    sent = len(desk.server.seen)
    with pytest.raises(JournalError, match="rows may have been sent without a record; report the run") as refusal:
        desk.run(ROWS)
    assert (refusal.value.exit_code, "\n" in str(refusal.value)) == (2, False)
    with pytest.raises(JournalError, match="rows may have been sent"):
        pipeline.resume(damaged.folder, ENVIRON, observer=desk.face, clock=desk.clock)
    with pytest.raises(JournalError, match="rows may have been sent"):
        desk.verify(damaged)
    assert len(desk.server.seen) == sent


def test_unsent_rows_of_a_run_with_lost_records_are_unconfirmed(desk: Desk, damaged: Ran) -> None:
    for _ in range(2):
        ran = Ran(report_run(damaged.folder), damaged.folder, desk.server)
        assert set(ran.outcomes) == {"assigned", "unconfirmed"}
        assert ran.json["state"] == "stopped"
        assert ran.summary.exit_code == 3
        assert "rows may have been sent without a record" in ran.json["stop"]["reason"]
        assert "start again under another --run-id" in ran.json["stop"]["advice"]
        assert ran.json["balanced"]
        [line] = list_runs(desk.folder / "reports")
        assert (line.state, "has lost at least" in line.next_step) == ("incomplete", True)


def test_rows_that_may_have_been_sent_without_a_record_are_unconfirmed() -> None:
    def books() -> Ledger:
        books = Ledger(planned([(A, "SN-1", "assign"), ("b@x.com", "SN-2", "assign"), ("c@x.com", "SN-3", "assign")]))
        settle(books, (1, Answer({0: DeviceResult(Outcome.HELD)})), (2, Answer({0: DeviceResult(Outcome.FAILED)})))
        return books

    def outcomes(*unsure: Outcome) -> list[str]:
        closed = books().close("lost", unproven_outcomes=unsure)
        return [OUTCOMES[code] for code in closed.outcome.tolist()]

    assert outcomes() == ["held", "failed", "notSent"]
    assert outcomes(Outcome.NOT_SENT) == ["held", "failed", "unconfirmed"]
    assert outcomes(Outcome.NOT_SENT, Outcome.HELD) == ["unconfirmed", "failed", "unconfirmed"]


def test_publishing_a_run_with_lost_records_does_not_hide_the_loss(desk: Desk, tmp_path: Path) -> None:
    flags = {"rate": "1/s", "publish": str(tmp_path / "shown")}
    folder = desk.run(ROWS, deadline="3s", **flags).folder
    older = (folder / JOURNAL_NAME).read_bytes()
    desk.run(ROWS, deadline="3s", **flags)
    (folder / JOURNAL_NAME).write_bytes(older)
    for _ in range(15):
        report_run(folder)
    with pytest.raises(JournalError, match="rows may have been sent"):
        desk.run(ROWS, **flags)


def test_since_last_leaves_nothing_out_after_a_run_with_lost_records(desk: Desk) -> None:
    desk.run(ROWS, run_id="n1")
    desk.clock.monotonic += 3600
    folder = desk.run(ROWS, run_id="n2", since_last=True, again=True).folder
    older = (folder / JOURNAL_NAME).read_bytes()
    with closing(Journal(folder / JOURNAL_NAME)) as journal:
        asyncio.run(journal.record_start(1, None, 1.0))
    (folder / JOURNAL_NAME).write_bytes(older)
    desk.clock.monotonic += 3600
    ran = desk.run(ROWS, run_id="n3", since_last=True, again=True)
    assert ran.json["since"]["told"].startswith("everything is sent: ")
    assert "has lost at least 2 records" in ran.json["since"]["told"]
    assert "unchanged" not in ran.outcomes
