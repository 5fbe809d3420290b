"""Check whether workers on several hosts can share a folder, as far as one of them can tell."""

import re
from pathlib import Path
from typing import Final

from airflow.providers.common.compat.sdk import conf

_LOCAL_FILESYSTEMS: Final = frozenset({"btrfs", "ext2", "ext3", "ext4", "overlay", "ramfs", "tmpfs", "xfs", "zfs"})
_LOCAL_EXECUTORS: Final = frozenset({"LocalExecutor", "SequentialExecutor"})
_MOUNTS: Final = Path("/proc/self/mountinfo")


def sharing_warning(folder: Path) -> str | None:
    """Return a warning if the executor may use other hosts and the folder is on a local file system; else None."""
    executors = re.findall(r"\w+Executor", conf.get("core", "executor", fallback=""))
    kind = file_system(folder.absolute(), _MOUNTS.read_text() if _MOUNTS.exists() else "")
    if kind not in _LOCAL_FILESYSTEMS or {*executors} <= _LOCAL_EXECUTORS:
        return None
    return f"reports_dir {folder} is on {kind}, which workers on other hosts do not see: all must share this folder"


def file_system(path: Path, mounts: str) -> str:
    """Return the type of the file system of a path, given the text of /proc/self/mountinfo; empty if unknown."""
    found: tuple[int, str] = (-1, "")
    for line in mounts.splitlines():
        mounted, _, details = line.partition(" - ")
        point = Path(mounted.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= found[0]:
            found = len(point.parts), details.split()[0]
    return found[1]
