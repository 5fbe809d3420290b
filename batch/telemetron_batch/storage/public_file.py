"""Files that other users of the machine read: written whole, with mode 0644."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

_MODE: Final = 0o644


def write_public(path: Path, content: bytes) -> None:
    """Write a file that everybody may read; it appears whole or not at all. Raises OSError.

    The folder may belong to somebody else, so the file is made under a random name.
    """
    require_replaceable(path)
    aside = path.with_name(f".{path.name}.{token_hex(8)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(aside, flags, _MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(_MODE)  # whatever the umask removed
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def require_replaceable(path: Path) -> None:
    """Raise FileExistsError if something other than a file has that path, such as a device, a pipe or a link."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "it is there and is no regular file", str(path))
