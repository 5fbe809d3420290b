"""Text to cells, block by block, with every record counted twice: by the scanner and by the parser.

The only module that runs the CSV parser. Records of a wrong width never reach it; they
are split apart from it and put back in their places. Reads no file and judges no cell.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from telemetron_batch.domain.errors import InputError, UnbalancedError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.dialect import Dialect
from telemetron_batch.input.normalize import is_blank
from telemetron_batch.input.record_scanner import Records, inner_lines, scan, split
from telemetron_batch.input.validation import action_words, looks_like_row, printable_excerpt

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

MAX_RECORD: Final = 64 << 20
"""A record of more bytes is taken for a quote that is never closed."""
_CTRL_Z: Final = b"\x1a"
_BOM: Final = b"\xef\xbb\xbf"
_MAX_ROW_SHOWN: Final = 1000


def read_cells(texts: Iterable[bytes], dialect: Dialect, options: InputOptions) -> Iterator[CellBlock]:
    """The records of UTF-8 text that begins right after the header.

    Blank lines and records of blank cells only that are not as wide as the header are
    left out. Raises InputError for a quote that is never closed or has swallowed rows,
    UnbalancedError when parser and scanner disagree.
    """
    reader = _BlockReader(dialect, options)
    rest = b""
    line = dialect.first_line
    for text, final in _flag_last(_without_end_mark(texts)):
        block = _terminated(rest + text) if final else rest + text
        if not block:
            continue
        records = scan(block, reader.delimiter, final=final)
        rest = block[records.consumed :]
        reader.reject_swallowed_rows(records, line)
        reader.reject_open_quote(records, rest, line, final=final)
        if len(records):
            yield reader.piece(records, line)
        line += records.line_ends


def cells_of(rows: list[list[str]], width: int) -> pa.RecordBatch:
    """Rows of `width` cells each as columns of a `CellBlock`."""
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.record_batch(columns or [pa.array([], pa.string())] * width, schema=_schema(width))


def closing_text(cells: Sequence[str], delimiter: str) -> str:
    """The cells of a file's last record as one line, without the empty ones at its end."""
    filled = [at for at, cell in enumerate(cells, start=1) if not is_blank(cell)]
    return delimiter.join(cells[: max(filled, default=0)])


def _schema(width: int) -> pa.Schema:
    return pa.schema([pa.field(str(at), pa.string()) for at in range(width)])


def _flag_last(texts: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each text, and whether it is the last; at the least one, empty if need be."""
    held = b""
    for text in texts:
        if held:
            yield held, False
        held = text
    yield held, True


def _without_end_mark(texts: Iterable[bytes]) -> Iterator[bytes]:
    """The text without the Ctrl-Z that old systems put at its end, and what follows that."""
    held = b""
    for text in texts:
        text = held + text
        held = b""
        if _CTRL_Z in text:
            body = len(text.rstrip(b"\r\n" + _CTRL_Z))
            mark = text.find(_CTRL_Z, body)
            if mark >= 0:
                text, held = text[:mark], text[mark:]
        yield text


def _terminated(block: bytes) -> bytes:
    """The last block, its last record ended."""
    return block if not block or block.endswith((b"\n", b"\r")) else block + b"\n"


class _BlockReader:
    """What the reading of one file's blocks has in common."""

    def __init__(self, dialect: Dialect, options: InputOptions) -> None:
        self.delimiter = dialect.delimiter.encode()
        self._dialect = dialect
        self._width = len(dialect.header)
        self._multiline_allowed = options.multiline_cells
        self._has_trailer = options.trailer_count is not None
        self._words = action_words(options)
        self._parse_options = pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True)
        self._convert_options = pa.csv.ConvertOptions(
            column_types=_schema(self._width),
            strings_can_be_null=False,
            check_utf8=False,  # what comes here was decoded before
        )

    def reject_swallowed_rows(self, records: Records, line: int) -> None:
        """InputError for a quoted cell whose inner lines are rows."""
        for record in np.flatnonzero(records.inner_line_ends).tolist():
            self._refuse(records.text(record), line + int(records.lines[record]))

    def reject_open_quote(self, records: Records, rest: bytes, line: int, *, final: bool) -> None:
        """InputError for a quote that is still open where it cannot be."""
        if records.open_quote < 0 and len(rest) <= MAX_RECORD:
            return
        line += records.line_ends
        if not final and len(rest) <= MAX_RECORD:
            self._refuse(rest, line)
            return
        if records.open_quote < 0:
            raise InputError(
                f"the record on line {line} is longer than {MAX_RECORD} bytes",
                "check that this is a text file",
            )
        before = records.block[records.consumed : records.open_quote]
        opened = line + len((before + b".").splitlines()) - 1
        raise InputError(
            f"the quote that opens on line {opened} is never closed", "close it, or double it if it is text"
        )

    def piece(self, records: Records, line: int) -> CellBlock:
        """The whole records of one block as cells."""
        stops = records.ends_without_trailing_blanks(self._width)
        widths = np.where(stops == records.ends, records.cells, self._width)
        fitting = (widths >= self._dialect.min_width) & (widths <= self._width)
        parts = [
            (np.flatnonzero(widths == width), self._parse(records, widths == width, stops, width))
            for width in np.unique(widths[fitting]).tolist()
        ]
        faults: dict[int, tuple[str, list[str]]] = {}
        odd = np.flatnonzero(~fitting & ~records.blank).tolist()
        if odd:
            places, cells, faults = self._split(records, odd)
            parts.append((places, cells))
        if not parts:
            return CellBlock(np.empty(0, np.int64), cells_of([], self._width), {})
        if len(parts) == 1:
            numbers, cells = parts[0]
        else:
            numbers, cells = _in_order(parts)
        at = np.searchsorted(numbers, np.array(list(faults), np.int64)).tolist()
        sentences = {place: sentence for place, (sentence, _) in zip(at, faults.values(), strict=True)}
        odd_cells = {place: texts for place, (_, texts) in zip(at, faults.values(), strict=True)}
        return CellBlock(line + records.lines[numbers], cells, sentences, self._closing(records), odd_cells)

    def _closing(self, records: Records) -> tuple[str, ...]:
        for record in range(len(records) - 1, -1, -1) if self._has_trailer else ():
            cells = split(records.text(record), self.delimiter)
            if not all(map(is_blank, cells)):
                return records.text(record).decode(), closing_text(cells, self._dialect.delimiter)
        return ()

    def _refuse(self, record: bytes, line: int) -> None:
        if self._multiline_allowed:
            return
        suspects = [(before, inner) for before, inner in inner_lines(record, self.delimiter) if self._is_a_row(inner)]
        lines = record.splitlines()
        # A stray quote in one row and another in a later one: each line is a row when its quote is text.
        if len(lines) > 1 and self._is_a_row(lines[0].replace(b'"', b"")) and self._is_a_row(lines[-1]):
            suspects.append((0, lines[-1]))
        if suspects:
            before, inner = suspects[0]
            raise InputError(
                f"the quote that opens on line {line + before} has swallowed whole rows, "
                f'such as "{printable_excerpt(inner.decode())}"',
                "close the quote, or give --multiline-cells if these lines belong to one cell",
            )

    def _is_a_row(self, line: bytes) -> bool:
        cells = split(line, self.delimiter)
        return self._width_error(cells) is None and self._looks_like_a_row(cells)

    def _looks_like_a_row(self, cells: list[str]) -> bool:
        at = self._dialect.columns
        padded = cells + [""] * self._width
        action = padded[at["action"]] if "action" in at else None
        return looks_like_row(padded[at["customerEmail"]], action, self._words)

    def _width_error(self, cells: list[str]) -> str | None:
        """What is wrong with the number of cells; surplus empty ones at the end are fine."""
        too_many = not all(map(is_blank, cells[self._width :]))
        if not too_many and len(cells) >= self._dialect.min_width:
            return None
        raw = self._dialect.delimiter.join(cells)
        if len(raw) > _MAX_ROW_SHOWN:
            raw = raw[: _MAX_ROW_SHOWN - 3] + "..."
        return f'{len(cells)} cells where the header has {self._width}; correct the row in the source: "{raw}"'

    def _parse(self, records: Records, chosen: Flags, stops: Ints, width: int) -> pa.RecordBatch:
        """The chosen records, all of `width` cells, filled up with empty cells to the header's width."""
        count = int(np.count_nonzero(chosen))
        if stops is records.ends and count + np.count_nonzero(records.blank) == len(records):
            text = pa.py_buffer(records.block).slice(0, records.consumed)
        else:
            text = pa.py_buffer(records.select(chosen, stops))
        if text.slice(0, len(_BOM)).to_pybytes() == _BOM:
            # The parser drops a byte order mark; a blank line before it keeps it a part of its cell.
            text = pa.py_buffer(b"\n" + text.to_pybytes())
        # One parser block for the whole text, so that no cell is too large for it.
        names = _schema(width).names
        reading = pa.csv.ReadOptions(column_names=names, block_size=len(text) + 1, use_threads=False)
        try:
            table = pa.csv.read_csv(pa.BufferReader(text), reading, self._parse_options, self._convert_options)
        except pa.ArrowInvalid as error:
            raise UnbalancedError(f"the parser refused what the scanner had counted ({error})") from error
        if table.num_rows != count:
            raise UnbalancedError(f"the parser found {table.num_rows} records, the scanner {count}")
        columns = [column.combine_chunks() for column in table.columns]
        missing = [pa.repeat("", count)] * (self._width - width)
        return pa.record_batch(columns + missing, schema=_schema(self._width))

    def _split(self, records: Records, odd: list[int]) -> tuple[Ints, pa.RecordBatch, dict[int, tuple[str, list[str]]]]:
        """Records of odd width that are not all blank: their places, cells as wide as the header, and faults.

        A fault is a sentence and all cells of the record.
        """
        rows: dict[int, list[str]] = {}
        faults: dict[int, tuple[str, list[str]]] = {}
        for record in odd:
            cells = split(records.text(record), self.delimiter)
            if all(map(is_blank, cells)):
                continue
            fault = self._width_error(cells)
            if fault is not None:
                faults[record] = fault, cells
            rows[record] = (cells + [""] * self._width)[: self._width]
        return np.array(list(rows), np.int64), cells_of(list(rows.values()), self._width), faults


def _in_order(parts: list[tuple[Ints, pa.RecordBatch]]) -> tuple[Ints, pa.RecordBatch]:
    """Several parts of a block's records as one, in the order of the file."""
    numbers = np.concatenate([places for places, _ in parts])
    order = np.argsort(numbers, kind="stable")
    cells = pa.concat_batches([part for _, part in parts]).take(pa.array(order))
    return numbers[order], cells
