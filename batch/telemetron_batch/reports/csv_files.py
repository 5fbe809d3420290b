"""Write the CSV files of a run: reconciliation, attention and undo. UTF-8, LF, RFC 4180.

The blocks of the input are streamed beside the columns of the reconciliation.
"""

import codecs
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from telemetron_batch.domain.actions import ACTIONS
from telemetron_batch.domain.answers import ANSWER_FIELDS, FieldKind
from telemetron_batch.domain.model import MISALIGNED, InputFile
from telemetron_batch.domain.preview import PREVIEW_WORDS
from telemetron_batch.input.normalize import FORMULA_BYTES, apply_to_text, guard_apostrophes, guarded
from telemetron_batch.input.own_reports import ATTENTION_HEADERS, is_attention
from telemetron_batch.reconciliation.format_columns import format_ints
from telemetron_batch.reconciliation.reconcile import ANSWER_COLUMNS, Reconciliation
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.concurrency import prefetch

Header = tuple[str, int]
"""A header's text, and the number of headers before it in its file with the same text."""

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
_SAFE_COLUMNS: Final = frozenset(
    {"line", "outcome", "deviceWasCreated", "call"}
    | {field.name for field in ANSWER_FIELDS if field.kind is not FieldKind.TEXT}
)
"""Our columns that cannot contain a formula; every other column is guarded."""
_SUPERSEDED: Final = (
    "overtaken: a later row with this customer and device is where it should be, so the action is left blank"
)
_PREVIEW_COLUMNS: Final = ("line", "preview")
_WORDS: Final = pa.array([*map(str, PREVIEW_WORDS)])
_ACTION_WORDS: Final = pa.array([*map(str, ACTIONS)])


@dataclass(frozen=True, slots=True)
class ReportInput:
    """The result of a run and the files it was read from."""

    files: Sequence[InputFile]
    reconciliation: Reconciliation
    raw: bool = False
    """Do not guard cells that a spreadsheet would run as formulas."""


def write_reconciliation(path: Path, report: ReportInput, blocks: Iterable[RowBlock]) -> int:
    """Write one row for each input row, in input order; return their number."""
    names, tables = reconciliation_columns(report, blocks)
    with closing(prefetch(tables)) as queued, atomic_write(path) as file:
        return _write(file, names, queued, _Style(None if report.raw else guarded, _SAFE_COLUMNS))


def extra_columns(files: Sequence[InputFile]) -> dict[int, list[int]]:
    """Return for each file the positions of the columns that `reconciliation_columns` copies: all but the keys."""
    keys = _key_headers(files)
    return {
        number: [at for at, header in enumerate(_headers_of(file, several=len(files) > 1)) if header not in keys]
        for number, file in enumerate(files)
    }


def reconciliation_columns(
    report: ReportInput, blocks: Iterable[RowBlock]
) -> tuple[list[str], Iterator[list[pa.Array]]]:
    """Return the reconciliation for any file format: column names, and columns of texts block by block."""
    keys = _key_headers(report.files)
    extra = [header for header in _headers(report.files) if header not in keys]
    result_columns = _result_columns(report)
    names = ["line", *_KEYS, *result_columns, *(_rename_clash(text, result_columns) for text, _ in extra)]
    if len(report.files) > 1:
        names.insert(0, "file")
    return names, _reconciliation_tables(report, blocks, extra)


def write_attention(file: BinaryIO, report: ReportInput, blocks: Iterable[RowBlock]) -> int:
    """Write the rows that want attention in the input's own columns, to be corrected and fed back; return their number.

    The file has the delimiter of the first text input, and a byte order mark, by which spreadsheets recognize
    UTF-8. A `raw` report does not guard formulas; but because reading the file removes a guard, a cell that
    already looks guarded gets one more.
    """
    names, tables = attention(report, blocks)
    delimiter = next((one.delimiter for one in report.files if one.delimiter), ",")
    file.write(codecs.BOM_UTF8)
    return _write(
        file,
        [*names, *ATTENTION_HEADERS],
        tables,
        _Style(guard_apostrophes if report.raw else guarded, delimiter=delimiter),
    )


def attention(report: ReportInput, blocks: Iterable[RowBlock]) -> tuple[list[str], Iterator[list[pa.Array]]]:
    """Return the rows that want attention for any file format: names of the input's own columns, and columns of texts.

    The columns are the input's own, then those of `ATTENTION_HEADERS`, block by block. If the input is itself an
    attention file, its columns of these names are replaced; its `sourceLine` is kept, because it is the line
    in the original list. If the customers were looked up, they are in the customer column, which is added
    where the input has none.
    """
    keys, replaced = _key_headers(report.files), _replaced_headers(report.files)
    own = [header for header in _headers(report.files) if header not in replaced or header in keys]
    own = _with_customer_header(report.files, own)
    return [text for text, _ in own], _attention_tables(report, blocks, own)


def write_preview(
    path: Path,
    files: Sequence[InputFile],
    blocks: Iterable[RowBlock],
    words: npt.NDArray[np.integer],
    *,
    has_owners: bool = False,
) -> int:
    """Write the input's own columns, the line and the preview word of each row, in input order; return their number.

    `has_owners` is whether customers were looked up; then they are in the customer column, as in an attention file.
    """
    own = _with_customer_header(files, _headers(files)) if has_owners else _headers(files)
    names = [*(f"{text} (input)" if text in _PREVIEW_COLUMNS else text for text, _ in own), *_PREVIEW_COLUMNS]
    if len(files) > 1:
        names.insert(0, "file")
    with atomic_write(path) as file:
        return _write(file, names, _preview_tables(files, blocks, words, own), _Style(guarded, _PREVIEW_COLUMNS))


def _preview_tables(
    files: Sequence[InputFile], blocks: Iterable[RowBlock], words: npt.NDArray[np.integer], own: Sequence[Header]
) -> Iterator[list[pa.Array]]:
    first = 0
    for block in blocks:
        end = first + block.keys.num_rows
        word = _WORDS.take(pa.array(words[first:end]))
        file = [_constant(files[block.file].name, block)] if len(files) > 1 else []
        cells = [
            _with_found_customers(column, block.keys) if header == customer_header(files) else column
            for header, column in zip(own, _cells(files, block, own), strict=True)
        ]
        yield [*file, *cells, _lines(block.keys), word]
        first = end


def write_undo(path: Path, report: ReportInput, blocks: Iterable[RowBlock]) -> int:
    """Write the inverse of the run's sure changes, the last change first; return their number.

    `blocks` come in reverse order. Cells are guarded even in a `raw` report, because the file is meant to be
    fed back, and reading it removes the guard.
    """
    with atomic_write(path) as file:
        return _write(file, list(_KEYS), _undo_tables(report, blocks), _Style(guarded))


def _reconciliation_tables(
    report: ReportInput, blocks: Iterable[RowBlock], extra: Sequence[Header]
) -> Iterator[list[pa.Array]]:
    first = 0
    for block in blocks:
        columns = report.reconciliation.columns(block, first)
        file = [_constant(report.files[block.file].name, block)] if len(report.files) > 1 else []
        keys = [block.keys["customerEmail"], block.keys["deviceIdentifier"], _action_words(block)]
        results = [columns[name] for name in _result_columns(report)]
        yield [*file, _lines(block.keys), *keys, *results, *_cells(report.files, block, extra)]
        first += block.keys.num_rows


def _lines(keys: pa.RecordBatch) -> pa.Array:
    """Return the line of each row as text; `7.2` for the second row made from the record on line 7."""
    lines = format_ints(keys["line"].to_numpy())
    if "piece" not in keys.schema.names or not keys["piece"].to_numpy().any():  # not in journals of earlier versions
        return lines
    pieces = keys["piece"]
    numbered = pc.binary_join_element_wise(lines, format_ints(pieces.to_numpy()), ".")
    return pc.if_else(pc.greater(pieces, 0), numbered, lines)


def _result_columns(report: ReportInput) -> tuple[str, ...]:
    """Return our columns after the keys; `verified` only if the run was verified."""
    return RESULT_COLUMNS if report.reconciliation.verified is None else (*RESULT_COLUMNS, "verified")


def _attention_tables(
    report: ReportInput, blocks: Iterable[RowBlock], own: Sequence[Header]
) -> Iterator[list[pa.Array]]:
    wanted, superseded = report.reconciliation.attention(), report.reconciliation.superseded_attention()
    first = 0
    for block in blocks:
        rows = slice(first, first + block.keys.num_rows)
        if wanted[rows].any():
            late = pa.array(superseded[rows])
            detail = report.reconciliation.details_of(block, first)
            detail = pc.if_else(late, pc.binary_join_element_wise(detail, _SUPERSEDED, "; "), detail)
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
    """Return the line of each row in the original list, with the name of its file if there are several."""
    file = files[block.file]
    if ATTENTION_HEADERS[-1] in file.header and is_attention(file.header):
        return block.cells[str(file.header.index(ATTENTION_HEADERS[-1]))]
    lines = _lines(block.keys)
    return pc.binary_join_element_wise(file.name, lines, ":") if len(files) > 1 else lines


def _replaced_headers(files: Sequence[InputFile]) -> set[Header]:
    """Return the columns of the input that those of `ATTENTION_HEADERS` replace."""
    several = len(files) > 1
    return {
        header
        for file in files
        if not several or is_attention(file.header)
        for header, text in zip(_headers_of(file, several=several), file.header, strict=True)
        if text in ATTENTION_HEADERS
    }


def _editable_cells(
    report: ReportInput, block: RowBlock, own: Sequence[Header], superseded: pa.Array
) -> list[pa.Array]:
    """Return the cells as written, without the keys of misaligned rows and the actions of overtaken rows.

    A row with the wrong number of cells could be mistaken for a good one, with another column's text as its
    device; `detail` keeps the original text. An overtaken row, fed back unchanged, would undo the later row;
    so a person must fill in its action.
    """
    shifted = pc.is_in(block.keys["problem"], pa.array(MISALIGNED, pa.int8()))
    blank = dict.fromkeys(_key_headers(report.files), shifted)
    blank[action_header(report.files), 0] = pc.or_(shifted, superseded)
    columns = dict(zip(own, _cells(report.files, block, own), strict=True))
    customers = customer_header(report.files)
    columns[customers] = _with_found_customers(columns[customers], block.keys)
    return [pc.if_else(blank[header], "", column) if header in blank else column for header, column in columns.items()]


def _with_found_customers(cells: pa.Array, keys: pa.RecordBatch) -> pa.Array:
    """Return the cells of customers; those of valid rows whose customer was looked up hold the customer found."""
    is_looked_up = pc.and_(pc.equal(keys["problem"], 0), pc.not_equal(keys["detail"], ""))
    return pc.if_else(is_looked_up, keys["customerEmail"], cells)


def _with_customer_header(files: Sequence[InputFile], own: list[Header]) -> list[Header]:
    """Return the columns; that of the customers is put in front where it is missing."""
    customers = customer_header(files)
    return own if customers in own else [customers, *own]


def customer_header(files: Sequence[InputFile]) -> Header:
    """Return the column of customers of an attention file or a preview; the input need not have it."""
    return ("customerEmail" if len(files) > 1 else files[0].columns.get("customerEmail", "customerEmail")), 0


def action_header(files: Sequence[InputFile]) -> str:
    """Return the header of the action column of an attention file; empty if there is none."""
    return "action" if len(files) > 1 else files[0].columns.get("action", "")


def _undo_tables(report: ReportInput, blocks: Iterable[RowBlock]) -> Iterator[list[pa.Array]]:
    changed = report.reconciliation.surely_changed()
    end = len(changed)
    for block in blocks:
        rows = np.flatnonzero(changed[end - block.keys.num_rows : end])[::-1]
        end -= block.keys.num_rows
        if len(rows):
            at = pa.array(rows)
            action = pa.array([str(action.facts.inverse) for action in ACTIONS]).take(block.keys["action"].take(at))
            yield [block.keys["customerEmail"].take(at), block.keys["deviceIdentifier"].take(at), action]


def _headers(files: Sequence[InputFile]) -> list[Header]:
    """Return the columns of all files, each once, in order of appearance."""
    found: dict[Header, None] = {}
    for file in files:
        found.update(dict.fromkeys(_headers_of(file, several=len(files) > 1)))
    return list(found)


def _headers_of(file: InputFile, *, several: bool) -> list[Header]:
    """Return the columns of one file. With several files, mapped columns get the names of their fields."""
    fields = {header: field for field, header in file.columns.items()} if several else {}
    seen: Counter[str] = Counter()
    headers = []
    for text in file.header:
        name = fields.get(text, _rename_clash(text) if several else text)
        headers.append((name, seen[name]))
        seen[name] += 1
    return headers


def _key_headers(files: Sequence[InputFile]) -> set[Header]:
    """Return the columns that customer, device and action were read from."""
    if len(files) > 1:
        return {(key, 0) for key in _KEYS}
    return {(files[0].columns[key], 0) for key in _KEYS if key in files[0].columns}


def _cells(files: Sequence[InputFile], block: RowBlock, wanted: Sequence[Header]) -> list[pa.Array]:
    """Return the block's cells as written for these headers; empty texts if its file has no such column."""
    headers = _headers_of(files[block.file], several=len(files) > 1)
    place = {header: str(at) for at, header in enumerate(headers)}
    return [block.cells[place[header]] if header in place else _constant("", block) for header in wanted]


def _action_words(block: RowBlock) -> pa.Array:
    """Return assign, unassign, or the word in the file if it is neither."""
    code = block.keys["action"].to_numpy()
    unknown = np.flatnonzero(code < 0)
    place = code.astype(np.int32)
    place[unknown] = np.arange(len(unknown)) + len(_ACTION_WORDS)
    return pa.concat_arrays([_ACTION_WORDS, block.keys["actionWord"].take(pa.array(unknown))]).take(pa.array(place))


def _rename_clash(header: str, result_columns: Sequence[str] = RESULT_COLUMNS) -> str:
    """Return the header, marked "(input)" if one of our columns has the same name."""
    return f"{header} (input)" if header in (*_KEYS, *result_columns, "line", "file") else header


def _constant(text: str, block: RowBlock) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), block.keys.num_rows)


@dataclass(frozen=True, slots=True)
class _Style:
    """The format of a CSV file."""

    guard: Callable[[pa.Array], pa.Array] | None
    """Guards the header and every column that is not safe."""
    safe_columns: Collection[str] = ()
    """Columns that cannot contain a formula."""
    delimiter: str = ","


def _write(file: BinaryIO, names: Sequence[str], tables: Iterable[list[pa.Array]], style: _Style) -> int:
    """Write the header and the tables' rows; return the number of rows."""
    guard = style.guard
    schema = pa.schema([(name if guard is None else apply_to_text(guard, name), pa.string()) for name in names])
    rows = 0
    with csv.CSVWriter(file, schema, write_options=csv.WriteOptions(delimiter=style.delimiter)) as writer:
        for columns in tables:
            cells = [
                guard(column)
                if guard is not None and name not in style.safe_columns and _begins_as_formula(column)
                else column
                for name, column in zip(names, columns, strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(cells, schema=schema)
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _begins_as_formula(column: pa.Array) -> bool:
    """Return whether any cell begins with a byte that can start a formula. Fast: most columns have no such cell."""
    _, offsets, texts = column.buffers()
    if not len(column) or texts is None:
        return False
    starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    # An empty cell has the offset of the next one, which is checked anyway; empty cells at the end have no byte.
    firsts = starts[: starts.searchsorted(starts[-1])]
    return bool(_FORMULA_BYTES[np.frombuffer(texts, np.uint8)[firsts]].any())
