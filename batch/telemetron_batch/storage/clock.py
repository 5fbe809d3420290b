"""The only module that reads time, sleeps, or draws random numbers.

All asynchronous code runs on the loop that `Clock.run` creates, so a test clock with its own loop can turn hours
into milliseconds. `asyncio` is imported by what needs a loop, because commands without one start faster.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from zlib import crc32

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """The time of the program."""

    def wall(self) -> float:
        """Return seconds since the epoch, for records and for dates in HTTP headers."""

    def uptime(self) -> float:
        """Return seconds on a clock that never jumps; needs no event loop."""

    def sleep_blocking(self, seconds: float) -> None:
        """Sleep in synchronous code."""

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a new event loop of this clock, and return its result."""


class RealClock:
    """The clock of the machine."""

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def uptime(self) -> float:
        """Return seconds since the machine booted."""
        return uptime()

    def sleep_blocking(self, seconds: float) -> None:
        """Sleep in synchronous code."""
        time.sleep(seconds)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result."""
        import asyncio

        return asyncio.run(main)


def uptime() -> float:
    """Return seconds since the machine booted; never jumps, and counts while the machine is suspended."""
    if sys.platform == "win32":
        return time.monotonic()  # counts from the boot there
    else:  # noqa: RET505 - the type checker knows only such branches as those of a system
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@cache
def boot_number() -> int | None:
    """Return a number for the current boot, from which `uptime` counts; None if the system has no boot id."""
    try:
        return crc32(_BOOT_ID.read_bytes())
    except OSError:
        return None


def now() -> float:
    """Return seconds on the running loop's clock, which never jumps."""
    import asyncio

    return asyncio.get_running_loop().time()


def deadline(seconds: float) -> asyncio.Timeout:
    """Return a context manager that raises TimeoutError when the deadline passes."""
    import asyncio

    return asyncio.timeout(seconds)


async def sleep(seconds: float) -> None:
    """Sleep on the running loop."""
    import asyncio

    await asyncio.sleep(seconds)


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Sleep until the event is set, at most `seconds`."""
    import asyncio

    if seconds <= 0 or event.is_set():
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def jitter() -> float:
    """Return a random number in [0, 1), to spread retries."""
    return random.random()  # noqa: S311 - spreads load, guards nothing


def iso(wall: float | None) -> str:
    """Return a time as ISO 8601 text in UTC with milliseconds; "" for None."""
    if wall is None:
        return ""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """Return a duration such as 40 s, 3 min 20 s or 1 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
