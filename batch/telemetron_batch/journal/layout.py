"""Names of a run's files, and the folders of runs and shards below a reports folder."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import ConfigError, UntrustedRunError, untrusted_path_errors
from telemetron_batch.journal.connection import require_ours
from telemetron_batch.storage.trusted_folders import require_folder

JOURNAL_NAME: Final = "journal.sqlite3"
LOCK_NAME: Final = "run.lock"
SHARDS: Final = "shards"
"""The folder in a run's folder that contains the folders of its shards."""
UPLOAD_IN_RUN: Final = "upload"
"""The folder in a run's folder of the list that the page for clerks made it from."""
UPLOADS: Final = ".uploads"
"""The folder in a reports folder of the lists of the page for clerks that are no runs yet."""
UPLOAD_RECORD: Final = "upload.json"
"""The file in the folder of a list that says what it is."""
DESK: Final = ".desk"
"""The folder in a reports folder of what else the page for clerks keeps."""
DESK_PLANS: Final = "plans"
"""The folder there of what it shows of plans."""


def run_folders(reports_dir: Path, warn: Callable[[str], None]) -> list[Path]:
    """Return the run folders in a reports folder, sorted by name. Calls `warn` for folders that are not ours."""
    return own_run_folders(reports_dir, lambda folder, reason: warn(f"run {folder.name} is passed over: {reason}"))


def own_run_folders(reports_dir: Path, leave: Callable[[Path, str], None]) -> list[Path]:
    """Return the run folders, sorted by name. Calls `leave` with those that are not ours, and why."""
    return [folder for folder in _folders(reports_dir) if _has_journal(folder, leave)]


def shard_folders(run: Path) -> list[Path]:
    """Return the folders of a run's started shards, sorted. Raises UntrustedRunError."""
    with untrusted_path_errors():
        require_folder(run / SHARDS)
        started = sorted(path.parent for path in run.glob(f"{SHARDS}/*/{JOURNAL_NAME}"))
        for folder in started:
            require_folder(folder)
    return started


def _folders(reports_dir: Path) -> list[Path]:
    """Return the folders and links in a reports folder."""
    try:
        names = sorted(entry.name for entry in os.scandir(reports_dir) if entry.is_dir() or entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise ConfigError(f"cannot read {reports_dir} ({exc.strerror})", "check --reports-dir") from exc
    return [reports_dir / name for name in names]


def _has_journal(folder: Path, leave: Callable[[Path, str], None]) -> bool:
    """Return whether this is a run folder and ours. Calls `leave` if it is or may be a run folder that is not ours."""
    try:
        if not (folder / JOURNAL_NAME).exists():
            return False
    except OSError:
        pass  # unreadable: it may be a run folder
    try:
        require_ours(folder / JOURNAL_NAME)
        return (folder / JOURNAL_NAME).exists()
    except (UntrustedRunError, OSError) as exc:
        reason = exc.reason if isinstance(exc, UntrustedRunError) else f"{folder} cannot be read ({exc.strerror})"
        leave(folder, reason)
        return False
