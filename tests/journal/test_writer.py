"""One thread writes in order, resolves every waiter, and writes nothing after a failure."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.errors import DiskError
from telemetron_batch.journal.writer import StatementValues, Write, Writer


def connected(path: Path, kind: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=kind)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(connected(tmp_path / "db")) as connection:
        connection.execute("CREATE TABLE said (number INTEGER)")
    return tmp_path / "db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    writer = Writer(lambda: connected(path))
    yield writer
    writer.close()


def say(number: object) -> Write:
    return lambda connection: connection.execute("INSERT INTO said VALUES (?)", (number,))


def said(path: Path) -> list[object]:
    with closing(connected(path)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM said ORDER BY rowid")]


class Blocked:
    """A write that waits for permission, so that others queue behind it."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _: sqlite3.Connection) -> None:
        self.begun.set()
        assert self.go_on.wait(10)


# Writing


def test_an_awaited_write_is_on_disk(writer: Writer, path: Path) -> None:
    writer.write_and_wait(say(1))
    assert said(path) == [1]


def test_a_write_returns_its_result_but_never_a_cursor(writer: Writer) -> None:
    async def main() -> list[object]:
        returned = writer.submit(lambda connection: connection.execute("SELECT 7").fetchone()[0])
        cursor = writer.submit(lambda connection: connection.execute("SELECT 7"))
        return [await returned, await cursor]

    assert asyncio.run(main()) == [7, None]


def test_closing_writes_what_is_queued(path: Path) -> None:
    writer = Writer(lambda: connected(path))
    for number in range(200):
        writer.enqueue(say(number))
    writer.close()
    assert said(path) == [*range(200)]
    assert not writer.busy


def test_writes_of_many_threads_are_executed_in_the_order_of_each_thread(writer: Writer, path: Path) -> None:
    def many(thread: int) -> None:
        for number in range(50):
            writer.write_and_wait(say(100 * thread + number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, range(4)))
    written = said(path)
    assert len(written) == 200
    assert [[one for one in written if one // 100 == thread] for thread in range(4)] == [  # type: ignore[operator]
        [100 * thread + number for number in range(50)] for thread in range(4)
    ]


def traced(path: Path, statements: list[str]) -> sqlite3.Connection:
    """Return a connection that records its statements."""
    connection = connected(path)
    connection.set_trace_callback(statements.append)
    return connection


def test_writes_queued_while_the_disk_is_busy_share_one_commit_in_order(path: Path) -> None:
    statements: list[str] = []
    writer, blocked = Writer(lambda: traced(path, statements)), Blocked()
    writer.enqueue(blocked)
    assert blocked.begun.wait(10)
    for number in range(100):
        writer.enqueue(say(number))
    blocked.go_on.set()
    writer.close()
    assert statements.count("COMMIT") == 2
    assert said(path) == [*range(100)]


SAID = "INSERT INTO said (number) VALUES (?)"


def test_queued_rows_never_pass_another_write(path: Path) -> None:
    async def main() -> None:
        writer, blocked = Writer(lambda: connected(path)), Blocked()
        writer.enqueue(blocked)
        first = [
            writer.submit((StatementValues(SAID, (number,)), StatementValues(SAID, lambda: (100,))))
            for number in range(10)
        ]
        between = writer.submit(say(-1))
        last = [writer.submit((StatementValues(SAID, (number,)),)) for number in range(100)]
        blocked.go_on.set()
        assert set(await asyncio.gather(*first, between, *last)) == {None}
        writer.close()

    asyncio.run(main())
    assert said(path) == [*chain.from_iterable((number, 100) for number in range(10)), -1, *range(100)]


def test_a_row_that_cannot_be_made_fails_its_whole_commit(path: Path) -> None:
    async def main() -> list[object]:
        writer, blocked = Writer(lambda: connected(path)), Blocked()
        writer.enqueue(blocked)
        waiters = [
            writer.submit((StatementValues(SAID, (1,)),)),
            writer.submit((StatementValues(SAID, lambda: (1 // 0,)),)),
        ]
        blocked.go_on.set()
        outcomes = await asyncio.gather(*waiters, return_exceptions=True)
        writer.close()
        return [type(outcome) for outcome in outcomes]

    assert asyncio.run(main()) == [ZeroDivisionError] * 2
    assert said(path) == []


def test_a_writer_is_busy_until_its_last_write_is_done(path: Path) -> None:
    writer, blocked = Writer(lambda: connected(path)), Blocked()
    writer.enqueue(blocked)
    assert blocked.begun.wait(10)
    assert writer.busy
    blocked.go_on.set()
    writer.close()
    assert not writer.busy


def test_a_cancelled_waiter_neither_undoes_its_write_nor_breaks_the_writer(writer: Writer, path: Path) -> None:
    async def main() -> None:
        blocked = Blocked()
        writer.enqueue(blocked)
        waiters = [writer.submit(say(number)) for number in range(3)]
        waiters[0].cancel()
        waiters[2].cancel()
        blocked.go_on.set()
        await waiters[1]
        await writer.submit(say(3))

    asyncio.run(main())
    assert said(path) == [0, 1, 2, 3]


# Failing


class Unwritable(sqlite3.Connection):
    """A connection whose commits fail."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *values)


def full_after(pages: int) -> Callable[[Path], sqlite3.Connection]:
    def connect(path: Path) -> sqlite3.Connection:
        connection = connected(path)
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    return connect


BIG = "x" * 100_000


@pytest.mark.parametrize(
    ("connect", "reason"),
    [(lambda path: connected(path, Unwritable), "disk I/O error"), (full_after(3), "database or disk is full")],
    ids=["no commit", "disk full"],
)
def test_after_a_failed_commit_nothing_more_is_written(
    connect: Callable[[Path], sqlite3.Connection], reason: str, path: Path
) -> None:
    writer = Writer(lambda: connect(path))
    for number in (BIG, 1, 2):
        with pytest.raises(DiskError, match=reason):
            writer.write_and_wait(say(number))
    writer.close()
    assert said(path) == []
    assert not writer.busy


def test_a_failure_fails_its_whole_commit(path: Path) -> None:
    async def main() -> list[object]:
        writer, blocked = Writer(lambda: full_after(3)(path)), Blocked()
        writer.enqueue(blocked)
        waiters = [writer.submit(say(number)) for number in (1, BIG, 2)]
        blocked.go_on.set()
        outcomes = await asyncio.gather(*waiters, return_exceptions=True)
        writer.close()
        return [type(outcome) for outcome in outcomes]

    assert asyncio.run(main()) == [DiskError] * 3
    assert said(path) == []


def test_earlier_commits_survive_a_failure(path: Path) -> None:
    writer = Writer(lambda: full_after(3)(path))
    writer.write_and_wait(say(1))
    with pytest.raises(DiskError):
        writer.write_and_wait(say(BIG))
    writer.close()
    assert said(path) == [1]


def test_a_failed_write_gives_advice(path: Path) -> None:
    writer = Writer(lambda: connected(path, Unwritable))
    with pytest.raises(DiskError) as failure:
        writer.write_and_wait(say(1))
    writer.close()
    assert (failure.value.exit_code, failure.value.advice) == (3, "make room, then run the same command again")


def waited(writer: Writer, write: Write) -> None:
    """Await the write on an event loop, with a time-out."""

    async def main() -> None:
        await asyncio.wait_for(writer.submit(write), 10)

    asyncio.run(main())


def test_a_bug_in_a_write_reaches_its_waiter(path: Path) -> None:
    writer = Writer(lambda: connected(path))
    with pytest.raises(UnicodeEncodeError):
        waited(writer, say("\ud800"))


def test_a_journal_that_cannot_be_opened_for_writing_is_a_disk_error(path: Path) -> None:
    writer = Writer(lambda: connected(path / "no" / "such"))
    with pytest.raises(DiskError):
        waited(writer, say(1))


def test_waiters_of_an_ended_loop_do_not_block_others(writer: Writer, path: Path) -> None:
    blocked = Blocked()

    async def leave_early() -> None:
        writer.submit(blocked)
        writer.submit(say(1))

    asyncio.run(leave_early())
    blocked.go_on.set()
    writer.write_and_wait(say(2))
    assert said(path) == [1, 2]


def test_a_write_after_closing_is_refused(path: Path) -> None:
    writer = Writer(lambda: connected(path))
    writer.close()
    with pytest.raises((DiskError, RuntimeError)):
        waited(writer, say(1))


def test_on_a_full_disk_the_reserve_takes_the_queued_writes(path: Path) -> None:
    with closing(connected(path)) as small:
        pages = small.execute("PRAGMA page_count").fetchone()[0]
    connections: list[sqlite3.Connection] = []

    def full() -> sqlite3.Connection:
        connections.append(connected(path))
        connections[0].execute(f"PRAGMA max_page_count={pages + 1}")
        return connections[0]

    def make_room() -> bool:
        connections[0].execute("PRAGMA max_page_count=100000")
        return True

    writer = Writer(full, make_room)
    waited(writer, say("x" * 100_000))
    writer.close()
    assert said(path) == ["x" * 100_000]
