"""Programs that die, and a server that remembers: what the tests of crashes are made of.

`python -m tests.support.crashing K run ROWS...` is `telemetron-batch run ROWS...`, killed at its K-th boundary: around
each commit of the journal, each step of a request over the wire, each rename of a file. Without arguments it forks
such programs as told, line by line, on standard input: a process that has imported everything starts them in no time.
Nothing of this is in the program itself: what is watched is replaced here.
"""

import asyncio
import json
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2

import telemetron_batch
from telemetron_batch.api import http_client, request_trace, retry
from telemetron_batch.cli import show_end, terminal  # noqa: F401 - imported before the fork
from telemetron_batch.cli.commands import main
from telemetron_batch.domain.model import PlanOptions
from telemetron_batch.journal import journal, writer
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.witness import witness_of
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.reports.summary import FILES
from telemetron_batch.rows.rows import RowsBuilder
from telemetron_batch.sandbox.server import HOST, PATH, sandbox_app
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.sending import session
from telemetron_batch.storage import clock
from tests.support.books import reconciliation_of
from tests.support.listening import Background, carried_out, packed, request_from
from tests.support.scripted import Event, Hangs, Loses, Says, Seen

ROOT = Path(__file__).parents[2]
PACKAGE = Path(telemetron_batch.__file__).parent
KEY = "key-of-the-crash-tests"
KILLED = -signal.SIGKILL
HUNG = -1000
_PATIENCE = 120.0


# The program, killed


class Boundaries:
    """Counts the boundaries at which a crash may matter, and crashes at one of them."""

    def __init__(self, fatal: int) -> None:
        self._fatal = fatal
        self._passed = 0
        self._mutex = threading.Lock()

    def reach(self, name: str) -> None:
        with self._mutex:
            self._passed += 1
            if self._passed == self._fatal:
                os.write(2, f"killed at boundary {self._passed}: {name}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Start counting every boundary of the program."""
        self._watch_commits()
        self._watch_notes()
        self._watch_renames()
        self._watch_wire()

    def _watch_commits(self) -> None:
        begin = writer.Writer.__init__
        boundaries = self

        class Watched:
            def __init__(self, connection: sqlite3.Connection) -> None:
                self._connection = connection

            def __getattr__(self, name: str) -> Any:
                return getattr(self._connection, name)

            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if statement != "COMMIT":
                    return self._connection.execute(statement, *values)
                boundaries.reach("before a commit")
                cursor = self._connection.execute(statement)
                boundaries.reach("after a commit")
                return cursor

        def watched(self: writer.Writer, connect: Callable[[], sqlite3.Connection], *others: Any) -> None:
            begin(self, lambda: Watched(connect()), *others)  # type: ignore[arg-type, return-value]

        writer.Writer.__init__ = watched  # type: ignore[method-assign]

    def _watch_notes(self) -> None:
        note = Journal.set_facts

        def watched(self_: Journal, **facts: object) -> None:
            self.reach(f"before the note {[*facts]}")
            note(self_, **facts)
            self.reach(f"after the note {[*facts]}")

        Journal.set_facts = watched  # type: ignore[method-assign]

    def _watch_renames(self) -> None:
        replace = Path.replace

        def watched(path: Path, target: Path) -> Path:
            self.reach(f"before {target.name} has its name")
            named = replace(path, target)
            self.reach(f"after {target.name} has its name")
            return named

        Path.replace = watched  # type: ignore[method-assign, assignment]

    def _watch_wire(self) -> None:
        leaves, post, write = (
            request_trace.RequestTrace.mark_sending,
            http_client.HttpClient.post,
            _SelectorSocketTransport.write,
        )

        def leaving(self_: request_trace.RequestTrace) -> None:
            leaves(self_)
            self.reach("a request begins to leave")

        def written(self_: _SelectorSocketTransport, text: bytes) -> None:
            write(self_, text)
            if text.endswith(b"}"):
                self.reach("a request has left")

        async def watched(self_: http_client.HttpClient, *request: Any) -> http_client.HttpResult:
            answer = await post(self_, *request)
            self.reach("after an answer, not yet in the journal")
            return answer

        request_trace.RequestTrace.mark_sending = leaving  # type: ignore[method-assign]
        http_client.HttpClient.post = watched  # type: ignore[method-assign]
        _SelectorSocketTransport.write = written


def hurry() -> None:
    """Shorten the waits between attempts, and the time for which an unanswered attempt may still act."""
    session.LATE_EFFECT_MARGIN_S = 0.1  # type: ignore[misc]
    clock.jitter = lambda: random.random() / 10
    retry.MAX_BACKOFF_S = 0.3  # type: ignore[misc]


@dataclass(frozen=True)
class Order:
    """A program to run, and how to kill it."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    said: str
    """The file for its output."""
    crash_at: int | None = None
    """The boundary at which to kill it."""
    kill_after: float | None = None
    """The seconds after which to kill it."""


def _be(order: Order) -> None:
    """A running forked program."""
    os.environ.update(order.environment)
    said = os.open(order.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    hurry()
    if order.crash_at is not None:
        Boundaries(order.crash_at).watch()
    try:
        main(args=[*order.arguments], prog_name="telemetron-batch")
    except SystemExit as exc:
        os._exit(int(exc.code or 0))
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
    os._exit(70)


def _fork_forever() -> None:
    """Fork the programs that standard input names, one after another, and report how each ended."""
    for line in sys.stdin:
        order = Order(**json.loads(line))
        program = os.fork()
        if program == 0:
            _be(order)
        ending = _attend(program, order.kill_after)
        sys.stdout.write(f"{ending}\n")
        sys.stdout.flush()


def _attend(program: int, kill_after: float | None) -> int:
    watched = os.pidfd_open(program)
    ended, _, _ = select.select([watched], [], [], _PATIENCE if kill_after is None else kill_after)
    os.close(watched)
    if not ended:
        os.kill(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    return HUNG if not ended and kill_after is None else os.waitstatus_to_exitcode(status)


class Forge:
    """Runs programs, each forked from a process that has everything imported."""

    def __enter__(self) -> Self:
        ours = {name: text for name, text in os.environ.items() if not name.startswith("TELEMETRON_")}
        path = os.pathsep.join([str(ROOT), str(PACKAGE.parent)])
        environment = {**ours, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": path}
        command = [sys.executable, "-m", "tests.support.crashing"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe)
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.stdin.close()  # type: ignore[union-attr]

    def run(self, order: Order) -> int:
        """Return the exit code of a program, the negative signal that killed it, or HUNG."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


# The server, that remembers


@dataclass(frozen=True)
class Acts:
    """The server acts, but sends another answer or only a part of the true one."""

    says: Says | None = None
    """None: the true answer with its body cut short."""


@dataclass
class Heard:
    """A request that reached the server completely, and its real effect."""

    seen: Seen
    changed: frozenset[str] = frozenset()
    """Devices that it assigned to the customer or unassigned."""

    @property
    def request(self) -> tuple[str, str, tuple[str, ...]]:
        return self.seen.action, self.seen.customer, tuple(self.seen.devices)

    @property
    def asked(self) -> set[tuple[str, str, str]]:
        return {(self.seen.action, self.seen.customer, device) for device in self.seen.devices}


class Server:
    """The sandbox API behind a faulty socket; records its real effects."""

    def __init__(self, script: Callable[[Seen], Any] = lambda _: None, latency: Callable[[], float] = float) -> None:
        self.script, self.latency = script, latency
        self.base_url = ""
        self.renew()
        self._busy = 0
        self._background = Background()

    def renew(self) -> None:
        """Reset the server."""
        self.fleet = SandboxState()
        self.heard: list[Heard] = []
        self.shared: list[str] = []
        """Devices that had several owners at any time."""
        self._api = httpx2.ASGITransport(app=sandbox_app(self.fleet))

    def __enter__(self) -> Self:
        self._background.__enter__()
        self._listener = self._background.do(asyncio.start_server(self._converse, HOST, 0))
        self.base_url = f"http://{HOST}:{self._listener.sockets[0].getsockname()[1]}{PATH}"
        return self

    def __exit__(self, *_: object) -> None:
        self._background.do(self._close())
        self._background.__exit__()

    async def _close(self) -> None:
        self._listener.close()

    def settle(self) -> None:
        """Wait until requests of dead programs have been processed."""
        until = time.monotonic() + 10
        quiet = 0
        while quiet < 3:
            assert time.monotonic() < until, "the server does not come to rest"
            quiet = 0 if self._busy else quiet + 1
            time.sleep(0.005)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Process one request. Return whether the connection stays open."""
        path, headers, body = await request_from(reader)
        seen = Seen(len(self.heard) + 1, time.monotonic(), path, body, headers)
        heard = Heard(seen)
        self.heard.append(heard)
        self._busy += 1
        try:
            await asyncio.sleep(self.latency())
            event = self.script(seen)
            # Not interrupted: a client that goes away does not undo what it has asked for.
            answer = await asyncio.shield(self._act(heard)) if _acts(event) else None
        finally:
            self._busy -= 1
        if isinstance(event, Hangs):
            await reader.read()
            return False
        if isinstance(event, Loses):
            return False
        if isinstance(event, Says) or (isinstance(event, Acts) and event.says is not None):
            answer = event if isinstance(event, Says) else event.says
        assert answer is not None
        cut = isinstance(event, Acts) and event.says is None
        whole = packed(answer)
        writer.write(whole[: -(len(whole) // 8)] if cut else whole)
        await writer.drain()
        return not cut

    async def _act(self, heard: Heard) -> Says:
        """Let the sandbox act, and record what it changed."""
        answer = await carried_out(self._api, heard.seen)
        if answer.status == 200:
            told = json.loads(answer.body)
            gave = {device["identifier"] for device in told.get("assignedDevices", ())}
            heard.changed = frozenset(gave | set(told.get("unassignedDevices", ())))
            self.shared += [device for device in heard.seen.devices if len(self.fleet.owners(device)) > 1]
        return answer


def _acts(event: Any) -> bool:
    return event is None or isinstance(event, Acts) or (isinstance(event, Loses | Hangs) and event.acted)


def refusing(name: str) -> Callable[[Seen], Event]:
    """Refuse every request that contains a device with this prefix."""

    def script(seen: Seen) -> Event:
        bad = any(device.startswith(name) for device in seen.devices)
        return Says(400, {"error": "Something about a device is wrong"}) if bad else None

    return script


# The journal, as a dead program left it


@dataclass(frozen=True)
class Left:
    """The history in a journal."""

    settled: frozenset[tuple[str, str, str]] = frozenset()
    """Action, customer and device of all results."""
    ended: frozenset[tuple[str, str, tuple[str, ...]]] = frozenset()
    """Requests with a final answer, which must not be sent again."""
    in_flight: int = 0


def left_by(folder: Path) -> Left:
    """Read the journal of a run from a copy, so that the original stays unchanged."""
    if not (folder / JOURNAL_NAME).exists():
        return Left()
    with tempfile.TemporaryDirectory() as aside:
        for path in folder.glob(f"{JOURNAL_NAME}*"):
            shutil.copy(path, aside)
        record = Journal(Path(aside) / JOURNAL_NAME)
        try:
            return _read(record, _plan(record))
        finally:
            record.close()


def _plan(record: journal.Journal) -> Plan:
    builder = RowsBuilder()
    for file, keys in record.key_columns():
        builder.add(file, keys)
    return plan_calls(builder.rows(), PlanOptions(chunk_size=record.fact("shape")["chunk_size"]))


def _read(record: journal.Journal, plan: Plan) -> Left:
    settled, ended, in_flight = set(), set(), 0
    for number in range(1, plan.calls + 1):
        call = plan.call(number)
        for _, positions in record.settled_positions(number):
            settled.update((str(call.action), call.customer, call.devices[at]) for at in positions)
        for attempt in record.attempts_of(number):
            devices = call.devices if attempt.positions is None else [call.devices[at] for at in attempt.positions]
            in_flight += attempt.ending is None
            if attempt.verdict in ("Reply", "Suspect", "TooMany", "Settled"):
                ended.add((str(call.action), call.customer, tuple(devices)))
    return Left(frozenset(settled), frozenset(ended), in_flight)


@dataclass
class Place:
    """The place of one run: its input, its folder, and the state of its user."""

    folder: Path
    server: Server
    forge: Forge
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def run_folder(self) -> Path:
        return self.folder / "reports" / "r"

    def run(self, *, crash_at: int | None = None, kill_after: float | None = None) -> int:
        options = [word for name, text in self.options.items() for word in (f"--{name}", text)]
        where = ["--base-url", self.server.base_url, "--reports-dir", str(self.folder / "reports"), "--run-id", "r"]
        arguments = ["run", str(self.folder / "rows.csv"), *where, *options, "--yes", "--quiet", "--verbose"]
        return self.forge.run(self.order(arguments, crash_at=crash_at, kill_after=kill_after))

    def order(self, arguments: Sequence[str], *, crash_at: int | None = None, kill_after: float | None = None) -> Order:
        """Return a program to run here."""
        environment = {"TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(self.folder / "state")}
        return Order([*arguments], environment, str(self.folder / "said"), crash_at, kill_after)

    @property
    def books(self) -> list[dict[str, str]]:
        """Return the rows of the reconciliation."""
        return reconciliation_of(self.run_folder)

    @property
    def said(self) -> str:
        """Return the end of the programs' output."""
        path = self.folder / "said"
        return path.read_text()[-2000:] if path.exists() else ""

    @property
    def leftovers(self) -> list[str]:
        """Return unexpected files in the run's folder."""
        ours = {*FILES, JOURNAL_NAME, witness_of(Path(JOURNAL_NAME)).name, "run.log", "run.lock"}
        return [path.name for path in self.run_folder.iterdir() if path.name not in ours]


def _die_at(boundary: int, arguments: Sequence[str]) -> None:
    Boundaries(boundary).watch()
    main(args=[*arguments], prog_name="telemetron-batch")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _die_at(int(sys.argv[1]), sys.argv[2:])
    else:
        _fork_forever()
