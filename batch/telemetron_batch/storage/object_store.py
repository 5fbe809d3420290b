"""Files in object stores (`s3://bucket/key`), reached through `fsspec`: the only module that knows it.

Which stores are reached says `telemetron_batch.domain.urls`; how each finds its credentials is the library's business.
"""

import errno
import os
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from telemetron_batch.domain.errors import ConfigError, DiskError, InputError, PublishError
from telemetron_batch.domain.stops import MAKE_ROOM_UNSENT
from telemetron_batch.domain.urls import validate_object_url

_SPARE: Final = 1 << 20
_PATIENCE: Final[dict[str, Any]] = {
    "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}
}
"""For S3, whose own defaults keep whoever waits for many minutes."""


def fetch(url: str, folder: Path, require_room: Callable[[Path, int], None]) -> Path:
    """A copy of an object in a folder, as old as the object, readable by its owner only.

    `require_room` is asked whether the folder has room for so many bytes before they come. Raises
    InputError where it cannot be had, ConfigError where a library is missing, DiskError without room.
    """
    system, path = _filesystem(url)
    copy = folder / f"{sum(1 for _ in folder.iterdir())}-{Path(path).name}"
    size, changed = _stat(system, path)
    require_room(folder, size + _SPARE)
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        system.get_file(path, str(copy))
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(f"{folder} has no room for a copy", MAKE_ROOM_UNSENT) from exc
        raise _fetch_error(exc) from exc
    if copy.stat().st_size != size:
        raise InputError("changed while it was fetched", "wait until it is complete, and run again")
    os.utime(copy, (changed, changed))
    return copy


def size_of(url: str) -> int:
    """Bytes of an object. Raises as `fetch` does."""
    return _stat(*_filesystem(url))[0]


def upload(files: Iterable[Path], url: str) -> None:
    """Copy files to a place in an object store, under their names. Raises PublishError."""
    try:
        system, path = _filesystem(url)
        for file in files:
            system.put_file(str(file), f"{path.rstrip('/')}/{file.name}")
    except (ConfigError, InputError) as exc:
        raise PublishError(str(exc)) from exc
    except Exception as exc:
        raise PublishError(_words(exc)) from exc


def _filesystem(url: str) -> tuple[Any, str]:
    """The library's view of a store, and the path there."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as exc:
        raise _missing(url) from exc
    try:
        scheme, _, place = validate_object_url(url).partition("://")
        scheme = scheme.lower()
        system, path = url_to_fs(f"{scheme}://{place}", **(_PATIENCE if scheme in ("s3", "s3a") else {}))
    except ImportError as exc:
        raise _missing(url) from exc
    except ValueError as exc:
        raise InputError(str(exc), "name a file, or an object such as s3://bucket/key") from exc
    except Exception as exc:
        raise _fetch_error(exc) from exc
    system.invalidate_cache()  # another process may have put it there since
    return system, path


def _missing(url: str) -> ConfigError:
    scheme = urlsplit(url).scheme.lower()
    library = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}.get(scheme)
    also = f", and {library}" if library else ""
    advice = f"pip install 'telemetron-batch[remote]'{also}"
    return ConfigError(f"{scheme}:// needs libraries that are not here", advice)


def _stat(system: Any, path: str) -> tuple[int, float]:
    """Size of an object and when it was written, in seconds since the epoch."""
    try:
        facts = system.info(path)
        if facts["type"] != "file":
            raise InputError("is a folder, not a file", "name the files in it one by one")
        written: datetime = system.modified(path)
    except InputError:
        raise
    except Exception as exc:
        raise _fetch_error(exc) from exc
    return int(facts["size"]), written.timestamp()


def _fetch_error(exc: Exception) -> InputError:
    return InputError(f"cannot be fetched ({_words(exc)})", "nothing was sent; check URL, credentials and network")


def _words(exc: Exception) -> str:
    """What went wrong with a store, on one line."""
    if isinstance(exc, FileNotFoundError):
        return "there is no such object or bucket"
    text = " ".join(str(exc).split()) or type(exc).__name__
    return f"access is denied: {text}" if isinstance(exc, PermissionError) else text
