"""What POSIX and Windows do differently with open files and folders."""

import os
import sys
from pathlib import Path
from typing import Final

NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
"""Flag to open no symbolic link; 0 on Windows, where only administrators can make links by default."""
NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
"""Flag not to wait for the other end of a named pipe; 0 on Windows, whose pipes are no files."""
FOLDER_ONLY: Final = getattr(os, "O_DIRECTORY", 0)
BINARY: Final = getattr(os, "O_BINARY", 0)
"""Flag without which Windows changes line ends that are read and written."""


def read_start(descriptor: int, size: int) -> bytes:
    """Return the first bytes of an open file, at most `size`."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, size)


def write_start(descriptor: int, content: bytes) -> None:
    """Overwrite the beginning of an open file."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written:])


def allocate(descriptor: int, size: int) -> None:
    """Make an empty open file `size` bytes long, with space on the disk for all of them."""
    if sys.platform == "win32":
        os.ftruncate(descriptor, size)  # NTFS reserves the space, as the file is not marked as sparse
    else:
        os.posix_fallocate(descriptor, 0, size)


def set_mode(descriptor: int, mode: int) -> None:
    """Set the mode of an open file; does nothing on Windows, where a file has the access list of its folder."""
    if sys.platform != "win32":
        os.fchmod(descriptor, mode)


def set_group(descriptor: int, group: int) -> None:
    """Set the group of an open file; does nothing on Windows. Raises OSError."""
    if sys.platform != "win32":
        os.fchown(descriptor, -1, group)


def sync_folder(folder: Path) -> None:
    """Sync the directory entries of a folder to disk; Windows does so itself, and cannot open a folder."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
