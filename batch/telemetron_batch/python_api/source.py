"""What a plan or a run reads: one path, several, or a DataFrame."""

import os
import sys
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, Union

from telemetron_batch.domain.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

PathText: TypeAlias = str | PathLike[str]
Source: TypeAlias = Union[PathText, Sequence[PathText], Iterator[PathText], "pd.DataFrame"]

_TAKEN = "name a file, several files, or give a pandas DataFrame"
_STANDARD_INPUT = "-"


def is_frame(source: object) -> "TypeGuard[pd.DataFrame]":
    """Return whether the source is a DataFrame; pandas is not imported for a path."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)


def paths_of(source: object) -> tuple[str, ...]:
    """Return the paths of a source that is no DataFrame, as the command line takes them. Raises ConfigError."""
    if isinstance(source, str | PathLike):
        return (_path(source),)
    if not isinstance(source, Sequence | Iterator) or isinstance(source, bytes | bytearray | memoryview):
        raise _wrong(source)
    paths = tuple(map(_path, source))
    if not paths:
        raise ConfigError("source: there is no path in it", _TAKEN)
    return paths


def _path(one: object) -> str:
    path = os.fspath(one) if isinstance(one, str | PathLike) else None
    if not isinstance(path, str):
        raise _wrong(one)
    if path == _STANDARD_INPUT:
        if isinstance(one, str):
            raise ConfigError("source: only the command reads standard input", "name a file; one of that name is ./-")
        return f"./{path}"
    return path


def _wrong(value: object) -> ConfigError:
    return ConfigError(f"source: cannot read rows from a value of type {type(value).__name__}", _TAKEN)
