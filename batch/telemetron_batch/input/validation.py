"""What a row's key cells say, judged; a column at a time.

Gives every row a problem number and, where there is one, a sentence for the person who
has to correct it. Knows nothing of files, lines or delimiters, and repairs nothing
that could have meant something else.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import UNKNOWN_ACTION, Action
from telemetron_batch.domain.model import InputOptions, Problem
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.cell_bytes import CellBytes, byte_in
from telemetron_batch.input.flags import Flags, flags_of, matching
from telemetron_batch.input.foreign_signs import (
    DECODED_TWICE,
    FOREIGN_SPACE,
    may_be_misplaced,
    may_be_several,
    misplaced,
    placeholders,
    reason_of,
    several,
)
from telemetron_batch.input.normalize import UNSEEN, normalize, normalize_fast, to_lower
from telemetron_batch.input.number_formats import CellKind
from telemetron_batch.input.serials import (
    DAMAGE_PATTERNS,
    MONTHS,
    LongNumbers,
    SerialProfile,
    damage_kind,
    may_be_rounded,
)
from telemetron_batch.rows.rows import KEY_SCHEMA

Ints: TypeAlias = npt.NDArray[np.int64]

MAX_LENGTH: Final = 256
MAX_EMAIL_LENGTH: Final = 254
SHOWN_LENGTH: Final = 60

ACTION_WORDS: Final[Mapping[str, Action]] = {
    "assign": Action.ASSIGN,
    "add": Action.ASSIGN,
    "give": Action.ASSIGN,
    "issue": Action.ASSIGN,
    "unassign": Action.UNASSIGN,
    "remove": Action.UNASSIGN,
    "return": Action.UNASSIGN,
    "returned": Action.UNASSIGN,
    "revoke": Action.UNASSIGN,
}
"""Words that can mean only one thing; any other has to be named with --action-word."""

_CONTROL: Final = f"[\\x00-\\x1f\\x7f-\u009f\u2028\u2029{UNSEEN}]"
_LETTER: Final = r"\p{L}\p{M}"
_LABEL: Final = rf"[{_LETTER}\p{{Nd}}](?:[{_LETTER}\p{{Nd}}-]*[{_LETTER}\p{{Nd}}])?"
_LAST_LABEL: Final = rf"(?:[{_LETTER}]{{2,}}|(?i:xn--)[a-zA-Z0-9-]*[a-zA-Z0-9])"
_LOCAL: Final = rf"[{_LETTER}\p{{Nd}}!#$%&*+/=?^_`{{|}}~-]"
_EMAIL: Final = rf"^{_LOCAL}(?:[.']?{_LOCAL})*@(?:{_LABEL}\.)+{_LAST_LABEL}$"
_ASCII_EMAIL: Final = _EMAIL.replace(r"\p{L}\p{M}", "A-Za-z").replace(r"\p{Nd}", "0-9")
"""The same for addresses of ASCII: for these it is far faster than `_EMAIL`, which is slow even to begin with."""
_MONTH_PREFIXES: Final = np.zeros(1 << 16, np.bool_)
"""First and second byte of the months that a date may begin with. Other than ASCII is looked at anyway."""
for _name in MONTHS.split("|"):
    for _first in {_name[0], _name[0].upper()}:
        for _second in {_name[1], _name[1].upper()}:
            if _first.isascii() and _second.isascii():
                _MONTH_PREFIXES[ord(_first) << 8 | ord(_second)] = True
_LONGEST_DATE: Final = 14
_LONGEST_TIME: Final = 9
_SAMPLE: Final = 1000
"""Addresses that show whether most of a block's are repeated."""
_FEW_DISTINCT: Final = 0.25
"""Share of distinct addresses up to which to find them costs less than to match all against a pattern."""

_MESSAGES: Final[Mapping[Problem, str]] = {
    Problem.EMPTY_KEY: "{name} is empty; every row needs one",
    Problem.ENCODING: '{name} "{cell}" holds letters of unsure encoding; say with --encoding which it is',
    Problem.CONTROL: '{name} "{cell}" holds a control or invisible character; remove it in the source',
    Problem.TOO_LONG: '{name} "{cell}" is longer than 256 characters; correct it in the source',
    Problem.FORMULA: '{name} "{cell}" would run as a formula in a spreadsheet; correct it in the source, '
    "or send it as it is with --allow-suspect",
    Problem.DAMAGED: '{name} "{cell}" was damaged by a spreadsheet ({damage}{others}); restore the serial in the '
    "source, or send it as it is with --allow-suspect",
    Problem.EMAIL: '{name} "{cell}" is not an email address; one @ and a domain with a dot are expected, '
    "as in name@example.com",
    Problem.SIGNS: '{name} "{cell}" has {signs}, which should not be in an identifier; correct it in the source{way}',
    Problem.DECODED_TWICE: '{name} "{cell}" was decoded twice: its letters of UTF-8 were read in another encoding; '
    "export it anew",
    Problem.SEVERAL: '{name} "{cell}" holds several identifiers; read each as a row with --split deviceIdentifier, '
    "or send the cell as it is with --allow-suspect",
    Problem.PLACEHOLDER: '{name} "{cell}" is a name that many devices share, and devices are to be created; '
    "correct it in the source, or send it as it is with --allow-suspect",
    Problem.ACTION: '{name} "{cell}" is not a word we know; assign or unassign is expected, or say what it '
    "means with --action-word WORD=ACTION",
    Problem.DEVICE_TYPE: "{name} is empty, and devices are to be created; fill it in, or give --device-type",
    Problem.LONG_NUMBER: '{name} "{cell}" is a number of more than 15 digits, and a workbook keeps 15; restore the '
    "serial in the source and format its cell as text",
    Problem.CELL_VALUE: '{name} "{cell}" is {kind} in the workbook; enter the serial as text, or send it as it is '
    "with --allow-suspect",
    Problem.DATED: '{name} "{cell}" was "{listed}" in the list, and a spreadsheet may have made a date or number '
    "of it; correct it in attention.xlsx (report RUN --xlsx writes it)",
    Problem.NO_VALUE: "{name} is a formula without a stored value; open the file in a spreadsheet and save it",
}
_PROBLEM_OF: Final[Mapping[CellKind, Problem]] = {
    CellKind.PLAIN: Problem.NONE,
    CellKind.PADDED: Problem.NONE,
    CellKind.LONG_NUMBER: Problem.LONG_NUMBER,
    CellKind.NO_VALUE: Problem.NO_VALUE,
}
"""Problems of identifiers by the kind of their cell; of all others it is `CELL_VALUE`."""


@dataclass(frozen=True, slots=True)
class KeyCells:
    """The key cells of some rows as written: string columns without nulls, one record a row.

    action, device_type   None where no column says it
    faults                row to sentence, for rows with a wrong number of cells
    odd                   row to all cells, for the same rows
    pieces                the number of each row among those of its record; None: every record is one row
    kinds                 field to row to the kind of its cell, for cells of a workbook that are not plain
    dated                 field to row to the cell of the list, where a spreadsheet may have made a date of it
    """

    lines: Ints
    email: pa.Array
    device: pa.Array
    action: pa.Array | None
    device_type: pa.Array | None
    faults: Mapping[int, str]
    odd: Mapping[int, Sequence[str]] = field(default_factory=dict)
    pieces: Ints | None = None
    kinds: Mapping[str, Mapping[int, CellKind]] = field(default_factory=dict)
    dated: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Column:
    """One key column. Only its distinct, or its remarkable, cells are looked at one by one.

    full         the normalised cell of every row
    raw, texts   the cells looked at, as written and as normalised
    odd          which of them were written otherwise than in plain printable ASCII without spaces
    rows         gives the rows that hold the cells flagged among those
    """

    name: str
    full: pa.Array
    raw: pa.Array
    texts: pa.Array
    odd: Flags
    rows: Callable[[Flags], Ints]


@dataclass(frozen=True, slots=True)
class _Keys:
    email: _Column
    device: _Column
    action: _Column | None
    device_type: _Column | None

    def columns(self) -> list[_Column]:
        columns = (self.email, self.device, self.action, self.device_type)
        return [column for column in columns if column is not None]


@dataclass(frozen=True, slots=True)
class _Others:
    """What serials are held against."""

    neighbours: SerialProfile
    numbers: LongNumbers


_Finding: TypeAlias = tuple[Problem, _Column, Flags]


def validate_keys(
    cells: KeyCells,
    options: InputOptions,
    *,
    guessed: bool,
    neighbours: SerialProfile | None = None,
    numbers: LongNumbers | None = None,
) -> pa.RecordBatch:
    """Normalise and judge rows; gives their `KEY_SCHEMA`.

    `guessed` says that nothing vouches for the encoding; `neighbours` and `numbers` are what
    serials are held against, without them one another. A row gets the first problem in the order: cells,
    kind of cell, empty, encoding, control, length, formula, damage, email, action, device type.
    """
    count = len(cells.lines)
    action, device_type = cells.action, cells.device_type
    keys = _Keys(
        email=_emails("customerEmail", cells.email),
        device=_identifiers("deviceIdentifier", cells.device, for_creation=options.auto_create_devices),
        action=None if action is None else _distinct("action", action),
        device_type=None if device_type is None else _distinct("deviceType", device_type),
    )
    fitting = _without_misaligned(keys.device.full, cells.faults)
    neighbours = neighbours or SerialProfile(fitting)
    numbers = numbers or LongNumbers.of(fitting)
    numbers.count(_countable(keys.device.full, cells))
    others = _Others(neighbours, numbers)
    findings = _findings(keys, options, others, guessed=guessed)
    known = dict(_wrong_kinds(cells, keys.device, options))
    known |= dict(_taken_for_dates(cells.dated, keys))
    known |= {row: (Problem.CELLS, fault) for row, fault in cells.faults.items()}
    problems, details = _first_problem_per_row(count, known, findings, neighbours)
    codes = _action_codes(keys.action, count, options)
    if keys.action is not None:
        codes[problems == Problem.CELLS] = UNKNOWN_ACTION
    words = pa.repeat("", count) if keys.action is None else keys.action.full
    columns = {
        "line": pa.array(cells.lines, pa.int64()),
        "customerEmail": _blank_misaligned(keys.email.full, problems),
        "deviceIdentifier": _blank_misaligned(keys.device.full, problems),
        "action": pa.array(codes),
        "actionWord": _blank_misaligned(words, problems),
        "deviceType": _blank_misaligned(_device_types(keys.device_type, count, options), problems),
        "problem": pa.array(problems),
        "detail": details,
        "possibleIdentifiers": _possible_identifiers(count, cells.odd),
        "piece": pa.array(np.zeros(count, np.int32) if cells.pieces is None else cells.pieces, pa.int32()),
    }
    return pa.record_batch(list(columns.values()), schema=KEY_SCHEMA)


def _countable(serials: pa.Array, cells: KeyCells) -> pa.Array:
    """Return the serials of rows of the right width; of a workbook those that are text."""
    without = [*cells.faults, *cells.kinds.get("deviceIdentifier", ())]
    if not without:
        return serials
    countable = np.ones(len(serials), np.bool_)
    countable[without] = False
    return serials.filter(pa.array(countable))


def action_words(options: InputOptions) -> dict[str, Action]:
    """Every word, lowercased, that says an action."""
    return {**ACTION_WORDS, **{word.lower(): action for word, action in options.action_words.items()}}


def are_emails(texts: pa.Array) -> Flags:
    """Which normalised cells are email addresses?"""
    return ~_not_emails(texts)


def looks_like_row(email: str, action: str | None, words: Mapping[str, Action]) -> bool:
    """Could these cells be the keys of a row?"""
    if action is not None and action.strip().lower() in words:
        return True
    return bool(pc.match_substring_regex(normalize(pa.array([email])), _EMAIL)[0].as_py())


def printable_excerpt(cell: str) -> str:
    """A cell as a sentence can quote it: short, and nothing in it invisible."""
    short = cell if len(cell) <= SHOWN_LENGTH else cell[: SHOWN_LENGTH - 1] + "…"
    return printable(short)


def _distinct(name: str, raw: pa.Array, *, as_emails: bool = False) -> _Column:
    """A column of few words: each of them is looked at, once."""
    encoded = raw.dictionary_encode()
    texts, odd = normalize_fast(encoded.dictionary)
    texts = to_lower(texts) if as_emails else texts
    codes = encoded.indices.to_numpy()
    full = raw if texts.equals(encoded.dictionary) else texts.take(encoded.indices)
    return _Column(name, full, encoded.dictionary, texts, odd, lambda flags: np.flatnonzero(flags[codes]))


def _suspicious_subset(name: str, raw: pa.Array, full: pa.Array, odd: Flags, looked_at: Flags) -> _Column:
    """A column of mostly distinct cells: only those are looked at that could have a problem."""
    rows = np.flatnonzero(looked_at)
    mask = pa.array(looked_at)
    return _Column(name, full, raw.filter(mask), full.filter(mask), odd[rows], lambda flags: rows[flags])


def _emails(name: str, raw: pa.Array) -> _Column:
    if len(raw.slice(0, _SAMPLE).unique()) <= _FEW_DISTINCT * min(len(raw), _SAMPLE):
        return _distinct(name, raw, as_emails=True)
    full, odd = normalize_fast(raw)
    full = to_lower(full)
    return _suspicious_subset(name, raw, full, odd, odd | _not_emails(full))


def _identifiers(name: str, raw: pa.Array, *, for_creation: bool = False) -> _Column:
    full, odd = normalize_fast(raw)
    octets = CellBytes(full)
    first, last, lengths = octets.first, octets.last, octets.lengths
    number = byte_in(first, b"+-0123456789") & (last >= ord("0")) & (last <= ord("9"))
    exponent = octets.cells_with((octets.data | 0x20) == ord("e")) if number.any() else number
    decimal = octets.from_end(2) == ord(".") if number.any() else number
    looked_at = odd | byte_in(first, b"\0=@#") | (lengths > MAX_LENGTH)
    looked_at |= number & (exponent | decimal)
    looked_at |= may_be_rounded(octets) | _like_dates(octets) | may_be_misplaced(octets) | may_be_several(octets)
    if for_creation:
        looked_at |= placeholders(full)
    return _suspicious_subset(name, raw, full, odd, looked_at)


def _like_dates(octets: CellBytes) -> Flags:
    """Which cells could be a date, by their length, first and second byte and separators?"""
    first, lengths = octets.first, octets.lengths
    named = _MONTH_PREFIXES[first.astype(np.uint16) << 8 | octets.second]
    numbered = (first >= ord("0")) & (first <= ord("9"))
    likely: Flags = (lengths >= 4) & (lengths <= _LONGEST_DATE + _LONGEST_TIME) & (named | numbered)
    if likely.any():
        likely &= octets.cells_with(byte_in(octets.data, b"./- "))
    timed = likely & (lengths > _LONGEST_DATE)
    if timed.any():
        likely &= ~timed | octets.cells_with(octets.data == ord(":"))
    return likely


def _match_where(texts: pa.Array, pattern: str, some: Flags) -> Flags:
    """The flagged texts that match; no other can."""
    found = some.copy()
    if some.any():
        found[some] = matching(texts.filter(pa.array(some)), pattern)
    return found


def _without_misaligned(column: pa.Array, faults: Mapping[int, str]) -> pa.Array:
    """The cells of rows that have as many as they should."""
    fitting = np.ones(len(column), np.bool_)
    fitting[list(faults)] = False
    return column.filter(pa.array(fitting)) if faults else column


def _findings(keys: _Keys, options: InputOptions, others: _Others, *, guessed: bool) -> Iterator[_Finding]:
    """All that is wrong, the gravest first."""
    columns = keys.columns()
    for column in columns:
        if column is not keys.device_type:
            yield Problem.EMPTY_KEY, column, flags_of(pc.equal(column.texts, ""))
    for column in columns if guessed else ():
        yield Problem.ENCODING, column, ~flags_of(pc.string_is_ascii(column.raw))
    for column in columns:
        yield Problem.CONTROL, column, _match_where(column.texts, _CONTROL, column.odd)
    yield Problem.SIGNS, keys.device, _match_where(keys.device.texts, FOREIGN_SPACE, keys.device.odd)
    for column in (keys.email, keys.device):
        yield Problem.DECODED_TWICE, column, _match_where(column.texts, DECODED_TWICE, column.odd)
    for column in columns:
        yield Problem.TOO_LONG, column, flags_of(pc.greater(pc.utf8_length(column.texts), MAX_LENGTH))
    if not options.allow_suspect:
        yield from _suspicions(keys.device, options, others)
    yield Problem.EMAIL, keys.email, _not_emails(keys.email.texts)
    if keys.action is not None:
        words = pa.array(list(action_words(options)))
        yield Problem.ACTION, keys.action, ~flags_of(pc.is_in(pc.utf8_lower(keys.action.texts), words))
    if keys.device_type is not None and not options.device_type:
        yield Problem.DEVICE_TYPE, keys.device_type, flags_of(pc.equal(keys.device_type.texts, ""))


def _suspicions(device: _Column, options: InputOptions, others: _Others) -> Iterator[_Finding]:
    """What --allow-suspect lets pass, the gravest first."""
    yield Problem.FORMULA, device, matching(device.texts, "^[=@]")
    yield Problem.DAMAGED, device, matching(device.texts, "|".join(DAMAGE_PATTERNS.values()))
    yield Problem.DAMAGED, device, others.neighbours.unexpected_dates(device.texts)
    yield Problem.DAMAGED, device, others.numbers.rounded(device.texts)
    yield Problem.SIGNS, device, misplaced(device.texts, others.neighbours)
    yield Problem.SEVERAL, device, several(device.texts, others.neighbours)
    if options.auto_create_devices:
        yield Problem.PLACEHOLDER, device, placeholders(device.texts)


def _blank_misaligned(column: pa.Array, problems: npt.NDArray[np.int8]) -> pa.Array:
    """The column, empty where a row has the wrong number of cells: what stands there may be another column's."""
    shifted = problems == Problem.CELLS
    return pc.if_else(pa.array(shifted), "", column) if shifted.any() else column


def _possible_identifiers(count: int, odd: Mapping[int, Sequence[str]]) -> pa.Array:
    """For each row with a wrong number of cells those that may be its identifier; null for others."""
    column: pa.Array = pa.nulls(count, KEY_SCHEMA.field("possibleIdentifiers").type)
    if not odd:
        return column
    texts = [_normalised_identifiers(odd[row]) for row in sorted(odd)]
    mask = np.zeros(count, np.bool_)
    mask[[*odd]] = True
    places = np.where(mask, np.cumsum(mask) - 1, 0)
    return pa.array(texts, column.type).take(pa.array(places, mask=~mask))


def _normalised_identifiers(cells: Sequence[str]) -> list[str]:
    texts = normalize(pa.array([cell for cell in cells if len(cell) <= 2 * MAX_LENGTH], pa.string())).to_pylist()
    return [text for text in texts if 0 < len(text) <= MAX_LENGTH]


def _not_emails(texts: pa.Array) -> Flags:
    others = ~matching(texts, _ASCII_EMAIL)
    foreign = others & ~flags_of(pc.string_is_ascii(texts)) if others.any() else others
    if foreign.any():
        others[foreign] = ~matching(texts.filter(pa.array(foreign)), _EMAIL)
    long = flags_of(pc.greater(pc.binary_length(texts), MAX_EMAIL_LENGTH))
    if long.any():
        others[long] |= flags_of(pc.greater(pc.utf8_length(texts.filter(pa.array(long))), MAX_EMAIL_LENGTH))
    return others


def _wrong_kinds(cells: KeyCells, device: _Column, options: InputOptions) -> Iterator[tuple[int, tuple[Problem, str]]]:
    """Rows of a workbook with a key cell of a kind that cannot be sent: their problem, and the sentence about it."""
    for row, kind in cells.kinds.get("deviceIdentifier", {}).items():
        problem = _PROBLEM_OF.get(kind, Problem.CELL_VALUE)
        if problem and not (problem is Problem.CELL_VALUE and options.allow_suspect):
            cell = printable_excerpt(device.full[row].as_py())
            yield row, (problem, _MESSAGES[problem].format(name=device.name, cell=cell, kind=kind.words))
    for name, kinds in cells.kinds.items():
        for row, kind in kinds.items():
            if kind is CellKind.NO_VALUE:
                yield row, (Problem.NO_VALUE, _MESSAGES[Problem.NO_VALUE].format(name=name))


def _taken_for_dates(dated: Mapping[str, Mapping[int, str]], keys: _Keys) -> Iterator[tuple[int, tuple[Problem, str]]]:
    """Rows with a cell of which a spreadsheet may have made a date: their problem, and the sentence about it."""
    for column in keys.columns():
        for row, original in dated.get(column.name, {}).items():
            cell, listed = printable_excerpt(column.full[row].as_py()), printable_excerpt(original)
            sentence = _MESSAGES[Problem.DATED].format(name=column.name, cell=cell, listed=listed)
            yield row, (Problem.DATED, sentence)


def _first_problem_per_row(
    count: int, known: Mapping[int, tuple[Problem, str]], findings: Iterator[_Finding], neighbours: SerialProfile
) -> tuple[npt.NDArray[np.int8], pa.Array]:
    """The first problem of each row, and the sentence about it; of some rows both are `known`."""
    problems = np.zeros(count, np.int8)
    problems[list(known)] = [problem for problem, _ in known.values()]
    sentences = {row: sentence for row, (_, sentence) in known.items()}
    for problem, column, flags in findings:
        rows = column.rows(flags) if flags.any() else np.empty(0, np.int64)
        rows = rows[problems[rows] == 0]
        problems[rows] = problem
        cells = column.full.take(pa.array(rows)).to_pylist()
        for row, cell in zip(rows.tolist(), cells, strict=True):
            sentences[row] = _sentence(problem, column.name, cell, neighbours)
    details = pa.repeat("", count)
    if sentences:
        texts = pa.array([sentences[row] for row in sorted(sentences)], pa.string())
        details = pc.replace_with_mask(details, pa.array(problems != 0), texts)
    return problems, details


def _sentence(problem: Problem, name: str, cell: str, neighbours: SerialProfile) -> str:
    damage = damage_kind(cell) if problem is Problem.DAMAGED else ""
    others = ""
    if damage == "date" and neighbours.example:
        others = f'; other serials here look like "{printable_excerpt(neighbours.example)}"'
    signs, way = "", ""
    if problem is Problem.SIGNS:
        is_space = re.search(FOREIGN_SPACE, cell) is not None
        signs = "white space other than a blank inside" if is_space else reason_of(cell)
        way = "" if is_space else ", or send it as it is with --allow-suspect"
    return _MESSAGES[problem].format(
        name=name, cell=printable_excerpt(cell), damage=damage, others=others, signs=signs, way=way
    )


def _action_codes(action: _Column | None, count: int, options: InputOptions) -> npt.NDArray[np.int8]:
    if action is None:
        return np.full(count, UNKNOWN_ACTION if options.action is None else options.action.code, np.int8)
    codes = np.full(count, UNKNOWN_ACTION, np.int8)
    words = action_words(options)
    lowered = pc.utf8_lower(action.texts)
    for kind in Action:
        meaning = pa.array([word for word in words if words[word] is kind], pa.string())
        codes[action.rows(flags_of(pc.is_in(lowered, meaning)))] = kind.code
    return codes


def _device_types(column: _Column | None, count: int, options: InputOptions) -> pa.Array:
    """What the column says; where it says nothing, what the option says; "" without auto-create."""
    default = (options.device_type or "") if options.auto_create_devices else ""
    if column is None:
        return pa.repeat(default, count)
    return pc.if_else(pc.equal(column.full, ""), default, column.full)
