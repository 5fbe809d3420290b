"""The CSV files of a run: reconciliation, attention and undo. UTF-8, LF, RFC 4180.

Knows no rule of what becomes of a row: it streams the input's blocks beside the
columns of the reconciliation.
"""

import codecs
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from telemetron_batch.domain.actions import ACTIONS
from telemetron_batch.domain.model import InputFile, Problem
from telemetron_batch.input.normalize import FORMULA_BYTES, escaped, guarded, of_text
from telemetron_batch.input.own_reports import OF_ATTENTION, is_attention
from telemetron_batch.reconciliation.format_columns import format_ints
from telemetron_batch.reconciliation.reconcile import ANSWER_COLUMNS, Reconciliation, inverse
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.concurrency import prefetch

Header = tuple[str, int]
"""A header's text, and how many headers of the same text stand before it in its file."""

_FORMULA_BYTES: Final = np.isin(np.arange(256), [*FORMULA_BYTES])
_KEYS: Final = ("customerEmail", "deviceIdentifier", "action")
RESULT_COLUMNS: Final = (
    "outcome",
    "detail",
    "customerId",
    "deviceId",
    "customerWasCreated",
    "deviceWasCreated",
    "call",
    *ANSWER_COLUMNS,
)
_HARMLESS: Final = frozenset({"line", "outcome", "customerWasCreated", "deviceWasCreated", "call", *ANSWER_COLUMNS})
"""Our columns that hold nothing which could run as a formula; every other column is guarded."""
_OVERTAKEN: Final = (
    "overtaken: a later row did what it wanted with this customer and device, so the action is left blank"
)
_WORDS: Final = pa.array([*map(str, ACTIONS)])


@dataclass(frozen=True, slots=True)
class ReportInput:
    """All that the files of a run are written from."""

    files: Sequence[InputFile]
    reconciliation: Reconciliation
    raw: bool = False
    """Leave cells that a spreadsheet would run as formulas as they are."""


def write_reconciliation(path: Path, report: ReportInput, blocks: Iterable[RowBlock]) -> int:
    """Write one row for each input row, in input order; gives their number."""
    names, tables = reconciliation_columns(report, blocks)
    with closing(prefetch(tables)) as coming, atomic_write(path) as file:
        return _write(file, names, coming, _Style(None if report.raw else guarded, _HARMLESS))


def extra_columns(files: Sequence[InputFile]) -> dict[int, list[int]]:
    """Positions of the columns of each file that `reconciliation_columns` tells of as they are: all but the keys."""
    keys = _key_headers(files)
    return {
        number: [at for at, header in enumerate(_headers_of(file, several=len(files) > 1)) if header not in keys]
        for number, file in enumerate(files)
    }


def reconciliation_columns(
    report: ReportInput, blocks: Iterable[RowBlock]
) -> tuple[list[str], Iterator[list[pa.Array]]]:
    """The reconciliation in any format: names of columns, and the columns of texts block by block."""
    keys = _key_headers(report.files)
    extra = [header for header in _headers(report.files) if header not in keys]
    told = _told(report)
    names = ["line", *_KEYS, *told, *(_rename_clash(text, told) for text, _ in extra)]
    if len(report.files) > 1:
        names.insert(0, "file")
    return names, _reconciled(report, blocks, extra)


def write_attention(file: BinaryIO, report: ReportInput, blocks: Iterable[RowBlock]) -> int:
    """Write the rows that want attention in the input's own columns, to be corrected and fed back.

    With the first delimiter of the input files, and a byte order mark, by which spreadsheets know UTF-8.
    A `raw` report leaves formulas, but reading takes a guard off all the same: so a cell that begins as a
    guarded one does gets one.
    """
    names, tables = attention(report, blocks)
    delimiter = next((one.delimiter for one in report.files if one.delimiter), ",")
    file.write(codecs.BOM_UTF8)
    return _write(
        file, [*names, *OF_ATTENTION], tables, _Style(escaped if report.raw else guarded, delimiter=delimiter)
    )


def attention(report: ReportInput, blocks: Iterable[RowBlock]) -> tuple[list[str], Iterator[list[pa.Array]]]:
    """Return the rows that want attention, in any format: names of the input's own columns, and columns of texts.

    The columns are the input's own and then those of `OF_ATTENTION`, block by block. Those that an earlier
    attention file had of these give way, but for `sourceLine`: it tells the line in the list that came first.
    """
    keys, replaced = _key_headers(report.files), _replaced(report.files)
    own = [header for header in _headers(report.files) if header not in replaced or header in keys]
    return [text for text, _ in own], _attention_tables(report, blocks, own)


def write_undo(path: Path, report: ReportInput, blocks: Iterable[RowBlock]) -> int:
    """Write the inverse of what the run is sure to have changed, the last change first.

    `blocks` come last to first. Cells are guarded even in a `raw` report: the file is there
    to be fed back, and reading takes the guard off.
    """
    with atomic_write(path) as file:
        return _write(file, list(_KEYS), _undo_tables(report, blocks), _Style(guarded))


def _reconciled(report: ReportInput, blocks: Iterable[RowBlock], extra: Sequence[Header]) -> Iterator[list[pa.Array]]:
    first = 0
    for block in blocks:
        told = report.reconciliation.columns(block, first)
        file = [_constant(report.files[block.file].name, block)] if len(report.files) > 1 else []
        keys = [block.keys["customerEmail"], block.keys["deviceIdentifier"], _action_words(block)]
        line = _lines(block.keys)
        yield [*file, line, *keys, *(told[name] for name in _told(report)), *_cells(report, block, extra)]
        first += block.keys.num_rows


def _lines(keys: pa.RecordBatch) -> pa.Array:
    """The line of each row as text; `7.2` for the second row that was made of the record on line 7."""
    lines = format_ints(keys["line"].to_numpy())
    if "piece" not in keys.schema.names or not keys["piece"].to_numpy().any():  # not in journals of earlier versions
        return lines
    pieces = keys["piece"]
    numbered = pc.binary_join_element_wise(lines, format_ints(pieces.to_numpy()), ".")
    return pc.if_else(pc.greater(pieces, 0), numbered, lines)


def _told(report: ReportInput) -> tuple[str, ...]:
    """Our columns after the keys; `verified` only where somebody asked."""
    return RESULT_COLUMNS if report.reconciliation.verified is None else (*RESULT_COLUMNS, "verified")


def _attention_tables(
    report: ReportInput, blocks: Iterable[RowBlock], own: Sequence[Header]
) -> Iterator[list[pa.Array]]:
    wanted, overtaken = report.reconciliation.attention(), report.reconciliation.overtaken()
    first = 0
    for block in blocks:
        rows = slice(first, first + block.keys.num_rows)
        if wanted[rows].any():
            late = pa.array(overtaken[rows])
            detail = report.reconciliation.details_of(block, first)
            detail = pc.if_else(late, pc.binary_join_element_wise(detail, _OVERTAKEN, "; "), detail)
            line = source_lines(report.files, block)
            columns = [
                *_editable_cells(report, block, own, late),
                report.reconciliation.outcomes_of(rows),
                detail,
                line,
            ]
            yield [column.filter(pa.array(wanted[rows])) for column in columns]
        first += block.keys.num_rows


def source_lines(files: Sequence[InputFile], block: RowBlock) -> pa.Array:
    """Return where each row stands in the list that came first, with the name of its file if there are several."""
    file = files[block.file]
    if OF_ATTENTION[-1] in file.header and is_attention(file.header):
        return block.cells[str(file.header.index(OF_ATTENTION[-1]))]
    lines = _lines(block.keys)
    return pc.binary_join_element_wise(file.name, lines, ":") if len(files) > 1 else lines


def _replaced(files: Sequence[InputFile]) -> set[Header]:
    """Return the columns of the input that give way to those of `OF_ATTENTION`."""
    several = len(files) > 1
    return {
        header
        for file in files
        if not several or is_attention(file.header)
        for header, text in zip(_headers_of(file, several=several), file.header, strict=True)
        if text in OF_ATTENTION
    }


def _editable_cells(report: ReportInput, block: RowBlock, own: Sequence[Header], overtaken: pa.Array) -> list[pa.Array]:
    """The cells as written, but no keys of a row with the wrong number of cells, and no action of an overtaken one.

    Filled up or cut to the header's width the former might pass for a good one, with
    another column's text for its device; `detail` holds it as it was. The latter, fed back
    as it is, would undo what the later row did; so it needs a person to name its action.
    """
    shifted = pc.equal(block.keys["problem"], int(Problem.CELLS))
    blank = dict.fromkeys(_key_headers(report.files), shifted)
    blank[action_header(report.files), 0] = pc.or_(shifted, overtaken)
    columns = _cells(report, block, own)
    return [
        pc.if_else(blank[header], "", column) if header in blank else column
        for header, column in zip(own, columns, strict=True)
    ]


def action_header(files: Sequence[InputFile]) -> str:
    """Return the header of the column that says the action in an attention file; empty if there is none."""
    return "action" if len(files) > 1 else files[0].columns.get("action", "")


def _undo_tables(report: ReportInput, blocks: Iterable[RowBlock]) -> Iterator[list[pa.Array]]:
    changed = report.reconciliation.surely_changed()
    end = len(changed)
    for block in blocks:
        rows = np.flatnonzero(changed[end - block.keys.num_rows : end])[::-1]
        end -= block.keys.num_rows
        if len(rows):
            at = pa.array(rows)
            action = pa.array([str(inverse(action)) for action in ACTIONS]).take(block.keys["action"].take(at))
            yield [block.keys["customerEmail"].take(at), block.keys["deviceIdentifier"].take(at), action]


def _headers(files: Sequence[InputFile]) -> list[Header]:
    """The columns of all files together, in the order in which they are met."""
    found: dict[Header, None] = {}
    for file in files:
        found.update(dict.fromkeys(_headers_of(file, several=len(files) > 1)))
    return list(found)


def _headers_of(file: InputFile, *, several: bool) -> list[Header]:
    """The columns of one file. Among several files the mapped ones go by the names of their fields."""
    fields = {header: field for field, header in file.columns.items()} if several else {}
    seen: Counter[str] = Counter()
    headers = []
    for text in file.header:
        name = fields.get(text, _rename_clash(text) if several else text)
        headers.append((name, seen[name]))
        seen[name] += 1
    return headers


def _key_headers(files: Sequence[InputFile]) -> set[Header]:
    """The columns that customer, device and action were read from."""
    if len(files) > 1:
        return {(key, 0) for key in _KEYS}
    return {(files[0].columns[key], 0) for key in _KEYS if key in files[0].columns}


def _cells(report: ReportInput, block: RowBlock, wanted: Sequence[Header]) -> list[pa.Array]:
    """The block's cells as written, for these headers; empty where its file has no such column."""
    headers = _headers_of(report.files[block.file], several=len(report.files) > 1)
    place = {header: str(at) for at, header in enumerate(headers)}
    return [block.cells[place[header]] if header in place else _constant("", block) for header in wanted]


def _action_words(block: RowBlock) -> pa.Array:
    """assign, unassign, or the word that we could not read."""
    code = block.keys["action"].to_numpy()
    unknown = np.flatnonzero(code < 0)
    place = code.astype(np.int32)
    place[unknown] = np.arange(len(unknown)) + len(_WORDS)
    return pa.concat_arrays([_WORDS, block.keys["actionWord"].take(pa.array(unknown))]).take(pa.array(place))


def _rename_clash(header: str, told: Sequence[str] = RESULT_COLUMNS) -> str:
    """A column of the input whose name is one of ours is told apart."""
    return f"{header} (input)" if header in (*_KEYS, *told, "line", "file") else header


def _constant(text: str, block: RowBlock) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), block.keys.num_rows)


@dataclass(frozen=True, slots=True)
class _Style:
    """How a CSV file is written."""

    guard: Callable[[pa.Array], pa.Array] | None
    """What is put on the header and on the columns in which cells could run as formulas."""
    harmless: Collection[str] = ()
    """Columns in which no cell could."""
    delimiter: str = ","


def _write(file: BinaryIO, names: Sequence[str], tables: Iterable[list[pa.Array]], style: _Style) -> int:
    """Write the header and the tables' rows; gives the number of rows."""
    guard = style.guard
    schema = pa.schema([(name if guard is None else of_text(guard, name), pa.string()) for name in names])
    rows = 0
    with csv.CSVWriter(file, schema, write_options=csv.WriteOptions(delimiter=style.delimiter)) as writer:
        for columns in tables:
            cells = [
                guard(column)
                if guard is not None and name not in style.harmless and _begins_as_formula(column)
                else column
                for name, column in zip(names, columns, strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(cells, schema=schema)
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _begins_as_formula(column: pa.Array) -> bool:
    """Does any cell begin with a byte of which a spreadsheet makes a formula? Seldom; so this looks at no more."""
    _, offsets, texts = column.buffers()
    if not len(column) or texts is None:
        return False
    starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    # Where a cell is empty the next one begins, which is looked at anyhow; behind the last there is none.
    firsts = starts[: starts.searchsorted(starts[-1])]
    return bool(_FORMULA_BYTES[np.frombuffer(texts, np.uint8)[firsts]].any())
