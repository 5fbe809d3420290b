"""The folder of `--lock-dir`, in which the users of one key share locks and the state of the pacer.

Every user of the folder must be able to use a file that another one created: the file gets the group of its folder
and the write bits of the folder. The contents of the files are untrusted and used only as numbers and
names. No link is followed.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from telemetron_batch.domain.ownership import HAS_OWNERS, UntrustedPathError, is_owned, owner_name
from telemetron_batch.domain.shell import quote
from telemetron_batch.storage.file_system import BINARY, NO_LINK, NO_WAIT, set_group, set_mode
from telemetron_batch.storage.trusted_folders import is_of_my_group

_FLAGS: Final = os.O_RDWR | NO_LINK | NO_WAIT | BINARY
_WRITERS: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def require_group_folder(folder: Path) -> Path:
    """Return the folder. Raises UntrustedPathError if it is missing, not writable, or open to tampering."""
    try:
        found = folder.lstat()
    except OSError as exc:
        make = f"create it: mkdir -m 2770 {quote(str(folder))}, then chgrp GROUP {quote(str(folder))}"
        raise UntrustedPathError(f"--lock-dir: {folder} cannot be used ({exc.strerror})", make) from exc
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link, and links are not followed" if stat.S_ISLNK(found.st_mode) else "no folder"
        raise UntrustedPathError(f"--lock-dir: {folder} is {kind}", "name the folder itself")
    what = f"--lock-dir: {folder} belongs to {owner_name(found)} (mode {stat.S_IMODE(found.st_mode):04o})"
    if HAS_OWNERS and found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise UntrustedPathError(
            f"{what}, and all users can replace files in it", f"run: chmod o-w {quote(str(folder))}"
        )
    if not (is_owned(found) or _is_shared_with_my_group(found)):
        advice = f"ask its owner to run: chgrp GROUP {quote(str(folder))}; chmod 2770 {quote(str(folder))}"
        raise UntrustedPathError(f"{what}, and is not shared with a group of yours", advice)
    if not os.access(folder, os.W_OK | os.X_OK):
        advice = f"ask its owner to run: chmod 2770 {quote(str(folder))}"
        raise UntrustedPathError(f"{what}, and you cannot write to it", advice)
    return folder


def _is_shared_with_my_group(found: os.stat_result) -> bool:
    shared = found.st_mode & stat.S_IWGRP and found.st_mode & (stat.S_ISGID | stat.S_ISVTX)
    return bool(shared) and is_of_my_group(found)


def open_shared(path: Path) -> int:
    """Open a file for reading and writing; create it so that every user who can write to the folder can use it.

    Return its descriptor. Raises OSError, also if it is no regular file.
    """
    while True:
        # With O_CREAT the kernel refuses a file of another user in a sticky folder (fs.protected_regular).
        with suppress(FileNotFoundError):
            return _require_regular(os.open(path, _FLAGS))
        with suppress(FileExistsError):
            descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            _share(descriptor, path.parent.stat())
            return descriptor


def _share(descriptor: int, folder: os.stat_result) -> None:
    """Give a new file the group and the write bits of its folder, regardless of the umask."""
    if not HAS_OWNERS or not folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    with suppress(PermissionError):  # a sticky folder may belong to a group that this user is not in
        set_group(descriptor, folder.st_gid)
    writers = folder.st_mode & _WRITERS
    set_mode(descriptor, writers | writers << 1)


def _require_regular(descriptor: int) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return descriptor
