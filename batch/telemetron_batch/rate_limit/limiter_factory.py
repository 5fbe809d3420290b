"""Where the pace of a run is kept beyond its process: in a file of this host, or with all who share it in Redis."""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from telemetron_batch.config.config import Sending
from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.domain.model import Secret
from telemetron_batch.rate_limit.limiter import LocalRateLimiter, RateLimiter
from telemetron_batch.rate_limit.pacer import Pacer, PacerState
from telemetron_batch.rate_limit.redis_backend import RedisBackend
from telemetron_batch.rate_limit.shared import LimiterSettings, SharedRateLimiter
from telemetron_batch.storage import clock
from telemetron_batch.storage.group_folder import open_shared

_SAVED_EVERY: Final = 1.0


@dataclass(frozen=True, slots=True)
class KeptPace:
    """A pace, and what keeps it up to date where it lies."""

    pace: RateLimiter
    save_now_and_then: Callable[[], None]
    """To be called often; does nothing most of the time."""


@dataclass(frozen=True, slots=True)
class LimiterHandle:
    """Whose pace it is."""

    name: str
    """Of the base URL and key; gives neither away."""
    file: Path
    """Where it is kept on this host."""
    attempt_expiry: float
    """Seconds after which nothing more is heard of an attempt."""
    wall: Callable[[], float]
    tell: EventSink


def open_rate_limiter(sending: Sending, whose: LimiterHandle) -> AbstractAsyncContextManager[KeptPace]:
    """The pace while a run sends. Raises ConfigError where it is to be shared and cannot be."""
    if sending.limit_url is None:
        return _own(sending, whose)
    return _shared(sending, sending.limit_url, whose)


@asynccontextmanager
async def _own(sending: Sending, whose: LimiterHandle) -> AsyncIterator[KeptPace]:
    pacer = Pacer(sending.process_rate)
    memory = _PacerStateFile(whose.file, pacer, whose.wall)
    memory.load()
    yield KeptPace(LocalRateLimiter(pacer), memory.save_now_and_then)
    memory.save()


@asynccontextmanager
async def _shared(sending: Sending, url: Secret, whose: LimiterHandle) -> AsyncIterator[KeptPace]:
    pace = SharedRateLimiter(
        RedisBackend(url, whose.name),
        LimiterSettings(sending.rate, sending.process_rate, whose.attempt_expiry),
        whose.tell,
    )
    async with pace.joined():
        yield KeptPace(pace, lambda: None)


class _PacerStateFile:
    """The pacer's state in a file, so that a restart neither bursts nor forgets what the API asked for."""

    def __init__(self, path: Path, pacer: Pacer, wall: Callable[[], float]) -> None:
        self._path = path
        self._pacer = pacer
        self._wall = wall
        self._saved = -_SAVED_EVERY

    def load(self) -> None:
        """Let the pacer go on where the last process with this base URL and key was."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(_read(self._path))
            elapsed = self._wall() - float(known.pop("at"))
            self._pacer.restore(PacerState(**known), elapsed, clock.now())

    def save_now_and_then(self) -> None:
        """Save, unless that was done just now."""
        if clock.now() - self._saved >= _SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Save the state. Losing it costs a moment's waiting, so errors are passed over."""
        self._saved = clock.now()
        state = asdict(self._pacer.snapshot(self._saved)) | {"at": self._wall()}
        line = json.dumps(state).encode() + b"\n"
        with suppress(OSError):
            descriptor = open_shared(self._path)
            try:
                # The lock on this key makes us the only writer. Written in place: in a sticky folder nobody can
                # replace a file of another user. A kill between the two leaves a tail, which nobody reads.
                os.pwrite(descriptor, line, 0)
                os.ftruncate(descriptor, len(line))
            finally:
                os.close(descriptor)


def _read(path: Path) -> bytes:
    """Return the first line of a file; a link is not followed, and nothing waits for a pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        return file.readline(1 << 20)
