"""Rows as columns: the form in which the loader passes rows to all other packages.

A row is never a Python object. It is a position in these columns, counted from 0 in input order across all
files of the run.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Problem
from telemetron_batch.rows.spellings import SpellingForms, find_variants, forms_of, readings_of
from telemetron_batch.storage.spill import PartitionedTable, RunLengthColumn, Scratch, SpillColumn
from telemetron_batch.storage.text_hash import Hashes, encode_texts, hash_texts

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
        pa.field("possibleIdentifiers", pa.list_(pa.string())),
        pa.field("piece", pa.int32(), nullable=False),
    ]
)
"""The columns of each row that the program itself needs.

line              the line of the file on which the record begins (in a workbook: the row number)
customerEmail     trimmed and lowercased; for an invalid row as far as it could be read
deviceIdentifier  trimmed and unwrapped, otherwise exactly as written
action            `Action.code`, or `UNKNOWN_ACTION`
actionWord        the action cell as written; "" if an option gives the action of all rows
deviceType        "" unless devices are created automatically
problem           `Problem`; 0 for a valid row
detail            why the row is invalid, as text; of a valid row where its customer was looked up, else ""
possibleIdentifiers  all cells of a row with the wrong number of cells, normalized as identifiers, because any
                  of them may be its identifier; null for other rows
piece             the number of the row among the rows that --split made from its record, from 1; 0 for a
                  record that is one row. Not in journals of earlier versions
"""

PLAN_COLUMNS: Final = ("customerEmail", "deviceIdentifier", "action", "deviceType")
"""The columns of a valid row that planning needs."""

_NUMBERS: Final = {"action": np.int8, "problem": np.int8, "device_hash": np.uint64}
_POSSIBLE_UNASSIGN: Final = {"row": np.int64, "device_hash": np.uint64, "spelling": np.uint64}
_EXAMPLE_LINES: Final = 5
_READABLE_PROBLEMS: Final = (Problem.FORMULA, Problem.CONTROL, Problem.DAMAGED)
"""Problems of identifiers whose intended value can often still be read."""


@dataclass(frozen=True, slots=True)
class RowBlock:
    """A block of consecutive rows of one file.

    `keys` has `KEY_SCHEMA`. `cells` holds the cells as written, in one string column for each header of the
    file, named "0", "1", ... by position because headers may repeat. A block from a journal has only the
    requested columns of cells. Both tables have one record per row.
    """

    file: int
    """Position in the list of input files."""
    keys: pa.RecordBatch
    cells: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class InvalidRows:
    """The number of rows with one kind of problem, with example lines."""

    problem: Problem
    rows: int
    lines: tuple[int, ...]
    """The first few lines with this problem."""

    @property
    def title(self) -> str:
        """The kind of problem as text."""
        return self.problem.title


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a run as numeric columns in input order, and the keys of the valid rows.

    action    int8    `Action.code`, or `UNKNOWN_ACTION`
    problem   int8    `Problem`; 0 for a valid row
    device_hash  uint64  hash of the device identifier
    """

    action: npt.NDArray[np.int8]
    problem: npt.NDArray[np.int8]
    device_hash: Hashes
    invalid: Sequence[InvalidRows]
    """Invalid rows by kind of problem, the most frequent first."""
    scratch: Scratch
    """Storage of large columns; the rows can be used until it is removed."""
    keys: PartitionedTable
    """For each valid row its number as `row` and its `PLAN_COLUMNS`, partitioned by customer; can be drained once."""
    lines: RunLengthColumn
    """The line of the file on which each record begins."""
    starts: npt.NDArray[np.int64]
    """The first row of each file."""
    possible_unassigns: "PossibleUnassigns"
    """Identifiers in invalid rows that may be unassigns."""
    may_have_variants: bool
    """Whether one identifier may occur in several spellings."""

    def __len__(self) -> int:
        return len(self.problem)

    def lines_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the lines on which the records of these rows begin."""
        return self.lines.at(rows)

    def files_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the positions of these rows' files in the list of input files."""
        files: npt.NDArray[np.int64] = np.searchsorted(self.starts, rows, side="right") - 1
        return files


@dataclass(frozen=True, slots=True)
class PossibleUnassigns:
    """Identifiers in invalid rows that may be unassigns, in input order; a row may have several.

    row       int64   number of the row
    device_hash  uint64  hash of the identifier
    spelling  uint64  hash of the normalized spelling, for comparison with other identifiers
    """

    row: npt.NDArray[np.int64]
    device_hash: Hashes
    spelling: Hashes


class RowsBuilder:
    """Builds `Rows` from key columns, block by block."""

    def __init__(self, scratch: Scratch | None = None, *, with_device_types: bool = True) -> None:
        """Without `scratch`, everything stays in memory. With `with_device_types`, the keys include `deviceType`."""
        self._names = PLAN_COLUMNS if with_device_types else PLAN_COLUMNS[:-1]
        self._scratch = scratch = scratch or Scratch()
        self._columns = {name: SpillColumn(scratch, dtype) for name, dtype in _NUMBERS.items()}
        self._lines = RunLengthColumn(scratch)
        self._starts: list[int] = []
        self._keys = PartitionedTable(scratch)
        self._size = 0
        self._counts: Counter[int] = Counter()
        self._examples: dict[int, list[int]] = {}
        self._possible_unassigns = {name: SpillColumn(scratch, dtype) for name, dtype in _POSSIBLE_UNASSIGN.items()}
        self._forms = SpellingForms()

    def add(self, file: int, keys: pa.RecordBatch) -> None:
        """Append the rows of one block (`keys` as in `RowBlock`). Files must come in order."""
        count = keys.num_rows
        self._starts += [self._size] * (file + 1 - len(self._starts))
        self._lines.add(keys["line"].to_numpy())
        for name, column in self._columns.items():
            column.add(hash_texts(keys["deviceIdentifier"]) if name == "device_hash" else keys[name].to_numpy())
        rows = pa.array(np.arange(self._size, self._size + count))
        self._add_possible_unassigns(keys)
        self._size += count
        self._count_invalid(keys)
        columns = pa.record_batch([rows, *(keys[name] for name in self._names)], names=["row", *self._names])
        valid = keys["problem"].to_numpy() == 0
        self._keys.add(columns, hash_texts(keys["customerEmail"]), None if valid.all() else valid)

    def rows(self) -> Rows:
        """Return all rows. Nothing can be added afterwards."""
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
            possible_unassigns=PossibleUnassigns(
                **{name: column.array() for name, column in self._possible_unassigns.items()}
            ),
            may_have_variants=self._forms.are_several,
        )

    def _add_possible_unassigns(self, keys: pa.RecordBatch) -> None:
        """Record the forms of a block's identifiers, and the identifiers of invalid rows that may be unassigns."""
        self._forms |= forms_of(keys["deviceIdentifier"])
        problem, action = keys["problem"].to_numpy(), keys["action"].to_numpy()
        suspect = (problem != 0) & (problem != Problem.TRAILER) & (action != Action.ASSIGN.code)
        if not suspect.any():
            return
        row, texts = identifiers_of(keys, np.flatnonzero(suspect))
        forms = forms_of(texts)
        self._forms |= forms
        device = hash_texts(texts)
        spelling = device.copy()
        if forms.any:
            normalized = find_variants(texts)
            spelling[normalized.places] = hash_texts(normalized.spelling)
        for name, column in {"row": self._size + row, "device_hash": device, "spelling": spelling}.items():
            self._possible_unassigns[name].add(column)

    def _count_invalid(self, keys: pa.RecordBatch) -> None:
        """Count the invalid rows by kind, and keep the lines of the first ones."""
        problem, line = keys["problem"].to_numpy(), keys["line"].to_numpy()
        for code in np.unique(problem[problem != 0]).tolist():
            rows = np.flatnonzero(problem == code)
            self._counts[code] += len(rows)
            lines = self._examples.setdefault(code, [])
            lines += line[rows[: _EXAMPLE_LINES - len(lines)]].tolist()


def joined_pairs(keys: pa.RecordBatch) -> pa.Array:
    """Return the customer and the device of each row as one text."""
    return pc.binary_join_element_wise(keys["customerEmail"], keys["deviceIdentifier"], "\n")


def identifiers_of(keys: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return the row and the text of each cell of these rows that is or may be an identifier, in row order."""
    texts, rows_of_texts = [keys["deviceIdentifier"].take(pa.array(rows))], [rows]
    if "possibleIdentifiers" in keys.schema.names:  # not in a journal of an earlier version
        lists = keys["possibleIdentifiers"].take(pa.array(rows))
        texts.append(pc.list_flatten(lists))
        rows_of_texts.append(rows[pc.list_parent_indices(lists).to_numpy()])
    damaged = rows[np.isin(keys["problem"].to_numpy()[rows], _READABLE_PROBLEMS)]
    codes, damaged_texts = encode_texts(keys["deviceIdentifier"].take(pa.array(damaged)))
    readings = pa.array([readings_of(text) for text in damaged_texts.to_pylist()], pa.list_(pa.string()))
    readings = readings.take(pa.array(codes))
    texts.append(pc.list_flatten(readings))
    rows_of_texts.append(damaged[pc.list_parent_indices(readings).to_numpy()])
    order = np.argsort(np.concatenate(rows_of_texts), kind="stable")
    found = pa.concat_arrays(texts).take(pa.array(order))
    is_filled = pc.not_equal(found, "")
    return np.concatenate(rows_of_texts)[order][is_filled.to_numpy(zero_copy_only=False)], found.filter(is_filled)
