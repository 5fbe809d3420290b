"""Open the rate limiter of a run: its state is kept in a file of this host, or shared in Redis."""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from telemetron_batch.config.config import SendOptions
from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.domain.model import Secret
from telemetron_batch.rate_limit.limiter import LocalRateLimiter, RateLimiter
from telemetron_batch.rate_limit.pacer import Pacer, PacerState
from telemetron_batch.rate_limit.redis_backend import RedisBackend
from telemetron_batch.rate_limit.shared import LimiterSettings, SharedRateLimiter
from telemetron_batch.storage import clock
from telemetron_batch.storage.file_system import BINARY, NO_LINK, NO_WAIT, write_start
from telemetron_batch.storage.group_folder import open_shared

_SAVE_INTERVAL_S: Final = 1.0
_PACER_STATE_FIELDS: Final = {"ahead": "next_due_in", "hold": "pause_left", "plateau": "learned_rate"}
"""Names in the file to the fields of `PacerState`."""


@dataclass(frozen=True, slots=True)
class LimiterSession:
    """A rate limiter and the function that saves its state."""

    limiter: RateLimiter
    save_periodically: Callable[[], None]
    """Saves the state if it was not saved within the last second; call it often."""


@dataclass(frozen=True, slots=True)
class LimiterContext:
    """What a rate limiter needs to know about its run."""

    name: str
    """Identifies the base URL and key without revealing them."""
    file: Path
    """Where the state is kept on this host."""
    attempt_expiry: float
    """Seconds after which an attempt can no longer be answered."""
    wall: Callable[[], float]
    """Returns the current time in seconds since the epoch."""
    on_event: EventSink


def open_rate_limiter(sending: SendOptions, context: LimiterContext) -> AbstractAsyncContextManager[LimiterSession]:
    """Return the rate limiter for the time in which a run sends. Raises ConfigError if Redis cannot be used."""
    if sending.limit_url is None:
        return _open_local(sending, context)
    return _open_shared(sending, sending.limit_url, context)


@asynccontextmanager
async def _open_local(sending: SendOptions, context: LimiterContext) -> AsyncIterator[LimiterSession]:
    pacer = Pacer(sending.process_rate)
    state = _PacerStateFile(context.file, pacer, context.wall)
    state.load()
    yield LimiterSession(LocalRateLimiter(pacer), state.save_periodically)
    state.save()


@asynccontextmanager
async def _open_shared(sending: SendOptions, url: Secret, context: LimiterContext) -> AsyncIterator[LimiterSession]:
    limiter = SharedRateLimiter(
        RedisBackend(url, context.name),
        LimiterSettings(sending.rate, sending.process_rate, context.attempt_expiry),
        context.on_event,
    )
    async with limiter.joined():
        yield LimiterSession(limiter, lambda: None)


class _PacerStateFile:
    """The pacer's state in a file, so that a restart neither bursts nor ignores a wait that the API asked for."""

    def __init__(self, path: Path, pacer: Pacer, wall: Callable[[], float]) -> None:
        self._path = path
        self._pacer = pacer
        self._wall = wall
        self._saved_at = -_SAVE_INTERVAL_S

    def load(self) -> None:
        """Let the pacer continue where the last process with this base URL and key stopped."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            stored = json.loads(_read_first_line(self._path))
            elapsed = self._wall() - float(stored.pop("at"))
            state = {_PACER_STATE_FIELDS[name]: value for name, value in stored.items()}
            self._pacer.restore(PacerState(**state), elapsed, clock.now())

    def save_periodically(self) -> None:
        """Save the state, unless it was saved within the last second."""
        if clock.now() - self._saved_at >= _SAVE_INTERVAL_S:
            self.save()

    def save(self) -> None:
        """Save the state. Errors are ignored, because a lost state costs only a short wait."""
        self._saved_at = clock.now()
        state = asdict(self._pacer.snapshot(self._saved_at))
        stored = {name: state[field] for name, field in _PACER_STATE_FIELDS.items()} | {"at": self._wall()}
        line = json.dumps(stored).encode() + b"\n"
        with suppress(OSError):
            descriptor = open_shared(self._path)
            try:
                # The lock on this key makes this process the only writer. The file is written in place, because
                # in a sticky folder no user can replace another user's file. A kill between the two calls
                # leaves a tail, which `load` does not read.
                write_start(descriptor, line)
                os.ftruncate(descriptor, len(line))
            finally:
                os.close(descriptor)


def _read_first_line(path: Path) -> bytes:
    """Return the first line of a file. Does not follow links and does not wait for a pipe."""
    with os.fdopen(os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT | BINARY), "rb") as file:
        return file.readline(1 << 20)
