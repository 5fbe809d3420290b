"""Files in object stores (`s3://bucket/key`). The only module that uses `fsspec`.

`domain.urls` lists the supported stores. Each store's library finds its own credentials.
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

_SPARE_BYTES: Final = 1 << 20
_VERSION_NAMES: Final = ("ETag", "etag", "generation")
"""Facts of the stores by which a new version of an object differs from another of its size and time."""
_S3_OPTIONS: Final[dict[str, Any]] = {
    "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}
}
"""Shorter time-outs: with the defaults of the S3 library an error takes many minutes."""


def fetch(url: str, folder: Path, require_room: Callable[[Path, int], None]) -> Path:
    """Download an object into a folder and return the path of the private copy, which keeps the modification time.

    `require_room` is called with the folder and the number of bytes before the download. Raises InputError if the
    download fails, ConfigError if a library is missing, DiskError without room.
    """
    filesystem, path = _filesystem(url)
    copy = folder / f"{sum(1 for _ in folder.iterdir())}-{Path(path).name}"
    size, modified_at = _stat(filesystem, path)
    require_room(folder, size + _SPARE_BYTES)
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        filesystem.get_file(path, str(copy))
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(f"{folder} has no room for a copy", MAKE_ROOM_UNSENT) from exc
        raise _fetch_error(exc) from exc
    if copy.stat().st_size != size:
        raise InputError("changed during the download", "wait until it is complete, then run again")
    os.utime(copy, (modified_at, modified_at))
    return copy


def size_of(url: str) -> int:
    """Return the size of an object in bytes. Raises as `fetch` does."""
    return _stat(*_filesystem(url))[0]


def find_state(url: str) -> tuple[object, ...] | None:
    """Return what differs when an object was written again; None if there is none. Raises InputError, ConfigError."""
    filesystem, path = _filesystem(url)
    try:
        facts = filesystem.info(path)
        if facts["type"] != "file":
            return ()
        modified: datetime = filesystem.modified(path)
    except FileNotFoundError:
        return None
    except Exception as exc:
        raise _fetch_error(exc) from exc
    return facts["size"], modified.timestamp(), *(facts.get(name) for name in _VERSION_NAMES)


def upload(files: Iterable[Path], url: str) -> None:
    """Upload files below a URL, under their names. Raises PublishError."""
    try:
        filesystem, path = _filesystem(url)
        for file in files:
            filesystem.put_file(str(file), f"{path.rstrip('/')}/{file.name}")
    except (ConfigError, InputError) as exc:
        raise PublishError(str(exc)) from exc
    except Exception as exc:
        raise PublishError(_error_text(exc)) from exc


def _filesystem(url: str) -> tuple[Any, str]:
    """Return the library's file system for a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as exc:
        raise _missing(url) from exc
    try:
        scheme, _, rest = validate_object_url(url).partition("://")
        scheme = scheme.lower()
        filesystem, path = url_to_fs(f"{scheme}://{rest}", **(_S3_OPTIONS if scheme in ("s3", "s3a") else {}))
    except ImportError as exc:
        raise _missing(url) from exc
    except ValueError as exc:
        raise InputError(str(exc), "name a file, or an object such as s3://bucket/key") from exc
    except Exception as exc:
        raise _fetch_error(exc) from exc
    filesystem.invalidate_cache()  # another process may have created the object since
    return filesystem, path


def _missing(url: str) -> ConfigError:
    scheme = urlsplit(url).scheme.lower()
    library = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}.get(scheme)
    also = f", and {library}" if library else ""
    advice = f"pip install 'telemetron-batch[remote]'{also}"
    return ConfigError(f"{scheme}:// needs libraries that are not installed", advice)


def _stat(filesystem: Any, path: str) -> tuple[int, float]:
    """Return the size of an object and its modification time in seconds since the epoch."""
    try:
        facts = filesystem.info(path)
        if facts["type"] != "file":
            raise InputError("is a folder, not a file", "name the files in it one by one")
        modified: datetime = filesystem.modified(path)
    except InputError:
        raise
    except Exception as exc:
        raise _fetch_error(exc) from exc
    return int(facts["size"]), modified.timestamp()


def _fetch_error(exc: Exception) -> InputError:
    return InputError(f"cannot be fetched ({_error_text(exc)})", "nothing was sent; check URL, credentials and network")


def _error_text(exc: Exception) -> str:
    """Return the error of a store on one line."""
    if isinstance(exc, FileNotFoundError):
        return "there is no such object or bucket"
    text = " ".join(str(exc).split()) or type(exc).__name__
    return f"access is denied: {text}" if isinstance(exc, PermissionError) else text
