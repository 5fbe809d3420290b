"""Split text into cells, block by block; count every record twice, with the record scanner and with the CSV parser.

The only module that runs the CSV parser. Records of a wrong width are not parsed with it, but
split separately and put back in their places.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.errors import InputError, UnbalancedError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.action_words import action_words
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.dialect import Dialect
from telemetron_batch.input.excerpt import printable_excerpt
from telemetron_batch.input.normalize import is_blank
from telemetron_batch.input.record_scanner import Records, inner_lines, scan, split
from telemetron_batch.input.validation import looks_like_row

MAX_RECORD_BYTES: Final = 64 << 20
"""A longer record is refused as a quote that is never closed."""
_CTRL_Z: Final = b"\x1a"
_BOM: Final = b"\xef\xbb\xbf"
_MAX_ROW_SHOWN: Final = 1000


def read_cells(chunks: Iterable[bytes], dialect: Dialect, options: InputOptions) -> Iterator[CellBlock]:
    """Yield the records of UTF-8 text that begins directly after the header.

    Omits blank lines, and records of blank cells that are not as wide as the header. Raises
    InputError for a quote that is never closed or that has swallowed rows, UnbalancedError
    if parser and scanner disagree.
    """
    reader = _BlockReader(dialect, options)
    rest = b""
    line = dialect.first_line
    for chunk, final in _flag_last(_without_end_mark(chunks)):
        text = _terminated(rest + chunk) if final else rest + chunk
        if not text:
            continue
        records = scan(text, reader.delimiter, final=final)
        rest = text[records.consumed :]
        reader.reject_swallowed_rows(records, line)
        reader.reject_open_quote(records, rest, line, final=final)
        if len(records):
            yield reader.block(records, line)
        line += len(records) if dialect.numbers_records else records.line_ends


def cells_of(rows: list[list[str]], width: int) -> pa.RecordBatch:
    """Return rows of `width` cells each as columns of a `CellBlock`."""
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.record_batch(columns or [pa.array([], pa.string())] * width, schema=_schema(width))


def last_record_text(cells: Sequence[str], delimiter: str) -> str:
    """Return the cells of the last record of a file as one line, without the blank ones at its end."""
    filled = [at for at, cell in enumerate(cells, start=1) if not is_blank(cell)]
    return delimiter.join(cells[: max(filled, default=0)])


def _schema(width: int) -> pa.Schema:
    return pa.schema([pa.field(str(at), pa.string()) for at in range(width)])


def _flag_last(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each chunk, and whether it is the last one; without any chunk, an empty last one."""
    pending = b""
    for chunk in chunks:
        if pending:
            yield pending, False
        pending = chunk
    yield pending, True


def _without_end_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text up to the Ctrl-Z that old systems write at its end."""
    pending = b""
    for chunk in chunks:
        text = pending + chunk
        pending = b""
        if _CTRL_Z in text:
            end = len(text.rstrip(b"\r\n" + _CTRL_Z))
            mark = text.find(_CTRL_Z, end)
            if mark >= 0:
                text, pending = text[:mark], text[mark:]
        yield text


def _terminated(text: bytes) -> bytes:
    """Return the last text of a file with a line end."""
    return text if not text or text.endswith((b"\n", b"\r")) else text + b"\n"


class _BlockReader:
    """Reads the blocks of one file."""

    def __init__(self, dialect: Dialect, options: InputOptions) -> None:
        self.delimiter = dialect.delimiter.encode()
        self._dialect = dialect
        self._width = len(dialect.header)
        self._multiline_allowed = options.multiline_cells
        self._has_trailer = options.trailer_count is not None
        self._words = action_words(options)
        self._may_lack_customers = options.owners is not None
        self._quoted = pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True)
        self._unquoted = pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True, quote_char=False)
        self._convert_options = pa.csv.ConvertOptions(
            column_types=_schema(self._width),
            strings_can_be_null=False,
            check_utf8=False,  # the text was decoded before
        )

    def reject_swallowed_rows(self, records: Records, line: int) -> None:
        """Raise InputError for a quoted cell whose inner lines are rows."""
        if records.line_ends == len(records):  # no record has inner lines
            return
        for record in np.flatnonzero(records.inner_line_ends).tolist():
            self._reject_swallowed_row(records.text(record), line + int(records.lines[record]))

    def reject_open_quote(self, records: Records, rest: bytes, line: int, *, final: bool) -> None:
        """Raise InputError for a quote that is never closed; `rest` is the text after the complete records."""
        if records.open_quote < 0 and len(rest) <= MAX_RECORD_BYTES:
            return
        line += records.line_ends
        if not final and len(rest) <= MAX_RECORD_BYTES:
            self._reject_swallowed_row(rest, line)
            return
        if records.open_quote < 0:
            raise InputError(
                f"the record on line {line} is longer than {MAX_RECORD_BYTES} bytes",
                "check that this is a text file",
            )
        before = records.block[records.consumed : records.open_quote]
        opened = line + len((before + b".").splitlines()) - 1
        raise InputError(
            f"the quote that opens on line {opened} is never closed", "close it, or double it if it is text"
        )

    def block(self, records: Records, line: int) -> CellBlock:
        """Return the complete records as cells."""
        if self._are_alike(records):
            cells = self._parse(records.block, records.consumed, len(records), self._width)
            return CellBlock(line + self._lines(records), cells, {}, self._last_record(records))
        return self._sorted_by_width(records, line)

    def _are_alike(self, records: Records) -> bool:
        """Return whether all records are as wide as the header and none is blank, as in nearly every block."""
        return self._width > 1 and bool((records.cells == self._width).all())

    def _sorted_by_width(self, records: Records, line: int) -> CellBlock:
        """Return the records that have cells, parsed with those of the same width, in the order of the file."""
        ends = records.ends_without_trailing_blanks(self._width)
        widths = np.where(ends == records.ends, records.cells, self._width)
        # In a file with one column an empty line has as many cells as a row.
        fits = (widths >= self._dialect.min_width) & (widths <= self._width) & ~records.blank
        parts = [
            (np.flatnonzero(chosen), self._parse_chosen(records, chosen, ends, width))
            for width in np.flatnonzero(np.bincount(widths[fits])).tolist()
            for chosen in [fits & (widths == width)]
        ]
        misfits: dict[int, tuple[str, list[str]]] = {}
        other_widths = np.flatnonzero(~fits & ~records.blank).tolist()
        if other_widths:
            numbers, cells, misfits = self._split(records, other_widths)
            parts.append((numbers, cells))
        if not parts:
            return CellBlock(np.empty(0, np.int64), cells_of([], self._width), {})
        if len(parts) == 1:
            numbers, cells = parts[0]
        else:
            numbers, cells = _in_order(parts)
        positions = np.searchsorted(numbers, np.array(list(misfits), np.int64)).tolist()
        width_errors = {at: sentence for at, (sentence, _) in zip(positions, misfits.values(), strict=True)}
        wrong_width_cells = {at: texts for at, (_, texts) in zip(positions, misfits.values(), strict=True)}
        last_record = self._last_record(records)
        return CellBlock(line + self._lines(records)[numbers], cells, width_errors, last_record, wrong_width_cells)

    def _lines(self, records: Records) -> Ints:
        """Return the line of each record, or its number, from the first one of the block."""
        return np.arange(len(records)) if self._dialect.numbers_records else records.lines

    def _last_record(self, records: Records) -> tuple[str, ...]:
        for record in range(len(records) - 1, -1, -1) if self._has_trailer else ():
            cells = split(records.text(record), self.delimiter)
            if not all(map(is_blank, cells)):
                return records.text(record).decode(), last_record_text(cells, self._dialect.delimiter)
        return ()

    def _reject_swallowed_row(self, record: bytes, line: int) -> None:
        if self._multiline_allowed:
            return
        suspects = [(before, inner) for before, inner in inner_lines(record, self.delimiter) if self._is_a_row(inner)]
        lines = record.splitlines()
        # A stray quote in one row and another one in a later row: without the quotes each line is a row.
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
        email = padded[at["customerEmail"]] if "customerEmail" in at else ""
        if looks_like_row(email, action, self._words):
            return True
        # Without customer and action, only the number of cells tells a row from a line of a note.
        unnamed = self._may_lack_customers and is_blank(email) and action is None
        return unnamed and self._width > 1 and not is_blank(padded[at["deviceIdentifier"]])

    def _width_error(self, cells: list[str]) -> str | None:
        """Return the sentence about a wrong number of cells, or None; surplus blank cells at the end are allowed."""
        too_many = not all(map(is_blank, cells[self._width :]))
        if not too_many and len(cells) >= self._dialect.min_width:
            return None
        raw = self._dialect.delimiter.join(cells)
        if len(raw) > _MAX_ROW_SHOWN:
            raw = raw[: _MAX_ROW_SHOWN - 3] + "..."
        return f'{len(cells)} cells where the header has {self._width}; correct the row in the source: "{raw}"'

    def _parse_chosen(self, records: Records, chosen: Flags, ends: Ints, width: int) -> pa.RecordBatch:
        """Parse the chosen records, all of `width` cells."""
        count = int(np.count_nonzero(chosen))
        if ends is records.ends and count + np.count_nonzero(records.blank) == len(records):
            return self._parse(records.block, records.consumed, count, width)
        text = records.select(chosen, ends)
        return self._parse(text, len(text), count, width)

    def _parse(self, block: bytes, size: int, count: int, width: int) -> pa.RecordBatch:
        """Parse the first `size` bytes, `count` records of `width` cells; add empty cells up to the header's width."""
        text = pa.py_buffer(block).slice(0, size)
        options = self._quoted if b'"' in block else self._unquoted
        if text.slice(0, min(len(_BOM), len(text))).to_pybytes() == _BOM:
            # The parser drops a byte order mark at the start; after a blank line it stays part of its cell.
            text = pa.py_buffer(b"\n" + text.to_pybytes())
        # One parser block for the whole text, because no cell may be larger than a block.
        names = _schema(width).names
        reading = pa.csv.ReadOptions(column_names=names, block_size=len(text) + 1, use_threads=False)
        try:
            table = pa.csv.read_csv(pa.BufferReader(text), reading, options, self._convert_options)
        except pa.ArrowInvalid as error:
            raise UnbalancedError(f"the parser refused what the scanner had counted ({error})") from error
        if table.num_rows != count:
            raise UnbalancedError(f"the parser found {table.num_rows} records, the scanner {count}")
        columns = [column.combine_chunks() for column in table.columns]
        missing = [pa.repeat("", count)] * (self._width - width)
        return pa.record_batch(columns + missing, schema=_schema(self._width))

    def _split(
        self, records: Records, numbers: list[int]
    ) -> tuple[Ints, pa.RecordBatch, dict[int, tuple[str, list[str]]]]:
        """Split records of a wrong width; omit those of blank cells only.

        Returns their numbers, their cells up to the width of the header, and for each record with a
        width error the sentence about it and all of its cells.
        """
        rows: dict[int, list[str]] = {}
        misfits: dict[int, tuple[str, list[str]]] = {}
        for record in numbers:
            cells = split(records.text(record), self.delimiter)
            if all(map(is_blank, cells)):
                continue
            width_error = self._width_error(cells)
            if width_error is not None:
                misfits[record] = width_error, cells
            rows[record] = (cells + [""] * self._width)[: self._width]
        return np.array(list(rows), np.int64), cells_of(list(rows.values()), self._width), misfits


def _in_order(parts: list[tuple[Ints, pa.RecordBatch]]) -> tuple[Ints, pa.RecordBatch]:
    """Merge several parts of the records of a block, in the order of the file."""
    numbers = np.concatenate([piece_numbers for piece_numbers, _ in parts])
    order = np.argsort(numbers, kind="stable")
    cells = pa.concat_batches([part for _, part in parts]).take(pa.array(order))
    return numbers[order], cells
