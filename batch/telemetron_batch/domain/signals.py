"""The signals that end a command or a run: those of POSIX, and on Windows Ctrl-C, Ctrl-Break and a closed console.

The C library of Windows turns a closed console, a logoff and a shutdown into SIGBREAK. It ends the process as soon as
its own handler has returned, which is before that of Python runs: see `sending/console_close.py`.
"""

import signal
import sys
from collections.abc import Callable
from typing import Final

if sys.platform == "win32":
    END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    """Signals that end a command."""
    RUN_END_SIGNALS: Final = END_SIGNALS
    """Signals that end a run in an orderly way while calls are made."""
else:
    END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
    RUN_END_SIGNALS: Final = (*END_SIGNALS, signal.SIGHUP)


def handle_end_signals(handler: Callable[..., None]) -> None:
    """Call `handler` on each signal that ends a run; but leave ignored ones, as a shell's `&` and `nohup` have them."""
    for one in RUN_END_SIGNALS:
        if one is signal.SIGTERM or signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, handler)
