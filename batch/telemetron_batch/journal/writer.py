"""One thread that writes to the journal, many commits' worth at a time.

A full sync costs milliseconds and would stall the event loop; here everything that
waits when the disk is ready for more goes into one transaction, and rows of one kind
into one statement: between two statements this thread has to wait for the event loop's
to let go of the interpreter. The event loop hands over once a round what all its tasks
have ordered in it: to wake this thread costs it more than to order. After a failed commit
nothing more is written: what the disk holds is then all that counts.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, ClassVar, Final, NamedTuple
from weakref import WeakSet

from telemetron_batch.domain.errors import DiskError, remedy
from telemetron_batch.journal.witness import Witness

Write = Callable[[sqlite3.Connection], Any]

_ROWS_PER_STATEMENT: Final = 32
"""Rows in one statement at most; each number of them is a statement of its own, which SQLite keeps ready."""


class Statement(NamedTuple):
    """A statement that takes any number of rows, and leaves the same whatever the order of others."""

    head: str
    row: str
    """One row: its values are question marks."""
    tail: str = ""

    @property
    def inserts(self) -> bool:
        """Does it add a row for each that it takes?"""
        return self.head.startswith("INSERT")

    def of(self, rows: int) -> str:
        """The statement for so many rows."""
        return _statement(self, rows)


@cache
def _statement(statement: Statement, rows: int) -> str:
    return f"{statement.head} {', '.join([statement.row] * rows)} {statement.tail}"


class Row(NamedTuple):
    """A row for a statement."""

    statement: Statement
    values: Sequence[Any] | Callable[[], Sequence[Any]]
    """Or what makes them, on the thread that writes."""


@dataclass(slots=True)
class _Order:
    """A write, and what waits for it."""

    write: Write | Sequence[Row]
    done: "Future[Any] | asyncio.Future[Any]"
    outcome: Any = None
    failure: BaseException | None = None

    def tell(self) -> None:
        """Let the waiter go on; a cancelled one is passed over."""
        if self.done.done():
            return
        if self.failure is not None:
            self.done.set_exception(self.failure)
        else:
            self.done.set_result(None if isinstance(self.outcome, sqlite3.Cursor) else self.outcome)


class Writer:
    """Takes writes from any thread; each is done when its future is."""

    instances: ClassVar["WeakSet[Writer]"] = WeakSet()
    """For a clock that must stand still while the disk is at work."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        make_room: Callable[[], bool] | None = None,
        confirm: Callable[[], None] | None = None,
        witness: Witness | None = None,
    ) -> None:
        """`confirm` raises where nothing may be written any more; `witness` counts what is committed."""
        self._make_room = make_room or (lambda: False)
        self._confirm = confirm or (lambda: None)
        self._witness = witness
        self._orders: queue.SimpleQueue[list[_Order] | None] = queue.SimpleQueue()
        self._gathered: list[_Order] = []
        """Ordered in this round of the event loop."""
        self._failure: Exception | None = None
        self._closed = False
        self._open_orders = 0
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._work, args=(connect,), name="journal", daemon=True)
        self._thread.start()
        Writer.instances.add(self)

    @property
    def busy(self) -> bool:
        """Is any write not yet done and told?"""
        return self._open_orders > 0

    def submit(self, write: Write | Sequence[Row]) -> "asyncio.Future[Any]":
        """Queue a write, or rows, from the event loop. The future raises DiskError if it cannot be made."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._admit()
        if not self._gathered:
            loop.call_soon(self._flush)
        self._gathered.append(_Order(write, done))
        return done

    def enqueue(self, write: Write) -> None:
        """Queue a write that nobody waits for."""
        self._put(_Order(write, Future()))

    def write_and_wait(self, write: Write) -> None:
        """Write from ordinary code, and wait until it is on disk."""
        done: Future[Any] = Future()
        self._put(_Order(write, done))
        done.result()

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._closed = True
        self._flush()
        self._orders.put(None)
        self._thread.join()

    def abandon(self) -> None:
        """Leave the thread where it is, and its connection open: to close it would write."""
        self._closed = True

    def _put(self, order: _Order) -> None:
        self._admit()
        self._orders.put([order])

    def _flush(self) -> None:
        """What the event loop has ordered."""
        orders, self._gathered = self._gathered, []
        self._orders.put(orders)

    def _admit(self) -> None:
        """An order more is open."""
        if self._closed:
            raise RuntimeError("the journal's writer has ended")
        with self._mutex:
            self._open_orders += 1

    def _work(self, connect: Callable[[], sqlite3.Connection]) -> None:
        try:
            with closing(connect()) as connection:
                self._serve(connection)
        except (sqlite3.Error, OSError) as exc:
            self._failure = _unwritable(exc)
            self._serve(None)

    def _serve(self, connection: sqlite3.Connection | None) -> None:
        """Commit what comes until the end; without a connection, refuse it."""
        more = True
        while more:
            orders, more = self._drain()
            if orders:
                self._commit(connection, orders)
                with self._mutex:
                    self._open_orders -= len(orders)

    def _drain(self) -> tuple[list[_Order], bool]:
        """All that waits now, as soon as something does; and whether more may come."""
        some = self._orders.get()
        orders = list[_Order]()
        while some is not None:
            orders += some
            try:
                some = self._orders.get_nowait()
            except queue.Empty:
                return orders, True
        return orders, False

    def _commit(self, connection: sqlite3.Connection | None, orders: list[_Order]) -> None:
        if connection is not None and self._failure is None:
            try:
                self._transaction(connection, orders)
            except Exception as exc:  # noqa: BLE001 - whatever it is, its waiters must hear of it
                self._failure = _unwritable(exc) if isinstance(exc, sqlite3.Error) else exc
            else:
                tell(orders)
                return
        for order in orders:
            order.failure = self._failure or RuntimeError("the journal's writer has ended")
        tell(orders)

    def _transaction(self, connection: sqlite3.Connection, orders: list[_Order]) -> None:
        """Carry out the orders, all or none. On a full disk once more, in the space put by for that."""
        try:
            self._confirm()
            connection.execute("BEGIN IMMEDIATE")
            added = _write(connection, orders)
            if self._witness is not None:
                self._witness.count(connection, added)
            self._confirm()
            connection.execute("COMMIT")
            if self._witness is not None:
                self._witness.show()
        except sqlite3.Error as exc:
            _roll_back(connection)
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL and self._make_room():
                self._transaction(connection, orders)
                return
            raise
        except BaseException:
            _roll_back(connection)
            raise


def _write(connection: sqlite3.Connection, orders: list[_Order]) -> int | None:
    """Carry out what was ordered in its order, except that rows go together as far as nothing else is between.

    Return how many rows were inserted; None where something else may have been done.
    """
    rows: dict[Statement, list[Sequence[Any]]] = {}
    inserted: int | None = 0
    for order in orders:
        if callable(order.write):
            _insert(connection, rows)
            rows, inserted = {}, None
            order.outcome = order.write(connection)
        else:
            for statement, values in order.write:
                rows.setdefault(statement, []).append(values() if callable(values) else values)
    _insert(connection, rows)
    if inserted is not None:
        inserted = sum(len(of_it) for statement, of_it in rows.items() if statement.inserts)
    return inserted


def _insert(connection: sqlite3.Connection, rows: dict[Statement, list[Sequence[Any]]]) -> None:
    for statement, of_it in rows.items():
        for at in range(0, len(of_it), _ROWS_PER_STATEMENT):
            some = of_it[at : at + _ROWS_PER_STATEMENT]
            connection.execute(statement.of(len(some)), [*chain.from_iterable(some)])


def tell(orders: list[_Order]) -> None:
    """Let all waiters go on; those of an event loop together, for to wake it costs more than to write."""
    of_loops: dict[asyncio.AbstractEventLoop, list[_Order]] = {}
    for order in orders:
        if isinstance(order.done, asyncio.Future):
            of_loops.setdefault(order.done.get_loop(), []).append(order)
        else:
            order.tell()
    for loop, waiting in of_loops.items():
        with suppress(RuntimeError):  # the loop has ended, and all who waited on it
            loop.call_soon_threadsafe(_tell_all, waiting)


def _tell_all(orders: list[_Order]) -> None:
    for order in orders:
        order.tell()


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _unwritable(cause: Exception) -> DiskError:
    return DiskError(f"the journal cannot be written ({cause})", remedy(cause))
