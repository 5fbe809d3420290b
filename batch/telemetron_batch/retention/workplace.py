"""The folder `.retention` in a reports folder, in which one command at a time changes what is kept."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

from telemetron_batch.domain.errors import ConfigError, LockedError
from telemetron_batch.journal.layout import LOCK_NAME, shard_folders
from telemetron_batch.journal.removed_runs import HISTORY_NAME
from telemetron_batch.storage.atomic_file import disk_errors_in, make_private_dir
from telemetron_batch.storage.clock import Clock, iso
from telemetron_batch.storage.file_system import sync_folder
from telemetron_batch.storage.lease_files import remote_holder
from telemetron_batch.storage.lock import Lock, LockOwner

WORKPLACE: Final = ".retention"
_REMOVED: Final = "removed"


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folder, while this process has it."""

    reports_dir: Path
    owner: LockOwner

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.reports_dir / WORKPLACE

    def finish_removals(self) -> None:
        """Delete the folders that this or an interrupted command has moved here. Raises DiskError."""
        with disk_errors_in(self.folder):
            (self.folder / f"{HISTORY_NAME}.new").unlink(missing_ok=True)
            if (self.folder / _REMOVED).exists():
                shutil.rmtree(self.folder / _REMOVED)

    def move_here(self, run: Path) -> None:
        """Move the folder of a run here, where no command looks for runs. Raises DiskError."""
        removed = make_private_dir(self.folder / _REMOVED)
        with disk_errors_in(self.reports_dir):
            run.rename(removed / f"{run.name}-{token_hex(4)}")
            sync_folder(self.reports_dir)

    @contextmanager
    def hold(self, run: Path) -> Iterator[None]:
        """Keep all other processes from working on a run and its shards. Raises LockedError."""
        with ExitStack() as stack:
            for folder in (run, *shard_folders(run)):
                lock = folder / LOCK_NAME
                held = Lock.acquire(lock, self.owner, f"run {run.name}")
                stack.callback(held.release)
                if (elsewhere := remote_holder(lock)) is not None:
                    raise LockedError(f"run {run.name} is, or was when it died, in use by {elsewhere}")
            yield


@contextmanager
def workplace(reports_dir: Path, clock: Clock) -> Iterator[Workplace]:
    """Take the folder, and finish what an interrupted command has begun. Raises LockedError, ConfigError."""
    if not reports_dir.is_dir():
        raise ConfigError(f"there is no folder {reports_dir}", "check --reports-dir")
    folder = make_private_dir(reports_dir / WORKPLACE)
    owner = LockOwner(os.getpid(), iso(clock.wall()), "prune or forget")
    try:
        lock = Lock.acquire(folder / "lock", owner, f"what is kept in {reports_dir}")
    except LockedError as exc:
        raise LockedError(exc.reason, "wait until it has ended, and run the same command again") from exc
    try:
        place = Workplace(reports_dir, owner)
        place.finish_removals()
        yield place
    finally:
        lock.release()
