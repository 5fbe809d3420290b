"""Columns of texts as the rows of a workbook's sheet, in the sheet's own XML; a column at a time.

Every cell is text and stays what it was: nothing becomes a number, a date, a link or a
formula. What a sheet cannot hold is escaped as its format has it, what is too long is
cut and says so. Knows nothing of files, and not what a column means.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LONGEST: Final = 32_767
"""What one cell of a sheet can hold, in UTF-16 units."""

_MARKUP: Final = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))
_TO_ESCAPE: Final = r"[\x00-\x08\x0b-\x1f\x{FFFE}\x{FFFF}]|_x[0-9A-Fa-f]{4}"
"""In RE2's words. A text that looks like an escape would be read as one, so its first sign is escaped too."""
_ESCAPED: Final = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4})")
_OUTER_SPACE: Final = r"^\s|\s$"


def rows_xml(columns: Sequence[pa.Array], names: Sequence[str], styles: Sequence[pa.Array], first: int) -> memoryview:
    """Some rows of a sheet, the first of them with the number `first` (from 1).

    columns   string columns without nulls, none of whose cells is too long; empty cells are left out
    names     the columns' letters: A, B, ...
    styles    for each column a string scalar or column: the number of the cell's style
    """
    numbers = pc.cast(pa.array(np.arange(first, first + len(columns[0]))), pa.string())
    cells = [_cells(column, name, style, numbers) for column, name, style in zip(columns, names, styles, strict=True)]
    rows = pc.binary_join_element_wise('<row r="', numbers, '">', *cells, "</row>", "")
    _, offsets, text = rows.buffers()
    ends = np.frombuffer(offsets, np.int32)
    return memoryview(text)[ends[rows.offset] : ends[rows.offset + len(rows)]]


def fitting(column: pa.Array) -> tuple[pa.Array, int]:
    """The column with what is too long for a cell cut, which the cell then says; and how many were."""
    long = pc.greater(pc.binary_length(column), LONGEST)  # bytes are never fewer than UTF-16 units
    if not pc.any(long).as_py():
        return column, 0
    texts = column.filter(long).to_pylist()
    cut = [_cut(text) for text in texts]
    number = sum(one is not text for one, text in zip(cut, texts, strict=True))
    return pc.replace_with_mask(column, long, pa.array(cut, pa.string())), number


def _cells(column: pa.Array, name: str, style: pa.Array, numbers: pa.Array) -> pa.Array:
    spaced = pc.any(pc.match_substring_regex(column, _OUTER_SPACE)).as_py()
    opening = '" t="inlineStr"><is><t xml:space="preserve">' if spaced else '" t="inlineStr"><is><t>'
    written = pc.binary_join_element_wise(
        f'<c r="{name}', numbers, '" s="', style, opening, _escaped(column), "</t></is></c>", ""
    )
    return pc.if_else(pc.equal(column, ""), "", written)


def _escaped(column: pa.Array) -> pa.Array:
    odd = pc.match_substring_regex(column, _TO_ESCAPE)
    if pc.any(odd).as_py():
        texts = [_ESCAPED.sub(_escape, text) for text in column.filter(odd).to_pylist()]
        column = pc.replace_with_mask(column, odd, pa.array(texts, pa.string()))
    for sign, instead in _MARKUP:
        if pc.any(pc.match_substring(column, sign)).as_py():
            column = pc.replace_substring(column, sign, instead)
    return column


def _escape(sign: re.Match[str]) -> str:
    return f"_x{ord(sign[0]):04X}_"


def _cut(text: str) -> str:
    units = text.encode("utf-16-le")
    if len(units) <= 2 * LONGEST:
        return text
    sign = f" [cut: {len(text):,} characters, all of them in reconciliation.csv]"
    return units[: 2 * (LONGEST - len(sign))].decode("utf-16-le", "ignore") + sign
