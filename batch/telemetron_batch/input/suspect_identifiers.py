"""Find characters in identifiers that do not belong there: from scanners, labels, word processors and decoders.

Also finds cells with several identifiers, and placeholders. Compares with the other serials of the file; repairs
nothing.
"""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags
from telemetron_batch.domain.look_alikes import OTHER_LETTERS
from telemetron_batch.input.cell_bytes import CellBytes, byte_in
from telemetron_batch.input.flags import flags_of, matching
from telemetron_batch.input.serials import SerialStatistics, shapes_of

UNUSUAL_SPACE: Final = "[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
"""White space other than the blank."""
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
"""Patterns that are wrong regardless of the other serials, by the reason."""
_THOUSANDS: Final = "^[0-9]{1,3}(?:[.,' \u2019][0-9]{3})+$"
_PLAIN: Final = "^[0-9]+$"
_OTHER_SCRIPTS: Final = {
    "letters of another script": OTHER_LETTERS,
    "full-width letters or digits": "[\uff01-\uff5e]",
    "digits of another script": "[^\\P{Nd}0-9\uff10-\uff19]",
}
_DASHES: Final = "[\u2010-\u2015\u2043\u2212]"
_ASCII_LETTER: Final = "[A-Za-z]"
_USUAL_FRACTION: Final = 0.5


def have_misplaced_characters(texts: pa.Array, serial_statistics: SerialStatistics) -> Flags:
    """Return which identifiers contain characters that do not belong there."""
    flags = np.zeros(len(texts), np.bool_)
    for pattern in _ALWAYS.values():
        flags |= matching(texts, pattern)
    thousands = matching(texts, _THOUSANDS)
    if thousands.any() and 0 < serial_statistics.fraction_matching(_PLAIN) >= serial_statistics.fraction_matching(
        _THOUSANDS
    ):
        flags |= thousands
    is_non_ascii = ~flags_of(pc.string_is_ascii(texts))
    if is_non_ascii.any():
        flags[is_non_ascii] |= _have_other_scripts(texts.filter(pa.array(is_non_ascii)), serial_statistics)
    return flags


def reason_of(text: str) -> str:
    """Return the reason why characters of an identifier are misplaced, as text."""
    always = (name for name, pattern in _ALWAYS.items() if re.search(pattern, text))
    return next(always, "thousands separators" if text.isascii() else "characters that only look like the usual ones")


def may_have_misplaced_characters(octets: CellBytes) -> Flags:
    """Return which identifiers in printable ASCII may have misplaced characters, by single bytes."""
    first = octets.first
    likely: Flags = byte_in(first, b'"`]*(') | (byte_in(first, b"=+-@") & (octets.last == ord("'")))
    labelled = byte_in(first, b"sSiImM")
    if labelled.any():
        likely |= labelled & byte_in(octets.at(2), b":#= nNrReEcC")
    number = (first >= ord("0")) & (first <= ord("9")) & (octets.lengths > len("1.23"))
    if number.any():
        likely |= number & byte_in(octets.from_end(4), b".,'")
    return likely


def _have_other_scripts(texts: pa.Array, serial_statistics: SerialStatistics) -> Flags:
    """Return which of these texts, none of them ASCII, contain look-alikes that the other serials do not have."""
    flags = np.zeros(len(texts), np.bool_)
    mixed = matching(texts, _ASCII_LETTER)
    for pattern in _OTHER_SCRIPTS.values():
        found = matching(texts, pattern)
        if found.any():
            flags |= found & (mixed | (serial_statistics.fraction_matching(pattern) <= _USUAL_FRACTION))
    dashed = matching(texts, _DASHES)
    if dashed.any() and serial_statistics.fraction_matching(_DASHES) < 1:
        flags |= dashed
    return flags


# Several identifiers in one cell

SEPARATORS: Final = ",;/|+\n"
_ALWAYS_SEPARATE: Final = ",;|\n"
_SPLITS: Final = {",": ",", ";": ";", "/": "/", "|": r"\|", "+": r"\+", "\n": r"[\r\n]+", " ": r"\s+"}
_BLANK_BETWEEN: Final = r"[^\s,;/|+]\s+[^\s,;/|+]"
"""White space that is not next to a separator."""
_SHORTEST: Final = 3
_MAC: Final = "^[0-9a-fA-F]{2,4}(?:[ .:-][0-9a-fA-F]{2,4}){2,7}$"


def have_several_identifiers(texts: pa.Array, serial_statistics: SerialStatistics) -> Flags:
    """Return which cells contain several identifiers, all of one shape.

    A character that may also be part of an identifier separates only parts that look like
    other serials of the file (same shape, and no shorter), or that differ from each other
    only in their digits.
    """
    flags = np.zeros(len(texts), np.bool_)
    for separator, pattern in _SPLITS.items():
        rows = np.flatnonzero(matching(texts, pattern) & ~flags)
        if not len(rows) or not _separates(separator, pattern, serial_statistics):
            continue
        some = texts.take(pa.array(rows))
        known = None if separator in _ALWAYS_SEPARATE else serial_statistics
        flags[rows] = _parts_are_alike(some, pattern, known) & ~matching(some, _MAC)
    return flags


def may_have_several_identifiers(octets: CellBytes) -> Flags:
    """Return which cells without white space may contain several identifiers."""
    content = octets.data.tobytes()
    found = [separator for separator in SEPARATORS.encode() if separator in content]
    return octets.cells_with(byte_in(octets.data, bytes(found)) if found else np.zeros(len(octets.data), np.bool_))


def _separates(separator: str, pattern: str, serial_statistics: SerialStatistics) -> bool:
    """Return whether a character stands between identifiers, rather than inside each of them."""
    between = _BLANK_BETWEEN if separator == " " else pattern
    return separator in _ALWAYS_SEPARATE or serial_statistics.fraction_matching(between) <= _USUAL_FRACTION


def _parts_are_alike(texts: pa.Array, pattern: str, serial_statistics: SerialStatistics | None) -> Flags:
    """Return which texts split into several parts of one shape.

    With `serial_statistics`, other serials must have that shape, too.
    Parts that differ only in their digits (`SR3 SR4`) are always alike.
    """
    lists = pc.split_pattern_regex(texts, pattern)
    text = pc.list_parent_indices(lists).to_numpy()
    parts = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    filled = flags_of(pc.not_equal(parts, ""))
    text, parts = text[filled], parts.filter(pa.array(filled))
    like_serial = flags_of(pc.greater_equal(pc.utf8_length(parts), _SHORTEST)) & matching(parts, "[0-9]")
    shapes = shapes_of(parts)
    known = (
        like_serial if serial_statistics is None else like_serial & _are_long_enough(parts, shapes, serial_statistics)
    )
    alike = _all_of_one_shape(shapes, text, known, len(texts))
    if serial_statistics is not None:
        without_digits = pc.replace_substring_regex(parts, "[0-9]+", "9")
        with_letters = like_serial & matching(parts, _ASCII_LETTER)
        alike |= _all_of_one_shape(without_digits, text, with_letters, len(texts))
    return alike & (np.bincount(text, minlength=len(texts)) > 1)


def _all_of_one_shape(shapes: pa.Array, text: npt.NDArray[np.int64], accepted: Flags, count: int) -> Flags:
    """Return which of `count` texts have only accepted parts, all of one shape; `text` is the text of each part."""
    codes = shapes.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first_parts = np.searchsorted(text, text)
    flags = np.ones(count, np.bool_)
    flags[text[~accepted | (codes != codes[first_parts])]] = False
    return flags


def _are_long_enough(parts: pa.Array, shapes: pa.Array, serial_statistics: SerialStatistics) -> Flags:
    """Return which parts are at least as long as the shortest serial of their shape."""
    known = serial_statistics.shortest
    shortest = known["length_min"].combine_chunks().take(pc.index_in(shapes, known["shape"]))
    return flags_of(pc.fill_null(pc.greater_equal(pc.utf8_length(parts), shortest), fill_value=False))


# Placeholders

_NAMES: Final = (
    "to be filled by o.e.m.", "to be filled by oem", "default string", "system serial number", "chassis serial number",
    "base board serial number", "serial number", "not specified", "not available", "not applicable", "no serial",
    "no serial number", "n/a", "na", "n.a.", "#n/a", "null", "(null)", "<null>", "\\n", "none", "nil", "unknown",
    "unbekannt", "undefined", "invalid", "empty", "(empty)", "blank", "tbd", "tba", "test", "dummy", "placeholder",
    "123456789", "1234567890", "0123456789", "o.e.m.", "oem",
)  # fmt: skip
_REPEATED: Final = "^(?:0+|1{6,}|9{6,}|[xX]{3,}|-+|\\?+|\\.+|_+)$"
_FIRST_AND_LAST: Final = np.zeros(1 << 16, np.bool_)
"""Flags by first and last byte, each with `_CASE_BIT`: whether a placeholder may begin and end so."""
_CASE_BIT: Final = 0x20
"""Set in small letters and not in capitals."""
for _name in (*_NAMES, "00", "11", "99", "xx", "--", "??", "..", "__"):
    _FIRST_AND_LAST[(ord(_name[0]) | _CASE_BIT) << 8 | ord(_name[-1]) | _CASE_BIT] = True


def placeholders(texts: pa.Array) -> Flags:
    """Return which identifiers are names that many devices share, such as `Default string` or `0000000`."""
    octets = CellBytes(texts)
    first, last = octets.first | _CASE_BIT, octets.last | _CASE_BIT
    flags: Flags = _FIRST_AND_LAST.take(first.astype(np.uint16) << 8 | last)
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
        """Count the placeholders among these serials."""
        rows = np.flatnonzero(placeholders(serials) & valid)
        if len(rows) and not self._count:
            self._first = int(lines[rows[0]]), serials[int(rows[0])].as_py()
        self._count += len(rows)

    def warnings(self) -> Iterator[str]:
        """Yield one sentence if there are any."""
        if self._count:
            line, text = self._first
            rows = "row has" if self._count == 1 else "rows have"
            yield (
                f"{self._count} {rows} a placeholder as identifier, as devices without a serial have "
                f'(first "{text}" on line {line}); it may stand for another device: correct it in the source'
            )
