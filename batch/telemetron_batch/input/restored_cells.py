"""Restore key cells of an attention file that a spreadsheet has changed by itself.

The column `sourceLine` names the row of the run's input (the list), which has the original cells. A cell that a
person has entered is never replaced. Keeps in memory only the rows that the attention file names.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.config.option_values import FIELDS
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.normalize import normalize_fast
from telemetron_batch.input.spreadsheet_changes import Change, change_between
from telemetron_batch.storage.text_hash import Hashes, hash_texts

_MAX_NAMED_LINES: Final = 5
_NUMBERED: Final = "^([0-9]+)[.,]([0-9]*[1-9])0*$"
"""The line of a part of a record, such as `7.2`; a spreadsheet reads it as a decimal fraction."""


@dataclass(frozen=True, slots=True)
class OriginalRows:
    """Some rows of a run's input: the lines and the key cells, as the attention file has them."""

    lines: pa.Array
    cells: Mapping[str, pa.Array]
    """By field; null where the attention file leaves the cell blank."""


OriginalReader: TypeAlias = Callable[[], Iterable[OriginalRows]]
"""Reads the input of the run that an attention file belongs to. Raises BatchError if it cannot be read."""


@dataclass(slots=True)
class Restorer:
    """Restores the original cells of an attention file, and counts them."""

    columns: Mapping[str, int]
    """Field to column of the attention file."""
    line_column: int
    originals: "_Originals"
    _count: int = 0
    _first: list[int] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        blocks: Iterable[CellBlock],
        columns: Mapping[str, int],
        line_column: int,
        read_original_input: OriginalReader,
    ) -> "Restorer | None":
        """Return a restorer for an attention file with these records; None if the input of its run cannot be read."""
        named = [_line_keys(block.cells.column(line_column)) for block in blocks]
        wanted = np.unique(np.concatenate([hash_texts(lines) for lines in named] or [np.empty(0, np.uint64)]))
        with suppress(BatchError):
            originals = _Originals.of(read_original_input(), wanted)
            return cls({name: columns[name] for name in FIELDS if name in columns}, line_column, originals)
        return None

    def restore(self, blocks: Iterable[CellBlock]) -> Iterator[CellBlock]:
        """Yield the blocks with their original cells; the count starts anew."""
        self._count, self._first = 0, []
        for block in blocks:
            rows = self.originals.rows_of(_line_keys(block.cells.column(self.line_column)))
            rows[list(block.width_errors)] = -1
            for name, column in self.columns.items():
                block = self._with_restored(block, name, column, rows)
            yield block

    def warnings(self) -> Iterator[str]:
        """Yield one sentence if cells were restored."""
        if not self._count:
            return
        cells, it = ("1 cell is", "it") if self._count == 1 else (f"{self._count} cells are", "them")
        lines = f"line{'s' * (len(self._first) > 1)} {', '.join(map(str, self._first))}"
        yield (
            f"{cells} read as in the list, because a spreadsheet has changed {it} to another form of the same value; "
            f"first: {lines}; where the new form is meant, enter it in attention.xlsx (report RUN --xlsx writes it)"
        )

    def _with_restored(self, block: CellBlock, name: str, column: int, rows: Ints) -> CellBlock:
        cells = block.cells.column(column)
        listed = self.originals.cells_of(name, rows)
        differing = _differing(cells, listed)
        if not len(differing):
            return block
        at = pa.array(differing)
        by_change: dict[Change, dict[int, str]] = {change: {} for change in Change}
        for row, original, read in zip(
            differing.tolist(), listed.take(at).to_pylist(), cells.take(at).to_pylist(), strict=True
        ):
            by_change[change_between(original, read)][row] = original
        restored, date_originals = by_change[Change.SAME_VALUE], by_change[Change.TAKEN_FOR_DATE]
        if restored:
            self._count += len(restored)
            lines = block.lines[list(restored)[:_MAX_NAMED_LINES]].tolist()
            self._first = sorted({*self._first, *lines})[:_MAX_NAMED_LINES]
            mask = np.zeros(len(cells), np.bool_)
            mask[list(restored)] = True
            cells = pc.replace_with_mask(cells, pa.array(mask), pa.array(list(restored.values()), cells.type))
        kinds = {row: kind for row, kind in block.kinds.get(name, {}).items() if row not in restored}
        return replace(
            block,
            cells=block.cells.set_column(column, block.cells.schema.field(column), cells),
            kinds={**block.kinds, name: kinds},
            date_originals={**block.date_originals, name: date_originals} if date_originals else block.date_originals,
        )


@dataclass(frozen=True, slots=True)
class _Originals:
    """The rows of the list that an attention file names, sorted by the hashes of their lines."""

    hashes: Hashes
    lines: pa.Array
    """Null where several rows have the same line."""
    cells: Mapping[str, pa.Array]

    @classmethod
    def of(cls, rows: Iterable[OriginalRows], wanted: Hashes) -> "_Originals":
        """Keep those rows whose lines have a wanted hash."""
        tables = [_empty()]
        for some in rows:
            lines = _line_keys(some.lines)
            named = pa.array(_are_among(hash_texts(lines), wanted))
            cells = {name: some.cells.get(name, pa.nulls(len(lines), pa.string())) for name in FIELDS}
            tables.append(pa.table({"line": lines, **cells}).filter(named))
        table = pa.concat_tables(tables).combine_chunks()
        hashes = hash_texts(_whole(table["line"]))
        order = np.argsort(hashes, kind="stable")
        hashes, table = hashes[order], table.take(pa.array(order))
        # Rows with the same hash have the same line, or collide. None of them is known then.
        same = np.zeros(len(hashes), np.bool_)
        same[1:] = hashes[1:] == hashes[:-1]
        same[:-1] |= same[1:]
        lines = pc.if_else(pa.array(same), pa.scalar(None, pa.string()), _whole(table["line"]))
        return cls(hashes, lines, {name: _whole(table[name]) for name in FIELDS})

    def rows_of(self, lines: pa.Array) -> Ints:
        """Return the row that each line names; -1 if none is known."""
        if not len(self.hashes):
            return np.full(len(lines), -1, np.int64)
        places = np.searchsorted(self.hashes, hash_texts(lines)).clip(max=len(self.hashes) - 1)
        known = pc.fill_null(pc.equal(self.lines.take(pa.array(places)), lines), False)
        return np.where(known.to_numpy(zero_copy_only=False), places, -1)

    def cells_of(self, name: str, rows: Ints) -> pa.Array:
        """Return the cells of these rows; null for row -1."""
        return self.cells[name].take(pa.array(rows, mask=rows < 0))


def _are_among(hashes: Hashes, some: Hashes) -> Flags:
    """Return which hashes are in `some`, which is sorted."""
    if not len(some):
        return np.zeros(len(hashes), np.bool_)
    found: Flags = some[np.searchsorted(some, hashes).clip(max=len(some) - 1)] == hashes
    return found


def _empty() -> pa.Table:
    return pa.table({name: pa.array([], pa.string()) for name in ("line", *FIELDS)})


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _line_keys(lines: pa.Array) -> pa.Array:
    """Return lines in a form that survives a spreadsheet: `7,2` becomes `7.2`, and `7.10` becomes `7.1`.

    So `7.1` and `7.10` have the same key, and neither of them is known.
    """
    return pc.replace_substring_regex(normalize_fast(lines)[0], _NUMBERED, r"\1.\2")


def _differing(cells: pa.Array, listed: pa.Array) -> Ints:
    """Return the rows whose cell differs from the list after normalization."""
    differ = pc.fill_null(pc.not_equal(cells, listed), False)
    rows = np.flatnonzero(differ.to_numpy(zero_copy_only=False))
    if not len(rows):
        return rows
    at = pa.array(rows)
    other = pc.not_equal(normalize_fast(cells.take(at))[0], normalize_fast(listed.take(at))[0])
    differing: Ints = rows[other.to_numpy(zero_copy_only=False)]
    return differing
