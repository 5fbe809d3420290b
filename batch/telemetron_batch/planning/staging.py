"""Which rows are sent, and in which stage: what the order of the file asks of a device's rows.

Works on all rows of some devices; no other device's rows make a difference. Nearly every
device has one row in a file, so the rules are gone through only for those that may have
several: a first look at the hashes of all devices tells which.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.storage.concurrency import map_ordered
from telemetron_batch.storage.spill import Scratch, SpillColumn, drop_pages
from telemetron_batch.storage.text_hash import Hashes, hash_texts

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Halves: TypeAlias = npt.NDArray[np.uint32]
_UNASSIGN = Action.UNASSIGN.code
NOT_SENT: Final = -1
"""In the place of a stage."""
_SORT_BATCH: Final = 1 << 22
"""Hashes that are sorted together, about: they are in memory."""
_SCAN_ROWS: Final = 1 << 20
_FILTER_BITS: Final = 25
"""Bits by whose pattern a hash is remembered, at most: each pattern takes a byte."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What was found out about the rows of some devices; rows by their numbers.

    rows, stage        all of them, and the stage of each, or `NOT_SENT`
    repeats, origins   rows that repeat an earlier one, and that one
    told_again, last   rows whose pair a later row tells otherwise, and the pair's last row
    taken, given       unassigns and assigns by which devices go from one customer to another
    linked             pairs of customers (their hashes) who are given the same device
    devices_again      hashes of the devices that are sent several times
    """

    rows: Ints
    stage: npt.NDArray[np.int32]
    repeats: Ints
    origins: Ints
    told_again: Ints
    last: Ints
    taken: Ints
    given: Ints
    shared_device_pairs: Hashes
    devices_again: Hashes


@dataclass(frozen=True, slots=True)
class _RowSet:
    """Rows by device and then in file order; texts as codes."""

    at: Ints
    device: Ints
    customer: Ints
    action: Ints

    def only(self, flags: Flags) -> "_RowSet":
        return _RowSet(self.at[flags], self.device[flags], self.customer[flags], self.action[flags])


def maybe_multi_row(device: Hashes, valid: Flags, scratch: Scratch) -> Flags:
    """Flags the valid rows whose device has others, and a few more; `device` are the hashes of all rows' devices.

    To sort numbers is much cheaper than to compare texts, and few are left for that.
    """
    bits = min(_FILTER_BITS, len(device).bit_length())
    by_first, by_last = np.zeros((2, 1 << bits), np.bool_)
    for several in map_ordered(_repeated, _partition_hashes(device, valid, scratch)):
        first, last = _prefix_suffix(several, bits)
        by_first[first], by_last[last] = True, True
    likely = np.zeros(len(device), np.bool_)
    for some in _blocks(device):
        first, last = _prefix_suffix(device[some].astype(np.uint32), bits)
        likely[some] = by_first[first] & by_last[last] & valid[some]
    return likely


def _prefix_suffix(halves: Halves, bits: int) -> tuple[Halves, Halves]:
    """The bits with which each begins, and those with which it ends."""
    return halves >> np.uint32(32 - bits), halves & np.uint32((1 << bits) - 1)


def _partition_hashes(device: Hashes, valid: Flags, scratch: Scratch) -> Iterator[Halves]:
    """The last halves of the valid rows' hashes, shared out by the bits with which they begin."""
    bits = min(16, (len(device) // _SORT_BATCH).bit_length())
    shares = [SpillColumn(scratch, np.uint32) for _ in range(1 << bits)]
    for some in _blocks(device):
        hashes = device[some][valid[some]]
        share = (hashes >> np.uint64(48)).astype(np.uint16) >> (16 - bits)
        order = np.argsort(share, kind="stable")
        cuts = np.searchsorted(share[order], np.arange(len(shares) + 1)).tolist()
        halves = hashes.astype(np.uint32)[order]
        for column, (first, end) in zip(shares, pairwise(cuts), strict=True):
            column.add(halves[first:end])
    return (column.array() for column in shares)


def _repeated(halves: Halves) -> Halves:
    """Those that are there more than once."""
    ordered = np.sort(halves)
    several: Halves = ordered[1:][ordered[1:] == ordered[:-1]]
    return several


def _blocks(column: Hashes) -> Iterator[slice]:
    """The column in pieces, each of which is forgotten again."""
    for first in range(0, len(column), _SCAN_ROWS):
        yield slice(first, first + _SCAN_ROWS)
        drop_pages(column)


class Bitmap:
    """Flags of rows, of a bit each: they may be looked at in any order, for even of many rows they fit into a cache."""

    def __init__(self, flags: Flags) -> None:
        self._octets = np.packbits(flags, bitorder="little")
        self.any = bool(self._octets.any())

    def at(self, rows: Ints) -> Flags:
        """Those of some rows."""
        marked: Flags = (self._octets[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(np.bool_)
        return marked


def default_stage(action: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """The stage of a row that is the only one of its device."""
    return np.where(action == _UNASSIGN, 1, 2).astype(np.int32)


def stage_rows(rows: pa.RecordBatch, left_out: Ints | None = None) -> Staged:
    """The stage of each row: `row`, `customerEmail`, `deviceIdentifier` and `action`, in file order.

    Stages alternate unassign, assign, unassign, ... counted from 1. A row goes into the
    first stage of its kind after the stage of an earlier row of its (customer, device)
    pair with the other action; an assign also after every unassign of its device that
    stands earlier in the file. A row that repeats its pair's last action is not sent, nor
    is one that `left_out` (by row number) is not 0 for: of a device with such a row all rows
    have it, so the others go where they would go without.
    """
    number = rows["row"].to_numpy()
    stage = default_stage(rows["action"].to_numpy())
    some = _by_device(rows)
    origin, taken_back = _pairs(some)
    repeats = origin >= 0
    is_sent = np.ones(len(number), np.bool_) if left_out is None else left_out[number] == 0
    is_sent[some.at[repeats]] = False
    sent = some.only(is_sent[some.at])
    walked = sent.only(np.isin(sent.device, taken_back))
    stage[walked.at] = _sequence_stages(walked)
    stage[~is_sent] = NOT_SENT
    taken, given = _transfers(sent)
    told_again, last = _superseded(sent)
    return Staged(
        rows=number,
        stage=stage,
        repeats=number[some.at[repeats]],
        origins=number[origin[repeats]],
        told_again=number[told_again],
        last=number[last],
        taken=number[taken],
        given=number[given],
        shared_device_pairs=_linked(rows, sent),
        devices_again=_multi_call_devices(rows, sent),
    )


def _by_device(rows: pa.RecordBatch) -> _RowSet:
    device, customer = _codes(rows["deviceIdentifier"]), _codes(rows["customerEmail"])
    at = np.argsort(device, kind="stable")
    return _RowSet(at, device[at], customer[at], rows["action"].to_numpy()[at].astype(np.int64))


def _codes(texts: pa.Array) -> Ints:
    codes: Ints = texts.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _pairs(some: _RowSet) -> tuple[Ints, Ints]:
    """For each row the place of the row it repeats, or -1; and the devices taken back from whom the file gave them."""
    by_pair = np.lexsort((some.at, some.customer, some.device))
    device, customer, action = some.device[by_pair], some.customer[by_pair], some.action[by_pair]
    same_pair = (np.diff(device, prepend=-1) == 0) & (np.diff(customer, prepend=-1) == 0)
    repeats = same_pair & (np.diff(action, prepend=-1) == 0)
    first_of_run = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(action))))
    origin = np.full(len(action), -1, np.int64)
    origin[by_pair[repeats]] = some.at[by_pair[first_of_run[repeats]]]
    return origin, np.unique(device[same_pair & ~repeats & (action == _UNASSIGN)])


def _sequence_stages(some: _RowSet) -> list[int]:
    """Stages of rows, each after what must come before it.

    No pair is told the same twice in a row, for such rows are not sent.
    """
    given: dict[tuple[int, int], int] = {}
    removed: dict[int, int] = {}
    stages = []
    columns = (some.customer.tolist(), some.device.tolist(), some.action.tolist())
    for customer, device, action in zip(*columns, strict=True):
        if action == _UNASSIGN:
            stage = given.get((customer, device), 0) + 1
            removed[device] = max(removed.get(device, 1), stage)
        else:
            stage = removed.get(device, 1) + 1
            given[customer, device] = stage
        stages.append(stage)
    return stages


def _superseded(some: _RowSet) -> tuple[Ints, Ints]:
    """Places of the rows that are not the last of their pair, and of that one."""
    by_pair = np.lexsort((some.at, some.customer, some.device))
    device, customer = some.device[by_pair], some.customer[by_pair]
    is_last = (np.diff(device, append=-1) != 0) | (np.diff(customer, append=-1) != 0)
    at = some.at[by_pair]
    last = at[is_last][np.cumsum(is_last) - is_last]
    return at[~is_last], last[~is_last]


def _transfers(some: _RowSet) -> tuple[Ints, Ints]:
    """Places of transfers: each assign, and the unassign by which its device left another customer.

    That is the last one before it in the file, else the next one after it.
    """
    at = np.arange(len(some.at))
    unassign = some.action == _UNASSIGN
    before = np.maximum.accumulate(np.where(unassign, at, 0))
    after = np.minimum.accumulate(np.where(unassign, at, len(at) - 1)[::-1])[::-1]
    taken = np.full(len(at), -1)
    for other in (after, before):
        same_device = some.device[other] == some.device
        fits = unassign[other] & ~unassign & same_device & (some.customer[other] != some.customer)
        taken[fits] = other[fits]
    moved = taken >= 0
    return some.at[taken[moved]], some.at[moved]


def _linked(rows: pa.RecordBatch, some: _RowSet) -> Hashes:
    """Customers who are given the same device, as pairs of neighbours in the file."""
    given = some.only(some.action != _UNASSIGN)
    customer = hash_texts(rows["customerEmail"].take(pa.array(given.at)))
    again = np.flatnonzero(np.diff(given.device, prepend=-1) == 0)
    return np.column_stack((customer[again - 1], customer[again]))


def _multi_call_devices(rows: pa.RecordBatch, some: _RowSet) -> Hashes:
    """Hashes of the devices that are sent several times."""
    again = np.flatnonzero(np.diff(some.device, prepend=-1) == 0)
    return np.unique(hash_texts(rows["deviceIdentifier"].take(pa.array(some.at[again]))))
