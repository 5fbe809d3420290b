"""One thread that writes to the journal in group commits.

A full sync takes milliseconds and would block the event loop. All writes that are queued when the disk is ready
go into one transaction, in which rows for the same statement are written together. The event loop passes its
writes once per iteration, because waking the thread costs more than queueing. After a failed
commit nothing more is written, so that the file on disk stays the only truth.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import WeakSet

from telemetron_batch.domain.errors import DiskError, remedy
from telemetron_batch.journal.witness import Witness

if TYPE_CHECKING:  # commands that only read journals have no event loop
    import asyncio

Write = Callable[[sqlite3.Connection], Any]


class StatementValues(NamedTuple):
    """The values of one execution of a statement, whose order relative to other statements does not matter."""

    statement: str
    values: Sequence[Any] | Callable[[], Sequence[Any]]
    """The values, or a function that makes them in the writer thread."""


@dataclass(slots=True)
class _WriteRequest:
    """A write and the future of its waiter."""

    write: Write | Sequence[StatementValues]
    done: Future[Any] | asyncio.Future[Any]
    outcome: Any = None
    failure: BaseException | None = None

    def resolve(self) -> None:
        """Resolve the future, unless it was cancelled."""
        if self.done.done():
            return
        if self.failure is not None:
            self.done.set_exception(self.failure)
        else:
            self.done.set_result(None if isinstance(self.outcome, sqlite3.Cursor) else self.outcome)


class Writer:
    """Takes writes from any thread. A write is on disk when its future is done."""

    instances: ClassVar[WeakSet[Writer]] = WeakSet()
    """All writers, for a test clock that must stop while the disk works."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        make_room: Callable[[], bool] | None = None,
        ensure_owner: Callable[[], None] | None = None,
        witness: Witness | None = None,
    ) -> None:
        """`ensure_owner` raises if nothing may be written any more; `witness` counts commits."""
        self._make_room = make_room or (lambda: False)
        self._ensure_owner = ensure_owner or (lambda: None)
        self._witness = witness
        self._queue: queue.SimpleQueue[list[_WriteRequest] | None] = queue.SimpleQueue()
        self._collected: list[_WriteRequest] = []
        """Requests of the current iteration of the event loop."""
        self._failure: Exception | None = None
        self._closed = False
        self._open_requests = 0
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._run, args=(connect,), name="journal", daemon=True)
        self._thread.start()
        Writer.instances.add(self)

    @property
    def busy(self) -> bool:
        """Whether any write is not done yet."""
        return self._open_requests > 0

    def submit(self, write: Write | Sequence[StatementValues]) -> asyncio.Future[Any]:
        """Queue a write, or rows, from the event loop. The future raises DiskError if the write fails."""
        import asyncio

        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._count_open()
        if not self._collected:
            loop.call_soon(self._flush)
        self._collected.append(_WriteRequest(write, done))
        return done

    def enqueue(self, write: Write) -> None:
        """Queue a write without waiting for it."""
        self._put(_WriteRequest(write, Future()))

    def write_and_wait(self, write: Write) -> None:
        """Write from synchronous code, and wait until it is on disk."""
        done: Future[Any] = Future()
        self._put(_WriteRequest(write, done))
        done.result()

    def close(self) -> None:
        """Finish the queued writes and end the thread."""
        self._closed = True
        self._flush()
        self._queue.put(None)
        self._thread.join()

    def abandon(self) -> None:
        """Refuse further writes; leave the thread and its connection open, because closing it would write."""
        self._closed = True

    def _put(self, request: _WriteRequest) -> None:
        self._count_open()
        self._queue.put([request])

    def _flush(self) -> None:
        """Pass the requests of the event loop's iteration to the thread."""
        requests, self._collected = self._collected, []
        self._queue.put(requests)

    def _count_open(self) -> None:
        """Count one more open request. Raises RuntimeError after the end."""
        if self._closed:
            raise RuntimeError("the journal's writer has ended")
        with self._mutex:
            self._open_requests += 1

    def _run(self, connect: Callable[[], sqlite3.Connection]) -> None:
        try:
            with closing(connect()) as connection:
                self._serve(connection)
        except (sqlite3.Error, OSError) as exc:
            self._failure = _write_error(exc)
            self._serve(None)

    def _serve(self, connection: sqlite3.Connection | None) -> None:
        """Commit requests until the end; without a connection, fail them."""
        more = True
        while more:
            requests, more = self._drain()
            if requests:
                self._commit(connection, requests)
                with self._mutex:
                    self._open_requests -= len(requests)

    def _drain(self) -> tuple[list[_WriteRequest], bool]:
        """Wait for requests. Return all that are queued, and whether more may come."""
        some = self._queue.get()
        requests = list[_WriteRequest]()
        while some is not None:
            requests += some
            try:
                some = self._queue.get_nowait()
            except queue.Empty:
                return requests, True
        return requests, False

    def _commit(self, connection: sqlite3.Connection | None, requests: list[_WriteRequest]) -> None:
        if connection is not None and self._failure is None:
            try:
                self._transaction(connection, requests)
            except Exception as exc:  # noqa: BLE001 - the waiters must get every error
                self._failure = _write_error(exc) if isinstance(exc, sqlite3.Error) else exc
            else:
                resolve_all(requests)
                return
        for request in requests:
            request.failure = self._failure or RuntimeError("the journal's writer has ended")
        resolve_all(requests)

    def _transaction(self, connection: sqlite3.Connection, requests: list[_WriteRequest]) -> None:
        """Execute the requests in one transaction. On a full disk, free the reserve and try once more."""
        try:
            self._ensure_owner()
            connection.execute("BEGIN IMMEDIATE")
            added = _write(connection, requests)
            if self._witness is not None:
                self._witness.count(connection, added)
            self._ensure_owner()
            connection.execute("COMMIT")
            if self._witness is not None:
                self._witness.write()
        except sqlite3.Error as exc:
            _roll_back(connection)
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL and self._make_room():
                self._transaction(connection, requests)
                return
            raise
        except BaseException:
            _roll_back(connection)
            raise


def _write(connection: sqlite3.Connection, requests: list[_WriteRequest]) -> int | None:
    """Execute the requests in order, but combine rows of one statement between two other writes.

    Return the number of inserted rows; None if another write may have done anything else.
    """
    rows: dict[str, list[Sequence[Any]]] = {}
    inserted: int | None = 0
    for request in requests:
        if callable(request.write):
            _execute(connection, rows)
            rows, inserted = {}, None
            request.outcome = request.write(connection)
        else:
            for statement, values in request.write:
                rows.setdefault(statement, []).append(values() if callable(values) else values)
    _execute(connection, rows)
    if inserted is not None:
        inserted = sum(len(values) for statement, values in rows.items() if statement.startswith("INSERT"))
    return inserted


def _execute(connection: sqlite3.Connection, rows: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    for statement, values in rows.items():
        connection.executemany(statement, values)


def resolve_all(requests: list[_WriteRequest]) -> None:
    """Resolve the futures of all requests; those of an event loop together, because waking it is expensive."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_WriteRequest]] = {}
    for request in requests:
        if isinstance(request.done, Future):
            request.resolve()
        else:
            by_loop.setdefault(request.done.get_loop(), []).append(request)
    for loop, waiting in by_loop.items():
        with suppress(RuntimeError):  # the loop has ended, and its waiters with it
            loop.call_soon_threadsafe(_resolve_in_loop, waiting)


def _resolve_in_loop(requests: list[_WriteRequest]) -> None:
    for request in requests:
        request.resolve()


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _write_error(cause: Exception) -> DiskError:
    return DiskError(f"the journal cannot be written ({cause})", remedy(cause))
