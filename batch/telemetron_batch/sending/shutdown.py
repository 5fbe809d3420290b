"""Stop a run early: on signals, a deadline, a cancel token or a lost lease.

Attempts in flight get a short time to finish, so that the journal stays correct.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from telemetron_batch.api.attempt_gate import StopSignal
from telemetron_batch.api.http_client import HttpClient
from telemetron_batch.config.config import SendOptions
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.signals import RUN_END_SIGNALS
from telemetron_batch.domain.stops import ExitCode, Stop, StopReason, stop_of_until
from telemetron_batch.sending.console_close import stop_on_console_close
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage import clock
from telemetron_batch.storage.lease import Lease

SHUTDOWN_GRACE_S: Final = 3.5
"""Seconds that attempts in flight get after a signal. Airflow kills after five."""

_LOOK_AT_CLOCK_S: Final = 30.0
"""Seconds between two looks at the local time."""


class Shutdown:
    """Stops a run early: no further attempt leaves, and those in flight get a short time to finish."""

    def __init__(self, stop_signal: StopSignal, client: HttpClient) -> None:
        self._halt = stop_signal
        self._client = client
        self.begun = False

    def begin(self, reason: str) -> None:
        """Stop the run for this reason, unless it stops already."""
        self.begun = True
        self._halt.set(Stop(StopReason.INTERRUPTED, reason))
        self._client.shorten_deadlines(SHUTDOWN_GRACE_S)

    def lease_lost(self) -> None:
        """Stop the run at once, because further answers could not be recorded."""
        self.begun = True
        self._halt.set(Stop(StopReason.RUN_LOST))
        self._client.shorten_deadlines(0)


@dataclass(frozen=True, slots=True)
class LocalDeadline:
    """The local time of `--until`, and the moment that it means for a run."""

    time_of_day: str
    at: float
    """In seconds since the epoch."""
    wall: Callable[[], float]

    @classmethod
    def of(cls, sending: SendOptions, wall: Callable[[], float]) -> "LocalDeadline | None":
        """Return that of the options; None without one, or before the start of the run is known."""
        if sending.until is None or sending.until_at is None:
            return None
        return cls(f"{sending.until:%H:%M}", sending.until_at, wall)


class Deadline:
    """When a process stops working on a run: some time after its first session with the API, or at a local time."""

    def __init__(self, seconds: float | None, local: LocalDeadline | None = None) -> None:
        self._seconds = seconds
        self._at: float | None = None
        self.local = local
        """The local time of `--until`; None without one. The earlier of the two counts."""

    def start(self) -> float | None:
        """Return the deadline on the event loop's clock; None for none. The first call starts the time."""
        if self._at is None and self._seconds is not None:
            self._at = clock.now() + self._seconds
        return self._at


@contextmanager
def stop_at_deadline(stop_signal: StopSignal, deadline: Deadline) -> Iterator[None]:
    """Stop the run at its deadline."""
    loop, at = asyncio.get_running_loop(), deadline.start()
    stop = Stop(StopReason.DEADLINE)
    timer = None if at is None else loop.call_at(at, stop_signal.set, stop)
    watch = None if deadline.local is None else asyncio.create_task(_stop_at_local_time(stop_signal, deadline.local))
    try:
        yield
    finally:
        for one in (timer, watch):
            if one is not None:
                one.cancel()


async def _stop_at_local_time(stop_signal: StopSignal, local: LocalDeadline) -> None:
    """Stop the run at a local time, also if the clock is set or the machine was suspended meanwhile."""
    while (left := local.at - local.wall()) > 0:
        await clock.sleep(min(left, _LOOK_AT_CLOCK_S))
    stop_signal.set(stop_of_until(local.time_of_day))


def stop_on_signals(observer: RunObserver, shutdown: Shutdown) -> AbstractContextManager[None]:
    """Stop the run on a signal, or through the observer's cancel token if it has one."""
    return (
        _stop_on_signal(observer, shutdown)
        if observer.interrupt is None
        else _stop_on_cancel(observer.interrupt, shutdown)
    )


@contextmanager
def _stop_on_signal(observer: RunObserver, shutdown: Shutdown) -> Iterator[None]:
    """Stop the run on the first signal and exit the process on the second."""
    loop = asyncio.get_running_loop()

    def interrupted(name: str) -> None:
        if shutdown.begun:
            observer.on_stop()
            os._exit(ExitCode.STOPPED)
        observer.on_message("stop", f"{name}: waiting for calls in flight; a second signal exits at once")
        shutdown.begin(f"stopped by {name}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {one: signal.getsignal(one) for one in RUN_END_SIGNALS}
    for one in former:
        _call_on_signal(loop, one, partial(interrupted, one.name))
    try:
        with stop_on_console_close(lambda what: _call_in_loop(loop, partial(interrupted, what))):
            yield
    finally:
        for one, handler in former.items():
            if sys.platform != "win32":
                loop.remove_signal_handler(one)
            signal.signal(one, handler)


def _call_on_signal(loop: asyncio.AbstractEventLoop, number: signal.Signals, callback: Callable[[], None]) -> None:
    """Call `callback` in the loop on each signal. The loops of Windows cannot do that themselves."""
    if sys.platform == "win32":
        signal.signal(number, lambda *_: _call_in_loop(loop, callback))
    else:
        loop.add_signal_handler(number, callback)


@contextmanager
def _stop_on_cancel(interrupt: CancelToken, shutdown: Shutdown) -> Iterator[None]:
    """Stop the run when the token is cancelled, from any thread."""
    loop = asyncio.get_running_loop()
    with interrupt.on_cancel(lambda: _call_in_loop(loop, lambda: shutdown.begin(interrupt.reason or "stopped"))):
        yield


@contextmanager
def stop_on_lease_loss(lease: Lease, shutdown: Shutdown) -> Iterator[None]:
    """Stop the run when another process has taken over its lease."""
    loop = asyncio.get_running_loop()
    with lease.on_lost(lambda: _call_in_loop(loop, shutdown.lease_lost)):
        yield


def _call_in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed, because the run has ended
        loop.call_soon_threadsafe(callback)
