"""Write a DataFrame as the CSV file that a run reads: part by part, so that it is never in memory a second time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from telemetron_batch.domain.errors import write_error
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.frame_dialect import FRAME, frame_dialect
from telemetron_batch.input.source_file import input_errors

if TYPE_CHECKING:
    import pandas as pd

_MAX_ROWS: Final = 1 << 16
_MAX_CELLS: Final = 1 << 19
"""Rows, and cells, that are converted at a time; the bytes of the file do not depend on them."""


@contextmanager
def frame_file(frame: "pd.DataFrame", options: InputOptions) -> Iterator[Path]:
    """Yield the file of a frame, which exists within this context, for its owner only.

    The same frame always gives the same bytes. Raises InputError for a column that is missing, or whose values are
    damaged identifiers, and DiskError.
    """
    try:
        folder = TemporaryDirectory(prefix="telemetron-batch-")
    except OSError as exc:
        raise write_error("a copy of the frame", exc) from exc
    with folder as place:
        path = Path(place) / f"{FRAME}.csv"
        with input_errors(FRAME):
            _write(path, frame, options)
        yield path


def _write(path: Path, frame: "pd.DataFrame", options: InputOptions) -> None:
    import pyarrow as pa
    from pyarrow import csv

    from telemetron_batch.python_api.column_texts import column_name, column_texts

    names = [column_name(label) for label in frame.columns]
    keys = {*frame_dialect(names, options).columns.values()}
    columns = [column_texts(frame.iloc[:, at], name, is_key=at in keys) for at, name in enumerate(names)]
    rows = max(1, min(_MAX_ROWS, _MAX_CELLS // len(names)))
    schema = pa.schema([(name, pa.string()) for name in names])
    try:
        with path.open("wb") as file, csv.CSVWriter(file, schema) as writer:
            for first in range(0, len(frame), rows):
                texts = [column(first, first + rows) for column in columns]
                writer.write_batch(pa.RecordBatch.from_arrays(texts, schema=schema))
    except OSError as exc:
        raise write_error("a copy of the frame", exc) from exc
