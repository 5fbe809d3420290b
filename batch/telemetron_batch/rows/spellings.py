"""One identifier in several spellings: MAC addresses, and texts that differ only in signs that look alike.

`forms_of` is a cheap first look that shows whether a file can have one identifier in
several spellings at all; `respelt` then gives the spelling by which they are compared.
Identifiers of plain ASCII that are no MAC addresses have one spelling: their own.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.printable import IGNORABLE, without_unprintable

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]

_SEPARATORS: Final = {12: (), 13: (6,), 14: (4, 9), 17: (2, 5, 8, 11, 14)}
"""Length of a MAC address in bytes to the places of its separators."""
_HEX: Final = np.isin(np.arange(256), [*b"0123456789abcdefABCDEF"])
_SEPARATOR: Final = np.isin(np.arange(256), [*b":-. "])
_PAIRS: Final = "|".join(f"[0-9a-fA-F]{{2}}(?:{sign}[0-9a-fA-F]{{2}}){{5}}" for sign in (":", "-", r"\.", " "))
_FOURS: Final = "|".join(f"[0-9a-fA-F]{{4}}(?:{sign}[0-9a-fA-F]{{4}}){{2}}" for sign in (":", "-", r"\.", " "))
_MAC: Final = f"^(?:{_PAIRS}|{_FOURS}|[0-9a-fA-F]{{6}}[:\\-. ]?[0-9a-fA-F]{{6}})$"
_DASHES: Final = "[\u2010-\u2015\u2043\u2212]"
"""What looks like a hyphen, once the text is NFKC."""
_UNSEEN: Final = rf"[\p{{Cf}}{IGNORABLE}]"

_Layout: TypeAlias = tuple[int, int]
"""Length and separator, 0 for none."""


@dataclass(frozen=True, slots=True)
class Forms:
    """In which forms identifiers are written that could have others; may name forms that do not occur.

    layouts   lengths and separators of what looks like MAC addresses
    is_lower, is_upper   whether there are small or capital letters among their digits
    is_foreign   whether there are texts of other than ASCII
    """

    layouts: frozenset[_Layout] = frozenset()
    is_lower: bool = False
    is_upper: bool = False
    is_foreign: bool = False

    def __or__(self, other: "Forms") -> "Forms":
        """Those of both."""
        return Forms(
            self.layouts | other.layouts,
            self.is_lower | other.is_lower,
            self.is_upper | other.is_upper,
            self.is_foreign | other.is_foreign,
        )

    @property
    def any(self) -> bool:
        """Whether any identifier could have other spellings."""
        return self.is_foreign or bool(self.layouts)

    @property
    def are_several(self) -> bool:
        """Whether one identifier may have been written in several spellings."""
        return self.is_foreign or len(self.layouts) > 1 or (self.is_lower and self.is_upper)


@dataclass(frozen=True, slots=True)
class Respelt:
    """The texts that are no plain identifiers, and the spelling by which each is compared.

    places     of these texts in the column
    spelling   twelve capital digits for a MAC address; else NFKC, with plain hyphens and nothing invisible
    is_mac     which of them are MAC addresses
    """

    places: Ints
    spelling: pa.Array
    is_mac: Flags


def forms_of(texts: pa.Array) -> Forms:
    """Return in which forms the identifiers of a string column are written. Cheap."""
    starts, lengths, octets = _octets(texts)
    forms = Forms(is_foreign=bool(octets.max(initial=0) >= 0x80))
    for length in _SEPARATORS:
        cells = _likely(starts[lengths == length], length, octets)
        if len(cells):
            forms |= _forms_of_cells(cells, _SEPARATORS[length])
    return forms


def respelt(texts: pa.Array) -> Respelt:
    """Return the texts that may have other spellings, and for each the one by which they are compared."""
    plain = pc.string_is_ascii(texts)
    lengths = pc.binary_length(texts)
    likely = pc.or_(pc.invert(plain), pc.is_in(lengths, pa.array([*_SEPARATORS], lengths.type)))
    places = np.flatnonzero(likely.to_numpy(zero_copy_only=False))
    some, is_foreign = texts.filter(likely), pc.invert(plain.filter(likely))
    if pc.any(is_foreign).as_py():
        some = pc.replace_with_mask(some, is_foreign, _without_lookalikes(some.filter(is_foreign)))
    mac = pc.match_substring_regex(some, _MAC)
    digits = pc.ascii_upper(pc.replace_substring_regex(some.filter(mac), "[:. -]", ""))
    spelling = pc.replace_with_mask(some, mac, digits)
    chosen = pc.or_(mac, is_foreign)
    flags = chosen.to_numpy(zero_copy_only=False)
    return Respelt(places[flags], spelling.filter(chosen), mac.to_numpy(zero_copy_only=False)[flags])


def _without_lookalikes(texts: pa.Array) -> pa.Array:
    texts = pc.replace_substring_regex(pc.utf8_normalize(texts, "NFKC"), _UNSEEN, "")
    return pc.replace_substring_regex(texts, _DASHES, "-")


def _octets(texts: pa.Array) -> tuple[Ints, Ints, Bytes]:
    """Where each text begins, its bytes, and the bytes of all."""
    if not len(texts):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8)
    _, offsets, content = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    octets = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    octets = octets[bounds[0] : bounds[-1]]
    starts = (bounds[:-1] - bounds[0]).astype(np.int64)
    return starts, np.diff(bounds), octets


def _likely(starts: Ints, length: int, octets: Bytes) -> Bytes:
    """Texts of one length, a row of bytes each: those with a hexadecimal digit at both ends."""
    if len(starts) * length == len(octets):  # all of the column
        cells = octets.reshape(-1, length)
        ends = _HEX[cells[:, 0]]
        if ends.any():
            ends &= _HEX[cells[:, -1]]
        return cells if ends.all() else cells[ends]
    for place in (0, length - 1):
        starts = starts[_HEX[octets[starts + place]]]
    found: Bytes = octets[starts[:, None] + np.arange(length)]
    return found


def _forms_of_cells(cells: Bytes, places: tuple[int, ...]) -> Forms:
    """The forms of texts of one length, which have separators at these places if they are MAC addresses."""
    separators = [0]
    if places:
        sign = cells[:, places[0]]
        likely = _SEPARATOR[sign] & (sign == cells[:, places[-1]])
        cells = cells if likely.all() else cells[likely]
        separators = np.flatnonzero(np.bincount(cells[:, places[0]])).tolist()
    has_lower, has_upper = _cases(cells)
    if has_lower and has_upper:  # perhaps in texts that are no MAC addresses
        digits = np.delete(cells, places, axis=1)
        cells = cells[_HEX[digits].all(axis=1)]
        has_lower, has_upper = _cases(cells)
    layouts = frozenset((cells.shape[1], separator) for separator in separators if len(cells))
    return Forms(layouts, is_lower=has_lower, is_upper=has_upper)


def _cases(cells: Bytes) -> tuple[bool, bool]:
    """Whether there are small and capital letters among what could be digits."""
    return bool((cells - np.uint8(ord("a")) < 6).any()), bool((cells - np.uint8(ord("A")) < 6).any())


def readings_of(text: str) -> list[str]:
    """Return what a damaged identifier may stand for: without signs of a formula, or with its exponent written out."""
    plain = without_unprintable(text)
    found = {plain, plain.strip("=+@'\" "), *re.findall(r'"([^"]+)"', plain)}
    if re.fullmatch(r"[0-9](\.[0-9]{1,30})?[eE]\+?[0-9]{1,2}", plain):
        found.add(f"{Decimal(plain):f}")
    return sorted(found - {text, ""})
