"""Several spellings of one identifier: MAC addresses, and texts that differ only in look-alike characters.

`forms_of` is a cheap check whether a file can contain one identifier in several spellings at all. `find_variants`
returns the normalized spellings that are compared. An ASCII identifier that is no MAC address has only one
spelling.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags, Ints, Octets
from telemetron_batch.domain.printable import IGNORABLE, without_unprintable

_SEPARATORS: Final = {12: (), 13: (6,), 14: (4, 9), 17: (2, 5, 8, 11, 14)}
"""Length of a MAC address in bytes to the positions of its separators."""
_HEX: Final = np.isin(np.arange(256), [*b"0123456789abcdefABCDEF"])
_SEPARATOR: Final = np.isin(np.arange(256), [*b":-. "])
_PAIRS: Final = "|".join(f"[0-9a-fA-F]{{2}}(?:{sign}[0-9a-fA-F]{{2}}){{5}}" for sign in (":", "-", r"\.", " "))
_FOURS: Final = "|".join(f"[0-9a-fA-F]{{4}}(?:{sign}[0-9a-fA-F]{{4}}){{2}}" for sign in (":", "-", r"\.", " "))
_MAC: Final = f"^(?:{_PAIRS}|{_FOURS}|[0-9a-fA-F]{{6}}[:\\-. ]?[0-9a-fA-F]{{6}})$"
_DASHES: Final = "[\u2010-\u2015\u2043\u2212]"
"""Characters that look like a hyphen after NFKC normalization."""
_INVISIBLE: Final = rf"[\p{{Cf}}{IGNORABLE}]"

_Layout: TypeAlias = tuple[int, int]
"""Length and separator (0 for none)."""


@dataclass(frozen=True, slots=True)
class SpellingForms:
    """The forms of identifiers that can have several spellings. May include forms that do not occur.

    layouts   lengths and separators of texts that look like MAC addresses
    is_lower, is_upper   whether their digits include lowercase or capital letters
    has_non_ascii   whether there are non-ASCII texts
    """

    layouts: frozenset[_Layout] = frozenset()
    is_lower: bool = False
    is_upper: bool = False
    has_non_ascii: bool = False

    def __or__(self, other: "SpellingForms") -> "SpellingForms":
        """Return the forms of both."""
        return SpellingForms(
            self.layouts | other.layouts,
            self.is_lower | other.is_lower,
            self.is_upper | other.is_upper,
            self.has_non_ascii | other.has_non_ascii,
        )

    @property
    def any(self) -> bool:
        """Whether any identifier can have several spellings."""
        return self.has_non_ascii or bool(self.layouts)

    @property
    def are_several(self) -> bool:
        """Whether one identifier may occur in several spellings."""
        return self.has_non_ascii or len(self.layouts) > 1 or (self.is_lower and self.is_upper)


@dataclass(frozen=True, slots=True)
class VariantTexts:
    """The texts of a column that can have several spellings, with their normalized spellings.

    places     positions of these texts in the column
    spelling   twelve capital digits for a MAC address; otherwise NFKC with ASCII hyphens and no invisible characters
    is_mac     whether each is a MAC address
    """

    places: Ints
    spelling: pa.Array
    is_mac: Flags


def forms_of(texts: pa.Array) -> SpellingForms:
    """Return the forms of the identifiers in a string column. Cheap."""
    starts, lengths, data = _buffers(texts)
    forms = SpellingForms(has_non_ascii=bool(data.max(initial=0) >= 0x80))
    for length in _SEPARATORS:
        cells = _mac_candidates(starts[lengths == length], length, data)
        if len(cells):
            forms |= _forms_of_cells(cells, _SEPARATORS[length])
    return forms


def find_variants(texts: pa.Array) -> VariantTexts:
    """Return the texts that can have several spellings, with their normalized spellings."""
    plain = pc.string_is_ascii(texts)
    lengths = pc.binary_length(texts)
    likely = pc.or_(pc.invert(plain), pc.is_in(lengths, pa.array([*_SEPARATORS], lengths.type)))
    places = np.flatnonzero(likely.to_numpy(zero_copy_only=False))
    some, has_non_ascii = texts.filter(likely), pc.invert(plain.filter(likely))
    if pc.any(has_non_ascii).as_py():
        some = pc.replace_with_mask(some, has_non_ascii, _without_lookalikes(some.filter(has_non_ascii)))
    mac = pc.match_substring_regex(some, _MAC)
    digits = pc.ascii_upper(pc.replace_substring_regex(some.filter(mac), "[:. -]", ""))
    spelling = pc.replace_with_mask(some, mac, digits)
    chosen = pc.or_(mac, has_non_ascii)
    flags = chosen.to_numpy(zero_copy_only=False)
    return VariantTexts(places[flags], spelling.filter(chosen), mac.to_numpy(zero_copy_only=False)[flags])


def _without_lookalikes(texts: pa.Array) -> pa.Array:
    texts = pc.replace_substring_regex(pc.utf8_normalize(texts, "NFKC"), _INVISIBLE, "")
    return pc.replace_substring_regex(texts, _DASHES, "-")


def _buffers(texts: pa.Array) -> tuple[Ints, Ints, Octets]:
    """Return the offset and length of each text, and the bytes of all texts."""
    if not len(texts):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8)
    _, offsets, content = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    data = data[bounds[0] : bounds[-1]]
    starts = (bounds[:-1] - bounds[0]).astype(np.int64)
    return starts, np.diff(bounds), data


def _mac_candidates(starts: Ints, length: int, data: Octets) -> Octets:
    """Return the bytes, one row per text, of the texts of one length that have hexadecimal digits at both ends."""
    if len(starts) * length == len(data):  # all texts of the column have this length
        cells = data.reshape(-1, length)
        ends = _HEX[cells[:, 0]]
        if ends.any():
            ends &= _HEX[cells[:, -1]]
        return cells if ends.all() else cells[ends]
    for place in (0, length - 1):
        starts = starts[_HEX[data[starts + place]]]
    found: Octets = data[starts[:, None] + np.arange(length)]
    return found


def _forms_of_cells(cells: Octets, places: tuple[int, ...]) -> SpellingForms:
    """Return the forms of texts of one length, whose separators are at these positions if they are MAC addresses."""
    separators = [0]
    if places:
        sign = cells[:, places[0]]
        likely = _SEPARATOR[sign] & (sign == cells[:, places[-1]])
        cells = cells if likely.all() else cells[likely]
        separators = np.flatnonzero(np.bincount(cells[:, places[0]])).tolist()
    has_lower, has_upper = _cases(cells)
    if has_lower and has_upper:  # perhaps only in texts that are no MAC addresses
        digits = np.delete(cells, places, axis=1)
        cells = cells[_HEX[digits].all(axis=1)]
        has_lower, has_upper = _cases(cells)
    layouts = frozenset((cells.shape[1], separator) for separator in separators if len(cells))
    return SpellingForms(layouts, is_lower=has_lower, is_upper=has_upper)


def _cases(cells: Octets) -> tuple[bool, bool]:
    """Return whether there are lowercase and capital letters that could be digits."""
    return bool((cells - np.uint8(ord("a")) < 6).any()), bool((cells - np.uint8(ord("A")) < 6).any())


def readings_of(text: str) -> list[str]:
    """Return possible original values of a damaged identifier: formula characters removed, exponent expanded."""
    plain = without_unprintable(text)
    found = {plain, plain.strip("=+@'\" "), *re.findall(r'"([^"]+)"', plain)}
    if re.fullmatch(r"[0-9](\.[0-9]{1,30})?[eE]\+?[0-9]{1,2}", plain):
        found.add(f"{Decimal(plain):f}")
    return sorted(found - {text, ""})
