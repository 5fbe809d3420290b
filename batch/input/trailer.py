"""The row that closes a file, a trailer such as `Total;2;` or `T1,63`: it says how many rows there are, and is none.

An export that is said to have one must end with it, for without it the file may have been cut short. Of any
other file a last row that is plainly a trailer is a row not to be sent, with that said of it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from batch.errors import InputError
from batch.input.cells import shown
from batch.model import Problem
from batch.rows import KEY_SCHEMA, RowBlock

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
    told: str
    """What is said of it to people."""


def without_trailer(block: RowBlock | None, closing: Sequence[str], pattern: str) -> tuple[RowBlock | None, Trailer]:
    """The last rows of a file without the very last, which must be the trailer; None where it was their only one.

    `closing` is the text of that row, in each form that the pattern may describe.
    Raises InputError where it is no trailer: the file may have been cut short.
    """
    found = next(filter(None, (re.search(pattern, text) for text in closing)), None)
    if block is None or found is None:
        last = f'"{shown(closing[0])}"' if closing else "nothing"
        raise InputError(
            f"no trailer as --trailer-count describes it: the last line is {last}",
            "look whether the export is complete; a file that has no trailer is read with --trailer-count ''",
        )
    number = re.sub(r"[\s.,']", "", found[1] or "")
    if not re.fullmatch("[0-9]{1,18}", number):
        raise InputError(
            f'the trailer "{shown(closing[0])}" has "{shown(found[1] or "")}" for the number of rows',
            "correct the pattern of --trailer-count",
        )
    rows = block.keys.num_rows - 1
    line = block.keys["line"][rows].as_py()
    told = f'"{shown(closing[0])}" on line {line} is taken as the trailer, no row; it says {number} rows'
    rest = RowBlock(block.file, block.keys.slice(0, rows), block.cells.slice(0, rows)) if rows else None
    return rest, Trailer(int(number), told)


def plain_trailer_told(block: RowBlock) -> RowBlock:
    """The last rows of a file; if the very last is plainly a trailer, with that said of it."""
    last = block.keys.slice(block.keys.num_rows - 1)
    cells = [column[-1].as_py() for column in block.cells.columns]
    if last["problem"][0].as_py() not in _PROBLEMS or not is_trailer(cells):
        return block
    row = last.to_pylist()[0]
    text = shown(" ".join(cell for cell in cells if cell.strip()))
    fault = f": {row['detail']}" if row["problem"] == Problem.CELLS else ""
    row |= {
        "problem": Problem.TRAILER,
        "detail": f'"{text}" on the last line closes the file and is no row; leave it out{fault}',
    }
    trailer = pa.RecordBatch.from_pylist([row], schema=KEY_SCHEMA)
    keys = pa.concat_batches([block.keys.slice(0, block.keys.num_rows - 1), trailer])
    return RowBlock(block.file, keys, block.cells)


def is_trailer(cells: Sequence[str]) -> bool:
    """Is this plainly a closing line such as `Total;2;` or `T1,63`?"""
    texts = [cell.strip() for cell in cells if cell.strip()]
    return (
        bool(texts)
        and _WORD.fullmatch(texts[0].rstrip(": ")) is not None
        and all(_AMOUNT.fullmatch(text) for text in texts[1:])
    )
