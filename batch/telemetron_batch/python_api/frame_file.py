"""Write a DataFrame as the CSV file that a run reads: part by part, so that it is never in memory a second time."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, BinaryIO, Final

from telemetron_batch.domain.errors import write_error
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.ownership import is_mine
from telemetron_batch.input.frame_dialect import FRAME, frame_dialect
from telemetron_batch.input.source_file import input_errors
from telemetron_batch.storage import kernel_lock

if TYPE_CHECKING:
    import pandas as pd

_PREFIX: Final = "telemetron-batch-frame-"
_NAME: Final = f"{FRAME}.csv"
_MAX_ROWS: Final = 1 << 16
_MAX_CELLS: Final = 1 << 19
"""Rows, and cells, that are converted at a time; the bytes of the file do not depend on them."""


@contextmanager
def frame_file(frame: "pd.DataFrame", options: InputOptions) -> Iterator[Path]:
    """Yield the file of a frame, which exists within this context at most, for its owner only.

    The same frame always gives the same bytes. Raises InputError for a column that is missing, or whose values are
    damaged identifiers, and DiskError.
    """
    _remove_files_of_dead_processes()
    try:
        folder = TemporaryDirectory(prefix=_PREFIX)
    except OSError as exc:
        raise write_error("a copy of the frame", exc) from exc
    with folder as place:
        path = Path(place) / _NAME
        with _opened(path) as file:
            kernel_lock.try_lock(file.fileno(), shared=False)  # as long as this process lives
            with input_errors(FRAME):
                _write(file, frame, options)
            yield path


def remove_frame_files(files: Iterable[str]) -> None:
    """Remove the files of a frame once the journal has its rows, so that a process that is killed leaves none."""
    for file in files:
        with suppress(OSError):
            Path(file).unlink()


def _remove_files_of_dead_processes() -> None:
    """Remove the files of processes of this user that were killed before their journals had the rows."""
    with suppress(OSError):
        for path in Path(gettempdir()).glob(f"{_PREFIX}*/{_NAME}"):
            if is_mine(path.parent.lstat()) and is_mine(path.lstat()) and not _is_in_use(path):
                shutil.rmtree(path.parent, ignore_errors=True)


def _is_in_use(path: Path) -> bool:
    with path.open("rb+") as file:
        return not kernel_lock.try_lock(file.fileno(), shared=False)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("xb")
    except OSError as exc:
        raise write_error("a copy of the frame", exc) from exc
    with file:
        yield file


def _write(file: BinaryIO, frame: "pd.DataFrame", options: InputOptions) -> None:
    import pyarrow as pa
    from pyarrow import csv

    from telemetron_batch.python_api.column_texts import column_name, column_texts

    names = [column_name(label) for label in frame.columns]
    keys = {*frame_dialect(names, options).columns.values()}
    columns = [column_texts(frame.iloc[:, at], name, is_key=at in keys) for at, name in enumerate(names)]
    rows = max(1, min(_MAX_ROWS, _MAX_CELLS // len(names)))
    schema = pa.schema([(name, pa.string()) for name in names])
    try:
        with csv.CSVWriter(file, schema) as writer:
            for first in range(0, len(frame), rows):
                texts = [column(first, first + rows) for column in columns]
                writer.write_batch(pa.RecordBatch.from_arrays(texts, schema=schema))
        file.flush()
    except OSError as exc:
        raise write_error("a copy of the frame", exc) from exc
