"""What this program wrote, fed back to it: attention.csv and undo.csv, read as they are.

Options that describe how another file is written (those of a profile, say) do not hold
for them. They are known by their headers, undo.csv also by its name, and so they are
when a spreadsheet has saved them again with another delimiter. Opens no file.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from batch.errors import InputError
from batch.input.cells import action_words, shown
from batch.input.dialect import ALIASES, DELIMITERS, said_hits, trimmed
from batch.input.octets import Octets, one_of
from batch.input.trimming import normalised, unguarded
from batch.model import InputOptions

_OF_ATTENTION: Final = ("outcome", "detail")
"""The last two headers."""
_OF_UNDO: Final = ("customerEmail", "deviceIdentifier", "action")
"""All headers. An export may have the same, so the name must tell, too."""


def our_header(name: str, head: bytes) -> tuple[str, ...]:
    """The headers of a file that this program wrote, by its name and the beginning of its text; else none."""
    text = head.decode("utf-8-sig", errors="replace")
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            header = tuple(trimmed(cell) for cell in next(reader, ()))
        except csv.Error:  # a cell beyond the reader's limit is no header
            continue
        if is_attention(header) or _is_undo(name, header):
            return header
    return ()


def unguarded_cells(cells: pa.RecordBatch) -> pa.RecordBatch:
    """Return the cells of an attention.csv as they were in the input, without the guard against formulas.

    What reading takes off a cell besides is the input's own.
    """
    columns = [unguarded(column) if one_of(Octets(column).first, b"'").any() else column for column in cells.columns]
    return pa.record_batch(columns, schema=cells.schema)


def is_own_report(name: str, header: Sequence[str]) -> bool:
    """Whether a file of this name and header is an attention.csv or undo.csv of this program."""
    return _is_undo(name, header) or is_attention(header)


def as_written(name: str, header: Sequence[str], options: InputOptions) -> InputOptions:
    """The options under which a file of this name and header is to be read: other ones only if it is ours.

    Its delimiter and columns are found by its headers, and no trailer closes it.
    """
    if _is_undo(name, header):
        return replace(options, delimiter=None, columns={}, action=None, trailer_count=None)
    if not is_attention(header):
        return options
    said = {field: spelled for field, spelled in options.columns.items() if said_hits(header, spelled)}
    ours = {field: field for field in ALIASES if field in header}
    return replace(options, delimiter=None, columns=ours | said, trailer_count=None)


def refuse_contradiction(header: Sequence[str], cells: pa.RecordBatch, options: InputOptions) -> None:
    """InputError where a file in our own format says otherwise than --action.

    It may be an undo.csv under another name: that would do again what it is to take back.
    """
    if options.action is None or tuple(header) != _OF_UNDO:
        return
    others = [word for word, action in action_words(options).items() if action is not options.action]
    words = normalised(cells.column(_OF_UNDO.index("action")))
    other = pc.index(pc.is_in(pc.utf8_lower(words), pa.array(others)), True).as_py()
    if other >= 0:
        word = shown(words[other].as_py())
        raise InputError(
            f'its column action says "{word}", and --action that every row is to {options.action}',
            "leave out one of them, or give the action that is meant",
        )


def is_attention(header: Sequence[str]) -> bool:
    """Whether this is the header of an attention.csv."""
    return len(header) > len(_OF_ATTENTION) and tuple(header[-2:]) == _OF_ATTENTION


def _is_undo(name: str, header: Sequence[str]) -> bool:
    return name.lower().startswith("undo") and tuple(header) == _OF_UNDO
