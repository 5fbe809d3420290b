"""Group the rows that may share a call: one stage, one customer and, if devices are created, one device type.

Works on all rows of some customers and makes the rows of a group contiguous, in file
order, so that a call is a slice. `ordering` puts the groups into sending order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.planning.radix import radix_lexsort
from telemetron_batch.storage.text_hash import Hashes, encode_texts, hash_texts, mixed


@dataclass(frozen=True, slots=True)
class Grouped:
    """The groups of some customers, and their rows, group after group.

    rows        `row` and `deviceIdentifier` of each row
    customers   distinct emails
    types       distinct device types; only "" where no device is created
    groups      columns with one entry a group: `stage`, `customer` and `type` (indexes into the
                texts), `start` and `size` (of its slice of `rows`), all int32; `first` (its first
                row) int64; `checksum` (of its row numbers) and `hash` (of its customer) uint64
    """

    rows: pa.RecordBatch
    customers: pa.Array
    types: pa.Array
    groups: dict[str, npt.NDArray[Any]]


def group_rows(rows: pa.RecordBatch, stage: Ints, *, by_device_type: bool) -> Grouped:
    """Group rows with `row`, `customerEmail`, `deviceIdentifier` and `deviceType`, in file order, by their stages.

    Device types count only if `by_device_type`, and only for assigns (even stages).
    """
    number = rows["row"].to_numpy()
    customer, customers = encode_texts(rows["customerEmail"])
    type_code, types = encode_texts(rows["deviceType"]) if by_device_type else (np.zeros_like(stage), pa.array([""]))
    type_code[stage % 2 == 1] = 0
    key = (stage * max(1, len(customers)) + customer) * max(1, len(types)) + type_code
    order = radix_lexsort([key])
    number, key = number[order], key[order]
    start = np.flatnonzero(np.diff(key, prepend=-1))
    first = order[start]
    groups = {
        "stage": stage[first].astype(np.int32),
        "customer": customer[first].astype(np.int32),
        "type": type_code[first].astype(np.int32),
        "start": start.astype(np.int32),
        "size": np.diff(start, append=len(number)).astype(np.int32),
        "first": number[start],
        "checksum": _checksums(number, start),
        "hash": hash_texts(customers)[customer[first]],
    }
    devices = rows["deviceIdentifier"].take(pa.array(order))
    return Grouped(pa.record_batch({"row": number, "deviceIdentifier": devices}), customers, types, groups)


def _checksums(numbers: Ints, start: Ints) -> Hashes:
    """Return a checksum of the row numbers of each group."""
    if not len(start):
        return np.empty(0, np.uint64)
    sums: Hashes = np.add.reduceat(mixed(numbers.astype(np.uint64) + np.uint64(1)), start)
    return sums
