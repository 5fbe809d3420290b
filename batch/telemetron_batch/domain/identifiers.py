"""Normalized forms of device identifiers: trimmed, case-folded, letters and digits only, and these as Latin ones.

The vendor documents only that identifiers are trimmed before they are matched. Two identifiers that are
equal when trimmed are therefore the same device; two that are equal in a coarser form may be the same
device or not. Each form is coarser than the one before: identifiers that are equal in one form are
equal in the next. All functions take and return string columns without nulls.
"""

import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.look_alikes import as_latin

_IS_ALPHANUMERIC: Final = bytes(chr(code).isascii() and chr(code).isalnum() for code in range(256))
"""1 for each byte that is an ASCII letter or digit."""
_NON_ALPHANUMERIC: Final = bytes(code for code in range(256) if not _IS_ALPHANUMERIC[code])


def as_column(texts: Iterable[str]) -> pa.Array:
    """Return the texts as a column, with lone surrogates replaced by U+FFFD."""
    texts = [*texts]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        return pa.array([_replace_surrogates(text) for text in texts], pa.string())


def trimmed(texts: pa.Array) -> pa.Array:
    """Return the identifiers without white space around them."""
    return pc.utf8_trim_whitespace(texts)


def casefolded(texts: pa.Array) -> pa.Array:
    """Return the identifiers trimmed and case-folded by the rules of Unicode."""
    return _by_alphabet(trimmed(texts), pc.ascii_lower, str.casefold)


def letters_and_digits(texts: pa.Array) -> pa.Array:
    """Return the letters and digits of the identifiers, case-folded.

    Ignores separators, accents and Unicode compatibility forms (full width, ligatures, superscripts):
    `aa:bb:cc` and `AABBCC` give the same result.
    """
    return _by_alphabet(texts, _ascii_letters_and_digits, _letters_and_digits)


def latin_letters_and_digits(texts: pa.Array) -> pa.Array:
    """Return `letters_and_digits` with the look-alikes of other scripts as Latin letters and ASCII digits."""
    return _by_alphabet(letters_and_digits(texts), lambda ascii_texts: ascii_texts, as_latin)


def _by_alphabet(
    texts: pa.Array, convert_ascii: Callable[[pa.Array], pa.Array], convert_other: Callable[[str], str]
) -> pa.Array:
    """Convert ASCII texts, which are the vast majority, in Arrow and the others one by one."""
    is_ascii = pc.string_is_ascii(texts)
    if pc.all(is_ascii).as_py():
        return convert_ascii(texts)
    others = [convert_other(text) for text in texts.filter(pc.invert(is_ascii)).to_pylist()]
    converted = pa.array(others, pa.string())
    if len(others) == len(texts):
        return converted
    return pc.replace_with_mask(convert_ascii(texts), pc.invert(is_ascii), converted)


def _ascii_letters_and_digits(texts: pa.Array) -> pa.Array:
    # A regular expression gives the same result but is several times slower.
    _, offsets, content = texts.buffers()
    if not len(texts) or content is None:
        return texts
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = content[bounds[0] : bounds[-1]].to_pybytes()
    is_kept = np.frombuffer(data.translate(_IS_ALPHANUMERIC) + b"\0", np.uint8)  # padded for an empty last text
    sizes = np.add.reduceat(is_kept, bounds[:-1] - bounds[0], dtype=np.int32)
    sizes[bounds[1:] == bounds[:-1]] = 0
    ends = np.append(np.int32(0), np.cumsum(sizes, dtype=np.int32))
    kept = data.lower().translate(None, _NON_ALPHANUMERIC)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(kept))


def _letters_and_digits(text: str) -> str:
    # Upper case first: some lowercase letters, such as the dotless i, share their capital with another letter.
    one_case = unicodedata.normalize("NFKD", text).upper().casefold()
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", one_case)))


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
