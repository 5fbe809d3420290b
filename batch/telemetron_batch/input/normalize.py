"""Normalize cells: remove outer white space, invisible characters, wrappings and guards; and add guards.

Nearly all cells need nothing of this, which their bytes show; only the others are processed.
"""

import re
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags
from telemetron_batch.domain.printable import IGNORABLE
from telemetron_batch.input.cell_bytes import CellBytes, byte_in

# Soft hyphen, zero-width spaces and joiners, marks of writing direction, BOM.
INVISIBLE: Final = "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
SPACE: Final = " \t\n\v\f\r\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
ALL_INVISIBLE: Final = rf"\p{{Cf}}{IGNORABLE}"
"""Invisible characters, for a character class of a pattern: category Cf and Default_Ignorable_Code_Point."""
_OUTER: Final = f"^[{SPACE}{INVISIBLE}]+|[{SPACE}{INVISIBLE}]+$"
_BLANK: Final = re.compile(f"[{SPACE}{INVISIBLE}]*")
_FORMULA_STARTS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20\\x00\t\r\n"
FORMULA: Final = f"^'*[{SPACE}{ALL_INVISIBLE}]*[{_FORMULA_STARTS}]"
"""Beginning of a cell that a spreadsheet may run as a formula, also after apostrophes."""
_ESCAPED_PREFIXES: Final = f"^'({FORMULA.removeprefix('^')})"
FORMULA_BYTES: Final = b"=+-@' \t\n\v\f\r\0\xc2\xcd\xd8\xdb\xdc\xe0\xe1\xe2\xe3\xef\xf0\xf3"
"""The bytes with which such a cell may begin."""
_WRAPPED: Final = '^="((?:[^"]|"")*)"$'
_APOSTROPHES: Final = "^'((?s:.*))'$"
_TEXT_MARK: Final = "^'+([0-9])"
_PLAIN_NUMBER: Final = r"^[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?$"
_LONGEST_WRAPPED: Final = 512
"""Most characters of a cell that is unwrapped; that is twice the length of any identifier."""


def normalize_fast(texts: pa.Array) -> tuple[pa.Array, Flags]:
    """Return what `normalize` returns, and which cells are unusual.

    A cell is unusual if, without outer ASCII white space, it is not printable ASCII without spaces,
    or begins as a guard or a wrapping does. Much faster than `normalize` if few cells are.
    """
    unusual = _needs_normalizing(texts)
    if unusual.any():
        texts = pc.ascii_trim_whitespace(texts)  # enough for nearly all of them
        unusual = _needs_normalizing(texts)
    if unusual.any():
        mask = pa.array(unusual)
        texts = pc.replace_with_mask(texts, mask, normalize(texts.filter(mask)))
    return texts, unusual


def to_lower(texts: pa.Array) -> pa.Array:
    """Return cells with their ASCII letters in lower case."""
    return pc.ascii_lower(texts)


def normalize(texts: pa.Array) -> pa.Array:
    """Return cells without outer white space and invisible characters, `="..."` and apostrophes around them.

    One `'` before a formula is removed: this program writes it as a guard. A normalized
    cell that is written with a guard and read again comes back unchanged.
    """
    texts = unguarded(pc.replace_substring_regex(texts, _OUTER, ""))
    wrapped = pc.less_equal(pc.utf8_length(texts), _LONGEST_WRAPPED)
    while pc.any(wrapped).as_py():  # ends, because a cell that changes gets shorter
        before = texts.filter(wrapped)
        bare = _unwrapped(before)
        texts = pc.replace_with_mask(texts, wrapped, bare)
        wrapped = pc.replace_with_mask(wrapped, wrapped, pc.not_equal(bare, before))
    return texts


def unguarded(texts: pa.Array) -> pa.Array:
    """Return cells as they were before `guarded`."""
    return pc.replace_substring_regex(texts, _ESCAPED_PREFIXES, r"\1")


def guarded(texts: pa.Array) -> pa.Array:
    """Return cells with an apostrophe before any text that a spreadsheet may run, or that looks guarded already."""
    is_formula = pc.match_substring_regex(texts, FORMULA)
    is_formula = pc.and_not(is_formula, pc.match_substring_regex(texts, _PLAIN_NUMBER))
    return pc.if_else(is_formula, pc.binary_join_element_wise("'", texts, ""), texts)


def guard_apostrophes(texts: pa.Array) -> pa.Array:
    """Return cells with an apostrophe before any text that looks guarded already; formulas stay as they are.

    `unguarded` reverses this, too.
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


def apply_to_text(rule: Callable[[pa.Array], pa.Array], text: str) -> str:
    """Apply a rule for columns to a single text."""
    result: str = rule(pa.array([text]))[0].as_py()
    return result


def is_blank(cell: str) -> bool:
    """Return whether a cell is empty, or contains only white space and invisible characters."""
    return _BLANK.fullmatch(cell) is not None


def _needs_normalizing(texts: pa.Array) -> Flags:
    """Return which cells are not printable ASCII without spaces, or begin as a guard or a wrapping does."""
    octets = CellBytes(texts)
    flags = byte_in(octets.first, b"'=")
    if octets.data.min(initial=0x7E) < 0x21 or octets.data.max(initial=0x21) > 0x7E:
        flags |= octets.cells_with(octets.data - np.uint8(0x21) > 0x7E - 0x21)  # a byte below 0x21 wraps around
    return flags
