"""Run a command of the user and read the first line of its output. The only module that starts processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Thread
from typing import BinaryIO, Final

from telemetron_batch.storage.clock import uptime

_MAX_OUTPUT_BYTES: Final = 1 << 16
"""Bytes of the output that are read at most; then the command's next write fails."""


class CommandFailedError(Exception):
    """The command could not be started, failed, or took too long. The text completes "the command ..."."""


class OutputCommand:
    """A command whose first line of output is wanted. It runs without a shell, and without a terminal."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> None:
        self._arguments = tuple(arguments)
        self._environ = dict(environ)
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._is_aborted = False

    def first_line(self) -> bytes:
        """Run the command and return the first line of its output. Raises CommandFailedError.

        Its error output is dropped, because it may show what the output holds. If it takes too long, it is killed
        with all processes of its group.
        """
        process = self._process = self._start()
        try:
            output = self._read(process, uptime() + self._timeout_s)
        except BaseException:  # also an interrupt
            _kill_group(process)
            raise
        if self._is_aborted:
            raise CommandFailedError("was ended, because the run ends")
        if process.returncode:
            raise CommandFailedError(_end_text(process.returncode))
        return output.partition(b"\n")[0]

    def abort(self) -> None:
        """Kill the command, if it runs: `first_line` then raises."""
        self._is_aborted = True
        if self._process is not None:
            _kill_group(self._process)

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._is_aborted:
            raise CommandFailedError("was not started, because the run ends")
        try:
            return subprocess.Popen(  # noqa: S603 - the user's own command, without a shell
                self._arguments,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as exc:
            raise CommandFailedError(f"cannot be started ({exc.strerror or type(exc).__name__})") from exc
        except ValueError as exc:  # an argument with a null character
            raise CommandFailedError("cannot be started (an argument is not valid)") from exc

    def _read(self, process: "subprocess.Popen[bytes]", until: float) -> bytes:
        """Return the output once the command has ended. Raises CommandFailedError at the time `until`."""
        chunks: list[bytes] = []
        # A thread, because a process that has left the group may hold the pipe open for ever.
        reader = Thread(target=_drain, args=(process.stdout, chunks), name="output of a command", daemon=True)
        reader.start()
        if self._is_aborted:  # since the check before the start
            _kill_group(process)
        reader.join(max(0.0, until - uptime()))
        try:
            if not reader.is_alive():
                process.wait(max(0.0, until - uptime()))
                return b"".join(chunks)
        except subprocess.TimeoutExpired:
            pass
        raise CommandFailedError(f"took longer than {self._timeout_s:g} s")


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a command and its group, of which some may live on after it has ended."""
    with suppress(OSError):
        if sys.platform != "win32":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def _drain(pipe: BinaryIO, chunks: list[bytes]) -> None:
    """Read a pipe to its end, or to the limit."""
    with suppress(OSError, ValueError), pipe:
        chunks.append(pipe.read(_MAX_OUTPUT_BYTES))


def _end_text(status: int) -> str:
    return f"ended with exit status {status}" if status > 0 else f"was ended by signal {-status}"
