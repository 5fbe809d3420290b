"""The entry point: `python -m telemetron_batch`, and `telemetron-batch`.

Imports only what the signal handler needs. Importing the commands is the slowest part of the start; with the
handler installed first, a signal during that import also exits with code 3.
"""

import gc
import os
from contextlib import suppress
from typing import Final

from telemetron_batch.domain.signals import handle_end_signals

_STOPPED: Final = 3
"""`ExitCode.STOPPED`, which is not imported yet."""
_GC_THRESHOLD: Final = 50_000
"""Commands import more libraries, whose objects stay too: with 10,000, a run searches them 12 times, for 75 ms."""


def main() -> None:
    """Run a command and end the process with its exit code."""
    handle_end_signals(_exit_on_early_signal)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the pool that returns the most memory to the system
    gc.disable()  # imports create only objects that stay
    from telemetron_batch.cli.commands import main as commands

    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    gc.enable()
    try:
        commands(prog_name="telemetron-batch")
    finally:
        gc.freeze()  # else Python searches the objects of all libraries before it ends, for 150 ms


def _exit_on_early_signal(*_: object) -> None:
    """End at once: an exception raised into an import may be lost in it, and there is nothing to clear away yet."""
    with suppress(OSError):
        os.write(2, b"Stopped.\n")
    os._exit(_STOPPED)


if __name__ == "__main__":
    main()
