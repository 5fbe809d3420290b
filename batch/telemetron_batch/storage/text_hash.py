"""Texts to numbers by which they are spread: the same number for the same text, everywhere and always.

For sharing out work only: two texts may have the same number, so equality is never
concluded from it. Not for secrets.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes: TypeAlias = npt.NDArray[np.uint64]

_WORD: Final = 8
_MOST: Final = 1024
"""Bytes of a text that are looked at; no key that can be sent has more."""
_LENGTH_FACTOR: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
_FIRST: Final = np.uint64(0xBF58_476D_1CE4_E5B9)
_SECOND: Final = np.uint64(0x94D0_49BB_1331_11EB)
_HALF: Final = np.uint64(32)
_MASKS: Final = np.array([(1 << 8 * octets) - 1 for octets in range(_WORD + 1)], np.uint64)
"""What of a word belongs to a text that has so many bytes left."""


def hash_texts(texts: pa.Array) -> Hashes:
    """A number of 64 bits for each text of a string column without nulls; a million take some 0.1 s.

    Depends on nothing but the number of the text's UTF-8 bytes and the first 1,024 of them: not on the
    process, the platform or the texts beside it.
    """
    starts, lengths, words = _words(texts)
    hashes: Hashes = lengths.astype(np.uint64) * _LENGTH_FACTOR
    lengths = np.minimum(lengths, _MOST)
    going, at = np.flatnonzero(lengths > 0), 0
    whole = len(going) == len(lengths)
    while len(going):
        some = slice(None) if whole else going
        left = lengths[some] - at
        word = words[starts[some] + at] & _MASKS[np.minimum(left, _WORD)]
        hashes[some] = mixed(hashes[some] ^ word)
        at += _WORD
        going = going[left > _WORD]
        whole = len(going) == len(lengths)
    return mixed(hashes)


def _words(texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Where each text begins, its bytes, and the eight bytes from every place on as a number."""
    if not len(texts):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64)
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offsets, content = texts.buffers()
    bounds = np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    octets = np.zeros(int(bounds[-1] - bounds[0]) + _WORD, np.uint8)
    if content is not None:
        octets[:-_WORD] = np.frombuffer(content, np.uint8)[bounds[0] : bounds[-1]]
    words = np.ndarray(len(octets) - _WORD + 1, "<u8", octets, strides=(1,))
    return bounds[:-1] - bounds[0], np.diff(bounds), words


def mixed(hashes: Hashes) -> Hashes:
    """Numbers of which every bit depends on every bit of those that went in."""
    hashes = (hashes ^ (hashes >> _HALF)) * _FIRST
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _SECOND
    return hashes ^ (hashes >> _HALF)
