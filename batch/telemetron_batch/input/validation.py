"""Validate the key cells of rows, a column at a time.

Gives every row a problem code and, where there is a problem, a sentence for the person who has
to correct the row. Normalizes cells, but repairs nothing that could have another meaning.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import UNKNOWN_ACTION, Action
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.model import MISALIGNED, InputOptions, InputPurpose, Problem
from telemetron_batch.input.action_words import action_words
from telemetron_batch.input.emails import EMAIL, not_emails
from telemetron_batch.input.excerpt import printable_excerpt
from telemetron_batch.input.flags import flags_of, matching
from telemetron_batch.input.key_columns import (
    MAX_LENGTH,
    KeyColumn,
    distinct_column,
    email_column,
    identifier_column,
)
from telemetron_batch.input.normalize import ALL_INVISIBLE, normalize
from telemetron_batch.input.number_formats import CellKind
from telemetron_batch.input.problem_messages import MESSAGES, problem_message
from telemetron_batch.input.serials import DAMAGE_PATTERNS, RoundedSerialDetector, SerialStatistics
from telemetron_batch.input.suspect_identifiers import (
    DECODED_TWICE,
    UNUSUAL_SPACE,
    have_misplaced_characters,
    have_several_identifiers,
    placeholders,
)
from telemetron_batch.rows.rows import KEY_SCHEMA
from telemetron_batch.storage.text_hash import encode_texts

_CONTROL: Final = f"[\\x00-\\x1f\\x7f-\u009f\u2028\u2029{ALL_INVISIBLE}]"
_UNNAMED: Final = "customerEmail is empty; --owners looks up owners for unassign only"
_PROBLEM_OF: Final[Mapping[CellKind, Problem]] = {
    CellKind.PLAIN: Problem.NONE,
    CellKind.PADDED: Problem.NONE,
    CellKind.LONG_NUMBER: Problem.LONG_NUMBER,
    CellKind.NO_VALUE: Problem.NO_VALUE,
}
"""The problem of an identifier by the kind of its cell; for all other kinds it is `CELL_VALUE`."""


@dataclass(frozen=True, slots=True)
class KeyCells:
    """The key cells of some rows as written: string columns without nulls, one record a row.

    action, device_type   None if the file has no such column
    width_errors          row to sentence, for rows whose cells cannot be told apart
    width_problem         the problem that these rows have
    wrong_width_cells     row to all cells, for the same rows
    piece_numbers         number of each row among the rows of its record; None if every record is one row
    kinds                 field to row to kind, for cells of a workbook that are not plain
    date_originals        field to row to original cell, where a spreadsheet may have turned that into a date
    """

    lines: Ints
    email: pa.Array
    device: pa.Array
    action: pa.Array | None
    device_type: pa.Array | None
    width_errors: Mapping[int, str]
    wrong_width_cells: Mapping[int, Sequence[str]] = field(default_factory=dict)
    piece_numbers: Ints | None = None
    kinds: Mapping[str, Mapping[int, CellKind]] = field(default_factory=dict)
    date_originals: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    width_problem: Problem = Problem.CELL_COUNT


@dataclass(frozen=True, slots=True)
class _Keys:
    email: KeyColumn
    device: KeyColumn
    action: KeyColumn | None
    device_type: KeyColumn | None

    @classmethod
    def of(cls, cells: KeyCells, options: InputOptions) -> "_Keys":
        return cls(
            email=email_column("customerEmail", cells.email),
            device=identifier_column("deviceIdentifier", cells.device, for_creation=options.auto_create_devices),
            action=None if cells.action is None else distinct_column("action", cells.action),
            device_type=None if cells.device_type is None else distinct_column("deviceType", cells.device_type),
        )

    def columns(self) -> list[KeyColumn]:
        columns = (self.email, self.device, self.action, self.device_type)
        return [column for column in columns if column is not None]


@dataclass(frozen=True, slots=True)
class _SerialContext:
    """What the other serials of the file look like."""

    serial_statistics: SerialStatistics
    long_numbers: RoundedSerialDetector


_Finding: TypeAlias = tuple[Problem, KeyColumn, Flags]
"""A problem, and the inspected cells of a column that have it."""
_Known: TypeAlias = Iterator[tuple[int, tuple[Problem, str]]]
"""Rows with their problem and the sentence about it."""


def validate_keys(
    cells: KeyCells,
    options: InputOptions,
    *,
    encoding_guessed: bool,
    serial_statistics: SerialStatistics | None = None,
    long_numbers: RoundedSerialDetector | None = None,
) -> pa.RecordBatch:
    """Return the rows as a batch of `KEY_SCHEMA`: normalized cells, problem codes and sentences.

    `serial_statistics` and `long_numbers` describe the serials of the file; without them those of `cells` do.
    A row gets its first problem in the order: cells, kind of cell, empty, encoding, control,
    length, formula, damage, email, action, device type.
    """
    count = len(cells.lines)
    keys = _Keys.of(cells, options)
    serials = _without(keys.device.normalized, cells.width_errors)
    serial_statistics = serial_statistics or SerialStatistics(serials)
    long_numbers = long_numbers or RoundedSerialDetector.of(serials)
    long_numbers.count(_text_serials(keys.device.normalized, cells))
    context = _SerialContext(serial_statistics, long_numbers)
    findings = _findings(keys, options, context, encoding_guessed=encoding_guessed)
    known = dict(_wrong_kinds(cells, keys.device, options))
    known |= dict(_taken_for_dates(cells.date_originals, keys))
    known |= {row: (cells.width_problem, sentence) for row, sentence in cells.width_errors.items()}
    problems, details = _first_problem_per_row(count, known, findings, serial_statistics)
    codes = _action_codes(keys.action, count, options)
    if keys.action is not None:
        codes[np.isin(problems, MISALIGNED)] = UNKNOWN_ACTION
    if options.owners is not None:
        problems, details = _reject_unnamed_assigns(keys.email.normalized, codes, problems, details)
    words = pa.repeat("", count) if keys.action is None else keys.action.normalized
    piece_numbers = np.zeros(count, np.int32) if cells.piece_numbers is None else cells.piece_numbers
    columns = {
        "line": pa.array(cells.lines, pa.int64()),
        "customerEmail": _blank_misaligned(keys.email.normalized, problems),
        "deviceIdentifier": _blank_misaligned(keys.device.normalized, problems),
        "action": pa.array(codes),
        "actionWord": _blank_misaligned(words, problems),
        "deviceType": _blank_misaligned(_device_types(keys.device_type, count, options), problems),
        "problem": pa.array(problems),
        "detail": details,
        "possibleIdentifiers": _possible_identifiers(count, cells.wrong_width_cells),
        "piece": pa.array(piece_numbers, pa.int32()),
    }
    return pa.record_batch(list(columns.values()), schema=KEY_SCHEMA)


def looks_like_row(email: str, action: str | None, words: Mapping[str, Action]) -> bool:
    """Return whether these cells may be the keys of a row."""
    if action is not None and action.strip().lower() in words:
        return True
    return bool(pc.match_substring_regex(normalize(pa.array([email])), EMAIL)[0].as_py())


# Problems


def _findings(
    keys: _Keys, options: InputOptions, context: _SerialContext, *, encoding_guessed: bool
) -> Iterator[_Finding]:
    """Yield all problems, the most important first."""
    columns = keys.columns() if options.purpose is InputPurpose.ROWS else [keys.email, keys.device]
    for column in columns:
        if column.name not in _optional_fields(options):
            yield Problem.EMPTY_KEY, column, flags_of(pc.equal(column.inspected, ""))
    for column in columns if encoding_guessed else ():
        yield Problem.ENCODING, column, ~flags_of(pc.string_is_ascii(column.inspected_as_written))
    for column in columns:
        yield Problem.CONTROL, column, _match_where(column.inspected, _CONTROL, column.is_unusual)
    device = keys.device
    yield Problem.MISPLACED_CHARACTERS, device, _match_where(device.inspected, UNUSUAL_SPACE, device.is_unusual)
    for column in (keys.email, device):
        yield Problem.DECODED_TWICE, column, _match_where(column.inspected, DECODED_TWICE, column.is_unusual)
    for column in columns:
        yield Problem.TOO_LONG, column, flags_of(pc.greater(pc.utf8_length(column.inspected), MAX_LENGTH))
    if not options.allow_suspect:
        yield from _suspicions(device, options, context)
    yield Problem.EMAIL, keys.email, not_emails(keys.email.inspected) & flags_of(pc.not_equal(keys.email.inspected, ""))
    if options.purpose is InputPurpose.ROWS:
        yield from _action_findings(keys, options)


def _optional_fields(options: InputOptions) -> Collection[str]:
    """Return the fields whose cells may be empty."""
    return ("deviceType",) if options.owners is None else ("deviceType", "customerEmail")


def _action_findings(keys: _Keys, options: InputOptions) -> Iterator[_Finding]:
    """Yield the problems of the columns that say what to do with a device."""
    if keys.action is not None:
        words = pa.array(list(action_words(options)))
        yield Problem.ACTION, keys.action, ~flags_of(pc.is_in(pc.utf8_lower(keys.action.inspected), words))
    if keys.device_type is not None and not options.device_type:
        yield Problem.DEVICE_TYPE, keys.device_type, flags_of(pc.equal(keys.device_type.inspected, ""))


def _suspicions(device: KeyColumn, options: InputOptions, context: _SerialContext) -> Iterator[_Finding]:
    """Yield the problems that --allow-suspect ignores, the most important first."""
    serials = device.inspected
    yield Problem.FORMULA, device, matching(serials, "^[=@]")
    yield Problem.DAMAGED, device, matching(serials, "|".join(DAMAGE_PATTERNS.values()))
    yield Problem.DAMAGED, device, context.serial_statistics.unexpected_dates(serials)
    yield Problem.DAMAGED, device, context.long_numbers.rounded(serials)
    yield Problem.MISPLACED_CHARACTERS, device, have_misplaced_characters(serials, context.serial_statistics)
    yield Problem.SEVERAL_IDENTIFIERS, device, have_several_identifiers(serials, context.serial_statistics)
    if options.auto_create_devices:
        yield Problem.PLACEHOLDER, device, placeholders(serials)


def _match_where(texts: pa.Array, pattern: str, flags: Flags) -> Flags:
    """Return which of the flagged texts match. For patterns that no other text can match."""
    found = flags.copy()
    if flags.any():
        found[flags] = matching(texts.filter(pa.array(flags)), pattern)
    return found


def _wrong_kinds(cells: KeyCells, device: KeyColumn, options: InputOptions) -> _Known:
    """Yield the rows whose key cell has a kind that cannot be sent."""
    for row, kind in cells.kinds.get("deviceIdentifier", {}).items():
        problem = _PROBLEM_OF.get(kind, Problem.CELL_VALUE)
        may_send = problem is Problem.CELL_VALUE and options.allow_suspect and kind is not CellKind.NESTED
        if problem and not may_send:
            cell = printable_excerpt(device.normalized[row].as_py())
            yield row, (problem, MESSAGES[problem].format(name=device.name, cell=cell, kind=kind.words))
    for name, kinds in cells.kinds.items():
        for row, kind in kinds.items():
            if kind is CellKind.NO_VALUE:
                yield row, (Problem.NO_VALUE, MESSAGES[Problem.NO_VALUE].format(name=name))


def _taken_for_dates(date_originals: Mapping[str, Mapping[int, str]], keys: _Keys) -> _Known:
    """Yield the rows with a cell that a spreadsheet may have turned into a date."""
    for column in keys.columns():
        for row, original in date_originals.get(column.name, {}).items():
            cell, listed = printable_excerpt(column.normalized[row].as_py()), printable_excerpt(original)
            sentence = MESSAGES[Problem.TAKEN_FOR_DATE].format(name=column.name, cell=cell, listed=listed)
            yield row, (Problem.TAKEN_FOR_DATE, sentence)


def _first_problem_per_row(
    count: int,
    known: Mapping[int, tuple[Problem, str]],
    findings: Iterator[_Finding],
    serial_statistics: SerialStatistics,
) -> tuple[npt.NDArray[np.int8], pa.Array]:
    """Return the first problem of each row and the sentence about it; problems that are `known` come first."""
    problems, sentence_of_row = np.zeros(count, np.int8), np.zeros(count, np.int64)
    problems[list(known)] = [problem for problem, _ in known.values()]
    sentences = ["", *(sentence for _, sentence in known.values())]
    sentence_of_row[list(known)] = np.arange(1, len(sentences))
    for problem, column, flags in findings:
        rows = column.rows(flags) if flags.any() else np.empty(0, np.int64)
        rows = rows[problems[rows] == 0]
        problems[rows] = problem
        codes, cells = encode_texts(column.normalized.take(pa.array(rows)))  # many rows may share one bad cell
        sentence_of_row[rows] = len(sentences) + codes
        sentences += [problem_message(problem, column.name, cell, serial_statistics) for cell in cells.to_pylist()]
    return problems, pa.array(sentences, pa.string()).take(pa.array(sentence_of_row))


def _text_serials(serials: pa.Array, cells: KeyCells) -> pa.Array:
    """Return the serials of rows of the right width; of a workbook only those that are text."""
    return _without(serials, [*cells.width_errors, *cells.kinds.get("deviceIdentifier", ())])


def _without(column: pa.Array, rows: Collection[int]) -> pa.Array:
    """Return the column without the cells of these rows."""
    if not rows:
        return column
    is_kept = np.ones(len(column), np.bool_)
    is_kept[list(rows)] = False
    return column.filter(pa.array(is_kept))


def _reject_unnamed_assigns(
    emails: pa.Array, codes: npt.NDArray[np.int8], problems: npt.NDArray[np.int8], details: pa.Array
) -> tuple[npt.NDArray[np.int8], pa.Array]:
    """Return problems and details where assigns without a customer are invalid; unassigns are completed later."""
    unnamed = (problems == 0) & (codes != Action.UNASSIGN.code)
    unnamed &= flags_of(pc.equal(emails, ""))
    if not unnamed.any():
        return problems, details
    return np.where(unnamed, np.int8(Problem.EMPTY_KEY), problems), pc.if_else(pa.array(unnamed), _UNNAMED, details)


# Rows with a wrong number of cells


def _blank_misaligned(column: pa.Array, problems: npt.NDArray[np.int8]) -> pa.Array:
    """Return the column, blank in rows with a wrong number of cells: their cells may belong to other columns."""
    misaligned = np.isin(problems, MISALIGNED)
    return pc.if_else(pa.array(misaligned), "", column) if misaligned.any() else column


def _possible_identifiers(count: int, wrong_width_cells: Mapping[int, Sequence[str]]) -> pa.Array:
    """Return the possible identifiers of each row with a wrong number of cells; null for other rows."""
    column: pa.Array = pa.nulls(count, KEY_SCHEMA.field("possibleIdentifiers").type)
    if not wrong_width_cells:
        return column
    texts = [_normalized_identifiers(wrong_width_cells[row]) for row in sorted(wrong_width_cells)]
    mask = np.zeros(count, np.bool_)
    mask[[*wrong_width_cells]] = True
    positions = np.where(mask, np.cumsum(mask) - 1, 0)
    return pa.array(texts, column.type).take(pa.array(positions, mask=~mask))


def _normalized_identifiers(cells: Sequence[str]) -> list[str]:
    texts = normalize(pa.array([cell for cell in cells if len(cell) <= 2 * MAX_LENGTH], pa.string())).to_pylist()
    return [text for text in texts if 0 < len(text) <= MAX_LENGTH]


# Actions and device types


def _action_codes(action: KeyColumn | None, count: int, options: InputOptions) -> npt.NDArray[np.int8]:
    if action is None:
        given = options.action or options.default_action
        return np.full(count, UNKNOWN_ACTION if given is None else given.code, np.int8)
    codes = np.full(count, UNKNOWN_ACTION, np.int8)
    words = action_words(options)
    lowered = pc.utf8_lower(action.inspected)
    for kind in Action:
        words_of_kind = pa.array([word for word in words if words[word] is kind], pa.string())
        codes[action.rows(flags_of(pc.is_in(lowered, words_of_kind)))] = kind.code
    return codes


def _device_types(column: KeyColumn | None, count: int, options: InputOptions) -> pa.Array:
    """Return the type in the column, else the type in the options; "" for both without --auto-create-devices."""
    default = (options.device_type or "") if options.auto_create_devices else ""
    if column is None:
        return pa.repeat(default, count)
    return pc.if_else(pc.equal(column.normalized, ""), default, column.normalized)
