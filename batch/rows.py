"""Rows as columns: the shape in which the loader hands rows to everyone else.

A row is never a Python object. It is a position in these columns, counted from 0 in
input order across all files of the run.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch.model import Problem
from batch.storage.hashed import Hashes, hash_texts
from batch.storage.scratch import Column, Runs, Scratch, Spread

KEY_SCHEMA: Final = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),
        pa.field("customerEmail", pa.string(), nullable=False),
        pa.field("deviceIdentifier", pa.string(), nullable=False),
        pa.field("action", pa.int8(), nullable=False),
        pa.field("actionWord", pa.string(), nullable=False),
        pa.field("deviceType", pa.string(), nullable=False),
        pa.field("problem", pa.int8(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""What the program itself needs of each row.

line              the file's line on which the record begins (a workbook's row number)
customerEmail     trimmed and lowercased; of an invalid row as far as it could be read
deviceIdentifier  trimmed and unwrapped, otherwise exactly as written
action            `Action.code`, or `NO_ACTION`
actionWord        the word that said so, as written; "" where an option said it for all rows
deviceType        "" unless devices are created automatically
problem           `Problem`; 0 for a valid row
detail            why the row is invalid, in words; "" for a valid row
"""

VALID: Final = ("customerEmail", "deviceIdentifier", "action", "deviceType")
"""What planning needs of a valid row."""

_NUMBERS: Final = {"action": np.int8, "problem": np.int8, "device": np.uint64}
_EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class RowBlock:
    """A run of consecutive rows of one file.

    `keys` has `KEY_SCHEMA`. `cells` has one string column for each header of the file,
    named "0", "1", ... by position (headers may repeat), holding the cells as written; out
    of a journal only those that were asked for. Both have one record a row.
    """

    file: int
    """Position in the list of input files."""
    keys: pa.RecordBatch
    cells: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class InvalidRows:
    """Rows that are invalid for one kind of reason."""

    problem: Problem
    rows: int
    lines: tuple[int, ...]
    """The first few, for a look into the file."""

    @property
    def title(self) -> str:
        """The kind in words."""
        return self.problem.title


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a run as columns of numbers in input order, and the keys of the valid ones.

    action    int8    `Action.code`, or `NO_ACTION`
    problem   int8    `Problem`; 0 for a valid row
    device    uint64  hash of its device
    """

    action: npt.NDArray[np.int8]
    problem: npt.NDArray[np.int8]
    device: Hashes
    invalid: Sequence[InvalidRows]
    """By kind of problem, the most frequent first."""
    scratch: Scratch
    """Where they are kept, if they are many: they can be used as long as it is there."""
    keys: Spread
    """Of each valid row its number as `row` and its columns of `VALID`, spread by customer; to be taken once."""
    lines: Runs
    """The file's line on which each record begins."""
    starts: npt.NDArray[np.int64]
    """The first row of each file."""

    def __len__(self) -> int:
        return len(self.problem)

    def lines_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The lines on which some rows' records begin."""
        return self.lines.at(rows)

    def files_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions of some rows' files in the list of input files."""
        files: npt.NDArray[np.int64] = np.searchsorted(self.starts, rows, side="right") - 1
        return files


class RowsBuilder:
    """Takes key columns block by block and gives `Rows`; keeps no other column."""

    def __init__(self, scratch: Scratch | None = None, *, typed: bool = True) -> None:
        """Without a scratch everything stays in memory; only `typed` rows have `deviceType` among their keys."""
        self._names = VALID if typed else VALID[:-1]
        self._scratch = scratch = scratch or Scratch()
        self._columns = {name: Column(scratch, dtype) for name, dtype in _NUMBERS.items()}
        self._lines = Runs(scratch)
        self._starts: list[int] = []
        self._keys = Spread(scratch)
        self._size = 0
        self._counts: Counter[int] = Counter()
        self._examples: dict[int, list[int]] = {}

    def add(self, file: int, keys: pa.RecordBatch) -> None:
        """Append the rows of one block (`keys` as in `RowBlock`), file after file."""
        count = keys.num_rows
        self._starts += [self._size] * (file + 1 - len(self._starts))
        self._lines.add(keys["line"].to_numpy())
        for name, column in self._columns.items():
            column.add(hash_texts(keys["deviceIdentifier"]) if name == "device" else keys[name].to_numpy())
        rows = pa.array(np.arange(self._size, self._size + count))
        self._size += count
        self._learn(keys)
        columns = pa.record_batch([rows, *(keys[name] for name in self._names)], names=["row", *self._names])
        valid = keys["problem"].to_numpy() == 0
        self._keys.add(columns, hash_texts(keys["customerEmail"]), None if valid.all() else valid)

    def rows(self) -> Rows:
        """All rows added so far; nothing can be added after that."""
        invalid = [
            InvalidRows(Problem(code), count, tuple(self._examples[code]))
            for code, count in sorted(self._counts.items(), key=lambda kind: (-kind[1], kind[0]))
        ]
        columns = {name: column.array() for name, column in self._columns.items()}
        return Rows(
            **columns,
            invalid=invalid,
            scratch=self._scratch,
            keys=self._keys,
            lines=self._lines,
            starts=np.array(self._starts, np.int64),
        )

    def _learn(self, keys: pa.RecordBatch) -> None:
        """Count the invalid rows by kind, and remember where the first of them are."""
        problem, line = keys["problem"].to_numpy(), keys["line"].to_numpy()
        for code in np.unique(problem[problem != 0]).tolist():
            rows = np.flatnonzero(problem == code)
            self._counts[code] += len(rows)
            lines = self._examples.setdefault(code, [])
            lines += line[rows[: _EXAMPLES - len(lines)]].tolist()
