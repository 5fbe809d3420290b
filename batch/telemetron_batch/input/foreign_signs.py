"""Signs in a cell that do not belong to its text: what scanners, labels, word processors and decoders leave.

Looks at identifiers and at what the other identifiers of a file have; repairs nothing.
"""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.input.cell_bytes import CellBytes, byte_in
from telemetron_batch.input.flags import Flags, flags_of, matching
from telemetron_batch.input.serials import SerialProfile, shapes_of

FOREIGN_SPACE: Final = "[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
"""White space that looks like a blank and is none, or cannot be seen."""
_UTF8_TAIL: Final = (
    "[\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c"
    "\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
DECODED_TWICE: Final = f"[\u00c2-\u00df]{_UTF8_TAIL}|[\u00e0-\u00ef]{_UTF8_TAIL}{{2}}"
"""Bytes of UTF-8 read as Windows-1252 or Latin-1: `mÃ¼ller`."""

_QUOTES: Final = '["`\u00b4\u2018-\u201f\u00ab\u00bb\u2039\u203a]'
_ALWAYS: Final = {
    "quotation marks around it": f"^(?s:{_QUOTES}.*{_QUOTES}|[=+\\-@].*')$",
    "the prefix of a scanner or label": r"^(?:\][A-Za-z][0-9]|\([0-9]{2,4}\)|\*.+\*$"
    "|(?i:s/n|sn|serial ?(?:no|nr|number)?\\.?|imei|iccid|mac) ?[:#=])",
}
"""What is wrong whatever the neighbours look like, each with its pattern."""
_THOUSANDS: Final = "^[0-9]{1,3}(?:[.,' \u2019][0-9]{3})+$"
_PLAIN: Final = "^[0-9]+$"
_FOREIGN: Final = {
    "letters of another script": "[\\p{Cyrillic}\\p{Greek}\\p{Armenian}\\p{Cherokee}]",
    "full-width letters or digits": "[\uff01-\uff5e]",
    "digits of another script": "[^\\P{Nd}0-9\uff10-\uff19]",
}
_DASHES: Final = "[\u2010-\u2015\u2043\u2212]"
_ASCII_LETTER: Final = "[A-Za-z]"
_USUAL: Final = 0.5


def misplaced(texts: pa.Array, neighbours: SerialProfile) -> Flags:
    """Return which identifiers hold signs that do not belong into one."""
    flags = np.zeros(len(texts), np.bool_)
    for pattern in _ALWAYS.values():
        flags |= matching(texts, pattern)
    thousands = matching(texts, _THOUSANDS)
    if thousands.any() and 0 < neighbours.share(_PLAIN) >= neighbours.share(_THOUSANDS):
        flags |= thousands
    foreign = ~flags_of(pc.string_is_ascii(texts))
    if foreign.any():
        flags[foreign] |= _foreign(texts.filter(pa.array(foreign)), neighbours)
    return flags


def reason_of(text: str) -> str:
    """Return in words what is wrong with an identifier that is `misplaced`."""
    always = (name for name, pattern in _ALWAYS.items() if re.search(pattern, text))
    return next(always, "thousands separators" if text.isascii() else "characters that only look like the usual ones")


def may_be_misplaced(octets: CellBytes) -> Flags:
    """Return which identifiers of printable ASCII without spaces could be misplaced, by single bytes."""
    first = octets.first
    likely: Flags = byte_in(first, b'"`]*(') | (byte_in(first, b"=+-@") & (octets.last == ord("'")))
    labelled = byte_in(first, b"sSiImM")
    if labelled.any():
        likely |= labelled & byte_in(octets.at(2), b":#= nNrReEcC")
    number = (first >= ord("0")) & (first <= ord("9")) & (octets.lengths > len("1.23"))
    if number.any():
        likely |= number & byte_in(octets.from_end(4), b".,'")
    return likely


def _foreign(texts: pa.Array, neighbours: SerialProfile) -> Flags:
    """Return which of these, none of them ASCII, hold look-alikes that the neighbours do not have."""
    flags = np.zeros(len(texts), np.bool_)
    mixed = matching(texts, _ASCII_LETTER)
    for pattern in _FOREIGN.values():
        found = matching(texts, pattern)
        if found.any():
            flags |= found & (mixed | (neighbours.share(pattern) <= _USUAL))
    dashed = matching(texts, _DASHES)
    if dashed.any() and neighbours.share(_DASHES) < 1:
        flags |= dashed
    return flags


# Several identifiers in one cell

SEPARATORS: Final = ",;/|+\n"
_ALWAYS_SEPARATE: Final = ",;|\n"
_SPLITS: Final = {",": ",", ";": ";", "/": "/", "|": r"\|", "+": r"\+", "\n": r"[\r\n]+", " ": r"\s+"}
_BLANK_BETWEEN: Final = r"[^\s,;/|+]\s+[^\s,;/|+]"
"""White space that does not merely follow a separator."""
_SHORTEST: Final = 3
_MAC: Final = "^[0-9a-fA-F]{2,4}(?:[ .:-][0-9a-fA-F]{2,4}){2,7}$"


def several(texts: pa.Array, neighbours: SerialProfile) -> Flags:
    """Return which cells hold several identifiers, all of one shape.

    A sign that may as well stand within an identifier separates only parts that look like
    other identifiers of the file (of a shape that these have, and no shorter), or that
    differ from each other by their digits alone.
    """
    flags = np.zeros(len(texts), np.bool_)
    for sign, pattern in _SPLITS.items():
        rows = np.flatnonzero(matching(texts, pattern) & ~flags)
        if not len(rows) or not _separates(sign, pattern, neighbours):
            continue
        some = texts.take(pa.array(rows))
        known = None if sign in _ALWAYS_SEPARATE else neighbours
        flags[rows] = _pieces_are_alike(some, pattern, known) & ~matching(some, _MAC)
    return flags


def may_be_several(octets: CellBytes) -> Flags:
    """Return which cells without white space could hold several identifiers."""
    content = octets.data.tobytes()
    found = [sign for sign in SEPARATORS.encode() if sign in content]
    return octets.cells_with(byte_in(octets.data, bytes(found)) if found else np.zeros(len(octets.data), np.bool_))


def _separates(sign: str, pattern: str, neighbours: SerialProfile) -> bool:
    """Return whether a sign stands between identifiers, rather than in each of them."""
    standing = _BLANK_BETWEEN if sign == " " else pattern
    return sign in _ALWAYS_SEPARATE or neighbours.share(standing) <= _USUAL


def _pieces_are_alike(texts: pa.Array, pattern: str, neighbours: SerialProfile | None) -> Flags:
    """Return which texts fall into several parts of one shape, with `neighbours` of a shape known among these.

    Parts that differ by their digits alone (`SR3 SR4`) are alike whatever the neighbours look like.
    """
    parts = pc.split_pattern_regex(texts, pattern)
    owner = pc.list_parent_indices(parts).to_numpy()
    pieces = pc.utf8_trim_whitespace(pc.list_flatten(parts))
    filled = flags_of(pc.not_equal(pieces, ""))
    owner, pieces = owner[filled], pieces.filter(pa.array(filled))
    good = flags_of(pc.greater_equal(pc.utf8_length(pieces), _SHORTEST)) & matching(pieces, "[0-9]")
    shapes = shapes_of(pieces)
    known = good if neighbours is None else good & _are_as_long(pieces, shapes, neighbours)
    alike = _are_one(shapes, owner, known, len(texts))
    if neighbours is not None:
        kept = pc.replace_substring_regex(pieces, "[0-9]+", "9")
        alike |= _are_one(kept, owner, good & matching(pieces, _ASCII_LETTER), len(texts))
    return alike & (np.bincount(owner, minlength=len(texts)) > 1)


def _are_one(shapes: pa.Array, owner: npt.NDArray[np.int64], good: Flags, count: int) -> Flags:
    """Return which of `count` owners have only good pieces, all of one shape."""
    codes = shapes.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    firsts = np.searchsorted(owner, owner)
    flags = np.ones(count, np.bool_)
    flags[owner[~good | (codes != codes[firsts])]] = False
    return flags


def _are_as_long(pieces: pa.Array, shapes: pa.Array, neighbours: SerialProfile) -> Flags:
    """Return which pieces are as long as some serial of their shape, or longer."""
    known = neighbours.shortest
    shortest = known["length_min"].combine_chunks().take(pc.index_in(shapes, known["shape"]))
    return flags_of(pc.fill_null(pc.greater_equal(pc.utf8_length(pieces), shortest), fill_value=False))


# Names that stand for no serial

_NAMES: Final = (
    "to be filled by o.e.m.", "to be filled by oem", "default string", "system serial number", "chassis serial number",
    "base board serial number", "serial number", "not specified", "not available", "not applicable", "no serial",
    "no serial number", "n/a", "na", "n.a.", "#n/a", "null", "(null)", "<null>", "\\n", "none", "nil", "unknown",
    "unbekannt", "undefined", "invalid", "empty", "(empty)", "blank", "tbd", "tba", "test", "dummy", "placeholder",
    "123456789", "1234567890", "0123456789", "o.e.m.", "oem",
)  # fmt: skip
_REPEATED: Final = "^(?:0+|1{6,}|9{6,}|[xX]{3,}|-+|\\?+|\\.+|_+)$"
_ENDS: Final = np.zeros(1 << 16, np.bool_)
"""First and last byte, in small letters, of such a name."""
for _name in (*_NAMES, "00", "11", "99", "xx", "--", "??", "..", "__"):
    _ENDS[ord(_name[0]) << 8 | ord(_name[-1])] = True
_SMALL: Final = np.arange(256, dtype=np.uint16)
_SMALL[ord("A") : ord("Z") + 1] += 32


def placeholders(texts: pa.Array) -> Flags:
    """Return which identifiers are names that many devices share, such as `Default string` or `0000000`."""
    octets = CellBytes(texts)
    flags: Flags = _ENDS[_SMALL[octets.first] << 8 | _SMALL[octets.last]]
    rows = np.flatnonzero(flags)
    if len(rows):
        some = texts.take(pa.array(rows))
        known = flags_of(pc.is_in(pc.ascii_lower(some), pa.array(_NAMES)))
        flags[rows] = known | matching(some, _REPEATED)
    return flags


class Placeholders:
    """Counts the placeholders among valid serials."""

    def __init__(self) -> None:
        self._count = 0
        self._first = (0, "")

    def add(self, serials: pa.Array, lines: npt.NDArray[np.int64], valid: Flags) -> None:
        """Count those among some serials, and note the first with its line."""
        rows = np.flatnonzero(placeholders(serials) & valid)
        if len(rows) and not self._count:
            self._first = int(lines[rows[0]]), serials[int(rows[0])].as_py()
        self._count += len(rows)

    def told(self) -> Iterator[str]:
        """Return one sentence if there are any."""
        if self._count:
            line, text = self._first
            rows = "row names" if self._count == 1 else "rows name"
            yield (
                f'{self._count} {rows} a device as many devices are named that have no serial (first "{text}" on '
                f"line {line}); such rows may mean devices of others: correct them in the source"
            )
