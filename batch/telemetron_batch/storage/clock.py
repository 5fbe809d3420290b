"""The only module that reads time, sleeps, or draws random numbers.

Everything asynchronous runs on the loop that `Clock.run` makes, so a test that brings
a loop of its own turns hours into milliseconds.
"""

import asyncio
import random
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from zlib import crc32

T = TypeVar("T")

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Time as the program sees it."""

    def wall(self) -> float:
        """Seconds since the epoch: for records and for what servers say of dates."""

    def uptime(self) -> float:
        """Seconds that never jump, also in ordinary code."""

    def pause(self, seconds: float) -> None:
        """Sleep, in ordinary code."""

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run asynchronous work to its end on a loop of this clock."""


class RealClock:
    """The time of the machine."""

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def uptime(self) -> float:
        """Seconds since the machine was started."""
        return uptime()

    def pause(self, seconds: float) -> None:
        """Sleep, in ordinary code."""
        time.sleep(seconds)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run asynchronous work to its end."""
        return asyncio.run(main)


def uptime() -> float:
    """Seconds since the machine was started; never jumps, and goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@cache
def boot_number() -> int | None:
    """Return a number for the boot that `uptime` counts from; None where this machine does not tell boots apart."""
    try:
        return crc32(_BOOT_ID.read_bytes())
    except OSError:
        return None


def now() -> float:
    """Seconds on the running loop's clock, which never jumps."""
    return asyncio.get_running_loop().time()


def deadline(seconds: float) -> asyncio.Timeout:
    """A total deadline for a block; TimeoutError when it passes."""
    return asyncio.timeout(seconds)


async def sleep(seconds: float) -> None:
    """Sleep, come what may."""
    await asyncio.sleep(seconds)


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Sleep so long, or until the event is set."""
    if seconds <= 0 or event.is_set():
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def jitter() -> float:
    """A random number in [0, 1): spreads retries so that they do not march in step."""
    return random.random()  # noqa: S311 - spreads load, guards nothing


def iso(wall: float | None) -> str:
    """A moment as people and spreadsheets read it: UTC, to the millisecond; "" for none."""
    if wall is None:
        return ""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
