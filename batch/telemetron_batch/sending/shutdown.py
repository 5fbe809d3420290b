"""What ends a run early: signals, a deadline, an interrupt by a door, a lease that is lost.

Whatever does, what is under way is given a little time and the journal stays true.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

from telemetron_batch.api.attempt_gate import StopSignal
from telemetron_batch.api.http_client import HttpClient
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.stops import ExitCode, Stop, StopReason
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.lease import Lease

SHUTDOWN_GRACE_S: Final = 3.5
"""Seconds that calls in flight get after a signal: Airflow kills after five."""


class Shutdown:
    """Ends a run early: nothing more leaves, and what is under way gets a little time."""

    def __init__(self, halt: StopSignal, exchanger: HttpClient) -> None:
        self._halt = halt
        self._exchanger = exchanger
        self.begun = False

    def begin(self, why: str) -> None:
        """End it for this reason, unless it ends already."""
        self.begun = True
        self._halt.now(Stop(StopReason.INTERRUPTED, why))
        self._exchanger.shorten_deadlines(SHUTDOWN_GRACE_S)

    def lease_lost(self) -> None:
        """End it at once: what may still be answered could not be recorded."""
        self.begun = True
        self._halt.now(Stop(StopReason.RUN_LOST))
        self._exchanger.shorten_deadlines(0)


@contextmanager
def stop_at_deadline(halt: StopSignal, seconds: float | None) -> Iterator[None]:
    """So many seconds from now the run ends."""
    loop = asyncio.get_running_loop()
    stop = Stop(StopReason.DEADLINE)
    timer = None if seconds is None else loop.call_later(seconds, halt.now, stop)
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


def stop_on_signals(face: RunObserver, ending: Shutdown) -> AbstractContextManager[None]:
    """Whoever may end the run is heard while this lasts."""
    return _signals(face, ending) if face.interrupt is None else _interrupts(face.interrupt, ending)


@contextmanager
def _signals(face: RunObserver, ending: Shutdown) -> Iterator[None]:
    """A signal ends the run while this lasts; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def interrupted(name: str) -> None:
        if ending.begun:
            face.on_stop()
            os._exit(ExitCode.STOPPED)
        face.on_message("stop", f"{name}: letting calls under way finish; once more ends at once")
        ending.begin(f"stopped by {name}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for one in former:
        loop.add_signal_handler(one, interrupted, one.name)
    try:
        yield
    finally:
        for one, handler in former.items():
            loop.remove_signal_handler(one)
            signal.signal(one, handler)


@contextmanager
def _interrupts(interrupt: CancelToken, ending: Shutdown) -> Iterator[None]:
    """Whoever holds the interrupt ends the run while this lasts, from whatever thread."""
    loop = asyncio.get_running_loop()
    with interrupt.on_cancel(lambda: _from_outside(loop, lambda: ending.begin(interrupt.reason or "stopped"))):
        yield


@contextmanager
def stop_on_lease_loss(lease: Lease, ending: Shutdown) -> Iterator[None]:
    """The run ends while this lasts when it turns out to belong to somebody else."""
    loop = asyncio.get_running_loop()
    with lease.on_lost(lambda: _from_outside(loop, ending.lease_lost)):
        yield


def _from_outside(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the run has ended by itself
        loop.call_soon_threadsafe(what)
