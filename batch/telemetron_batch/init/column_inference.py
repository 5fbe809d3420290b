"""Guess which column of an unknown file is which field: by its header, else by its cells.

A column is proposed only if it is clearly the best; else the candidates are returned. Reads the
first rows to guess the columns, and all rows to count the action words.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mode
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.action_words import action_words
from telemetron_batch.input.dialect import DELIMITERS, HEADER_LINES, clean_header, match_columns
from telemetron_batch.input.emails import are_emails
from telemetron_batch.input.json_lines import first_records, is_json_lines
from telemetron_batch.input.load import Loaded, load
from telemetron_batch.input.normalize import normalize
from telemetron_batch.input.serials import DATE
from telemetron_batch.input.source_file import FileKind, detect_encoding, input_errors, open_source
from telemetron_batch.input.workbook import first_rows
from telemetron_batch.rows.rows import RowBlock

_HEAD_BYTES: Final = 4 << 20
_MAX_RECORDS: Final = 2_000
_MAX_SCORED: Final = 200
"""Columns that are looked at if their headers say nothing."""
SAMPLE_ROWS: Final = 10
"""Rows that a guess shows."""
_MIN_SCORE: Final = 0.5
"""Fraction of the cells of a column that must look like the field."""
_MIN_LEAD: Final = 0.15
"""How much the score of a column must exceed that of any other column."""
_MAX_ACTION_WORDS: Final = 12
_ACTION_STEMS: Final = re.compile(
    "assign|zuweis|zuord|ausgabe|abgang|zugang|einbau|ausbau|install|issue|return|retour|rück|rueck"
    "|deliver|liefer|bind|attach|detach|activ|aktiv|remove|entf|add|neu|new|^(?:in|out|ret|on|off)$"
)
_SERIAL: Final = r"^[0-9A-Za-z][\w:./\\-]{2,63}$"
_NO_SERIAL: Final = rf"{DATE}|^[0-9]{{1,7}}[.,][0-9]{{1,3}}$"


@dataclass(frozen=True, slots=True)
class Table:
    """The header and the first rows of a file.

    columns   normalized cells, one array of strings for each header
    sheet     name of the sheet of a workbook; None for text
    """

    header: tuple[str, ...]
    columns: tuple[pa.Array, ...]
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnGuess:
    """The guessed columns of a file.

    columns    field name to the header of its column, for fields that are clear
    ambiguous  field name to the headers of several equally good columns
    sheet      the sheet, if the workbook has several
    rows       the first rows below the header, normalized
    """

    header: tuple[str, ...]
    columns: Mapping[str, str]
    ambiguous: Mapping[str, tuple[str, ...]]
    sheet: str | None
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ActionWordCounts:
    """The action words of a file as written, with the number of rows of each."""

    loaded: Loaded
    counts: Counter[str]


def survey_file(path: str, options: InputOptions) -> ColumnGuess:
    """Guess the columns of a file from its first rows. Raises InputError if they are no table."""
    with input_errors(path), TemporaryDirectory() as spool:
        tables = [*_tables(path, options, Path(spool))]
        if not tables:
            raise InputError("no header with rows below it is found", "add a line that names the columns")
        best = max((propose(table, options) for table in tables), key=lambda one: len(one.columns))
        several = len({table.sheet for table in tables}) > 1
    return replace(best, sheet=best.sheet if several else options.sheet)


def propose(table: Table, options: InputOptions) -> ColumnGuess:
    """Guess which column of a table is which field."""
    matches = match_columns(table.header, options)
    columns = {field: table.header[matches[field][0]] for field in options.columns if matches.get(field)}
    ambiguous: dict[str, tuple[str, ...]] = {}
    fields = ["customerEmail", "deviceIdentifier", *(["action"] if options.action is None else [])]
    for field in fields:
        if field not in columns:
            taken = {*columns.values()}
            free = [at for at, header in enumerate(table.header) if header and header not in taken][:_MAX_SCORED]
            scores = {at: _score(field, table.columns[at], options) for at in free}
            best = _best_match(scores, [at for at in matches[field] if at in free])
            if len(best) == 1:
                columns[field] = table.header[best[0]]
            elif best:
                ambiguous[field] = tuple(table.header[at] for at in best)
    first = zip(*(column.slice(0, SAMPLE_ROWS).to_pylist() for column in table.columns), strict=True)
    return ColumnGuess(table.header, columns, ambiguous, table.sheet, tuple(first))


def count_action_words(path: str, options: InputOptions) -> ActionWordCounts:
    """Load the whole file and count its action words. Raises the errors of `load`."""
    counter = _ActionWordCounter()
    with TemporaryDirectory() as spool:
        return ActionWordCounts(load([path], options, spool=Path(spool), sink=counter), counter.counts)


class _ActionWordCounter:
    """A sink that counts the action words of blocks."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def append(self, block: RowBlock) -> None:
        for one in block.keys["actionWord"].value_counts().to_pylist():
            if one["values"]:
                self.counts[one["values"]] += one["counts"]

    def clear(self) -> None:
        self.counts.clear()


def table_of(records: Iterable[Sequence[str]], sheet: str | None = None) -> Table | None:
    """Find the header among the first records; return it and the rows below it, or None if there is no header.

    The header is as wide as most records, more than half as full as they are, and contains no
    email address.
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
    """Yield the file as a table for each delimiter, or each sheet of the workbook."""
    source = open_source(path, spool)
    if source.kind is FileKind.WORKBOOK:
        sheets = first_rows(source.path, options.sheet, _MAX_RECORDS)
        yield from filter(None, (table_of(rows, name) for name, rows in sheets.items()))
        return
    if source.kind is FileKind.PARQUET:
        from telemetron_batch.input.parquet_file import column_names
        from telemetron_batch.input.parquet_file import first_rows as first_parquet_rows

        cells = first_parquet_rows(source.path, _MAX_RECORDS)
        yield from _named_table(column_names(source.path), cells.columns)
        return
    head = detect_encoding(source, options.encoding).head(_HEAD_BYTES)
    if is_json_lines(head, source.name):
        keys, rows = first_records(head, _MAX_RECORDS)
        yield from _named_table(keys, [pa.array(column, pa.string()) for column in zip(*rows, strict=True)])
        return
    lines = head.decode(errors="replace").splitlines(keepends=True)
    for delimiter in DELIMITERS if options.delimiter is None else (options.delimiter,):
        table = table_of(_records(lines[:_MAX_RECORDS], delimiter))
        if table is not None:
            yield table


def _named_table(names: Sequence[str], columns: Sequence[pa.Array]) -> Iterator[Table]:
    """Yield the table of a file whose format names its columns, if it has rows."""
    if columns and len(columns[0]):
        yield Table(tuple(map(clean_header, names)), tuple(map(normalize, columns)))


def _records(lines: Iterable[str], delimiter: str) -> list[list[str]]:
    try:
        return [*csv.reader(lines, delimiter=delimiter)]
    except csv.Error:  # a cell is longer than the csv module allows
        return []


def _best_match(scores: Mapping[int, float], named: Sequence[int]) -> list[int]:
    """Return the best column, several columns if they are equally good, or none.

    The only column with a matching name is the best, unless its score is 0 and that of another column is high.
    """
    by_name = {at: scores[at] for at in named}
    if len(by_name) == 1 and (scores[named[0]] > 0 or max(scores.values()) < _MIN_SCORE):
        return [*by_name]
    likely = {at: score for at, score in (by_name or scores).items() if score >= _MIN_SCORE}
    if by_name and not likely:
        likely = {at: score for at, score in scores.items() if score >= _MIN_SCORE} or by_name
    best = max(likely.values(), default=0)
    return [at for at, score in likely.items() if score > best - _MIN_LEAD]


def _score(field: str, column: pa.Array, options: InputOptions) -> float:
    """Return how much a column looks like the field: 0 to 1, for identifiers up to 1.2."""
    filled = column.filter(pc.not_equal(column, ""))
    if not len(filled):
        return 0
    if field == "customerEmail":
        return float(are_emails(filled).mean())
    distinct = filled.unique()
    if field == "action":
        return _action_score(filled, distinct, options)
    likely = pc.match_substring_regex(filled, _SERIAL).to_numpy(zero_copy_only=False)
    likely &= ~pc.match_substring_regex(filled, _NO_SERIAL).to_numpy(zero_copy_only=False)
    likely &= pc.match_substring_regex(filled, "[0-9]").to_numpy(zero_copy_only=False)
    mixed = pc.match_substring_regex(filled, "[A-Za-z]").to_numpy(zero_copy_only=False)
    if _is_row_number(filled):
        return 0
    return float(likely.mean()) * len(distinct) / len(filled) + 0.2 * float(mixed.mean())


def _action_score(filled: pa.Array, distinct: pa.Array, options: InputOptions) -> float:
    """Return a high score for a column of few words, of which some are or resemble action words."""
    if len(distinct) > _MAX_ACTION_WORDS:
        return 0
    known = action_words(options)
    words = [word.lower() for word in filled.to_pylist()]
    known_fraction = sum(word in known for word in words) / len(words)
    similar_fraction = sum(bool(_ACTION_STEMS.search(word)) for word in words) / len(words)
    return max(known_fraction, _MIN_SCORE if known_fraction > 0 else 0, 0.8 * similar_fraction)


def _is_row_number(filled: pa.Array) -> bool:
    """Return whether these are consecutive numbers, as in the first column of a list."""
    if not pc.all(pc.match_substring_regex(filled, "^[0-9]{1,9}$")).as_py():
        return False
    numbers = np.array(filled.to_pylist(), np.int64)
    return len(numbers) > 1 and bool((np.diff(numbers) == 1).all())
