"""An emulation of Windows, in which this program runs in a process of its own.

What POSIX alone has is missing: modules, functions of `os`, signals, flags. A file that is open cannot be removed or
replaced, a folder cannot be opened, modes mean nothing, an event loop handles no signals. The parts of pywin32 that the
program calls are imitated: locks of ranges with the rules of `LockFileEx`, console events, and owners of files.

Run as a module, it runs the command in its arguments: `python -m tests.support.windows run FILE --sandbox`. SIGUSR1
stands for Ctrl-Break, SIGUSR2 for the closing of the console. It is no Windows: paths are those of POSIX, and what
the libraries do there does not show.
"""

import asyncio
import errno
import importlib
import os
import pkgutil
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MISSING_MODULES: Final = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
MISSING_IN_OS: Final = (
    *("O_ASYNC", "O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG"),
    *(
        "chown",
        "fchdir",
        "fchmod",
        "fchown",
        "fork",
        "forkpty",
        "fstatvfs",
        "getegid",
        "geteuid",
        "getgid",
        "getgroups",
    ),
    *("getloadavg", "getpgid", "getpgrp", "getpriority", "getresuid", "getsid", "getuid", "killpg", "lchown", "lockf"),
    *("mkfifo", "nice", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "preadv", "pwrite", "pwritev"),
    *("readv", "register_at_fork", "sched_getaffinity", "sched_yield", "sendfile", "setegid", "seteuid", "setgid"),
    *("setgroups", "setpgid", "setsid", "setuid", "sync", "sysconf", "tcgetpgrp", "tcsetpgrp", "uname"),
    *("wait3", "wait4", "writev"),
)
MISSING_SIGNALS: Final = ("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP")
CTRL_BREAK: Final = signal.SIGUSR1
CONSOLE_CLOSE: Final = signal.SIGUSR2
CLOSE_GRACE_S: Final = 5.0
"""Seconds that a process has after its console was closed."""


class Win32Error(Exception):
    """The exception of pywin32."""

    def __init__(self, winerror: int, funcname: str, strerror: str) -> None:
        super().__init__(winerror, funcname, strerror)
        self.winerror, self.funcname, self.strerror = winerror, funcname, strerror


class Overlapped:
    """Where a lock begins."""

    Offset = 0
    OffsetHigh = 0


class RangeLocks:
    """Locks of open files with the rules of LockFileEx; between processes they are those of `flock`."""

    EXCLUSIVE, FAIL_IMMEDIATELY = 2, 1

    def __init__(self) -> None:
        import fcntl

        self._flock, self._kernel = fcntl.flock, fcntl
        self._held: dict[int, list[str]] = {}
        """The locks of each handle, the first to be unlocked first."""

    def lock(self, handle: int, flags: int, low: int, high: int, position: Overlapped) -> None:
        """Lock; a handle with any lock gets no exclusive one, but a shared one beside its exclusive one."""
        assert flags & self.FAIL_IMMEDIATELY, "the program would wait without end"
        assert (low, high) == (1, 0)
        assert position.OffsetHigh, "others could not read the name of the owner"
        held = self._held.setdefault(handle, [])
        kind = "exclusive" if flags & self.EXCLUSIVE else "shared"
        if kind == "exclusive" and held:
            raise Win32Error(33, "LockFileEx", "The process cannot access the file")
        if not held:
            self._take(handle, self._kernel.LOCK_EX if kind == "exclusive" else self._kernel.LOCK_SH)
        held.append(kind)

    def unlock(self, handle: int, low: int, high: int, position: Overlapped) -> None:
        """End the oldest lock of a handle."""
        assert (low, high, bool(position.OffsetHigh)) == (1, 0, True)
        held = self._held.get(handle)
        if not held:
            raise Win32Error(158, "UnlockFileEx", "The segment is already unlocked")
        held.pop(0)
        self._flock(handle, self._kernel.LOCK_SH if held else self._kernel.LOCK_UN)

    def forget(self, handle: int) -> None:
        """End the locks of a handle that is closed."""
        self._held.pop(handle, None)

    def _take(self, handle: int, kind: int) -> None:
        try:
            self._flock(handle, kind | self._kernel.LOCK_NB)
        except BlockingIOError:
            raise Win32Error(33, "LockFileEx", "The process cannot access the file") from None


class Console:
    """Passes console events to handlers, the last first, and ends the process as Windows does."""

    CLOSE = 2

    def __init__(self) -> None:
        self._handlers: list[Callable[[int], bool]] = []
        self._kill = signal.SIGKILL
        signal.signal(CONSOLE_CLOSE, lambda *_: threading.Thread(target=self._close, daemon=True).start())

    def set_handler(self, handler: Callable[[int], bool], add: bool) -> None:
        """Add or remove a handler."""
        (self._handlers.append if add else self._handlers.remove)(handler)

    def _close(self) -> None:
        asked = threading.Thread(target=lambda: any(one(self.CLOSE) for one in reversed(self._handlers)), daemon=True)
        asked.start()
        asked.join(CLOSE_GRACE_S)
        os.kill(os.getpid(), self._kill)


def modules_of(package: ModuleType) -> Iterator[str]:
    """Yield the names of all modules of a package, without those that need Airflow."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "airflow_provider" not in found.name and not found.name.endswith("__main__"):
            yield found.name


def enter() -> list[str]:
    """Make this process one on Windows, as far as Python shows. Return the modules of the program, all imported."""
    _import_libraries()
    locks = RangeLocks()
    _imitate_pywin32(locks, Console(), os.getuid(), os.lstat)
    _deny_what_windows_denies(locks)
    _remove_what_windows_lacks()
    sys.platform = "win32"
    return _import_program()


def _import_libraries() -> None:
    """Import all libraries as they are on this system: they have code of their own for Windows."""
    import telemetron_batch

    for name in modules_of(telemetron_batch):
        importlib.import_module(name)
    for name in ("pandas", "uvicorn.protocols.http.h11_impl", "uvicorn.loops.asyncio", "uvicorn.lifespan.off"):
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "telemetron_batch"]:
        del sys.modules[name]


def _import_program() -> list[str]:
    import telemetron_batch

    names = [*modules_of(telemetron_batch)]
    for name in names:
        importlib.import_module(name)
    return names


def _module(name: str, **content: object) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


def _imitate_pywin32(locks: RangeLocks, console: Console, uid: int, lstat: Callable[[Any], os.stat_result]) -> None:
    class Descriptor:
        def __init__(self, owner: int) -> None:
            self._owner = owner

        def GetSecurityDescriptorOwner(self) -> int:  # noqa: N802 - the library's name
            return self._owner

    def names(_: object, sid: int) -> tuple[str, str, int]:
        if sid == 0:
            raise Win32Error(1332, "LookupAccountSid", "No mapping was done")
        return f"user{sid}", "HOST", 1

    _module("pywintypes", error=Win32Error, OVERLAPPED=Overlapped)
    _module("winerror", ERROR_LOCK_VIOLATION=33, ERROR_IO_PENDING=997)
    _module(
        "win32con",
        LOCKFILE_FAIL_IMMEDIATELY=RangeLocks.FAIL_IMMEDIATELY,
        LOCKFILE_EXCLUSIVE_LOCK=RangeLocks.EXCLUSIVE,
        CTRL_CLOSE_EVENT=Console.CLOSE,
        CTRL_LOGOFF_EVENT=5,
        CTRL_SHUTDOWN_EVENT=6,
        TOKEN_QUERY=8,
    )
    _module("win32file", LockFileEx=locks.lock, UnlockFileEx=locks.unlock)
    _module("win32api", SetConsoleCtrlHandler=console.set_handler, GetCurrentProcess=lambda: -1)
    _module("msvcrt", get_osfhandle=lambda descriptor: descriptor)
    _module(
        "win32security",
        OWNER_SECURITY_INFORMATION=1,
        TokenUser=1,
        OpenProcessToken=lambda *_: 1,
        GetTokenInformation=lambda *_: (uid, 0),
        GetFileSecurity=lambda path, _: Descriptor(lstat(path).st_uid),
        ConvertSidToStringSid=lambda sid: f"S-1-5-21-{sid}" if sid else "S-1-5-32-544",
        LookupAccountSid=names,
    )


def _deny_what_windows_denies(locks: RangeLocks) -> None:
    """Let no open file be removed, renamed or replaced, and no folder be opened."""
    real_open, real_close = os.open, os.close

    def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        assert dir_fd is None, "Windows opens files by complete paths only"
        descriptor = real_open(path, flags, mode)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            real_close(descriptor)
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return descriptor

    def closed(descriptor: int) -> None:
        locks.forget(descriptor)
        real_close(descriptor)

    os.open, os.close = opened, closed  # type: ignore[assignment]
    for name in ("unlink", "remove", "rename", "replace"):
        setattr(os, name, _refusing_open_files(getattr(os, name)))


def _refusing_open_files(real: Callable[..., None]) -> Callable[..., None]:
    def refusing(*paths: Any, **more: Any) -> None:
        assert all(value is None for name, value in more.items() if name.endswith("dir_fd"))
        open_files = {os.path.realpath(one) for one in _open_files()}
        for path in paths:
            if os.path.realpath(os.fspath(path)) in open_files:
                raise PermissionError(errno.EACCES, "The process cannot access the file", path)
        real(*paths)

    return refusing


def _open_files() -> Iterator[str]:
    """Yield the paths of the files that this process has open or mapped."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            yield os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
        except OSError:
            continue
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[2]
        if path and not path.endswith(" (deleted)"):
            yield f"/{path}"


def _remove_what_windows_lacks() -> None:
    for name in MISSING_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
    for name in MISSING_IN_OS:
        if hasattr(os, name):
            delattr(os, name)
    for name in MISSING_SIGNALS:
        if hasattr(signal, name):
            delattr(signal, name)
    signal.SIGBREAK = CTRL_BREAK  # type: ignore[attr-defined]
    for module, name in ((time, "clock_gettime"), (time, "CLOCK_BOOTTIME"), (time, "CLOCK_MONOTONIC")):
        delattr(module, name)
    os.supports_dir_fd.clear()
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    os.umask(0)
    loop: Any = asyncio.SelectorEventLoop
    loop.add_signal_handler = loop.remove_signal_handler = _not_implemented
    asyncio.ProactorEventLoop = loop  # type: ignore[attr-defined]


def _not_implemented(*_: object) -> None:
    raise NotImplementedError


def main() -> None:
    """Run a command of the program as on Windows."""
    enter()
    from telemetron_batch.cli.commands import main as commands

    commands(prog_name="telemetron-batch")


if __name__ == "__main__":
    main()
