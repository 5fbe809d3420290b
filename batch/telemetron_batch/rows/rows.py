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
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Problem
from telemetron_batch.rows.spellings import Forms, forms_of, readings_of, respelt
from telemetron_batch.storage.spill import PartitionedTable, RunLengthColumn, Scratch, SpillColumn
from telemetron_batch.storage.text_hash import Hashes, hash_texts

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
"""What the program itself needs of each row.

line              the file's line on which the record begins (a workbook's row number)
customerEmail     trimmed and lowercased; of an invalid row as far as it could be read
deviceIdentifier  trimmed and unwrapped, otherwise exactly as written
action            `Action.code`, or `NO_ACTION`
actionWord        the word that said so, as written; "" where an option said it for all rows
deviceType        "" unless devices are created automatically
problem           `Problem`; 0 for a valid row
detail            why the row is invalid, in words; "" for a valid row
possibleIdentifiers  the cells of a row with the wrong number of them, normalised as identifiers: any
                  of them may be its identifier; null for other rows
piece             the number of the row among those that --split made of its record, from 1; 0 for a record
                  that is one row. Not in journals of earlier versions
"""

PLAN_COLUMNS: Final = ("customerEmail", "deviceIdentifier", "action", "deviceType")
"""What planning needs of a valid row."""

_NUMBERS: Final = {"action": np.int8, "problem": np.int8, "device": np.uint64}
_SUSPECT: Final = {"row": np.int64, "device": np.uint64, "spelling": np.uint64}
_EXAMPLE_LINES: Final = 5
_DISGUISING: Final = (Problem.FORMULA, Problem.CONTROL, Problem.DAMAGED)
"""Problems behind which the identifier that is meant can often be read."""


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
    keys: PartitionedTable
    """Of each valid row its number as `row` and its columns of `PLAN_COLUMNS`, spread by customer; to be taken once."""
    lines: RunLengthColumn
    """The file's line on which each record begins."""
    starts: npt.NDArray[np.int64]
    """The first row of each file."""
    suspects: "Suspects"
    """Identifiers in invalid rows that are or may be unassigns."""
    may_be_respelt: bool
    """Whether one identifier may stand in these rows in several spellings."""

    def __len__(self) -> int:
        return len(self.problem)

    def lines_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The lines on which some rows' records begin."""
        return self.lines.at(rows)

    def files_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions of some rows' files in the list of input files."""
        files: npt.NDArray[np.int64] = np.searchsorted(self.starts, rows, side="right") - 1
        return files


@dataclass(frozen=True, slots=True)
class Suspects:
    """Identifiers in invalid rows that are or may be unassigns, in input order; a row may have several.

    row       int64   its number
    device    uint64  hash of the identifier
    spelling  uint64  hash of the spelling by which it is compared with others
    """

    row: npt.NDArray[np.int64]
    device: Hashes
    spelling: Hashes


class RowsBuilder:
    """Takes key columns block by block and gives `Rows`; keeps no other column."""

    def __init__(self, scratch: Scratch | None = None, *, typed: bool = True) -> None:
        """Without a scratch everything stays in memory; only `typed` rows have `deviceType` among their keys."""
        self._names = PLAN_COLUMNS if typed else PLAN_COLUMNS[:-1]
        self._scratch = scratch = scratch or Scratch()
        self._columns = {name: SpillColumn(scratch, dtype) for name, dtype in _NUMBERS.items()}
        self._lines = RunLengthColumn(scratch)
        self._starts: list[int] = []
        self._keys = PartitionedTable(scratch)
        self._size = 0
        self._counts: Counter[int] = Counter()
        self._examples: dict[int, list[int]] = {}
        self._suspects = {name: SpillColumn(scratch, dtype) for name, dtype in _SUSPECT.items()}
        self._forms = Forms()

    def add(self, file: int, keys: pa.RecordBatch) -> None:
        """Append the rows of one block (`keys` as in `RowBlock`), file after file."""
        count = keys.num_rows
        self._starts += [self._size] * (file + 1 - len(self._starts))
        self._lines.add(keys["line"].to_numpy())
        for name, column in self._columns.items():
            column.add(hash_texts(keys["deviceIdentifier"]) if name == "device" else keys[name].to_numpy())
        rows = pa.array(np.arange(self._size, self._size + count))
        self._suspect(keys)
        self._size += count
        self._count_invalid(keys)
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
            suspects=Suspects(**{name: column.array() for name, column in self._suspects.items()}),
            may_be_respelt=self._forms.are_several,
        )

    def _suspect(self, keys: pa.RecordBatch) -> None:
        """Note the forms of a block's identifiers, and those of invalid rows that are or may be unassigns."""
        self._forms |= forms_of(keys["deviceIdentifier"])
        problem, action = keys["problem"].to_numpy(), keys["action"].to_numpy()
        suspect = (problem != 0) & (problem != Problem.TRAILER) & (action != Action.ASSIGN.code)
        if not suspect.any():
            return
        row, texts = _identifiers_of(keys, np.flatnonzero(suspect))
        forms = forms_of(texts)
        self._forms |= forms
        device = hash_texts(texts)
        spelling = device.copy()
        if forms.any:
            spelt = respelt(texts)
            spelling[spelt.places] = hash_texts(spelt.spelling)
        for name, column in {"row": self._size + row, "device": device, "spelling": spelling}.items():
            self._suspects[name].add(column)

    def _count_invalid(self, keys: pa.RecordBatch) -> None:
        """Count the invalid rows by kind, and remember where the first of them are."""
        problem, line = keys["problem"].to_numpy(), keys["line"].to_numpy()
        for code in np.unique(problem[problem != 0]).tolist():
            rows = np.flatnonzero(problem == code)
            self._counts[code] += len(rows)
            lines = self._examples.setdefault(code, [])
            lines += line[rows[: _EXAMPLE_LINES - len(lines)]].tolist()


def _identifiers_of(keys: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The identifiers in some rows of a block, and for each its row; cells that may be identifiers count as such."""
    texts, at = [keys["deviceIdentifier"].take(pa.array(rows))], [rows]
    if "possibleIdentifiers" in keys.schema.names:  # not in a journal of an earlier version
        lists = keys["possibleIdentifiers"].take(pa.array(rows))
        texts.append(pc.list_flatten(lists))
        at.append(rows[pc.list_parent_indices(lists).to_numpy()])
    unsure = rows[np.isin(keys["problem"].to_numpy()[rows], _DISGUISING)]
    readings = [readings_of(text) for text in keys["deviceIdentifier"].take(pa.array(unsure)).to_pylist()]
    texts.append(pa.array([one for some in readings for one in some], pa.string()))
    at.append(np.repeat(unsure, [len(some) for some in readings]))
    order = np.argsort(np.concatenate(at), kind="stable")
    found = pa.concat_arrays(texts).take(pa.array(order))
    named = pc.not_equal(found, "")
    return np.concatenate(at)[order][named.to_numpy(zero_copy_only=False)], found.filter(named)
