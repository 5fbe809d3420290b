"""Fakes with behaviour: a clock whose hours pass in milliseconds, and one command to run the program on it."""

import asyncio
import json
import os
import selectors
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, settings

httpx2.alias_httpx()  # before respx is imported, which patches what `httpx` names

from telemetron_batch.api.tls import tls_context  # noqa: E402
from telemetron_batch.config.config import resolve  # noqa: E402
from telemetron_batch.config.network import NetworkOptions  # noqa: E402
from telemetron_batch.journal.writer import Writer  # noqa: E402
from telemetron_batch.reports.summary import Summary  # noqa: E402
from telemetron_batch.run import pipeline, requirements  # noqa: E402
from telemetron_batch.sending.observer import RunObserver  # noqa: E402
from telemetron_batch.storage.concurrency import OFF_LOOP  # noqa: E402
from tests.support.books import reconciliation_of  # noqa: E402
from tests.support.scripted import BASE_URL, ScriptedServer  # noqa: E402

# Each run of the program first reads the certificates of the system, to see that they are usable. That takes 25 ms, a
# third of a run of a few rows, and gives the same each time; so the tests read them once.
_certificates_are_usable = cache(tls_context)


def _require_certificates(options: NetworkOptions) -> None:
    is_plain = options == NetworkOptions() and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & {*os.environ}
    (_certificates_are_usable if is_plain else tls_context)(options)


requirements.tls_context = _require_certificates  # type: ignore[assignment]

# The same examples each time, so that a commit's verdict is its own; `make search` looks for new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
# Whether a mutant is noticed at all: by which smallest example does not matter, and fewer have to do.
found = (Phase.explicit, Phase.generate)
settings.register_profile("mutants", deadline=None, derandomize=True, max_examples=30, database=None, phases=found)
settings.load_profile("same")

T = TypeVar("T")
KEY = "key-of-the-tests-0123456789"
ENVIRON = {"TELEMETRON_API_KEY": KEY, "TELEMETRON_BASE_URL": BASE_URL}
"""For the commands that take a run's options from its journal, but not which API may have the key."""


class _JumpingSelector(selectors.DefaultSelector):
    """Where a loop would wait for a timer, time jumps there; for the disk it stands still."""

    def __init__(self, clock: "FakeClock") -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        while any(writer.busy for writer in Writer.instances) or _works_off_loop():
            ready = super().select(0.001)
            if ready:
                return ready
        ready = super().select(0)
        if not ready:
            self._clock.monotonic += timeout
        return ready


def _works_off_loop() -> bool:
    return any(thread.name.startswith(OFF_LOOP) for thread in threading.enumerate())


class FakeClock:
    """A clock on which nothing takes time but waiting, and waiting takes none."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self._epoch = 1_767_225_600.0 - self.monotonic
        self._paused = 0.0

    def wall(self) -> float:
        return self._epoch + self.monotonic

    def uptime(self) -> float:
        """What threads beside the loop live by: hours in a loop that jumps are no time to them."""
        return time.monotonic() + self._paused

    def sleep_blocking(self, seconds: float) -> None:
        self.monotonic += seconds
        self._paused += seconds

    def skip(self, seconds: float) -> None:
        """Let time pass by the wall only: beyond 2^24 s the loop's timers are finer than its time."""
        self._epoch += seconds

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=self._loop) as runner:
            return runner.run(main)

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(_JumpingSelector(self))
        loop.time = lambda: self.monotonic  # type: ignore[method-assign]
        return loop


@dataclass
class Ran:
    """A run that has ended, and what it left."""

    summary: Summary
    folder: Path
    server: ScriptedServer

    @property
    def rows(self) -> list[dict[str, str]]:
        return reconciliation_of(self.folder)

    @property
    def outcomes(self) -> list[str]:
        return [row["outcome"] for row in self.rows]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary.json").read_text())


class Desk:
    """A place to run the program at: a folder, a server and a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.server = ScriptedServer()
        self.face = RunObserver()

    def file(self, rows: str | Sequence[tuple[str, ...]], name: str = "rows.csv") -> str:
        """Write an input file: a text, or rows below the usual header."""
        path = self.folder / name
        text = rows if isinstance(rows, str) else "\n".join(",".join(row) for row in [HEADER, *rows]) + "\n"
        path.write_text(text, encoding="utf-8", newline="")
        return str(path)

    def run(self, rows: str | Sequence[tuple[str, ...]], **flags: Any) -> Ran:
        """Run the whole program over rows (a path is taken as it is)."""
        path = rows if isinstance(rows, str) and rows.startswith("/") else self.file(rows)
        options = {"base_url": BASE_URL, "reports_dir": str(self.folder / "reports"), "run_id": "r1", **flags}
        config = resolve([path], options, {"TELEMETRON_API_KEY": KEY})
        summary = pipeline.run(config, observer=self.face, transport=self.server, clock=self.clock)
        return Ran(summary, summary.folder, self.server)

    def verify(self, ran: Ran) -> Ran:
        """Verify a run, as the command does."""
        summary = pipeline.verify(
            ran.folder,
            {**ENVIRON, "TELEMETRON_API_KEY": KEY},
            observer=self.face,
            transport=self.server,
            clock=self.clock,
        )
        return Ran(summary, summary.folder, self.server)


HEADER = ("customerEmail", "deviceIdentifier", "action")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and pacer state of the tests stay apart from the user's, and from one another's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    for name in ("TELEMETRON_API_KEY", "TELEMETRON_BASE_URL", "TELEMETRON_PROFILE", "TELEMETRON_CONFIG"):
        monkeypatch.delenv(name, raising=False)
