"""The journal keeps its records, tells which attempts may have acted, and refuses other files."""

import ast
import asyncio
import gc
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import telemetron_batch
from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.errors import DiskError, JournalError
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import OpenQuestion, Reason
from telemetron_batch.journal.codec import decode_batch
from telemetron_batch.journal.connection import migrate
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import RecordedAnswer
from telemetron_batch.journal.schema import APPLICATION_ID, SCHEMA_VERSION, AttemptEnd, EndState
from telemetron_batch.rows.rows import KEY_SCHEMA, RowBlock

ANSWERED = AttemptEnd(EndState.ANSWERED, "answered", 200)


def block(file: int, *lines: int) -> RowBlock:
    keys = [[*lines], ["a@b.c"] * len(lines), ["SN-ß"] * len(lines), [0] * len(lines)]
    texts = [
        [""] * len(lines),
        [""] * len(lines),
        [0] * len(lines),
        [""] * len(lines),
        [None] * len(lines),
        [0] * len(lines),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip([*keys, *texts], KEY_SCHEMA, strict=True)]
    cells = pa.RecordBatch.from_pydict({"0": ["a@b.c"] * len(lines), "1": [" SN-ß "] * len(lines)})
    return RowBlock(file, pa.RecordBatch.from_arrays(arrays, schema=KEY_SCHEMA), cells)


BLOCKS = (block(0, 2, 3), block(0, 4), block(1, 2))


def made(path: Path, *blocks: RowBlock, **meta: object) -> Path:
    draft = JournalDraft(path)
    for one in blocks:
        draft.append(one)
    draft.publish(meta)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return made(tmp_path / "journal.sqlite3", *BLOCKS, rows=4)


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close()


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The draft


def test_a_published_journal_has_the_input_and_the_facts(journal: Journal) -> None:
    assert [*journal.blocks()] == [*BLOCKS]
    assert [*journal.blocks(backwards=True)] == [*reversed(BLOCKS)]
    assert [*journal.key_columns()] == [(one.file, one.keys) for one in BLOCKS]
    assert (journal.fact("rows"), journal.fact("nothing"), journal.fact("nothing", 7)) == (4, None, 7)


def test_only_the_requested_cells_are_decoded(journal: Journal) -> None:
    some = [*journal.blocks(cells={0: [1]})]
    assert [(one.file, one.keys) for one in some] == [(one.file, one.keys) for one in BLOCKS]
    assert [one.cells.to_pydict() for one in some] == [{"1": [" SN-ß "] * 2}, {"1": [" SN-ß "]}, {}]
    assert [one.cells.to_pydict() for one in journal.blocks(cells={})] == [{}, {}, {}]


@pytest.mark.parametrize("codec", [None, "zstd", "lz4"])
def test_blocks_with_other_compression_are_decoded(codec: str | None) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, BLOCKS[0].keys.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as stream:
        stream.write_batch(BLOCKS[0].keys)
    assert decode_batch(sink.getvalue().to_pybytes()) == BLOCKS[0].keys


def test_a_published_journal_is_one_private_file(path: Path) -> None:
    assert names(path.parent) == ["journal.sqlite3"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_closed_journal_is_one_file_and_its_witness(path: Path) -> None:
    journal = Journal(path)
    journal.set_facts(state="ended")
    journal.close()
    assert names(path.parent) == ["journal.sqlite3", "journal.sqlite3-witness"]
    assert stat.S_IMODE(path.with_name("journal.sqlite3-witness").stat().st_mode) == 0o600


def test_a_discarded_draft_leaves_nothing(tmp_path: Path) -> None:
    draft = JournalDraft(tmp_path / "journal.sqlite3")
    draft.append(BLOCKS[0])
    draft.discard()
    assert names(tmp_path) == []


DIE = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
from pathlib import Path
from tests.journal.test_journal import *
path = Path(sys.argv[1])
"""


def killed(script: str, path: Path) -> None:
    """Run a script in another process, which kills itself."""
    command = [sys.executable, "-c", DIE + script + "\nos.kill(os.getpid(), signal.SIGKILL)", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_a_draft_of_a_killed_process_is_no_journal_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    killed("draft = JournalDraft(path); draft.append(BLOCKS[0])", path)
    assert not path.exists()
    made(path, BLOCKS[1])
    with closing(Journal(path)) as journal:
        assert [*journal.blocks()] == [BLOCKS[1]]
    assert names(tmp_path) == ["journal.sqlite3"]


# What is refused


def no_database(path: Path) -> None:
    path.write_bytes(b"line,customerEmail\n" * 100)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def somebody_elses(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def cut_in_the_head(path: Path) -> None:
    os.truncate(path, 70)


def damaged(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))


def without_tables(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def of_another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_database, "is not a journal of telemetron-batch"),
        (nothing, "is not a journal of telemetron-batch"),
        (somebody_elses, "is not a journal of telemetron-batch"),
        (cut_in_the_head, "is not a journal of telemetron-batch"),
        (cut_short, "is cut short"),
        (damaged, "is damaged"),
        (without_tables, "is damaged"),
        (of_another_version, "was written by a newer version of telemetron-batch"),
    ],
)
def test_a_file_that_is_no_journal_is_refused_unchanged(spoil: Callable[[Path], None], words: str, path: Path) -> None:
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(JournalError) as refusal:
        Journal(path)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert (path.read_bytes(), names(path.parent)) == (before, ["journal.sqlite3"])


def test_a_missing_journal_is_reported_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        Journal(tmp_path / "journal.sqlite3")
    assert names(tmp_path) == []


def test_a_journal_of_another_version_keeps_its_log(path: Path) -> None:
    killed("Journal(path).set_facts(state='cut off')", path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    killed("sqlite3.connect(path).execute(\"INSERT INTO meta VALUES ('theirs', '1')\").connection.commit()", path)
    before = path.read_bytes()
    with pytest.raises(JournalError):
        Journal(path)
    gc.collect()  # for the connection that was left behind
    assert path.read_bytes() == before


def test_a_journal_survives_a_kill_during_the_checkpoint(path: Path) -> None:
    script = (
        "j = Journal(path)\nasync def fill():\n for _ in range(50): await j.record_start(1, tuple(range(2000)), 1.0)\n"
    )
    killed(script + "asyncio.run(fill())", path)
    before, log = path.read_bytes(), path.with_name(path.name + "-wal").read_bytes()
    Journal(path).close()
    after = path.read_bytes()
    # SQLite folds the log in page by page, from the first: this is how a kill after one page leaves it.
    path.write_bytes(after[:4096] + before[4096:])
    path.with_name(path.name + "-wal").write_bytes(log)
    with closing(Journal(path)) as journal:
        assert len(journal.attempts_of(1)) == 50


# Attempts


def test_an_attempt_is_recorded_before_its_end(journal: Journal) -> None:
    assert run(journal.record_start(3, (0, 2), 11.5)) == 1
    (attempt,) = journal.attempts_of(3)
    assert (attempt.number, attempt.call, attempt.positions, attempt.started) == (1, 3, (0, 2), 11.5)
    assert (attempt.ending, attempt.verdict, attempt.text) == (None, None, "")


@pytest.mark.parametrize(("ending", "may_have_acted"), [(one, one is EndState.UNCLEAR) for one in EndState])
def test_the_ending_of_an_attempt_tells_whether_it_may_have_acted(
    ending: EndState, may_have_acted: bool, journal: Journal
) -> None:
    number = run(journal.record_start(3, None, 11.5))
    why = "" if ending == "answered" else "why"
    run(journal.record_end(number, AttemptEnd(ending, "verdict", 418, Reason.DEVICE_REFUSED, why), 12.0))
    (attempt,) = journal.attempts_of(3)
    assert (attempt.positions, attempt.ending, attempt.verdict, attempt.text) == (None, ending, "verdict", why)
    assert attempt.may_have_acted is may_have_acted
    assert [*journal.unclear_attempts()] == [attempt] * may_have_acted


def test_an_attempt_with_an_incomplete_answer_is_unclear(journal: Journal) -> None:
    number = run(journal.record_start(3, None, 11.5))
    run(journal.record_end(number, replace(ANSWERED, omitted=2), 12.0))
    assert [attempt.number for attempt in journal.unclear_attempts()] == [number]


def test_an_attempt_whose_process_died_may_have_acted(path: Path) -> None:
    killed("asyncio.run(Journal(path).record_start(7, None, 11.5))", path)
    with closing(Journal(path)) as journal:
        (attempt,) = journal.unclear_attempts()
        assert (attempt.call, attempt.ending, attempt.may_have_acted) == (7, None, True)


def test_attempts_have_counts_and_times(journal: Journal) -> None:
    assert (journal.attempt_totals(), journal.attempt_span()) == ((0, 0, 0), None)

    async def main() -> None:
        endings = [
            AttemptEnd(EndState.REFUSED, "throttled", 429),
            AttemptEnd(EndState.UNCLEAR, "throttled", 503),
            ANSWERED,
        ]
        for at, ending in enumerate(endings):
            await journal.record_end(await journal.record_start(1, None, 10.0 + at), ending, 20.0)
        await journal.record_start(1, None, 15.0)

    run(main())
    assert (journal.attempt_totals(), journal.attempt_span()) == ((4, 2, 2), (10.0, 15.0))


def test_an_unknown_ending_is_refused(journal: Journal) -> None:
    number = run(journal.record_start(1, None, 1.0))
    with pytest.raises(DiskError):
        run(journal.record_end(number, AttemptEnd("perhaps", "answered"), 2.0))


# Answers

RESULTS = st.builds(
    DeviceResult,
    st.sampled_from(Outcome),
    st.text(),
    st.none() | st.booleans(),
    st.sampled_from(Reason),
    st.text(),
    st.sampled_from(OpenQuestion),
)
ANSWERS = st.builds(
    Answer,
    st.dictionaries(st.integers(0, 10_000), RESULTS),
    st.text(),
    st.none() | st.booleans(),
    st.none() | st.integers(100, 599),
    st.integers(0, 100),
    st.integers(0, 100),
    st.none() | st.floats(0, 2e9),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), ANSWERS), max_size=5))
def test_answers_are_read_unchanged_in_the_order_of_recording(
    tmp_path_factory: pytest.TempPathFactory, answers: list[tuple[int, Answer]]
) -> None:
    journal = Journal(made(tmp_path_factory.mktemp("run") / "journal.sqlite3"))
    recorded_answers = [RecordedAnswer(call, answer, came_from_attempt=False) for call, answer in answers]

    async def main() -> None:
        for settlement in recorded_answers:
            await journal.record_results(settlement)

    run(main())
    assert [*journal.recorded_answers()] == recorded_answers
    assert told_at_once(journal) == answers
    settled, results = journal.settled_of(9), [(call, one) for call, told in answers for one in told.results.values()]
    assert settled.devices.tolist() == [sum(of == call for of, _ in results) for call in range(1, 10)]
    assert settled.outcomes == Counter(one.outcome for _, one in results)
    journal.close()


def told_at_once(journal: Journal) -> list[tuple[int, Answer]]:
    """Return every answer with its call, from the columns of `JournalReader.answers`."""
    found = []
    for calls, answers in journal.answers():
        for call, fields in zip(calls.tolist(), answers.to_pylist(), strict=True):
            count = len(fields["positions"])
            columns = [fields["deviceIds"], fields["created"], *(fields[name] or [0] * count for name in ("reasons",))]
            columns += [fields["texts"] or [""] * count, fields["unheard"] or [0] * count]
            results = map(DeviceResult, [OUTCOMES[code] for code in fields["outcomes"]], *columns)
            told = ("customerId", "customerWasCreated", "httpStatus", "attempts", "unclearAttempts", "answeredAt")
            one = Answer(dict(zip(fields["positions"], results, strict=True)), *(fields[name] for name in told))
            found.append((call, one))
    return found


def answer(*positions: int) -> Answer:
    return Answer({position: DeviceResult(Outcome.ASSIGNED) for position in positions})


def test_an_answer_is_recorded_with_the_attempt_that_brought_it(journal: Journal) -> None:
    async def main() -> None:
        number = await journal.record_start(3, None, 1.0)
        await journal.record_end(number, ANSWERED, 2.0, RecordedAnswer(3, answer(0, 2), came_from_attempt=True))
        await journal.record_end(number, ANSWERED, 2.0, RecordedAnswer(3, answer(1), came_from_attempt=False))
        await journal.record_results(RecordedAnswer(4, answer(5), came_from_attempt=False))

    run(main())
    assert journal.settled_positions(3) == [(1, (0, 2)), (None, (1,))]
    assert journal.settled_positions(9) == []
    settled = [(settlement.call, len(settlement.answer.results)) for settlement in journal.recorded_answers()]
    assert settled == [(3, 2), (3, 1), (4, 1)]
    assert [settlement.came_from_attempt for settlement in journal.recorded_answers()] == [True, False, False]


def test_an_ending_and_its_results_are_recorded_atomically(journal: Journal, path: Path) -> None:
    number = run(journal.record_start(3, None, 1.0))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON results BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(DiskError, match="disk full"):
        run(journal.record_end(number, ANSWERED, 2.0, RecordedAnswer(3, answer(0), came_from_attempt=True)))
    assert journal.attempts_of(3)[0].ending is None
    assert [*journal.recorded_answers()] == []


def test_after_a_failed_write_no_attempt_can_be_sent(journal: Journal, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON results BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(DiskError):
        run(journal.record_results(RecordedAnswer(3, answer(0), came_from_attempt=False)))
    with pytest.raises(DiskError, match="disk full"):
        run(journal.record_start(4, None, 1.0))
    assert journal.attempts_of(4) == []


# Events and facts


def test_events_are_kept_in_order_without_waiting(path: Path) -> None:
    journal = Journal(path)
    journal.record_event(1.5, "hold", "waiting")
    journal.record_event(2.5, "down", "Zoë\nis down")
    journal.close()
    with closing(Journal(path)) as again:
        assert again.events(9) == [(1.5, "hold", "waiting"), (2.5, "down", "Zoë\nis down")]
        assert again.events(1) == [(1.5, "hold", "waiting")]


def test_a_fact_replaces_the_older_one_with_or_without_a_writer(journal: Journal) -> None:
    journal.set_facts(state="running", rows=5)
    assert (journal.fact("state"), journal.fact("rows")) == ("running", 5)
    journal.record_event(1.0, "x", "starts the writer")
    journal.set_facts(state="ended")
    assert journal.fact("state") == "ended"


def test_a_fact_that_cannot_be_written_is_a_disk_error(journal: Journal, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON meta BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(DiskError):
        journal.set_facts(state="ended")


def test_a_draft_that_cannot_be_created_is_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError):
        JournalDraft(tmp_path / "no" / "journal.sqlite3")


def test_a_writing_process_removes_the_reserve_of_a_killed_process(path: Path) -> None:
    reserve = path.with_name("reserve")
    reserve.write_bytes(b"0")
    journal = Journal(path)
    journal.set_facts(endedAt=1.0)
    journal.close()
    assert not reserve.exists()


def test_the_final_facts_are_written_after_the_reserve_is_freed(
    path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(journal.record_results(RecordedAnswer(1, Answer({0: DeviceResult(Outcome.HELD)}), came_from_attempt=False)))
    there: list[bool] = []
    monkeypatch.setattr(Journal, "set_facts", lambda *_, **__: there.append(path.with_name("reserve").exists()))
    journal.conclude(summary={})
    assert there == [False]


def test_a_reader_leaves_log_and_reserve_of_an_active_run(path: Path, journal: Journal) -> None:
    run(journal.record_results(RecordedAnswer(1, Answer({0: DeviceResult(Outcome.HELD)}), came_from_attempt=False)))
    log = path.with_name(path.name + "-wal").stat().st_size
    with closing(Journal(path)) as reader:
        assert len([*reader.recorded_answers()]) == 1
    assert "reserve" in names(path.parent)
    assert path.with_name(path.name + "-wal").stat().st_size == log > 0


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN])
def test_a_full_disk_while_reading_is_not_reported_as_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(_: Path) -> sqlite3.Connection:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr("telemetron_batch.journal.connection.connect", full)
    with pytest.raises(DiskError, match="make room"):
        Journal(path)


# Several journals in one


def journal_of(folder: Path, first_call: int) -> Path:
    """Return a journal with an answered and an open attempt, a result without attempt, a holding and an event."""
    path = made(folder / f"{first_call}.sqlite3")

    async def fill(journal: Journal) -> None:
        number = await journal.record_start(first_call, (0,), 10.0)
        done = RecordedAnswer(first_call, Answer({0: DeviceResult(Outcome.ASSIGNED)}), came_from_attempt=True)
        await journal.record_end(number, ANSWERED, 11.0, done)
        await journal.record_start(first_call + 1, None, 12.0 - first_call)
        held = Answer({0: DeviceResult(Outcome.HELD)})
        await journal.record_results(RecordedAnswer(first_call + 2, held, came_from_attempt=False))
        await journal.record_holdings(f"{first_call}@x.com", ["SN-1"])

    with closing(Journal(path)) as journal:
        journal.record_event(20.0 - first_call, "hold", f"of {first_call}")
        run(fill(journal))
    return path


def gathered(journal: Journal, paths: Sequence[Path]) -> None:
    with ExitStack() as stack:
        journal.import_from(stack.enter_context(closing(Journal(path))) for path in paths)


def test_journals_of_different_calls_are_imported_into_one(tmp_path: Path, journal: Journal) -> None:
    parts = [journal_of(tmp_path, first) for first in (1, 4)]
    for _ in range(2):  # again makes no difference
        gathered(journal, parts)
        for first in (1, 4):
            [attempt] = journal.attempts_of(first)
            assert (attempt.ending, attempt.positions) == ("answered", (0,))
            assert journal.settled_positions(first) == [(attempt.number, (0,))]
            assert [one.ending for one in journal.attempts_of(first + 1)] == [None]
        assert [one.call for one in journal.recorded_answers()] == [1, 3, 4, 6]
        assert [one.call for _, one in journal.results_without_attempt()] == [3, 6]
        assert journal.attempt_totals() == (4, 0, 2)
        assert dict(journal.all_holdings()) == {"1@x.com": {"SN-1"}, "4@x.com": {"SN-1"}}
        assert [text for _, _, text in journal.events(9)] == ["of 4", "of 1"]
    assert [*journal.blocks()] == [*BLOCKS]


def test_journals_are_imported_completely_or_not_at_all(tmp_path: Path, journal: Journal) -> None:
    parts = [journal_of(tmp_path, first) for first in (1, 4)]
    gathered(journal, parts)
    parts[1].write_bytes(parts[1].read_bytes()[:4096] + bytes(parts[1].stat().st_size - 4096))
    with pytest.raises(JournalError):
        gathered(journal, [parts[0], parts[1]])
    assert [one.call for one in journal.recorded_answers()] == [1, 3, 4, 6]


def test_a_deleted_result_leaves_no_trace(tmp_path: Path, journal: Journal) -> None:
    gathered(journal, [journal_of(tmp_path, 1)])
    journal.delete_results([number for number, _ in journal.results_without_attempt()])
    assert [one.call for one in journal.recorded_answers()] == [1]


# Migrations


OLDER = {1: "ALTER TABLE events ADD COLUMN loud INTEGER NOT NULL DEFAULT 0", 2: "UPDATE events SET loud = 1"}


def test_an_older_journal_is_migrated_step_by_step(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version=1")
        connection.execute("INSERT INTO events (at, kind, text) VALUES (1, 'hold', 'x')")
        migrate(path, connection, OLDER, 3)
        assert connection.execute("SELECT loud FROM events").fetchall() == [(1,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        migrate(path, connection, OLDER, 3)  # which changes nothing


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    broken = {**OLDER, 2: "UPDATE nothing SET x = 1"}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version=1")
        with pytest.raises(sqlite3.OperationalError):
            migrate(path, connection, broken, 3)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert "loud" not in [column[1] for column in connection.execute("PRAGMA table_info(events)")]


@pytest.mark.parametrize(("version", "words"), [(0, "never released"), (4, "newer version")])
def test_a_version_without_a_migration_is_refused(version: int, words: str, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version={version}")
        with pytest.raises(JournalError, match=words):
            migrate(path, connection, OLDER, 3)


def test_a_read_only_journal_is_read_unchanged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed("Journal(path).set_facts(state='cut off')", path)
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    monkeypatch.setattr("os.access", lambda *_: False)
    with closing(Journal(path)) as journal:
        assert [*journal.blocks()] == [*BLOCKS]
        assert journal.fact("state") == "cut off"
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before


# Facts


def names_of_facts(tree: ast.AST) -> Iterator[str]:
    """Yield the names of facts that code writes into journals, by keyword or in a mapping."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("set_facts", "conclude"):
                yield from (keyword.arg for keyword in node.keywords if keyword.arg is not None)
            if node.func.attr in ("publish", "meta"):
                literal = (one for one in ast.walk(node) if isinstance(one, ast.Constant))
                yield from (one.value for one in literal if isinstance(one.value, str) and one.value)


def test_every_fact_that_is_stored_is_in_the_table() -> None:
    sources = Path(telemetron_batch.__file__).parent.rglob("*.py")
    used = {name for path in sources for name in names_of_facts(ast.parse(path.read_text()))}
    assert used - {*Fact} == set()
    assert "endedAt" in used
