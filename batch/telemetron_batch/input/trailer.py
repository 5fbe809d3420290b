"""The row that closes a file, a trailer such as `Total;2;` or `T1,63`: it says how many rows there are, and is none.

An export that is said to have one must end with it, for without it the file may have been cut short. Of any
other file a last row that is plainly a trailer is passed over, as any footer is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import Problem
from telemetron_batch.input.validation import printable_excerpt
from telemetron_batch.rows.rows import RowBlock

_WORD: Final = re.compile(
    r"(grand |sub ?)?total|sum|summe|gesamt|count|rows?|records?|lines?"
    r"|end( of file)?|eof|trailer|[tfz]\d{0,2}",
    re.IGNORECASE,
)
_AMOUNT: Final = re.compile(r"[-+]?[\d.,' ]+")
_PROBLEMS: Final = (Problem.CELLS, Problem.EMPTY_KEY, Problem.EMAIL, Problem.ACTION)
"""What a trailer looks like to whoever takes it for a row."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """One that was looked for and found."""

    rows: int
    """How many rows it says there are."""
    message: str
    """What is said of it to people."""


def split_trailer(block: RowBlock | None, closing: Sequence[str], pattern: str) -> tuple[RowBlock | None, Trailer]:
    """The last rows of a file without the very last, which must be the trailer; None where it was their only one.

    `closing` is the text of that row, in each form that the pattern may describe.
    Raises InputError where it is no trailer: the file may have been cut short.
    """
    found = next(filter(None, (re.search(pattern, text) for text in closing)), None)
    if block is None or found is None:
        last = f'"{printable_excerpt(closing[0])}"' if closing else "nothing"
        raise InputError(
            f"no trailer as --trailer-count describes it: the last line is {last}",
            "look whether the export is complete; a file that has no trailer is read with --trailer-count ''",
        )
    number = re.sub(r"[\s.,']", "", found[1] or "")
    if not re.fullmatch("[0-9]{1,18}", number):
        raise InputError(
            f'the trailer "{printable_excerpt(closing[0])}" has "{printable_excerpt(found[1] or "")}" '
            "for the number of rows",
            "correct the pattern of --trailer-count",
        )
    rows = block.keys.num_rows - 1
    line = block.keys["line"][rows].as_py()
    told = f'"{printable_excerpt(closing[0])}" on line {line} is taken as the trailer, no row; it says {number} rows'
    rest = RowBlock(block.file, block.keys.slice(0, rows), block.cells.slice(0, rows)) if rows else None
    return rest, Trailer(int(number), told)


def without_plain_trailer(block: RowBlock) -> tuple[RowBlock | None, str]:
    """Return the last rows of a file without the very last if that is plainly a trailer, and the text of that.

    None where it was their only one; no text where it is a row.
    """
    rows = block.keys.num_rows - 1
    # Of a row with too many cells `cells` has only as many as the header.
    cells = block.keys["possibleIdentifiers"][rows].as_py() or [column[-1].as_py() for column in block.cells.columns]
    if block.keys["problem"][rows].as_py() not in _PROBLEMS or not is_trailer(cells):
        return block, ""
    rest = RowBlock(block.file, block.keys.slice(0, rows), block.cells.slice(0, rows)) if rows else None
    return rest, printable_excerpt(" ".join(cell for cell in cells if cell.strip()))


def is_trailer(cells: Sequence[str]) -> bool:
    """Is this plainly a closing line such as `Total;2;` or `T1,63`?"""
    texts = [cell.strip() for cell in cells if cell.strip()]
    return (
        bool(texts)
        and _WORD.fullmatch(texts[0].rstrip(": ")) is not None
        and all(_AMOUNT.fullmatch(text) for text in texts[1:])
    )
