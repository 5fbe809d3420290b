"""The program's very start: `python -m batch`, and `telemetron-batch`.

Nothing is imported here but what a signal needs: to import the commands takes longer than
all else before the work begins, and a signal in that time ends the process as any other does.
"""

import gc
import os
import signal
from contextlib import suppress
from typing import Final

_STOPPED: Final = 3
"""`ExitCode.STOPPED`, which is not imported yet."""
_UNSEARCHED: Final = 50_000
"""New objects before garbage among them is searched for: what is imported stays, and is a tenth slower so to import."""


def main() -> None:
    """Run a command and end the process with its exit code."""
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell's `&` has it
        signal.signal(signal.SIGINT, _end)
    gc.set_threshold(_UNSEARCHED, *gc.get_threshold()[1:])
    from batch.cli import main as commands

    commands(prog_name="telemetron-batch")


def _end(*_: object) -> None:
    """End at once: an exception raised into an import may be lost in it, and there is nothing to clear away yet."""
    with suppress(OSError):
        os.write(2, b"Stopped.\n")
    os._exit(_STOPPED)


if __name__ == "__main__":
    main()
