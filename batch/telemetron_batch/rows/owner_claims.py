"""Claims about the owners of devices, from an owners file or from the journals of earlier runs.

A claim says that a customer has a device, had it, or may have it. `owners` decides from the claims who the owner is.
"""

from enum import IntEnum
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.identifiers import letters_and_digits
from telemetron_batch.storage.text_hash import Hashes, hash_texts

_MAX_BITS: Final = 24
_BITS_PER_HASH: Final = 6


class ClaimKind(IntEnum):
    """What a claim says."""

    OWNS = 1
    """The customer has the device."""
    TAKEN = 2
    """The customer had the device, or never had it, and surely does not have it."""
    UNCLEAR = 3
    """The customer may have the device; `detail` says why that is not known."""
    INVALID = 4
    """The source has an entry of this device that cannot be used; `detail` says why."""


CLAIM_SCHEMA: Final = pa.schema(
    [
        pa.field("customerEmail", pa.string(), nullable=False),
        pa.field("deviceIdentifier", pa.string(), nullable=False),
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("origin", pa.int64(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""One record for each claim. `origin` is the line of the file, or the number of the run."""


def lack_owners(keys: pa.RecordBatch) -> Flags:
    """Return which rows are valid but for their customer, who is to be looked up."""
    unnamed: Flags = pc.equal(pc.binary_length(keys["customerEmail"]), 0).to_numpy(zero_copy_only=False)
    if not unnamed.any():
        return unnamed
    lacking: Flags = unnamed & (keys["problem"].to_numpy() == 0)
    return lacking


def comparable(devices: pa.Array) -> pa.Array:
    """Return the identifiers in the form in which all their spellings are equal."""
    folded = letters_and_digits(devices)
    return pc.if_else(pc.equal(folded, ""), devices, folded)


class WantedDevices:
    """A set of devices by the hashes of their `comparable` forms; may contain others by a collision."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = np.unique(hashes)
        bits = min(_MAX_BITS, max(16, len(self._hashes).bit_length() + _BITS_PER_HASH))
        self._mask = np.uint64((1 << bits) - 1)
        # A filter by the last bits keeps most devices away from the binary search.
        self._may_match = np.zeros(1 << bits, np.bool_)
        self._may_match[(self._hashes & self._mask).view(np.int64)] = True

    def among(self, devices: pa.Array) -> tuple[Ints, Hashes]:
        """Return the positions of the devices that are in the set, in any spelling, and their hashes."""
        hashes = hash_texts(comparable(devices))
        likely = np.flatnonzero(self._may_match[(hashes & self._mask).view(np.int64)])
        if not len(likely):
            return likely, hashes[likely]
        at = np.minimum(np.searchsorted(self._hashes, hashes[likely]), len(self._hashes) - 1)
        found = likely[self._hashes[at] == hashes[likely]]
        return found, hashes[found]


class ClaimSink(Protocol):
    """Takes the claims of a source."""

    def add(self, claims: pa.RecordBatch, hashes: Hashes, /) -> object:
        """Take claims of wanted devices, with the hashes of these."""

    def clear(self) -> None:
        """Drop all claims, because the source is read again."""
