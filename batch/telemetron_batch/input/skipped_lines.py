"""Skip records that are no rows: a repeated header, the footer of a query tool, a trailer_text line, a page break.

Considers only records that are invalid anyway, or that name no customer, so that no valid row is ever skipped.
"""

import re
from collections.abc import Iterator, Sequence, Set
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import MISALIGNED, InputOptions
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.dialect import Dialect, match_columns, required_fields
from telemetron_batch.input.emails import not_emails
from telemetron_batch.input.flags import flags_of, matching
from telemetron_batch.input.header_names import ALIASES, folded_header
from telemetron_batch.rows.owner_claims import lack_owners
from telemetron_batch.storage.text_hash import encode_texts

_RULE: Final = r"^[-=_+| ]*[-=_]{2,}[-=_+| ]*$"
_FOOTER: Final = (
    r"(?i)^(?:\(?[0-9][0-9.,' ]*(?:rows?|records?|zeilen?|datensätze)\b"
    r"(?: (?:affected|selected|returned|in set).*)?\)?\.?"
    r"|(?:page|seite) [0-9]+(?: ?(?:of|von|/) ?[0-9]+)?|-+ ?(?:page|seite) [0-9]+.*-+)$"
)
_NAMES: Final = frozenset(folded_header(name) for field, aliases in ALIASES.items() for name in (field, *aliases))


def skipped_records(
    keys: pa.RecordBatch, block: CellBlock, dialect: Dialect, options: InputOptions
) -> npt.NDArray[np.int64]:
    """Return which records of a block are no rows. Raises InputError for a header with other column positions."""
    found = []
    for row in _candidates(keys, dialect, options):
        cells = (
            block.wrong_width_cells[row]
            if row in block.wrong_width_cells
            else [column[row].as_py() for column in block.cells.columns]
        )
        is_header = dialect.has_header and _is_header_again(cells, int(block.lines[row]), dialect, options)
        if is_header or _is_footer(cells):
            found.append(row)
    return np.array(found, np.int64)


def describe_skipped(lines: Sequence[int], trailer_text: str) -> Iterator[str]:
    """Yield one sentence about the skipped lines; `trailer_text` is the text of the trailer among them."""
    if lines:
        are = "line is no row and is" if len(lines) == 1 else "lines are no rows and are"
        what = "a header again, a footer, a closing line or a page break"
        last = f'; the last one is "{trailer_text}"' if trailer_text else ""
        yield f"{len(lines)} {are} passed over: {what} (first on line {min(lines)}{last})"


def _candidates(keys: pa.RecordBatch, dialect: Dialect, options: InputOptions) -> Iterator[int]:
    """Yield the rows that cannot be sent as they are and whose key cells hold only header names, rules and footers."""
    yield from _unnamed_candidates(keys, dialect)
    problems = keys["problem"].to_numpy()
    rows = np.flatnonzero(problems)
    if not len(rows):
        return
    names = {*_NAMES, *map(folded_header, options.columns.values()), *map(folded_header, dialect.header)}
    at = pa.array(rows)
    codes, emails = encode_texts(keys["customerEmail"].take(at))
    devices = keys["deviceIdentifier"].take(at)
    ruled = matching(emails, f"{_RULE}|{_FOOTER}")[codes]
    named = _are_names(emails, names)[codes]
    if named.any():
        codes_of_named, of_named = encode_texts(devices.filter(pa.array(named)))
        named[named] = _are_names(of_named, names)[codes_of_named]
    empty = flags_of(pc.equal(emails, ""))[codes] & flags_of(pc.equal(devices, ""))
    likely = ruled | named | empty | np.isin(problems[rows], MISALIGNED)
    yield from rows[likely].tolist()


def _are_names(texts: pa.Array, names: Set[str]) -> Flags:
    """Return which texts are header names."""
    flags = np.ones(len(texts), np.bool_)
    if not any("@" in name for name in names):
        flags = not_emails(texts)  # to fold a text is slow, and most rows have a good address
    some = texts.filter(pa.array(flags)).to_pylist()
    flags[flags] = [folded_header(text) in names for text in some]
    return flags


def _unnamed_candidates(keys: pa.RecordBatch, dialect: Dialect) -> Iterator[int]:
    """Yield the rows without a customer whose identifier is a header of the file, a rule or a footer."""
    rows = np.flatnonzero(lack_owners(keys))
    if not len(rows):
        return
    devices = keys["deviceIdentifier"].take(pa.array(rows))
    likely = matching(devices, f"{_RULE}|{_FOOTER}") | flags_of(
        pc.is_in(devices, pa.array(dialect.header, pa.string()))
    )
    yield from rows[likely].tolist()


def _is_footer(cells: Sequence[str]) -> bool:
    filled = [cell.strip() for cell in cells if cell.strip()]
    if not filled:
        return False
    return all(re.match(_RULE, cell) for cell in filled) or (len(filled) == 1 and bool(re.match(_FOOTER, filled[0])))


def _is_header_again(cells: Sequence[str], line: int, dialect: Dialect, options: InputOptions) -> bool:
    matches = match_columns(cells, options)
    if not all(matches[field] for field in required_fields(options)):
        return False
    if any(
        matches[field][0] != at or len(matches[field]) > 1 for field, at in dialect.columns.items() if field in matches
    ):
        raise InputError(
            f"the header on line {line} has its columns in other places than the header on line {dialect.header_line}",
            "make a file of each part",
        )
    return True
