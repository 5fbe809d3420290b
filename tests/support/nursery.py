"""Reads each input file in a separate process with limited memory and time, and reports how it ended.

A child begins where this process stands, with everything imported, so thousands of files take minutes.
`python -m tests.support.nursery` takes one line of JSON a file and gives one back.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import pandas  # noqa: F401 - what pyarrow would import in every child

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.domain.model import HiddenRowsPolicy, InputOptions
from telemetron_batch.input.load import load

MEMORY = 1 << 30
"""Address space that a child may use in addition to its initial size."""
RESERVED = 1 << 30
"""Address space that pyarrow's allocator reserves at its first use."""
SECONDS = 10
READ, REFUSED = "read", "refused"


@dataclass(frozen=True)
class Ending:
    """How reading a file ended: `what` is `READ`, `REFUSED` or a failure; memory is in bytes."""

    what: str
    words: str
    seconds: float
    memory: int

    @property
    def is_allowed(self) -> bool:
        """Whether the result is rows or a one-line error."""
        return self.what in (READ, REFUSED)


class Nursery:
    """Handle of the process that forks the children."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Nursery":
        """Return the nursery."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.communicate()

    def read(self, path: Path, **options: Any) -> Ending:
        """Read a file in a child and return how that ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"path": str(path), "options": options}) + "\n")
        self._process.stdin.flush()
        return Ending(**json.loads(self._process.stdout.readline()))


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


def _read(path: str, options: Mapping[str, Any]) -> tuple[str, str]:
    try:
        wanted = InputOptions(**{**options, "hidden": HiddenRowsPolicy(options.get("hidden", "refuse"))})
        rows = load([path], wanted, spool=Path(path).parent).rows
    except BatchError as error:
        words = str(error)
        return (REFUSED if error.exit_code == 2 and words.isprintable() else f"exit {error.exit_code}"), words
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        return "raised", repr(error)
    return READ, f"{len(rows)} rows"


def _child(pipe: int, path: str, options: Mapping[str, Any]) -> NoReturn:
    """Read the file and return how that ended."""
    most = _mapped() + MEMORY + RESERVED
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        what, words = _read(path, options)
        with os.fdopen(pipe, "w") as told:
            json.dump({"what": what, "words": words, "memory": _peak()}, told)
    finally:
        os._exit(0)


def _had_read(path: str, options: Mapping[str, Any]) -> Ending:
    start = time.monotonic()
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        os.close(source)
        _child(sink, path, options)
    os.close(sink)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(SECONDS)
    with os.fdopen(source) as telling:
        told = telling.read()
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    seconds = time.monotonic() - start
    if status or not told:
        return Ending(f"ended by signal {os.WTERMSIG(status)}", "", seconds, 0)
    return Ending(seconds=seconds, **json.loads(told))


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asdict(_had_read(**json.loads(line)))), flush=True)  # noqa: T201 - this is how it tells
