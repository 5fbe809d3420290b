"""Find assigns that would give a device a second owner: another customer of the file holds it and keeps it.

Assigns and kept devices come in any order, so both are partitioned by device; a large number of them is on disk.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.identifiers import trimmed
from telemetron_batch.storage.spill import PartitionedTable, Scratch, to_batch
from telemetron_batch.storage.text_hash import encode_texts, hash_texts

_SCHEMA: Final = pa.schema(
    [
        pa.field("deviceIdentifier", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("holder", pa.string(), nullable=False),
    ]
)
"""An assign has its number and no holder; a kept device has the number -1 and its holder."""
_KEPT: Final = -1


@dataclass(frozen=True, slots=True)
class SecondOwners:
    """The assigns whose device another customer keeps."""

    is_assign: Flags
    """Whether an assign is one of these, by its number."""
    holders: dict[int, str]
    """Who keeps the device, by the number of the assign; only of the first ones."""


class SecondOwnerSearch:
    """Takes the assigns, numbered from 0, and the devices that stay where they are."""

    def __init__(self, scratch: Scratch, most_named: int) -> None:
        self._scratch = scratch
        self._most_named = most_named
        self._table = PartitionedTable(scratch)
        self._assigns = 0
        self._kept = 0

    def add_assigns(self, devices: pa.Array) -> None:
        """Take the devices of the next assigns."""
        numbers = np.arange(self._assigns, self._assigns + len(devices))
        self._assigns += len(devices)
        self._add(devices, numbers, pa.array([""], pa.string()).take(pa.array(np.zeros(len(devices), np.int64))))

    def add_kept(self, holders: pa.Array, devices: pa.Array) -> None:
        """Take devices that a customer holds and keeps, though the file does not have them for the customer."""
        self._kept += len(devices)
        self._add(devices, np.full(len(devices), _KEPT), holders)

    def find(self) -> SecondOwners:
        """Return the assigns of kept devices. Nothing can be added afterwards."""
        found = self._scratch.array(self._assigns, np.bool_)
        first: list[tuple[int, str]] = []
        for table in self._table.drain_parts() if self._kept and self._assigns else ():
            numbers, holders = _assigns_of_kept(to_batch(table))
            found[numbers] = True
            some = slice(0, self._most_named)
            first += zip(numbers[some].tolist(), holders[some].to_pylist(), strict=True)
            first = sorted(first)[some]
        return SecondOwners(found, dict(first))

    def _add(self, devices: pa.Array, numbers: Ints, holders: pa.Array) -> None:
        devices = trimmed(devices)
        columns = [devices, pa.array(numbers, pa.int64()), holders]
        self._table.add(pa.record_batch(columns, _SCHEMA), hash_texts(devices))


def _assigns_of_kept(records: pa.RecordBatch) -> tuple[Ints, pa.Array]:
    """Return the numbers of assigns whose device is kept, ascending, and for each a customer who keeps it."""
    number = records["number"].to_numpy()
    device, _ = encode_texts(records["deviceIdentifier"])
    kept = np.flatnonzero(number == _KEPT)
    kept_devices, first = np.unique(device[kept], return_index=True)
    found = np.flatnonzero((number != _KEPT) & np.isin(device, kept_devices))
    keeper = kept[first[np.searchsorted(kept_devices, device[found])]]
    return number[found], records["holder"].take(pa.array(keeper))
