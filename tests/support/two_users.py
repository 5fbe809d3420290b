"""Commands as other system users: this process has imported everything, forks, and gives up root in the child.

A Python that only root can read serves too, because the child imports nothing any more.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from telemetron_batch.cli.commands import main

PLANNER, APPROVER = 61_201, 61_202
"""Numbers without accounts: for files only the number counts."""


@dataclass(frozen=True)
class Ended:
    """The end of a command."""

    exit_code: int
    output: str
    error: str


def command_as(uid: int, *words: str, folder: Path, environ: Mapping[str, str] | None = None) -> Ended:
    """Run a command in a folder as a user without any group of its own."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        child = os.fork()
        if not child:
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(error.fileno(), 2)
                _become(uid, folder)
                os.environ.update(environ or {})
                os._exit(_run(words))
            except BaseException:  # noqa: BLE001 - the child must never return
                traceback.print_exc()
                os._exit(99)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        error.seek(0)
        return Ended(os.waitstatus_to_exitcode(status), output.read().decode(), error.read().decode())


def _become(uid: int, folder: Path) -> None:
    os.chdir(folder)
    os.umask(0o022 if uid == PLANNER else 0o077)
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    os.environ["HOME"] = str(folder)
    os.environ["XDG_STATE_HOME"] = str(folder / f"state-{uid}")


def _run(words: tuple[str, ...]) -> int:
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    try:
        main(list(words), prog_name="telemetron-batch")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
