"""Seed the sandbox from input files, so that a run of them succeeds (`sandbox --seed`)."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import ACTIONS
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.load import read_file
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.sandbox.state import SandboxState

_COLUMNS: Final = ("customerEmail", "deviceIdentifier", "action")


def seed_from_files(state: SandboxState, files: Sequence[str], options: InputOptions) -> str:
    """Make a fleet that fits the files, and return a sentence about it. Raises InputError."""
    columns = _SeedColumns()
    with tempfile.TemporaryDirectory() as spool:
        for file in files:
            read_file(file, options, spool=Path(spool), sink=columns)
            columns.keep()
    if not columns.count:
        names = ", ".join(files)
        raise InputError(f"--seed: {names} has no valid row", "look at its plan, with the same options")
    state.seed_to_fit(columns.rows())
    return f"the fleet fits {columns.count:,} valid rows; {columns.invalid:,} invalid rows count for nothing"


class _SeedColumns:
    """Collects the columns of valid rows; a file that is read again counts once."""

    def __init__(self) -> None:
        self._kept: list[pa.RecordBatch] = []
        self._of_file: list[pa.RecordBatch] = []
        self._invalid = self._invalid_of_file = 0

    def append(self, block: RowBlock) -> None:
        """Take the valid rows of a block."""
        valid = block.keys.filter(pc.equal(block.keys["problem"], 0))
        self._of_file.append(valid.select(_COLUMNS))
        self._invalid_of_file += block.keys.num_rows - valid.num_rows

    def clear(self) -> None:
        """Drop the rows of the file that is read again."""
        self._of_file, self._invalid_of_file = [], 0

    def keep(self) -> None:
        """Keep the rows of the file, which was read to its end."""
        self._kept += self._of_file
        self._invalid += self._invalid_of_file
        self.clear()

    @property
    def count(self) -> int:
        """Number of valid rows."""
        return sum(batch.num_rows for batch in self._kept)

    @property
    def invalid(self) -> int:
        """Number of invalid rows."""
        return self._invalid

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield customer, device and action of each valid row."""
        for batch in self._kept:
            columns: Iterable[list[str]] = (batch[name].to_pylist() for name in _COLUMNS)
            for customer, device, action in zip(*columns, strict=True):
                yield customer, device, str(ACTIONS[int(action)])
