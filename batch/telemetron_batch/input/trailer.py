"""Recognise the trailer at the end of a file, such as `Total;2;` or `T1,63`, which may give the number of rows.

With --trailer-count a file must end with its trailer, because without it the file may have been cut short. In other
files a last row that is obviously a trailer is skipped, like a footer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import MISALIGNED, Problem
from telemetron_batch.input.excerpt import printable_excerpt
from telemetron_batch.rows.owner_claims import lack_owners
from telemetron_batch.rows.rows import RowBlock

_WORD: Final = re.compile(
    r"(grand |sub ?)?total|sum|summe|gesamt|count|rows?|records?|lines?"
    r"|end( of file)?|eof|trailer|[tfz]\d{0,2}",
    re.IGNORECASE,
)
_AMOUNT: Final = re.compile(r"[-+]?[\d.,' ]+")
_PROBLEMS: Final = (*MISALIGNED, Problem.EMPTY_KEY, Problem.EMAIL, Problem.ACTION)
"""The problems that a trailer has if it is validated as a row."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """A trailer as --trailer-count describes it."""

    rows: int
    """The number of rows in the trailer."""
    message: str
    """The sentence about it for the warnings of the file."""


def split_trailer(block: RowBlock | None, last_record: Sequence[str], pattern: str) -> tuple[RowBlock | None, Trailer]:
    """Return the last block of a file without its last row, and that row as the trailer.

    The block is None if it has no other row. `last_record` is the text of the row, in each form
    that the pattern may describe. Raises InputError if it is no trailer: the file may have been cut short.
    """
    found = next(filter(None, (re.search(pattern, text) for text in last_record)), None)
    if block is None or found is None:
        last = f'"{printable_excerpt(last_record[0])}"' if last_record else "nothing"
        raise InputError(
            f"no trailer as --trailer-count describes it: the last line is {last}",
            "look whether the export is complete; a file that has no trailer is read with --trailer-count ''",
        )
    number = re.sub(r"[\s.,']", "", found[1] or "")
    if not re.fullmatch("[0-9]{1,18}", number):
        raise InputError(
            f'the trailer "{printable_excerpt(last_record[0])}" has "{printable_excerpt(found[1] or "")}" '
            "for the number of rows",
            "correct the pattern of --trailer-count",
        )
    line = block.keys["line"][-1].as_py()
    message = (
        f'"{printable_excerpt(last_record[0])}" on line {line} is taken as the trailer, no row; it says {number} rows'
    )
    return _without_last_row(block), Trailer(int(number), message)


def without_plain_trailer(block: RowBlock) -> tuple[RowBlock | None, str]:
    """Return the last block of a file without its last row if that is obviously a trailer, and the trailer's text.

    The block is None if it has no other row; the text is empty if the last row is no trailer.
    """
    # `cells` does not have the surplus cells of a row that has too many.
    cells = block.keys["possibleIdentifiers"][-1].as_py() or [column[-1].as_py() for column in block.cells.columns]
    last = block.keys.slice(block.keys.num_rows - 1)
    may_be_serial = bool(lack_owners(last)[0])  # of a list of serials only: "T1" is a serial, "Total" is none
    word = next((cell.strip().rstrip(": ") for cell in cells if cell.strip()), "")
    if may_be_serial and not (word.isalpha() and len(word) > 1):
        return block, ""
    if (block.keys["problem"][-1].as_py() not in _PROBLEMS and not may_be_serial) or not is_trailer(cells):
        return block, ""
    return _without_last_row(block), printable_excerpt(" ".join(cell for cell in cells if cell.strip()))


def _without_last_row(block: RowBlock) -> RowBlock | None:
    """Return the block without its last row; None if it has no other row."""
    rows = block.keys.num_rows - 1
    return RowBlock(block.file, block.keys.slice(0, rows), block.cells.slice(0, rows)) if rows else None


def is_trailer(cells: Sequence[str]) -> bool:
    """Return whether a row is obviously a trailer, such as `Total;2;` or `T1,63`."""
    texts = [cell.strip() for cell in cells if cell.strip()]
    return (
        bool(texts)
        and _WORD.fullmatch(texts[0].rstrip(": ")) is not None
        and all(_AMOUNT.fullmatch(text) for text in texts[1:])
    )
