"""Where the files of a run lie: their names, and the folders of runs and of shards under a reports folder."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import ConfigError, ForeignRunError, refusing_foreign_files
from telemetron_batch.journal.connection import require_ours
from telemetron_batch.storage.trusted_folders import require_folder

JOURNAL_NAME: Final = "journal.sqlite3"
LOCK_NAME: Final = "run.lock"
SHARDS: Final = "shards"
"""The folder in which the shards of a run have their folders."""


def run_folders(reports_dir: Path, warn: Callable[[str], None]) -> list[Path]:
    """Return the folders of runs under a folder, by name; `warn` is told of those that are not ours."""
    return [folder for folder in _folders(reports_dir) if _has_journal(folder, warn)]


def shard_folders(run: Path) -> list[Path]:
    """Return the folders of the shards in which a run was begun, sorted. Raises ForeignRunError."""
    with refusing_foreign_files():
        require_folder(run / SHARDS)
        begun = sorted(path.parent for path in run.glob(f"{SHARDS}/*/{JOURNAL_NAME}"))
        for folder in begun:
            require_folder(folder)
    return begun


def _folders(reports_dir: Path) -> list[Path]:
    """Return what may be a folder of a run; no link is followed."""
    try:
        names = sorted(entry.name for entry in os.scandir(reports_dir) if entry.is_dir() or entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise ConfigError(f"cannot read {reports_dir} ({exc.strerror})", "check --reports-dir") from exc
    return [reports_dir / name for name in names]


def _has_journal(folder: Path, warn: Callable[[str], None]) -> bool:
    """Whether this is a run's folder of ours; warn of one that is not ours, or may be such a one."""
    try:
        if not (folder / JOURNAL_NAME).exists():
            return False
    except OSError:
        pass  # nobody can tell what is in it
    try:
        require_ours(folder / JOURNAL_NAME)
        return (folder / JOURNAL_NAME).exists()
    except (ForeignRunError, OSError) as exc:
        told = exc.reason if isinstance(exc, ForeignRunError) else f"{folder} cannot be read ({exc.strerror})"
        warn(f"run {folder.name} is passed over: {told}")
        return False
