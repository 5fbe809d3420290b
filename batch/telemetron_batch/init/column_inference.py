"""Which column of an unknown file holds what: by its header, else by what stands below it.

Proposes only where one column is plainly the one, and says where it is in doubt. Reads
the first rows for the columns and all of them for the action words; changes nothing.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mode
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.dialect import DELIMITERS, HEADER_LINES, match_columns
from telemetron_batch.input.load import Loaded, load
from telemetron_batch.input.normalize import normalize
from telemetron_batch.input.serials import DATE
from telemetron_batch.input.source_file import FileKind, detect_encoding, input_errors, open_source
from telemetron_batch.input.validation import action_words, are_emails
from telemetron_batch.input.workbook import first_rows
from telemetron_batch.rows.rows import RowBlock

_HEAD: Final = 4 << 20
_RECORDS: Final = 2_000
_MIN_SCORE: Final = 0.5
"""The share of a column's cells that have to look like what the column is taken for."""
_MIN_LEAD: Final = 0.15
"""By how much a column must look more like it than any other does."""
_MOST_WORDS: Final = 12
_ACTION_STEMS: Final = re.compile(
    "assign|zuweis|zuord|ausgabe|abgang|zugang|einbau|ausbau|install|issue|return|retour|rück|rueck"
    "|deliver|liefer|bind|attach|detach|activ|aktiv|remove|entf|add|neu|new|^(?:in|out|ret|on|off)$"
)
_SERIAL: Final = r"^[0-9A-Za-z][\w:./\\-]{2,63}$"
_NO_SERIAL: Final = rf"{DATE}|^[0-9]{{1,7}}[.,][0-9]{{1,3}}$"


@dataclass(frozen=True, slots=True)
class Table:
    """The first rows of a file, below the header they were found under.

    columns   normalised cells, one array of strings for each header
    sheet     name of the workbook's sheet; None for text
    """

    header: tuple[str, ...]
    columns: tuple[pa.Array, ...]
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnGuess:
    """What a file's columns are taken for.

    columns    field name to the header of its column, for fields that are plain to see
    doubts     field name to the headers between which nothing decides
    sheet      the sheet to name, where a workbook has several
    """

    header: tuple[str, ...]
    columns: Mapping[str, str]
    ambiguous: Mapping[str, tuple[str, ...]]
    sheet: str | None


@dataclass(frozen=True, slots=True)
class ActionWordCounts:
    """What the rows of a file say: the action words as written, with the number of rows."""

    loaded: Loaded
    counts: Counter[str]


def survey_file(path: str, options: InputOptions) -> ColumnGuess:
    """Look at the first rows of a file. Raises InputError where they are no table."""
    with input_errors(path), TemporaryDirectory() as spool:
        tables = [*_tables(path, options, Path(spool))]
        if not tables:
            raise InputError("no header with rows below it is found", "add a line that names the columns")
        best = max((propose(table, options) for table in tables), key=lambda one: len(one.columns))
        several = len({table.sheet for table in tables}) > 1
    return ColumnGuess(best.header, best.columns, best.ambiguous, best.sheet if several else options.sheet)


def propose(table: Table, options: InputOptions) -> ColumnGuess:
    """Which column of a table is which field; pure."""
    hits = match_columns(table.header, options)
    columns = {field: table.header[hits[field][0]] for field in options.columns if hits.get(field)}
    doubts: dict[str, tuple[str, ...]] = {}
    fields = ["customerEmail", "deviceIdentifier", *(["action"] if options.action is None else [])]
    for field in fields:
        if field not in columns:
            free = [at for at, header in enumerate(table.header) if header and header not in columns.values()]
            likeness = {at: _score(field, table.columns[at], options) for at in free}
            found = _best_match(likeness, [at for at in hits[field] if at in free])
            if len(found) == 1:
                columns[field] = table.header[found[0]]
            elif found:
                doubts[field] = tuple(table.header[at] for at in found)
    return ColumnGuess(table.header, columns, doubts, table.sheet)


def count_action_words(path: str, options: InputOptions) -> ActionWordCounts:
    """Load the whole file and count its action words. Raises as `load` does."""
    words = _ActionWords()
    with TemporaryDirectory() as spool:
        return ActionWordCounts(load([path], options, spool=Path(spool), sink=words), words.counts)


class _ActionWords:
    """Counts the action words of blocks."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def append(self, block: RowBlock) -> None:
        for one in block.keys["actionWord"].value_counts().to_pylist():
            if one["values"]:
                self.counts[one["values"]] += one["counts"]

    def clear(self) -> None:
        self.counts.clear()


def table_of(records: Iterable[Sequence[str]], sheet: str | None = None) -> Table | None:
    """The header among the first records and the rows below it as columns; None without one.

    The header is as wide as most records, nearly as full as they are, and holds no email
    address.
    """
    filled = [[cell.strip("\ufeff \t") for cell in record] for record in records if any(map(str.strip, record))]
    if len(filled) < 2:
        return None
    width = mode(map(len, filled))
    fullness = np.median([sum(map(bool, record)) for record in filled])
    for at, record in enumerate(filled[:HEADER_LINES]):
        if len(record) == width and sum(map(bool, record)) > fullness / 2 and len(filled) > at + 1:
            if are_emails(normalize(pa.array(record))).any():
                return None
            rows = [(row + [""] * width)[:width] for row in filled[at + 1 :]]
            columns = tuple(normalize(pa.array(column, pa.string())) for column in zip(*rows, strict=True))
            return Table(tuple(record), columns, sheet)
    return None


def _tables(path: str, options: InputOptions, spool: Path) -> Iterator[Table]:
    """The file as a table under each delimiter, or each sheet of the workbook."""
    stored = open_source(path, spool)
    if stored.kind is FileKind.WORKBOOK:
        sheets = first_rows(stored.path, options.sheet, _RECORDS)
        yield from filter(None, (table_of(rows, name) for name, rows in sheets.items()))
        return
    lines = detect_encoding(stored, options.encoding).head(_HEAD).decode(errors="replace").splitlines(keepends=True)
    for delimiter in DELIMITERS if options.delimiter is None else (options.delimiter,):
        table = table_of(_records(lines[:_RECORDS], delimiter))
        if table is not None:
            yield table


def _records(lines: Iterable[str], delimiter: str) -> list[list[str]]:
    try:
        return [*csv.reader(lines, delimiter=delimiter)]
    except csv.Error:  # a cell beyond the reader's limit
        return []


def _best_match(likeness: Mapping[int, float], named: Sequence[int]) -> list[int]:
    """The one column that is it; several if they cannot be told apart; none if no one is like it.

    A column of the right name needs no likeness, unless another has it and this has none.
    """
    by_name = {at: likeness[at] for at in named}
    if len(by_name) == 1 and (likeness[named[0]] > 0 or max(likeness.values()) < _MIN_SCORE):
        return [*by_name]
    likely = {at: share for at, share in (by_name or likeness).items() if share >= _MIN_SCORE}
    if by_name and not likely:
        likely = {at: share for at, share in likeness.items() if share >= _MIN_SCORE} or by_name
    best = max(likely.values(), default=0)
    return [at for at, share in likely.items() if share > best - _MIN_LEAD]


def _score(field: str, column: pa.Array, options: InputOptions) -> float:
    """How much a column looks like that field, from 0 to 1 and a little more."""
    filled = column.filter(pc.not_equal(column, ""))
    if not len(filled):
        return 0
    if field == "customerEmail":
        return float(are_emails(filled).mean())
    distinct = filled.unique()
    if field == "action":
        return _action_likeness(filled, distinct, options)
    likely = pc.match_substring_regex(filled, _SERIAL).to_numpy(zero_copy_only=False)
    likely &= ~pc.match_substring_regex(filled, _NO_SERIAL).to_numpy(zero_copy_only=False)
    likely &= pc.match_substring_regex(filled, "[0-9]").to_numpy(zero_copy_only=False)
    mixed = pc.match_substring_regex(filled, "[A-Za-z]").to_numpy(zero_copy_only=False)
    return (
        0 if _is_row_number(filled) else float(likely.mean()) * len(distinct) / len(filled) + 0.2 * float(mixed.mean())
    )


def _action_likeness(filled: pa.Array, distinct: pa.Array, options: InputOptions) -> float:
    """A column of few words, some of which sound like an action."""
    if len(distinct) > _MOST_WORDS:
        return 0
    known = action_words(options)
    words = [word.lower() for word in filled.to_pylist()]
    certain = sum(word in known for word in words) / len(words)
    sounding = sum(bool(_ACTION_STEMS.search(word)) for word in words) / len(words)
    return max(certain, _MIN_SCORE if certain > 0 else 0, 0.8 * sounding)


def _is_row_number(filled: pa.Array) -> bool:
    """Are these the numbers 1, 2, 3 ... of a list?"""
    if not pc.all(pc.match_substring_regex(filled, "^[0-9]{1,9}$")).as_py():
        return False
    numbers = np.array(filled.to_pylist(), np.int64)
    return len(numbers) > 1 and bool((np.diff(numbers) == 1).all())
