"""A program on a pseudo-terminal, for tests and pictures: its output, and the final screen."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_REDRAWN = re.compile(r".*\r\x1b\[2K")
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class OnTerminal:
    """Runs a command on a pseudo-terminal of a given width."""

    def __init__(
        self, command: Sequence[str], *, columns: int = 80, environment: Mapping[str, str] | None = None
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        told = {**os.environ, "TERM": "xterm-256color", **(environment or {})}
        for name in {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"} - set(environment or {}):
            told.pop(name, None)
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=told,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        os.close(theirs)
        self.written = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, seen: Callable[[str], bool], seconds: float = 60) -> str:
        """Read until a text appears. Return the output so far."""
        end = time.monotonic() + seconds
        while not seen(self.written) and self._read(max(0.0, end - time.monotonic())):
            pass
        assert seen(self.written), self.written
        return self.written

    def finish(self) -> int:
        """Read to the end. Return the exit code."""
        while self._read(60):
            pass
        code = self.process.wait(60)
        os.close(self._ours)
        return code

    @property
    def screen(self) -> list[str]:
        """Return the lines of the final screen with colours."""
        return [_REDRAWN.sub("", line.rstrip("\r")) for line in self.written.split("\n")]

    @property
    def texts(self) -> list[str]:
        """Return the lines of the final screen without colours."""
        return [_CODES.sub("", line) for line in self.screen]

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], seconds)
        try:
            piece = os.read(self._ours, 1 << 16) if ready else b""
        except OSError:  # how Linux says that nobody is at the other end any more
            piece = b""
        self.written += piece.decode("utf-8", "replace")
        return bool(piece)
