"""How a file is written: from its first bytes to encoding, delimiter, header and columns.

The required headers decide, not a statistic: a delimiter is right when they are found
under it. Refuses to guess between two columns, and knows nothing of the rows below.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Final

from telemetron_batch.domain.delimiters import parse_delimiter
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.header_names import ALIASES, FOLDED_ALIASES, VAGUE, folded
from telemetron_batch.input.normalize import of_text, unguarded

HEADER_LINES: Final = 50
"""The header stands on one of the first so many lines."""
DELIMITERS: Final = (",", ";", "\t", "|")
INIT: Final = "telemetron-batch init FILE"
"""The command that asks which columns are which; `FILE` stands for the file's name, which is not known here."""
FALLBACK_ENCODING: Final = "windows-1252"
"""The encoding of a file that has no byte order mark and is not UTF-8."""

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_AROUND: Final = "\ufeff\u200b\u2060" + "".join(filter(str.isspace, map(chr, range(0x3001))))
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
MAX_COLUMNS: Final = 16_384
_NEAR: Final = 3
"""Of two headers so many lines apart, the upper one is a title over groups of columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How the rows of one file are to be read.

    header       the headers as the file spells them, trimmed
    header_line  the line on which the header begins, from 1
    first_line   the line on which what follows the header begins
    start        bytes of UTF-8 text up to there
    columns      field name to the position of its column
    """

    delimiter: str
    header: tuple[str, ...]
    header_line: int
    first_line: int
    body_offset: int
    columns: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def min_width(self) -> int:
        """Cells up to the last column that has a name: a row may end there."""
        return max(at for at, header in enumerate(self.header, start=1) if header)


@dataclass(frozen=True, slots=True)
class _HeaderCandidate:
    """A record that may be the header, and where each wanted field was seen in it."""

    cells: tuple[str, ...]
    line: int
    lines: int
    delimiter: str
    matches: Mapping[str, list[int]]


def said_encoding(name: str) -> str:
    """The codec that the user named; ConfigError when there is none."""
    try:
        codec = codecs.lookup(name)
        "".encode(codec.name)
    except (LookupError, ValueError):
        raise ConfigError(
            f'there is no encoding "{name}"', "use for example --encoding utf-8, cp1252 or cp850"
        ) from None
    return codec.name


def encoding_from_bom(head: bytes) -> str | None:
    """The encoding that the first bytes give away, by a byte order mark or as UTF-16; else None."""
    for mark, name in _BOMS:
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

    `encoding` is only for words. Raises InputError when a required column is missing or
    found twice, ConfigError when an option cannot be.
    """
    lines = [match.group() for match in islice(_LINE.finditer(head), 2 * HEADER_LINES)]
    delimiters = DELIMITERS if options.delimiter is None else (_said_delimiter(options.delimiter),)
    sighting = _header(_sightings(lines, delimiters, options), encoding, options)
    stop = sighting.line + sighting.lines
    return _dialect(sighting, sum(map(len, lines[: stop - 1])), options)


def find_sheet_header(rows: Sequence[Sequence[str]], options: InputOptions) -> Dialect:
    """As `find_dialect`, for rows of a workbook's sheet that are already cells."""
    headers = (tuple(map(clean_header, row)) for row in rows[:HEADER_LINES])
    sightings = (
        _HeaderCandidate(cells, line, 1, "", match_columns(cells, options))
        for line, cells in enumerate(headers, start=1)
    )
    return _dialect(_header(sightings, "xlsx", options), 0, options)


def required_fields(options: InputOptions) -> tuple[str, ...]:
    """The fields without which no row can be read."""
    fields = ["customerEmail", "deviceIdentifier"]
    if options.action is None:
        fields.append("action")
    if options.auto_create_devices and options.device_type is None:
        fields.append("deviceType")
    return tuple(fields)


def _said_delimiter(word: str) -> str:
    try:
        return parse_delimiter(word)
    except ValueError as exc:
        what, advice = f"{word!r} cannot be a delimiter", 'use one character, such as --delimiter ";", or the word tab'
        raise ConfigError(what, advice) from exc


def _sightings(lines: Sequence[bytes], delimiters: Sequence[str], options: InputOptions) -> Iterator[_HeaderCandidate]:
    """Each of the first lines under each delimiter, as if the header began there.

    Each line is tried by itself: a quote left open in a title must not hide the header.
    """
    texts = [line.decode(errors="replace") for line in lines]
    for at in range(min(HEADER_LINES, len(texts))):
        for delimiter in delimiters:
            reader = csv.reader(texts[at:], delimiter=delimiter)
            try:
                cells = tuple(clean_header(cell) for cell in next(reader))
            except csv.Error:  # a cell beyond the reader's limit is no header
                continue
            hits = match_columns(cells if len(cells) <= MAX_COLUMNS else (), options)
            yield _HeaderCandidate(cells, at + 1, reader.line_num, delimiter, hits)


def clean_header(header: str) -> str:
    """A header without outer white space, and without the sign by which we keep spreadsheets from running it."""
    text = header.strip(_AROUND)
    return of_text(unguarded, text).strip(_AROUND) if text.startswith("'") else text


def _shown(header: str) -> str:
    """A header as a sentence can quote it: short, and on one line."""
    return printable(header[:40])


def match_columns(cells: Sequence[str], options: InputOptions) -> dict[str, list[int]]:
    """The columns at which each field is found, by the user's word or by name; raises ConfigError."""
    unknown = set(options.columns) - set(ALIASES)
    if unknown:
        raise ConfigError(f"--column {min(unknown)}=... names no column of ours", f"the names are {', '.join(ALIASES)}")
    wanted = [*required_fields(options), "action", "deviceType"]
    said = {field: match_requested(cells, header) for field, header in options.columns.items()}
    taken = {at for hits in said.values() for at in hits}
    return {
        field: said[field] if field in said else match_alias(cells, field, taken) for field in dict.fromkeys(wanted)
    }


def match_requested(cells: Sequence[str], header: str) -> list[int]:
    """The columns that a header named by the user stands over."""
    exact = [at for at, cell in enumerate(cells) if cell == clean_header(header)]
    return exact or [at for at, cell in enumerate(cells) if cell and folded(cell) == folded(header)]


def match_alias(cells: Sequence[str], field: str, taken: set[int]) -> list[int]:
    """Columns that mean the field; else those that may mean it. More than one is for the user to decide."""
    free = [(at, cell) for at, cell in enumerate(cells) if at not in taken]
    return [at for at, cell in free if folded(cell) in {folded(field), *FOLDED_ALIASES[field]} - VAGUE] or [
        at for at, cell in free if folded(cell) in FOLDED_ALIASES[field]
    ]


def _header(sightings: Iterator[_HeaderCandidate], encoding: str, options: InputOptions) -> _HeaderCandidate:
    """The first sighting that has all required fields, or the last of others close below; InputError when none has."""
    required = required_fields(options)
    best: _HeaderCandidate | None = None
    best_rank = (-1, -1)
    for sighting in sightings:
        found = sum(bool(sighting.matches[field]) for field in required)
        if found == len(required):
            chosen = _last_near(sighting, sightings, options)
            _reject_ambiguous(chosen, encoding, options)
            return chosen
        rank = (found, sum(map(bool, sighting.cells)))
        if rank > best_rank:
            best, best_rank = sighting, rank
    if best is None:
        raise InputError("there is no header, for there is no text")
    if len(best.cells) > MAX_COLUMNS:
        raise InputError(
            f"line {best.line} has {len(best.cells)} columns, and at most {MAX_COLUMNS} are read",
            "check that this is a table with a header",
        )
    missing = [field for field in required if not best.matches[field]]
    raise InputError(
        f"no header with {_listed(missing)} in the first {HEADER_LINES} lines; {_describe_candidate(best, encoding)}",
        _advice(missing, is_text=bool(best.delimiter)),
    )


def _last_near(
    first: _HeaderCandidate, sightings: Iterator[_HeaderCandidate], options: InputOptions
) -> _HeaderCandidate:
    """The last header of those that stand close below one another, completed by the cells above its empty ones."""
    required = required_fields(options)
    chosen = first
    for sighting in sightings:
        if sighting.line >= chosen.line + chosen.lines + _NEAR - 1:
            break
        if sighting.line < chosen.line + chosen.lines or sighting.delimiter != chosen.delimiter:
            continue
        if any("@" in cell for cell in sighting.cells) or sighting.matches == chosen.matches:
            break  # a row, or the same header again: what stands above is no title
        if sum(bool(sighting.matches[field]) for field in required) > 1:
            cells = tuple(map(_either, zip_longest(sighting.cells, chosen.cells, fillvalue="")))
            hits = match_columns(cells, options)
            if all(hits[field] for field in required):
                chosen = replace(sighting, cells=cells, matches=hits)
    return chosen


def _either(cells: tuple[str, str]) -> str:
    return cells[0] or cells[1]


def _advice(missing: Sequence[str], *, is_text: bool) -> str:
    """Return what to do about required columns that were not found."""
    which = "which column it is" if len(missing) == 1 else "which columns they are"
    columns = " ".join(f'--column {field}="..."' for field in missing)
    advice = [f"say {which}, as in {columns}"]
    if "action" in missing:
        advice.append("give --action assign or --action unassign for all rows")
    if "deviceType" in missing:
        advice.append("give --device-type for all rows")
    else:
        advice.append(f"run {INIT}, which asks")
    if is_text:
        advice.append("correct --delimiter or --encoding")
    return "; or ".join(advice)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _describe_candidate(sighting: _HeaderCandidate, encoding: str) -> str:
    shown = ", ".join(f'"{_shown(cell)}"' for cell in sighting.cells[:20])
    more = f" and {len(sighting.cells) - 20} more" if len(sighting.cells) > 20 else ""
    seen = f"headers seen on line {sighting.line}: {shown}{more}"
    if not sighting.delimiter:
        return seen
    delimiter = {"\t": "TAB"}.get(sighting.delimiter, f'"{sighting.delimiter}"')
    return f"{seen} (delimiter {delimiter}, encoding {encoding})"


def _reject_ambiguous(sighting: _HeaderCandidate, encoding: str, options: InputOptions) -> None:
    used: dict[int, str] = {}
    for field in _used_fields(sighting, options):
        hits = sighting.matches[field]
        if len(hits) > 1:
            spelled = " and ".join(f'"{_shown(sighting.cells[at])}"' for at in hits)
            raise InputError(
                f"{field} is found {len(hits)} times, as {spelled}; {_describe_candidate(sighting, encoding)}",
                f'say which column it is, as in --column {field}="{_shown(sighting.cells[hits[-1]])}"; '
                "two headers spelled the same must be told apart in the file",
            )
        other = used.setdefault(hits[0], field)
        if other != field:
            raise ConfigError(
                f'--column gives "{_shown(sighting.cells[hits[0]])}" to both {other} and {field}', "correct one"
            )


def _used_fields(sighting: _HeaderCandidate, options: InputOptions) -> list[str]:
    fields = list(required_fields(options))
    if options.auto_create_devices and "deviceType" not in fields and sighting.matches["deviceType"]:
        fields.append("deviceType")
    return fields


def _dialect(sighting: _HeaderCandidate, start: int, options: InputOptions) -> Dialect:
    warnings: tuple[str, ...] = ()
    if options.action is not None and sighting.matches["action"]:
        spelled = _shown(sighting.cells[sighting.matches["action"][0]])
        warnings = (f'column "{spelled}" is not used: --action says that every row is to {options.action.value}',)
    return Dialect(
        delimiter=sighting.delimiter,
        header=sighting.cells,
        header_line=sighting.line,
        first_line=sighting.line + sighting.lines,
        body_offset=start,
        columns={field: sighting.matches[field][0] for field in _used_fields(sighting, options)},
        warnings=warnings,
    )
