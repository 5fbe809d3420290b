"""A folder in which the users of one key keep what they share: locks, and the state of the pacer (`--lock-dir`).

Whoever makes a file there first, the others must be able to use it: it gets the group of its folder, and the folder
says who may write to it. What another user of the group has written is taken for numbers and names, and for
nothing else. No link is followed.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Final

from telemetron_batch.domain.ownership import NotOursError, is_owned, owner_in_words
from telemetron_batch.storage.trusted_folders import is_of_my_group

_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_WRITERS: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def require_group_folder(folder: Path) -> Path:
    """Return the folder. Raises NotOursError unless it is there, can be written to, and cannot be tampered with."""
    try:
        found = folder.lstat()
    except OSError as exc:
        make = f"make it: mkdir -m 2770 {quote(str(folder))}, then chgrp GROUP {quote(str(folder))}"
        raise NotOursError(f"--lock-dir: {folder} cannot be used ({exc.strerror})", make) from exc
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link, and none is followed" if stat.S_ISLNK(found.st_mode) else "no folder"
        raise NotOursError(f"--lock-dir: {folder} is {kind}", "name the folder itself")
    what = f"--lock-dir: {folder} belongs to {owner_in_words(found)} (mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise NotOursError(f"{what}, and everybody can replace files in it", f"run: chmod o-w {quote(str(folder))}")
    if not (is_owned(found) or _is_for_my_group(found)):
        advice = f"its owner makes it a group's: chgrp GROUP {quote(str(folder))}; chmod 2770 {quote(str(folder))}"
        raise NotOursError(f"{what}, and is not shared with a group of yours", advice)
    if not os.access(folder, os.W_OK | os.X_OK):
        advice = f"its owner lets your group write to it: chmod 2770 {quote(str(folder))}"
        raise NotOursError(f"{what}, and you cannot write to it", advice)
    return folder


def _is_for_my_group(found: os.stat_result) -> bool:
    shared = found.st_mode & stat.S_IWGRP and found.st_mode & (stat.S_ISGID | stat.S_ISVTX)
    return bool(shared) and is_of_my_group(found)


def open_shared(path: Path) -> int:
    """Return a descriptor, for reading and writing, of a file that all who may write to its folder can use.

    Made where there is none. Raises OSError, also for what is no regular file.
    """
    while True:
        # With O_CREAT the kernel refuses a file of another user in a sticky folder (fs.protected_regular).
        with suppress(FileNotFoundError):
            return _regular(os.open(path, os.O_RDWR | _NO_LINK))
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600)
            _let_others_in(descriptor, path.parent.stat())
            return descriptor


def _let_others_in(descriptor: int, folder: os.stat_result) -> None:
    """Give a new file the group and the writers of its folder, whatever the umask is; a private one stays private."""
    if os.name != "posix" or not folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    with suppress(PermissionError):  # a sticky folder for all may be of a group that is not ours
        os.fchown(descriptor, -1, folder.st_gid)
    writers = folder.st_mode & _WRITERS
    os.fchmod(descriptor, writers | writers << 1)


def _regular(descriptor: int) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return descriptor
