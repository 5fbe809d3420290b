"""Stop a run when its console is closed, or its user logs off, on Windows.

There the system ends the process as soon as a handler of that event returns, and after five seconds in any case. The
handler of the C library, by which Python learns of signals, returns at once. So this one waits while the run stops.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from telemetron_batch.storage.clock import RealClock

WAIT_S: Final = 60.0
"""Longer than the system waits before it ends the process."""


@contextmanager
def stop_on_console_close(stop: Callable[[str], None]) -> Iterator[None]:
    """Call `stop`, from another thread, with what has happened. Does nothing on POSIX, where it is SIGHUP."""
    if sys.platform != "win32":
        yield
    else:
        import win32api
        import win32con

        events = {
            win32con.CTRL_CLOSE_EVENT: "the closing of the console",
            win32con.CTRL_LOGOFF_EVENT: "the end of the session",
            win32con.CTRL_SHUTDOWN_EVENT: "the shutdown of the system",
        }

        def on_event(event: int) -> bool:
            if event not in events:
                return False  # Ctrl-C and Ctrl-Break, which are signals
            stop(events[event])
            RealClock().sleep_blocking(WAIT_S)
            return True

        win32api.SetConsoleCtrlHandler(on_event, True)
        try:
            yield
        finally:
            win32api.SetConsoleCtrlHandler(on_event, False)
