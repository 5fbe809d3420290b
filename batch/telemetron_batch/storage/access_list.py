"""Access lists of files on Linux, beside owner, group and mode.

If a file has one, the group bits of its mode are the most that any entry grants, not what its group may do. systemd
gives a service its credentials so: files of root that only an entry for the service's user lets it read.
"""

import os
import stat
import struct
import sys
from typing import Final

_NAME: Final = "system.posix_acl_access"
_HEADER_BYTES: Final = 4
_ENTRY: Final = struct.Struct("<HHI")
_USER, _GROUP_OBJ, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_ROOT: Final = 0


def effective_mode(descriptor: int) -> int:
    """Return the mode of an open file, with what others than its owner, this user and root may do as its group bits."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    entries = _entries(descriptor)
    if not entries:
        return mode
    most = next((bits for tag, bits, _ in entries if tag == _MASK), 0o7)
    granted = 0
    for tag, bits, number in entries:
        if tag in (_GROUP_OBJ, _GROUP) or (tag == _USER and not _is_trusted(number)):
            granted |= bits & most
    return mode & ~stat.S_IRWXG | granted << 3


def _is_trusted(uid: int) -> bool:
    return sys.platform != "win32" and uid in (_ROOT, os.geteuid())


def _entries(descriptor: int) -> list[tuple[int, int, int]]:
    """Return kind, bits and number of each entry; none without an access list."""
    if sys.platform == "linux":
        try:
            content = os.getxattr(descriptor, _NAME)
        except OSError:  # no list, or a file system without lists
            return []
        whole = len(content) - (len(content) - _HEADER_BYTES) % _ENTRY.size
        return [*_ENTRY.iter_unpack(content[_HEADER_BYTES:whole])]
    else:  # noqa: RET505 - the type checker knows only such branches as those of a system
        return []
