"""Spellings of device identifiers: trimmed, ignoring case, and letters and digits alone.

The vendor says that identifiers are trimmed before they are matched, and nothing else. So two
identifiers that are equal when trimmed are the same device; two that are equal in a coarser form may
be, and may not be. Each form is coarser than the one before it: what is equal in one is equal in the
next. All functions take and return string columns without nulls.
"""

import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_KEPT: Final = bytes(chr(code).isascii() and chr(code).isalnum() for code in range(256))
"""1 for each byte that is a letter or digit."""
_OTHERS: Final = bytes(code for code in range(256) if not _KEPT[code])


def as_column(texts: Iterable[str]) -> pa.Array:
    """Return the texts as a column; half a character (a lone surrogate) becomes U+FFFD."""
    texts = [*texts]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        return pa.array([_whole(text) for text in texts], pa.string())


def trimmed(texts: pa.Array) -> pa.Array:
    """Return the identifiers without white space around them."""
    return pc.utf8_trim_whitespace(texts)


def folded(texts: pa.Array) -> pa.Array:
    """Return the identifiers trimmed and in one case, by Unicode's case folding."""
    return _by_alphabet(trimmed(texts), pc.ascii_lower, str.casefold)


def letters_and_digits(texts: pa.Array) -> pa.Array:
    """Return the letters and digits of the identifiers, in one case.

    Separators, accents and Unicode compatibility forms (full width, ligatures, superscripts) make no
    difference: `aa:bb:cc` and `AABBCC` give the same.
    """
    return _by_alphabet(texts, _ascii_letters_and_digits, _letters_and_digits)


def _by_alphabet(
    texts: pa.Array, convert_ascii: Callable[[pa.Array], pa.Array], convert_other: Callable[[str], str]
) -> pa.Array:
    """Convert ASCII texts, which nearly all are, by Arrow and the others one by one."""
    is_ascii = pc.string_is_ascii(texts)
    if pc.all(is_ascii).as_py():
        return convert_ascii(texts)
    others = [convert_other(text) for text in texts.filter(pc.invert(is_ascii)).to_pylist()]
    converted = pa.array(others, pa.string())
    if len(others) == len(texts):
        return converted
    return pc.replace_with_mask(convert_ascii(texts), pc.invert(is_ascii), converted)


def _ascii_letters_and_digits(texts: pa.Array) -> pa.Array:
    # A regular expression gives the same in several times the time.
    _, offsets, content = texts.buffers()
    if not len(texts) or content is None:
        return texts
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    octets = content[bounds[0] : bounds[-1]].to_pybytes()
    is_kept = np.frombuffer(octets.translate(_KEPT) + b"\0", np.uint8)  # one more, for an empty text at the end
    sizes = np.add.reduceat(is_kept, bounds[:-1] - bounds[0], dtype=np.int32)
    sizes[bounds[1:] == bounds[:-1]] = 0
    ends = np.append(np.int32(0), np.cumsum(sizes, dtype=np.int32))
    kept = octets.lower().translate(None, _OTHERS)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(kept))


def _letters_and_digits(text: str) -> str:
    # Upper case first: some small letters, such as a dotless i, share a capital with others.
    one_case = unicodedata.normalize("NFKD", text).upper().casefold()
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", one_case)))


def _whole(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
