"""Recognise attention.csv and undo.csv, which this program wrote, and choose the options for reading them.

Options that describe the format of another file (for example in a profile) do not apply to
them. They are recognised by their headers, undo.csv also by its name, even if a spreadsheet has
saved them with another delimiter or as a workbook.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.action_words import action_words
from telemetron_batch.input.cell_bytes import CellBytes, byte_in
from telemetron_batch.input.dialect import DELIMITERS, clean_header, encoding_from_bom, match_requested
from telemetron_batch.input.excerpt import printable_excerpt
from telemetron_batch.input.header_names import ALIASES
from telemetron_batch.input.normalize import normalize, unguarded

ATTENTION_HEADERS: Final = ("outcome", "detail", "sourceLine")
"""The headers that this program adds in an attention file, next to each other."""
_OLD_ATTENTION_HEADERS: Final = ATTENTION_HEADERS[:2]
"""The last two headers of an attention.csv that an earlier version wrote."""
_UNDO_HEADERS: Final = ("customerEmail", "deviceIdentifier", "action")
"""All headers of undo.csv. An export may have the same, so the name of the file decides, too."""


@dataclass(frozen=True, slots=True)
class OwnHeader:
    """The header of a file that this program wrote, and the delimiter with which it was found."""

    cells: tuple[str, ...]
    delimiter: str


def find_own_header(name: str, head: bytes, requested_delimiter: str | None = None) -> OwnHeader | None:
    """Return the header of a file if its name and the beginning of its text show that this program wrote it."""
    text = head.decode(encoding_from_bom(head) or "utf-8", errors="replace").removeprefix("\ufeff")
    for delimiter in dict.fromkeys((*DELIMITERS, *filter(None, (requested_delimiter,)))):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            header = tuple(clean_header(cell) for cell in next(reader, ()))
        except csv.Error:  # a cell beyond the reader's limit is no header
            continue
        if is_own_report(name, header):
            return OwnHeader(header, delimiter)
    return None


def find_own_row(name: str, rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the header of a sheet, from its first rows, if this program wrote it; else an empty tuple."""
    headers = (tuple(map(clean_header, row)) for row in rows)
    return next((header for header in headers if is_own_report(name, header)), ())


def unguarded_cells(cells: pa.RecordBatch) -> pa.RecordBatch:
    """Return the cells of an attention.csv without the guard against formulas, as they were in the input."""
    columns = [
        unguarded(column) if byte_in(CellBytes(column).first, b"'").any() else column for column in cells.columns
    ]
    return pa.record_batch(columns, schema=cells.schema)


def is_own_report(name: str, header: Sequence[str]) -> bool:
    """Whether a file of this name and header is an attention.csv or undo.csv of this program."""
    return _is_undo(name, header) or is_attention(header)


def options_for_own_report(
    name: str, header: Sequence[str], options: InputOptions, delimiter: str | None = None
) -> InputOptions:
    """Return the options for reading a file with this name and header; they differ only if this program wrote it.

    Then its columns, its delimiter and its sheet are found by its headers, it has no trailer, and nothing
    is filled down, because the row above may have been far away in the input.
    """
    if not is_own_report(name, header):
        return options
    options = replace(options, delimiter=delimiter, sheet=None, trailer_count=None, fill_down=())
    if _is_undo(name, header):
        return replace(options, columns={}, action=None)
    requested = {field: spelled for field, spelled in options.columns.items() if match_requested(header, spelled)}
    by_name = {field: field for field in ALIASES if field in header}
    return replace(options, columns=by_name | requested)


def reject_conflicting_action(header: Sequence[str], cells: pa.RecordBatch, options: InputOptions) -> None:
    """Raise InputError if a file with the headers of undo.csv has another action than --action.

    It may be a renamed undo.csv: with --action it would repeat what it is meant to undo.
    """
    if options.action is None or tuple(header) != _UNDO_HEADERS:
        return
    other_words = [word for word, action in action_words(options).items() if action is not options.action]
    words = normalize(cells.column(_UNDO_HEADERS.index("action")))
    row = pc.index(pc.is_in(pc.utf8_lower(words), pa.array(other_words)), True).as_py()
    if row >= 0:
        word = printable_excerpt(words[row].as_py())
        raise InputError(
            f'its column action says "{word}", and --action that every row is to {options.action}',
            "leave out one of them, or give the action that is meant",
        )


def is_attention(header: Sequence[str]) -> bool:
    """Whether this is the header of an attention file, of this or of an earlier version."""
    header = tuple(header)
    end = next((at for at in range(len(header), 0, -1) if header[at - 1]), 0)
    triples = zip(header, header[1:], header[2:], strict=False)
    is_of_earlier_version = end > len(_OLD_ATTENTION_HEADERS) and header[end - 2 : end] == _OLD_ATTENTION_HEADERS
    return is_of_earlier_version or any(three == ATTENTION_HEADERS for three in triples)


def _is_undo(name: str, header: Sequence[str]) -> bool:
    return name.lower().startswith("undo") and tuple(header) == _UNDO_HEADERS
