"""What this program wrote, fed back to it: attention.csv and undo.csv, read as they are.

Options that describe how another file is written (those of a profile, say) do not hold
for them. They are known by their headers, undo.csv also by its name, and so they are
when a spreadsheet has saved them again with another delimiter or as a workbook. Opens no file.
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
from telemetron_batch.input.cell_bytes import CellBytes, byte_in
from telemetron_batch.input.dialect import DELIMITERS, clean_header, encoding_from_bom, match_requested
from telemetron_batch.input.header_names import ALIASES
from telemetron_batch.input.normalize import normalize, unguarded
from telemetron_batch.input.validation import action_words, printable_excerpt

OF_ATTENTION: Final = ("outcome", "detail", "sourceLine")
"""The headers that are ours, side by side."""
_OF_EARLIER_VERSIONS: Final = OF_ATTENTION[:2]
"""The last two headers of an attention.csv that an earlier version wrote."""
_OF_UNDO: Final = ("customerEmail", "deviceIdentifier", "action")
"""All headers. An export may have the same, so the name must tell, too."""


@dataclass(frozen=True, slots=True)
class OwnHeader:
    """The header of a file that this program wrote, and the delimiter under which it was found."""

    cells: tuple[str, ...]
    delimiter: str


def find_own_header(name: str, head: bytes, said_delimiter: str | None = None) -> OwnHeader | None:
    """Return the header of a file that this program wrote, by its name and the beginning of its text; else None."""
    text = head.decode(encoding_from_bom(head) or "utf-8", errors="replace").removeprefix("\ufeff")
    for delimiter in dict.fromkeys((*DELIMITERS, *filter(None, (said_delimiter,)))):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            header = tuple(clean_header(cell) for cell in next(reader, ()))
        except csv.Error:  # a cell beyond the reader's limit is no header
            continue
        if is_own_report(name, header):
            return OwnHeader(header, delimiter)
    return None


def find_own_row(name: str, rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the header of a sheet that holds what this program wrote, among its first rows; else none."""
    headers = (tuple(map(clean_header, row)) for row in rows)
    return next((header for header in headers if is_own_report(name, header)), ())


def unguarded_cells(cells: pa.RecordBatch) -> pa.RecordBatch:
    """Return the cells of an attention.csv as they were in the input, without the guard against formulas.

    What reading takes off a cell besides is the input's own.
    """
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
    """Return the options under which a file of this name and header is to be read: other ones only if it is ours.

    Its columns are found by its headers, its delimiter is the one under which they were found, and its sheet is
    the one that has them. No trailer closes it, and its cells are filled: the row above is another one's.
    """
    if not is_own_report(name, header):
        return options
    options = replace(options, delimiter=delimiter, sheet=None, trailer_count=None, fill_down=())
    if _is_undo(name, header):
        return replace(options, columns={}, action=None)
    said = {field: spelled for field, spelled in options.columns.items() if match_requested(header, spelled)}
    ours = {field: field for field in ALIASES if field in header}
    return replace(options, columns=ours | said)


def reject_conflicting_action(header: Sequence[str], cells: pa.RecordBatch, options: InputOptions) -> None:
    """InputError where a file in our own format says otherwise than --action.

    It may be an undo.csv under another name: that would do again what it is to take back.
    """
    if options.action is None or tuple(header) != _OF_UNDO:
        return
    others = [word for word, action in action_words(options).items() if action is not options.action]
    words = normalize(cells.column(_OF_UNDO.index("action")))
    other = pc.index(pc.is_in(pc.utf8_lower(words), pa.array(others)), True).as_py()
    if other >= 0:
        word = printable_excerpt(words[other].as_py())
        raise InputError(
            f'its column action says "{word}", and --action that every row is to {options.action}',
            "leave out one of them, or give the action that is meant",
        )


def is_attention(header: Sequence[str]) -> bool:
    """Whether this is the header of an attention file, in either format."""
    header = tuple(header)
    end = next((at for at in range(len(header), 0, -1) if header[at - 1]), 0)
    triples = zip(header, header[1:], header[2:], strict=False)
    is_of_earlier_version = end > len(_OF_EARLIER_VERSIONS) and header[end - 2 : end] == _OF_EARLIER_VERSIONS
    return is_of_earlier_version or any(three == OF_ATTENTION for three in triples)


def _is_undo(name: str, header: Sequence[str]) -> bool:
    return name.lower().startswith("undo") and tuple(header) == _OF_UNDO
