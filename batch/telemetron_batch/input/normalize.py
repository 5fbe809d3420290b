"""What stands around the text of a cell: white space, invisible signs, a wrapping, a guard; and the cell without it.

Nearly all cells of a column have nothing of it, which is plain to see in their bytes; only the others are
looked at closely. Knows no column and judges nothing.
"""

import re
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.printable import IGNORABLE
from telemetron_batch.input.cell_bytes import CellBytes, Flags, byte_in

# Invisible signs: soft hyphen, zero-width spaces and joiners, marks of writing direction, BOM.
INVISIBLE: Final = "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
SPACE: Final = " \t\n\v\f\r\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
UNSEEN: Final = rf"\p{{Cf}}{IGNORABLE}"
"""Characters that are drawn as nothing, for a class of a pattern: category Cf and Default_Ignorable_Code_Point."""
_OUTER: Final = f"^[{SPACE}{INVISIBLE}]+|[{SPACE}{INVISIBLE}]+$"
_BLANK: Final = re.compile(f"[{SPACE}{INVISIBLE}]*")
_SIGNS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20\\x00\t\r\n"
FORMULA: Final = f"^'*[{SPACE}{UNSEEN}]*[{_SIGNS}]"
"""How a cell begins that a spreadsheet might run, or a cell that begins with apostrophes before such a sign."""
_ESCAPED_PREFIXES: Final = f"^'({FORMULA.removeprefix('^')})"
FORMULA_BYTES: Final = b"=+-@' \t\n\v\f\r\0\xc2\xcd\xd8\xdb\xdc\xe0\xe1\xe2\xe3\xef\xf0\xf3"
"""The bytes with which such a cell can begin."""
_WRAPPED: Final = '^="((?:[^"]|"")*)"$'
_APOSTROPHES: Final = "^'((?s:.*))'$"
_TEXT_MARK: Final = "^'+([0-9])"
_PLAIN_NUMBER: Final = r"^[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?$"
_LONGEST_WRAPPED: Final = 512
"""Characters of a cell from which wrappings are taken off; a longer one is twice as long as any identifier."""


def normalize_fast(texts: pa.Array) -> tuple[pa.Array, Flags]:
    """What `normalize` gives, and which cells were written in other than printable ASCII, padded at most.

    For a column of which nearly all cells are plain: it costs a fraction then.
    """
    odd = _needs_normalizing(texts)
    if odd.any():
        texts = pc.ascii_trim_whitespace(texts)  # that, and nothing more, is what nearly all of them need
        odd = _needs_normalizing(texts)
    if odd.any():
        mask = pa.array(odd)
        texts = pc.replace_with_mask(texts, mask, normalize(texts.filter(mask)))
    return texts, odd


def to_lower(texts: pa.Array) -> pa.Array:
    """Cells with the letters of ASCII made small."""
    return pc.ascii_lower(texts)


def normalize(texts: pa.Array) -> pa.Array:
    """Cells without outer white space and invisible signs, `="..."` and apostrophes around unwrapped.

    One `'` before what a spreadsheet would run is our own output's guard, and goes. What is
    left of any cell comes back as it is from a cell that holds it guarded.
    """
    texts = unguarded(pc.replace_substring_regex(texts, _OUTER, ""))
    wrapped = pc.less_equal(pc.utf8_length(texts), _LONGEST_WRAPPED)
    while pc.any(wrapped).as_py():  # each time around a cell gets shorter, or it is done
        before = texts.filter(wrapped)
        bare = _unwrapped(before)
        texts = pc.replace_with_mask(texts, wrapped, bare)
        wrapped = pc.replace_with_mask(wrapped, wrapped, pc.not_equal(bare, before))
    return texts


def unguarded(texts: pa.Array) -> pa.Array:
    """Cells as they were before `guarded`."""
    return pc.replace_substring_regex(texts, _ESCAPED_PREFIXES, r"\1")


def guarded(texts: pa.Array) -> pa.Array:
    """Cells with one apostrophe before whatever a spreadsheet might run, and before a cell that begins as guarded."""
    runs = pc.match_substring_regex(texts, FORMULA)
    runs = pc.and_not(runs, pc.match_substring_regex(texts, _PLAIN_NUMBER))
    return pc.if_else(runs, pc.binary_join_element_wise("'", texts, ""), texts)


def escaped(texts: pa.Array) -> pa.Array:
    """Cells with one apostrophe more where they begin as guarded ones do, formulas as they are.

    `unguarded` gives these back as they were, too.
    """
    return pc.replace_substring_regex(texts, _ESCAPED_PREFIXES, r"'\0")


def _unwrapped(texts: pa.Array) -> pa.Array:
    texts = pc.replace_substring_regex(texts, _OUTER, "")
    texts = pc.replace_substring_regex(texts, _APOSTROPHES, r"\1")
    texts = pc.replace_substring_regex(texts, _TEXT_MARK, r"\1")
    wrapped = pc.match_substring_regex(texts, _WRAPPED)
    if not pc.any(wrapped).as_py():
        return texts
    inner = pc.replace_substring(pc.utf8_slice_codeunits(texts.filter(wrapped), 2, -1), '""', '"')
    return pc.replace_with_mask(texts, wrapped, inner)


def of_text(rule: Callable[[pa.Array], pa.Array], text: str) -> str:
    """Return what a rule for columns makes of one text."""
    made: str = rule(pa.array([text]))[0].as_py()
    return made


def is_blank(cell: str) -> bool:
    """Is there nothing in this cell, or only what trimming takes away?"""
    return _BLANK.fullmatch(cell) is not None


def _needs_normalizing(texts: pa.Array) -> Flags:
    """Which cells are not plain printable ASCII without spaces, or begin as a guard or a wrapping does?"""
    octets = CellBytes(texts)
    odd = byte_in(octets.first, b"'=")
    if octets.data.min(initial=0x7E) < 0x21 or octets.data.max(initial=0x21) > 0x7E:
        odd |= octets.cells_with(octets.data - np.uint8(0x21) > 0x7E - 0x21)  # wraps around for what is below
    return odd
