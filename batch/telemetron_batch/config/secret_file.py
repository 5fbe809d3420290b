"""Read a file that holds a secret, and that no other user can read."""

import os
import stat
import sys
from pathlib import Path

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.ownership import UntrustedPathError
from telemetron_batch.storage.access_list import effective_mode
from telemetron_batch.storage.trusted_folders import open_private


def read_secret_file(file: Path, option: str, what: str) -> str:
    """Return the content of a secret file. Raises ConfigError if other users can read the file, or it has no content.

    The error message begins with `option`, and `what` names the secret.
    """
    try:
        with os.fdopen(open_private(file), encoding="utf-8") as opened:
            if _is_readable_by_others(opened.fileno()):
                raise ConfigError(f"{option}others can read the {what} in {file}", f"run: chmod 600 {file}")
            text = opened.read().strip()
    except UntrustedPathError as exc:
        raise ConfigError(f"{option}{exc.what}", exc.advice) from exc
    except OSError as exc:
        raise ConfigError(f"{option}cannot read {file} ({exc.strerror})", "check the path") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{option}{file} is not a text file", f"it must contain only the {what}") from exc
    if not text:
        raise ConfigError(f"{option}{file} is empty", f"it must contain only the {what}")
    return text


def _is_readable_by_others(descriptor: int) -> bool:
    """Return whether others can read a file. A file of root that this user reads as a group member is accepted."""
    if sys.platform == "win32":  # modes mean nothing there
        return False
    else:  # noqa: RET505 - the type checker knows only such branches as those of a system
        found = os.fstat(descriptor)
        is_by_group = found.st_uid == 0 != os.geteuid() and found.st_gid in {os.getegid(), *os.getgroups()}
        others = stat.S_IRWXG & ~stat.S_IRGRP | stat.S_IRWXO if is_by_group else stat.S_IRWXG | stat.S_IRWXO
        return bool(effective_mode(descriptor) & others)
