"""Find out how a file is written: encoding, delimiter, header and columns.

The required headers decide, not a statistic: a delimiter is right if they are found
with it. If two columns may be a field, the file is refused.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Final

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.delimiters import parse_delimiter
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.model import ONLY_CUSTOMERS, InputOptions, InputPurpose
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.header_names import ALIASES, FOLDED_ALIASES, VAGUE, folded_header
from telemetron_batch.input.normalize import apply_to_text, unguarded

HEADER_LINES: Final = 50
"""Number of lines in which the header is searched."""
DELIMITERS: Final = (",", ";", "\t", "|")
INIT_COMMAND: Final = "telemetron-batch init FILE"
"""The command that asks which column is which; the caller replaces `FILE` by the name of the file."""
FALLBACK_ENCODING: Final = "windows-1252"
"""The encoding of a file that has no byte order mark and is not UTF-8."""

BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks and the encodings that they show."""
_STRIPPED: Final = "\ufeff\u200b\u2060" + "".join(filter(str.isspace, map(chr, range(0x3001))))
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
MAX_COLUMNS: Final = 16_384
_NEAR: Final = 3
"""If two headers are less than this number of lines apart, the upper one is a title over groups of columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How to read the rows of one file.

    header       the headers as the file spells them, trimmed
    header_line  the line on which the header begins, from 1; 0 if no line is a header
    first_line   the first line after the header
    body_offset  offset of that line, in bytes of UTF-8 text
    columns      field name to the position of its column
    numbers_records  whether records are numbered from `first_line`, instead of the lines on which they begin
    """

    delimiter: str
    header: tuple[str, ...]
    header_line: int
    first_line: int
    body_offset: int
    columns: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    numbers_records: bool = False

    @property
    def has_header(self) -> bool:
        """Whether a record of the file is, or could be, its header; else the format names the columns."""
        return bool(self.delimiter or self.header_line)

    @property
    def min_width(self) -> int:
        """Number of cells up to the last column with a name: a row may end there."""
        return max(at for at, header in enumerate(self.header, start=1) if header)


@dataclass(frozen=True, slots=True)
class HeaderCandidate:
    """A record that may be the header, and the columns in it that match each field."""

    cells: tuple[str, ...]
    line: int
    lines: int
    delimiter: str
    matches: Mapping[str, list[int]]


def requested_encoding(name: str) -> str:
    """Return the name of the codec that the user requested. Raises ConfigError if there is none."""
    try:
        codec = codecs.lookup(name)
        "".encode(codec.name)
    except (LookupError, ValueError):
        raise ConfigError(
            f'there is no encoding "{name}"', "use for example --encoding utf-8, cp1252 or cp850"
        ) from None
    return codec.name


def encoding_from_bom(head: bytes) -> str | None:
    """Return the encoding that a byte order mark or the zero bytes of UTF-16 show; else None."""
    for mark, name in BOMS:
        if head.startswith(mark):
            return name
    pairs = len(head) // 2
    low, high = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if high > 0.4 * pairs and low < 0.1 * pairs:
        return "utf-16-le"
    if low > 0.4 * pairs and high < 0.1 * pairs:
        return "utf-16-be"
    return None


def find_dialect(head: bytes, encoding: str, options: InputOptions) -> Dialect:
    """Find the header in the first lines of UTF-8 text, and with it the delimiter.

    `encoding` is only for messages. Raises InputError if a required column is missing or
    found twice, ConfigError if an option is invalid.
    """
    lines = [match.group() for match in islice(_LINE.finditer(head), 2 * HEADER_LINES)]
    delimiters = DELIMITERS if options.delimiter is None else (_requested_delimiter(options.delimiter),)
    candidate = _header(_candidates(lines, delimiters, options), encoding, options)
    next_line = candidate.line + candidate.lines
    return dialect_of(candidate, sum(map(len, lines[: next_line - 1])), options)


def plain_list_dialect() -> Dialect:
    """Return how to read a list without a header, with one address a line."""
    columns = {field: at for at, field in enumerate(ONLY_CUSTOMERS)}
    return Dialect(delimiter=",", header=ONLY_CUSTOMERS, header_line=0, first_line=1, body_offset=0, columns=columns)


def find_sheet_header(rows: Sequence[Sequence[str]], options: InputOptions) -> Dialect:
    """Find the header in the first rows of a workbook's sheet; like `find_dialect`."""
    headers = (tuple(map(clean_header, row)) for row in rows[:HEADER_LINES])
    candidates = (
        HeaderCandidate(cells, line, 1, "", match_columns(cells, options))
        for line, cells in enumerate(headers, start=1)
    )
    return dialect_of(_header(candidates, "xlsx", options), 0, options)


def find_named_columns(names: Sequence[str], kind: str, options: InputOptions) -> Dialect:
    """Return the columns of a file whose format names them, so that no header has to be found; as `find_dialect`.

    `kind` is only for messages.
    """
    cells = tuple(map(clean_header, names))
    candidate = HeaderCandidate(cells, 0, 1, "", match_columns(cells if len(cells) <= MAX_COLUMNS else (), options))
    return dialect_of(_header(iter([candidate]), kind, options), 0, options)


def required_fields(options: InputOptions) -> tuple[str, ...]:
    """Return the fields that a file must have a column for."""
    if options.required:
        return options.required
    fields = ["deviceIdentifier"] if options.may_lack_customers else ["customerEmail", "deviceIdentifier"]
    if options.action is None and options.default_action is None and options.purpose is InputPurpose.ROWS:
        fields.append("action")
    if options.auto_create_devices and options.device_type is None:
        fields.append("deviceType")
    return tuple(fields)


def _requested_delimiter(word: str) -> str:
    try:
        return parse_delimiter(word)
    except ValueError as exc:
        what, advice = f"{word!r} cannot be a delimiter", 'use one character, such as --delimiter ";", or the word tab'
        raise ConfigError(what, advice) from exc


def _candidates(lines: Sequence[bytes], delimiters: Sequence[str], options: InputOptions) -> Iterator[HeaderCandidate]:
    """Yield a candidate for each of the first lines and each delimiter.

    Reading starts anew at every line: an open quote in a title must not hide the header.
    """
    texts = [line.decode(errors="replace") for line in lines]
    for at in range(min(HEADER_LINES, len(texts))):
        for delimiter in delimiters:
            reader = csv.reader(texts[at:], delimiter=delimiter)
            try:
                cells = tuple(clean_header(cell) for cell in next(reader))
            except csv.Error:  # a cell beyond the reader's limit is no header
                continue
            matches = match_columns(cells if len(cells) <= MAX_COLUMNS else (), options)
            yield HeaderCandidate(cells, at + 1, reader.line_num, delimiter, matches)


def clean_header(header: str) -> str:
    """Return a header without outer white space and without the guard against formulas."""
    text = header.strip(_STRIPPED)
    return apply_to_text(unguarded, text).strip(_STRIPPED) if text.startswith("'") else text


def _header_excerpt(header: str) -> str:
    return printable(header[:40])


def match_columns(cells: Sequence[str], options: InputOptions) -> dict[str, list[int]]:
    """Return the columns that match each field, by --column or by name. Raises ConfigError for an unknown field."""
    unknown = set(options.columns) - set(ALIASES)
    if unknown:
        raise ConfigError(f"--column {min(unknown)}=... names no known field", f"the names are {', '.join(ALIASES)}")
    fields = dict.fromkeys(("customerEmail", *required_fields(options), "action", "deviceType"))
    requested = {field: match_requested(cells, header) for field, header in options.columns.items()}
    requested = {field: found for field, found in requested.items() if found or not _may_be_elsewhere(field, options)}
    taken = {at for matches in requested.values() for at in matches}
    return {field: requested[field] if field in requested else match_alias(cells, field, taken) for field in fields}


def _may_be_elsewhere(field: str, options: InputOptions) -> bool:
    """Return whether the header that --column names for a field may be in another file; then names find the column."""
    if options.purpose is InputPurpose.OWNERS:
        return True
    return field == "customerEmail" and options.may_lack_customers


def match_requested(cells: Sequence[str], header: str) -> list[int]:
    """Return the columns under the header that the user named."""
    exact = [at for at, cell in enumerate(cells) if cell == clean_header(header)]
    return exact or [at for at, cell in enumerate(cells) if cell and folded_header(cell) == folded_header(header)]


def match_alias(cells: Sequence[str], field: str, taken: set[int]) -> list[int]:
    """Return the free columns whose header means the field; without any, those with a vague header for it."""
    free = [(at, cell) for at, cell in enumerate(cells) if at not in taken]
    clear_names = {folded_header(field), *FOLDED_ALIASES[field]} - VAGUE
    clear = [at for at, cell in free if folded_header(cell) in clear_names]
    return clear or [at for at, cell in free if folded_header(cell) in FOLDED_ALIASES[field]]


def _header(candidates: Iterator[HeaderCandidate], encoding: str, options: InputOptions) -> HeaderCandidate:
    """Return the first candidate with all required fields, or the last one close below it.

    Raises InputError if no candidate has all required fields.
    """
    required = required_fields(options)
    best: HeaderCandidate | None = None
    best_rank = (-1, -1)
    for candidate in candidates:
        found = sum(bool(candidate.matches[field]) for field in required)
        if found == len(required):
            chosen = _lowest_near(candidate, candidates, options)
            reject_ambiguous(chosen, encoding, options)
            return chosen
        rank = (found, sum(map(bool, candidate.cells)))
        if rank > best_rank:
            best, best_rank = candidate, rank
    if best is None:
        raise InputError("there is no header, because there is no text")
    if len(best.cells) > MAX_COLUMNS:
        raise InputError(
            f"{f'line {best.line}' if best.line else 'it'} has {len(best.cells)} columns, "
            f"and at most {MAX_COLUMNS} are read",
            "check that this is a table with a header",
        )
    missing = [field for field in required if not best.matches[field]]
    what = f"no column for {listed(missing)}"
    if best.line:
        what = f"no header with {listed(missing)} in the first {HEADER_LINES} lines"
    raise InputError(
        f"{what}; {_describe_candidate(best, encoding)}",
        _advice(missing, is_text=bool(best.delimiter), are_returns=options.action is Action.UNASSIGN),
    )


def _lowest_near(
    first: HeaderCandidate, candidates: Iterator[HeaderCandidate], options: InputOptions
) -> HeaderCandidate:
    """Return the lowest of several headers close to each other; its empty cells are filled from the one above."""
    required = required_fields(options)
    chosen = first
    for candidate in candidates:
        if candidate.line >= chosen.line + chosen.lines + _NEAR - 1:
            break
        if candidate.line < chosen.line + chosen.lines or candidate.delimiter != chosen.delimiter:
            continue
        if any("@" in cell for cell in candidate.cells) or candidate.matches == chosen.matches:
            break  # a row or a repeated header, so the header above is no title
        if sum(bool(candidate.matches[field]) for field in required) >= min(2, len(required)):
            pairs = zip_longest(candidate.cells, chosen.cells, fillvalue="")
            cells = tuple(below or above for below, above in pairs)
            matches = match_columns(cells, options)
            if all(matches[field] for field in required):
                chosen = replace(candidate, cells=cells, matches=matches)
    return chosen


def _advice(missing: Sequence[str], *, is_text: bool, are_returns: bool) -> str:
    """Return the advice for required columns that were not found; `are_returns` is whether all rows are unassigns."""
    which = "which column it is" if len(missing) == 1 else "which columns they are"
    columns = " ".join(f'--column {field}="..."' for field in missing)
    advice = [f"say {which}, as in {columns}"]
    if are_returns and "customerEmail" in missing:
        advice.append("give --owners, which looks up the customers of returns")
    if "action" in missing:
        advice.append("give --action assign or --action unassign for all rows")
    if "deviceType" in missing:
        advice.append("give --device-type for all rows")
    else:
        advice.append(f"run {INIT_COMMAND}, which asks")
    if is_text:
        advice.append("correct --delimiter or --encoding")
    return "; or ".join(advice)


def listed(words: Sequence[str]) -> str:
    """Return words as text, such as "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _describe_candidate(candidate: HeaderCandidate, encoding: str) -> str:
    shown = ", ".join(f'"{_header_excerpt(cell)}"' for cell in candidate.cells[:20])
    more = f" and {len(candidate.cells) - 20} more" if len(candidate.cells) > 20 else ""
    if not candidate.line:
        return f"columns seen: {shown or 'none'}{more}"
    sentence = f"headers seen on line {candidate.line}: {shown}{more}"
    if not candidate.delimiter:
        return sentence
    delimiter = {"\t": "TAB"}.get(candidate.delimiter, f'"{candidate.delimiter}"')
    return f"{sentence} (delimiter {delimiter}, encoding {encoding})"


def reject_ambiguous(candidate: HeaderCandidate, encoding: str, options: InputOptions) -> None:
    """Raise InputError for a field with several columns, ConfigError for a column that is given to two fields."""
    used: dict[int, str] = {}
    for field in _used_fields(candidate, options):
        matches = candidate.matches[field]
        if len(matches) > 1:
            spelled = " and ".join(f'"{_header_excerpt(candidate.cells[at])}"' for at in matches)
            raise InputError(
                f"{field} is found {len(matches)} times, as {spelled}; {_describe_candidate(candidate, encoding)}",
                f'say which column it is, as in --column {field}="{_header_excerpt(candidate.cells[matches[-1]])}"; '
                "two headers spelled the same must be told apart in the file",
            )
        other = used.setdefault(matches[0], field)
        if other != field:
            raise ConfigError(
                f'--column gives "{_header_excerpt(candidate.cells[matches[0]])}" to both {other} and {field}',
                "correct one",
            )


def _used_fields(candidate: HeaderCandidate, options: InputOptions) -> list[str]:
    fields = list(required_fields(options))
    matches = candidate.matches
    has_optional_action = options.default_action is not None and options.action is None and bool(matches["action"])
    is_used = {
        "deviceType": options.auto_create_devices and bool(matches["deviceType"]),
        "customerEmail": options.may_lack_customers and bool(matches["customerEmail"]),
        "action": has_optional_action or (options.purpose is InputPurpose.OWNERS and len(matches["action"]) == 1),
    }
    return fields + [field for field in is_used if is_used[field] and field not in fields]


def dialect_of(candidate: HeaderCandidate, body_offset: int, options: InputOptions) -> Dialect:
    """Return the dialect of a file with this header."""
    warnings: tuple[str, ...] = ()
    if options.action is not None and candidate.matches["action"]:
        spelled = _header_excerpt(candidate.cells[candidate.matches["action"][0]])
        warnings = (f'column "{spelled}" is not used: --action says that every row is to {options.action.value}',)
    return Dialect(
        delimiter=candidate.delimiter,
        header=candidate.cells,
        header_line=candidate.line,
        first_line=candidate.line + candidate.lines,
        body_offset=body_offset,
        columns={field: candidate.matches[field][0] for field in _used_fields(candidate, options)},
        warnings=warnings,
    )
