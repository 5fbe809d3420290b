"""Assign each row its stage, from the order of the rows of its device in the file.

Works on all rows of a set of devices; the rows of other devices make no difference. Nearly
every device has one row, so the rules run only for devices that may have several, which
`maybe_multi_row` finds by their hashes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.storage.concurrency import map_ordered
from telemetron_batch.storage.spill import Scratch, SpillColumn, drop_pages
from telemetron_batch.storage.text_hash import Hashes, encode_texts, hash_texts

Halves: TypeAlias = npt.NDArray[np.uint32]
_UNASSIGN = Action.UNASSIGN.code
NOT_SENT: Final = -1
"""Stands for the stage of a row that is not sent."""
_SORT_BATCH: Final = 1 << 22
"""Approximate number of hashes that are sorted together in memory."""
_SCAN_ROWS: Final = 1 << 20
_FILTER_BITS: Final = 25
"""Most bits of a hash that index the filter; each pattern of bits takes one byte."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The stages of the rows of some devices, and how these rows relate. Rows are row numbers.

    rows, stage                             all rows, and the stage of each, or `NOT_SENT`
    duplicate_rows, original_rows           rows that repeat an earlier one, and the row that each repeats
    superseded_rows, superseding_rows       rows that a later row of the same pair supersedes, and the last row
                                            of that pair
    transfer_unassigns, transfer_assigns    the two rows of each transfer from one customer to another
    shared_device_pairs                     pairs of customers (as hashes) to whom the same device is assigned
    multi_call_device_hashes                hashes of the devices that are sent several times
    """

    rows: Ints
    stage: npt.NDArray[np.int32]
    duplicate_rows: Ints
    original_rows: Ints
    superseded_rows: Ints
    superseding_rows: Ints
    transfer_unassigns: Ints
    transfer_assigns: Ints
    shared_device_pairs: Hashes
    multi_call_device_hashes: Hashes


@dataclass(frozen=True, slots=True)
class _RowSet:
    """Rows sorted by device, then in file order; texts as codes."""

    position: Ints
    """Positions in the batch."""
    device: Ints
    customer: Ints
    action: Ints

    def only(self, flags: Flags) -> "_RowSet":
        return _RowSet(self.position[flags], self.device[flags], self.customer[flags], self.action[flags])


def maybe_multi_row(device: Hashes, valid: Flags, scratch: Scratch) -> Flags:
    """Flag the valid rows whose device has other rows; may flag a few more.

    `device` holds the hashes of the devices of all rows. Sorting hashes is much cheaper than
    comparing texts, and leaves few texts to compare.
    """
    bits = min(_FILTER_BITS, len(device).bit_length())
    by_prefix, by_suffix = np.zeros((2, 1 << bits), np.bool_)
    for repeated in map_ordered(_repeated, _partition_hashes(device, valid, scratch)):
        prefix, suffix = _prefix_suffix(repeated, bits)
        by_prefix[prefix], by_suffix[suffix] = True, True
    flags = np.zeros(len(device), np.bool_)
    for block in _blocks(device):
        prefix, suffix = _prefix_suffix(device[block].astype(np.uint32), bits)
        likely = np.flatnonzero(by_prefix[prefix] & valid[block])
        flags[block.start + likely] = by_suffix[suffix[likely]]
    return flags


def _prefix_suffix(halves: Halves, bits: int) -> tuple[Halves, Halves]:
    """Return the first and the last `bits` bits of each."""
    return halves >> np.uint32(32 - bits), halves & np.uint32((1 << bits) - 1)


def _partition_hashes(device: Hashes, valid: Flags, scratch: Scratch) -> Iterator[Halves]:
    """Return the lower halves of the valid rows' hashes, partitioned by their first bits."""
    bits = min(16, (len(device) // _SORT_BATCH).bit_length())
    columns = [SpillColumn(scratch, np.uint32) for _ in range(1 << bits)]
    for block in _blocks(device):
        hashes = device[block][valid[block]]
        partition = (hashes >> np.uint64(48)).astype(np.uint16) >> (16 - bits)
        order = np.argsort(partition, kind="stable")
        cuts = np.searchsorted(partition[order], np.arange(len(columns) + 1)).tolist()
        halves = hashes.astype(np.uint32)[order]
        for column, (first, end) in zip(columns, pairwise(cuts), strict=True):
            column.add(halves[first:end])
    return (column.array() for column in columns)


def _repeated(halves: Halves) -> Halves:
    """Return the values that occur more than once."""
    ordered = np.sort(halves)
    repeated: Halves = ordered[1:][ordered[1:] == ordered[:-1]]
    return repeated


def _blocks(column: Hashes) -> Iterator[slice]:
    """Yield slices of the column; drop the memory pages of each once it is done."""
    for first in range(0, len(column), _SCAN_ROWS):
        yield slice(first, first + _SCAN_ROWS)
        drop_pages(column)


class Bitmap:
    """Flags of rows, one bit each: small enough for the processor's cache, so random access is fast."""

    def __init__(self, flags: Flags) -> None:
        self._octets = np.packbits(flags, bitorder="little")
        self.any = bool(self._octets.any())

    def at(self, rows: Ints) -> Flags:
        """Return the flags of these rows."""
        flags: Flags = (self._octets[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(np.bool_)
        return flags


def default_stage(action: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Return the stage of each row, as if it were the only row of its device."""
    return np.where(action == _UNASSIGN, 1, 2).astype(np.int32)


def stage_rows(rows: pa.RecordBatch, confirmed_by: Ints | None = None) -> Staged:
    """Return the stages of rows with `row`, `customerEmail`, `deviceIdentifier` and `action`, in file order.

    Stages alternate unassign, assign, unassign, ... counted from 1. A row goes into the
    first stage of its action after the stage of an earlier row of its (customer, device)
    pair with the other action; an assign also goes after every unassign of its device that
    stands earlier in the file. A row is not sent if it repeats the last action of its pair,
    or if `confirmed_by`, by row number, is not 0. `confirmed_by` is set for all rows of a device or
    for none (except duplicates), so leaving them out does not change the stages of the other rows.
    """
    number = rows["row"].to_numpy()
    stage = default_stage(rows["action"].to_numpy())
    by_device = _by_device(rows)
    original, alternating_devices = _duplicates(by_device)
    is_duplicate = original >= 0
    is_sent = np.ones(len(number), np.bool_) if confirmed_by is None else confirmed_by[number] == 0
    is_sent[by_device.position[is_duplicate]] = False
    sent = by_device.only(is_sent[by_device.position])
    alternating = sent.only(np.isin(sent.device, alternating_devices))
    stage[alternating.position] = _sequence_stages(alternating)
    stage[~is_sent] = NOT_SENT
    unassigns, assigns = _transfers(sent)
    superseded, superseding = _superseded(sent)
    return Staged(
        rows=number,
        stage=stage,
        duplicate_rows=number[by_device.position[is_duplicate]],
        original_rows=number[original[is_duplicate]],
        superseded_rows=number[superseded],
        superseding_rows=number[superseding],
        transfer_unassigns=number[unassigns],
        transfer_assigns=number[assigns],
        shared_device_pairs=_shared_device_pairs(rows, sent),
        multi_call_device_hashes=_multi_call_devices(rows, sent),
    )


def _by_device(rows: pa.RecordBatch) -> _RowSet:
    (device, _), (customer, _) = encode_texts(rows["deviceIdentifier"]), encode_texts(rows["customerEmail"])
    order = np.argsort(device, kind="stable")
    return _RowSet(order, device[order], customer[order], rows["action"].to_numpy()[order].astype(np.int64))


def _duplicates(rows: _RowSet) -> tuple[Ints, Ints]:
    """Return for each row the position of the row that it repeats, or -1; and the devices with alternating pairs.

    A pair alternates if the file assigns its device to its customer and unassigns it again later.
    """
    by_pair = np.lexsort((rows.position, rows.customer, rows.device))
    device, customer, action = rows.device[by_pair], rows.customer[by_pair], rows.action[by_pair]
    same_pair = (np.diff(device, prepend=-1) == 0) & (np.diff(customer, prepend=-1) == 0)
    repeats = same_pair & (np.diff(action, prepend=-1) == 0)
    first_of_run = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(action))))
    original = np.full(len(action), -1, np.int64)
    original[by_pair[repeats]] = rows.position[by_pair[first_of_run[repeats]]]
    return original, np.unique(device[same_pair & ~repeats & (action == _UNASSIGN)])


def _sequence_stages(rows: _RowSet) -> list[int]:
    """Return the stage of each row, after the stages of the rows that must come first.

    Two rows of a pair in succession never have the same action: such a row is a duplicate, which is not sent.
    """
    assigned: dict[tuple[int, int], int] = {}
    unassigned: dict[int, int] = {}
    stages = []
    columns = (rows.customer.tolist(), rows.device.tolist(), rows.action.tolist())
    for customer, device, action in zip(*columns, strict=True):
        if action == _UNASSIGN:
            stage = assigned.get((customer, device), 0) + 1
            unassigned[device] = max(unassigned.get(device, 1), stage)
        else:
            stage = unassigned.get(device, 1) + 1
            assigned[customer, device] = stage
        stages.append(stage)
    return stages


def _superseded(rows: _RowSet) -> tuple[Ints, Ints]:
    """Return the positions of the rows that are not the last of their pair, and of the last row of each one's pair."""
    by_pair = np.lexsort((rows.position, rows.customer, rows.device))
    device, customer = rows.device[by_pair], rows.customer[by_pair]
    is_last = (np.diff(device, append=-1) != 0) | (np.diff(customer, append=-1) != 0)
    position = rows.position[by_pair]
    last = position[is_last][np.cumsum(is_last) - is_last]
    return position[~is_last], last[~is_last]


def _transfers(rows: _RowSet) -> tuple[Ints, Ints]:
    """Return the positions of the unassign and of the assign of each transfer.

    The unassign is the last unassign of the device from another customer before the assign
    in the file, else the next one after it.
    """
    index = np.arange(len(rows.position))
    unassign = rows.action == _UNASSIGN
    before = np.maximum.accumulate(np.where(unassign, index, 0))
    after = np.minimum.accumulate(np.where(unassign, index, len(index) - 1)[::-1])[::-1]
    partner = np.full(len(index), -1)
    for other in (after, before):
        same_device = rows.device[other] == rows.device
        fits = unassign[other] & ~unassign & same_device & (rows.customer[other] != rows.customer)
        partner[fits] = other[fits]
    is_transfer = partner >= 0
    return rows.position[partner[is_transfer]], rows.position[is_transfer]


def _shared_device_pairs(rows: pa.RecordBatch, sent: _RowSet) -> Hashes:
    """Return pairs of customers to whom the same device is assigned by two successive rows of that device."""
    assigns = sent.only(sent.action != _UNASSIGN)
    customer = hash_texts(rows["customerEmail"].take(pa.array(assigns.position)))
    same_device = np.flatnonzero(np.diff(assigns.device, prepend=-1) == 0)
    return np.column_stack((customer[same_device - 1], customer[same_device]))


def _multi_call_devices(rows: pa.RecordBatch, sent: _RowSet) -> Hashes:
    """Return the hashes of the devices that are sent several times."""
    same_device = np.flatnonzero(np.diff(sent.device, prepend=-1) == 0)
    return np.unique(hash_texts(rows["deviceIdentifier"].take(pa.array(sent.position[same_device]))))
