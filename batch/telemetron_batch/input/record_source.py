"""Open one input file as a source of records: find its header and dialect, and prepare its cells for validation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import ONLY_CUSTOMERS, InputOptions
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.corrections import with_corrections
from telemetron_batch.input.dialect import Dialect, find_dialect, find_named_columns, plain_list_dialect
from telemetron_batch.input.emails import are_emails
from telemetron_batch.input.expansion import with_split_cells, with_values_above
from telemetron_batch.input.frame_dialect import frame_dialect
from telemetron_batch.input.json_lines import find_keys, is_json_lines, read_records
from telemetron_batch.input.normalize import is_blank, normalize
from telemetron_batch.input.own_reports import (
    ATTENTION_HEADERS,
    find_own_header,
    find_own_row,
    is_attention,
    options_for_own_report,
    unguarded_cells,
)
from telemetron_batch.input.record_scanner import split
from telemetron_batch.input.restored_cells import OriginalReader, Restorer
from telemetron_batch.input.source_file import DecodedText, FileKind, SourceFile, detect_encoding
from telemetron_batch.input.text_reader import cells_of, last_record_text, read_cells
from telemetron_batch.input.workbook import Sheet, find_sheet

_HEADER_BYTES: Final = 4 << 20
"""Bytes of text in which the header must be found."""
_LONGEST_ADDRESS_LINE: Final = 1000
_OWN_REPORT_BYTES: Final = 1 << 16
"""Bytes of text that show whether this program wrote the file."""


@dataclass(slots=True)
class LastLine:
    """Whether the last line of a text is terminated; known once the text has been read."""

    _last: bytes = b"\n"

    @property
    def is_unterminated(self) -> bool:
        """Whether the text ends without a line end; a final Ctrl-Z counts as one."""
        return self._last not in b"\r\n\x1a"

    def watch(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks and remember their last byte."""
        for chunk in chunks:
            self._last = chunk[-1:] or self._last
            yield chunk


@dataclass(frozen=True, slots=True)
class RecordSource:
    """One opened file: its dialect, and how to read its records."""

    dialect: Dialect | None
    """None for a file without any text."""
    encoding: str
    warnings: tuple[str, ...]
    read_blocks: Callable[[], Iterable[CellBlock]]
    """Reads all records from the first one; may be called several times."""
    options: InputOptions
    """The options for this file, which may differ from those of the run."""
    last_line: LastLine = field(default_factory=LastLine)
    encoding_guessed: bool = False
    sheet: Sheet | None = None
    """The sheet of a workbook."""
    restorer: Restorer | None = None
    """Restores the cells that a spreadsheet changed in an attention file."""

    @property
    def columns(self) -> Mapping[str, int]:
        """Field name to the position of its column."""
        return {} if self.dialect is None else self.dialect.columns


def open_records(source: SourceFile, options: InputOptions) -> RecordSource:
    """Find the header of a file. Raises InputError where there is none, ConfigError for a wrong option."""
    if options.is_frame:
        return _open_frame(source, options)
    if source.kind is FileKind.WORKBOOK:
        return _open_workbook(source, options)
    if source.kind is FileKind.PARQUET:
        return _open_parquet(source, options)
    text, options, is_own = _open_text(source, options)
    head = text.head(_HEADER_BYTES)
    if not head.strip(b" \t\r\n\0\x1a"):
        return RecordSource(None, text.encoding, (*text.warnings, "the file is empty"), lambda: (), options)
    if is_json_lines(head, source.name):
        return _open_json_lines(text, options)
    if options.required == ONLY_CUSTOMERS and _begins_with_address(head):
        dialect = plain_list_dialect()
    else:
        with _own_report_advice(lambda: is_own):
            dialect = find_dialect(head, text.encoding, options)
    last_line = LastLine()

    def read_blocks() -> Iterator[CellBlock]:
        return read_cells(last_line.watch(_skip_bytes(text.chunks(), dialect.body_offset)), dialect, options)

    warnings = (*text.warnings, *dialect.warnings)
    guessed = text.encoding_guessed
    return RecordSource(dialect, text.encoding, warnings, read_blocks, options, last_line, encoding_guessed=guessed)


def _begins_with_address(head: bytes) -> bool:
    """Return whether the first line of a text that is not blank is an address."""
    first = next((line for line in head.decode(errors="replace").splitlines() if not is_blank(line)), "")
    return len(first) <= _LONGEST_ADDRESS_LINE and bool(are_emails(normalize(pa.array([first.strip('"')]))).all())


def prepare_cells(source: RecordSource, read_original_input: OriginalReader | None) -> RecordSource:
    """Return the source with the cells of an attention file restored, and --fill-down and --split applied."""
    if source.dialect is None:
        return source
    header = source.dialect.header
    if is_attention(header) and not source.options.is_frame:
        source = _restored(source, header, read_original_input)
    corrections = source.options.corrections
    filled = {name: source.columns[name] for name in source.options.fill_down if name in source.columns}
    split = source.options.split

    def read_blocks() -> Iterator[CellBlock]:
        blocks = iter(source.read_blocks())
        if corrections:
            blocks = with_corrections(blocks, source.columns, corrections)
        if filled:
            blocks = with_values_above(blocks, filled)
        if split is not None and split.field in source.columns:
            blocks = with_split_cells(blocks, source.columns[split.field], split.separators)
        return blocks

    return replace(source, read_blocks=read_blocks)


def last_line_warnings(source: RecordSource, trailer_count: int | None) -> tuple[str, ...]:
    """Return a warning if the last line is not terminated; raises InputError if the options refuse such a file."""
    policy = source.options.last_line
    if not policy or trailer_count is not None or not source.last_line.is_unterminated:
        return ()
    sentence = "the last line has no end where the others have one, so the file may have been cut short"
    if policy == "refuse":
        raise InputError(sentence, "look whether the export is complete, or count its rows with --expect-rows")
    return (sentence,)


def _restored(source: RecordSource, header: Sequence[str], read_original_input: OriginalReader | None) -> RecordSource:
    """Return the source of an attention file without guards against formulas and changes by a spreadsheet."""

    def read_blocks() -> Iterator[CellBlock]:
        return (replace(block, cells=unguarded_cells(block.cells)) for block in source.read_blocks())

    # In a workbook that this program wrote every cell is text, so a cell that differs was entered by a person.
    is_own_workbook = source.sheet is not None and tuple(header[: len(ATTENTION_HEADERS)]) == ATTENTION_HEADERS
    if read_original_input is None or is_own_workbook or ATTENTION_HEADERS[-1] not in header:
        return replace(source, read_blocks=read_blocks)
    restorer = Restorer.of(read_blocks(), source.columns, header.index(ATTENTION_HEADERS[-1]), read_original_input)
    if restorer is None:
        return replace(source, read_blocks=read_blocks)
    return replace(source, read_blocks=lambda: restorer.restore(read_blocks()), restorer=restorer)


# DataFrames


def _open_frame(source: SourceFile, options: InputOptions) -> RecordSource:
    """Return the records of a file that was written from a DataFrame.

    Nothing about it is guessed, and options that describe another file, for example in a profile, do not apply.
    """
    options = replace(options, multiline_cells=True, trailer_count=None, last_line="")
    text = DecodedText(source, "utf-8", encoding_guessed=False, warnings=())
    header, line_end, _ = text.head(_HEADER_BYTES).partition(b"\n")
    dialect = frame_dialect(split(header, b","), options, body_offset=len(header + line_end))

    def read_blocks() -> Iterator[CellBlock]:
        return read_cells(_skip_bytes(text.chunks(), dialect.body_offset), dialect, options)

    return RecordSource(dialect, text.encoding, dialect.warnings, read_blocks, options)


# Text


def _open_text(source: SourceFile, options: InputOptions) -> tuple[DecodedText, InputOptions, bool]:
    """Return the text of a file, the options for it, and whether this program wrote it."""
    with source.open() as file:
        own_header = find_own_header(source.name, file.read(_OWN_REPORT_BYTES), options.delimiter)
    if own_header is None:
        return detect_encoding(source, options.encoding), options, False
    text = detect_encoding(source, None)
    if text.encoding_guessed and options.encoding is not None:  # a spreadsheet has saved it in another encoding
        text = detect_encoding(source, options.encoding)
    own_options = options_for_own_report(source.name, own_header.cells, options, own_header.delimiter)
    return text, own_options, True


def _skip_bytes(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Yield the chunks without their first `count` bytes."""
    for chunk in chunks:
        yield chunk[count:]
        count = max(0, count - len(chunk))


@contextmanager
def _own_report_advice(is_own: Callable[[], bool]) -> Iterator[None]:
    """Add advice to an error in a file that this program wrote: the options are known in the folder of its run."""
    try:
        yield
    except InputError as error:
        if not is_own():
            raise
        advice = "it holds rows of a run: run it in the folder of that run, whose options are taken then"
        raise InputError(error.reason, f"{advice}; or {error.advice}") from error


# JSON lines and Parquet


def _open_json_lines(text: DecodedText, options: InputOptions) -> RecordSource:
    keys = find_keys(text.chunks())
    with _own_report_advice(lambda: is_attention(keys)):
        options = options_for_own_report(text.source.name, keys, options)
        dialect = find_named_columns(keys, "jsonl", options)
    last_line = LastLine()

    def read_blocks() -> Iterator[CellBlock]:
        return read_records(last_line.watch(text.chunks()), keys, dialect, options)

    guessed = text.encoding_guessed
    warnings = (*text.warnings, *dialect.warnings)
    return RecordSource(dialect, "jsonl", warnings, read_blocks, options, last_line, encoding_guessed=guessed)


def _open_parquet(source: SourceFile, options: InputOptions) -> RecordSource:
    # Only such a file needs the reader.
    from telemetron_batch.input.parquet_file import column_names, read_rows, reject_key_types

    names = column_names(source.path)
    with _own_report_advice(lambda: is_attention(names)):
        options = options_for_own_report(source.name, names, options)
        dialect = find_named_columns(names, "parquet", options)
    reject_key_types(source.path, dialect)
    return RecordSource(dialect, "parquet", dialect.warnings, lambda: read_rows(source.path, options), options)


# Workbooks


def _open_workbook(source: SourceFile, options: InputOptions) -> RecordSource:
    sheet = _find_sheet(source, options)
    return RecordSource(
        sheet.dialect,
        "xlsx",
        sheet.notes,
        _block_reader(sheet),
        options_for_own_report(source.name, sheet.dialect.header, options),
        sheet=sheet,
    )


def _find_sheet(source: SourceFile, options: InputOptions) -> Sheet:
    """Return the sheet of a workbook that holds the rows; this program may have written it."""
    are_own: list[bool] = []

    def adapt(rows: Sequence[Sequence[str]]) -> InputOptions:
        header = find_own_row(source.name, rows)
        are_own.append(bool(header))
        return options_for_own_report(source.name, header, options)

    with _own_report_advice(lambda: any(are_own)):
        return find_sheet(source.path, options, adapt)


def _block_reader(sheet: Sheet) -> Callable[[], Iterator[CellBlock]]:
    """Return a function that reads the rows: first with `sheet`, later with copies, which have counts of their own."""
    unread = sheet.copied()
    sheets = chain([sheet], iter(unread.copied, None))
    return lambda: _sheet_blocks(next(sheets))


def _sheet_blocks(sheet: Sheet) -> Iterator[CellBlock]:
    width = len(sheet.dialect.header)
    for block in sheet.blocks():
        last = next((cells for cells in reversed(block.cells) if not all(map(is_blank, cells))), [])
        last_record = (last_record_text(last, ";"),)
        cells = cells_of(block.cells, width)
        yield CellBlock(np.array(block.lines, np.int64), cells, {}, last_record, kinds=block.kinds)
