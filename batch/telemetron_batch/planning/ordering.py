"""Put groups of rows into sending order: by stage, and in each stage the lane with the most calls first.

Works on columns of integers with one entry a group. The order does not depend on the
partitions of the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.planning.radix import radix_lexsort
from telemetron_batch.storage.spill import Scratch, SpillColumn, spill_column
from telemetron_batch.storage.text_hash import Hashes

GroupColumns: TypeAlias = dict[str, npt.NDArray[Any]]
"""The columns of `Grouped.groups`; for several partitions also `part`."""

_COLUMNS: Final = {
    name: dtype
    for dtype, names in (
        (np.int32, ("stage", "part", "customer", "type", "start", "size")),
        (np.int64, ("first",)),
        (np.uint64, ("checksum", "hash")),
    )
    for name in names
}


class Lanes(Sequence[range]):
    """The lanes of a stage: a sequence of ranges of call numbers, which are made on access."""

    def __init__(self, bounds: Ints) -> None:
        """Take the first call of each lane, then the number after the last call."""
        self._bounds = bounds

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, at: int) -> range: ...
    @overload
    def __getitem__(self, at: slice) -> "Lanes": ...
    def __getitem__(self, at: int | slice) -> "range | Lanes":
        if isinstance(at, slice):
            raise TypeError("lanes have no slices")
        if not 0 <= at < len(self):
            raise IndexError(at)
        return range(int(self._bounds[at]), int(self._bounds[at + 1]))


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of rows of one stage, customer and type, in sending order; one entry a group.

    part          partition of its rows, which are the `size` rows from `start` on
    customer      number of the customer, over all partitions
    type          index into the types of the partition
    first_call    number of its first call; one more entry holds the number after the last call
    checksum      checksum of the numbers of its rows
    """

    stage: npt.NDArray[np.int32]
    part: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    size: npt.NDArray[np.int32]
    customer: npt.NDArray[np.int32]
    type: npt.NDArray[np.int32]
    first_call: Ints
    checksum: Hashes

    def __len__(self) -> int:
        return len(self.stage)


class GroupsBuilder:
    """Collects the groups of all partitions."""

    def __init__(self, scratch: Scratch) -> None:
        self._columns = {name: SpillColumn(scratch, dtype) for name, dtype in _COLUMNS.items()}
        self._parts = 0

    def add(self, groups: GroupColumns, first_customer: int) -> None:
        """Append the groups of the next partition, whose customers are numbered from `first_customer` on."""
        columns = groups | {
            "part": np.full(len(groups["stage"]), self._parts),
            "customer": groups["customer"] + first_customer,
        }
        for name, column in self._columns.items():
            column.add(columns[name])
        self._parts += 1

    def columns(self) -> GroupColumns:
        """Return the groups of all partitions."""
        return {name: column.array() for name, column in self._columns.items()}


def in_sending_order(
    scratch: Scratch, groups: GroupColumns, shared_device_pairs: Hashes | None, chunk_size: int
) -> tuple[Groups, Ints]:
    """Return the groups in the order in which they are cut into calls, and the bounds of the lanes.

    The bounds are the first call of each lane and the number after the last call. The lane with
    the most calls goes first, so that no long lane remains at the end. Without
    `shared_device_pairs` every group is a lane. With them, which is for runs that may create
    devices, customers that share a device share a lane. Takes the columns out of `groups`.
    """
    calls = -(-groups["size"] // chunk_size)
    keys = [groups["first"]]
    lane_calls, lane_first = calls, groups["first"]
    if shared_device_pairs is not None:
        lane_calls, lane_first = _shared_lanes(groups, calls, shared_device_pairs)
        keys.append(lane_first)
    order = radix_lexsort([*keys, lane_calls.max(initial=0) - lane_calls, groups["stage"]])
    stage, lane_first = groups["stage"][order], lane_first[order]
    first_call = np.concatenate([[1], 1 + np.cumsum(calls[order])])
    columns = {}
    for name in ("part", "start", "size", "customer", "type", "checksum"):
        columns[name] = spill_column(scratch, groups.pop(name)[order])
    begins = (np.diff(stage, prepend=-1) != 0) | (np.diff(lane_first, prepend=-1) != 0)
    lanes = np.append(first_call[:-1][begins], first_call[-1])
    columns |= {"stage": spill_column(scratch, stage), "first_call": spill_column(scratch, first_call)}
    return Groups(**columns), spill_column(scratch, lanes)


def _shared_lanes(groups: GroupColumns, calls: Ints, shared_device_pairs: Hashes) -> tuple[Ints, Ints]:
    """Return for each group the number of calls and the first row of its lane.

    The groups of a customer in a stage share a lane. In a stage of assigns, so do customers
    to whom the same device is assigned: the API does not document what two simultaneous calls
    do that create the same device. Customers are compared by hash: a collision makes two
    customers share a lane, which does no harm.
    """
    import pandas as pd  # slow to import, and only needed where devices may be created

    hashes, customer = np.unique(groups["hash"], return_inverse=True)
    root = union_find(len(hashes), np.searchsorted(hashes, shared_device_pairs))
    is_assign = groups["stage"] % 2 == 0
    lane = np.where(is_assign, root[customer], customer)
    frame = pd.DataFrame({"stage": groups["stage"], "lane": lane, "calls": calls, "first": groups["first"]})
    lanes = frame.groupby(["stage", "lane"], sort=False)
    return lanes["calls"].transform("sum").to_numpy(), lanes["first"].transform("min").to_numpy()


def union_find(size: int, pairs: Ints) -> Ints:
    """Return for each of `size` customers the representative of its set: pairs join the sets of two customers."""
    parent = list(range(size))

    def root_of(customer: int) -> int:
        while parent[customer] != customer:
            parent[customer] = parent[parent[customer]]
            customer = parent[customer]
        return customer

    for one, other in pairs.tolist():
        parent[root_of(one)] = root_of(other)
    return np.fromiter((root_of(customer) for customer in range(size)), np.int64, size)
