"""Locks on open files that the kernel releases when their owner dies: `flock` on POSIX, `LockFileEx` on Windows.

Locks of Windows are mandatory: nobody else can read or write a locked range. So the range that is locked there begins
far behind the end of any lock file, which Windows allows, and the owner's name can still be read and written.

The libraries that know both systems do not fit. portalocker locks a file from its first byte, so that nobody could
read who holds it, and imports redis and asyncio if they are installed, which takes longer than a short command.
fasteners uses POSIX record locks, which do not exclude two runs of one process and end when any descriptor of the file
is closed. filelock has no shared kernel locks. So these are the two calls that portalocker makes: `fcntl.flock` and,
by pywin32, `LockFileEx`.
"""

import sys
from typing import Final

if sys.platform == "win32":
    import msvcrt
    from typing import TYPE_CHECKING

    import pywintypes
    import win32con
    import win32file
    import winerror

    if TYPE_CHECKING:
        import _win32typing

    _OFFSET_HIGH: Final = 1
    """Upper half of the position of the locked byte: 4 GiB."""

    def try_lock(descriptor: int, *, shared: bool) -> bool:
        """Lock an open file, exclusively or shared. Return False if another lock forbids it.

        Do not call it for a file that this descriptor has locked: use `make_shared`.
        """
        flags = win32con.LOCKFILE_FAIL_IMMEDIATELY | (0 if shared else win32con.LOCKFILE_EXCLUSIVE_LOCK)
        try:
            win32file.LockFileEx(msvcrt.get_osfhandle(descriptor), flags, 1, 0, _position())
        except pywintypes.error as exc:
            if exc.winerror in (winerror.ERROR_LOCK_VIOLATION, winerror.ERROR_IO_PENDING):
                return False
            raise OSError(0, exc.strerror, None, exc.winerror) from exc
        return True

    def make_shared(descriptor: int) -> bool:
        """Make the exclusive lock of an open file a shared one. Return False if another process was faster.

        One handle may hold both locks at once; the first unlock then ends the exclusive one.
        """
        try_lock(descriptor, shared=True)
        unlock(descriptor)
        return True

    def unlock(descriptor: int) -> None:
        """End a lock now: Windows may end the locks of a closed file a little later."""
        win32file.UnlockFileEx(msvcrt.get_osfhandle(descriptor), 1, 0, _position())

    def _position() -> "_win32typing.PyOVERLAPPED":
        position = pywintypes.OVERLAPPED()
        position.OffsetHigh = _OFFSET_HIGH
        return position

else:
    import fcntl

    def try_lock(descriptor: int, *, shared: bool) -> bool:
        """Lock an open file, exclusively or shared. Return False if another lock forbids it."""
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def make_shared(descriptor: int) -> bool:
        """Make the exclusive lock of an open file a shared one. Return False if another process was faster."""
        return try_lock(descriptor, shared=True)

    def unlock(descriptor: int) -> None:
        """End a lock. Closing the file does so too, unless a forked process has it open."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
