"""In which order groups are sent: stage by stage, and in each the lane with most calls first.

Works on columns of integers, one entry a group; sees no row and no text. The order says
nothing of the parts into which the rows were spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from telemetron_batch.planning.radix import radix_lexsort
from telemetron_batch.storage.spill import Scratch, SpillColumn, spill_column
from telemetron_batch.storage.text_hash import Hashes

Ints: TypeAlias = npt.NDArray[np.int64]
GroupColumns: TypeAlias = dict[str, npt.NDArray[Any]]
"""As `grouping` makes them; of several parts with `part`, too."""

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
    """Calls in lanes: each a range of call numbers, made when it is asked for."""

    def __init__(self, bounds: Ints) -> None:
        """`bounds` are the first call of each lane, and the one after the last lane's last."""
        self._bounds = bounds

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, at: int) -> range: ...
    @overload
    def __getitem__(self, at: slice) -> "Lanes": ...
    def __getitem__(self, at: int | slice) -> "range | Lanes":
        if isinstance(at, slice):
            raise TypeError("lanes are taken one by one")
        if not 0 <= at < len(self):
            raise IndexError(at)
        return range(int(self._bounds[at]), int(self._bounds[at + 1]))


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of rows of one stage, customer and type, in sending order; one entry a group.

    part          the part that holds its rows, as the slice of `size` from `start` on
    customer      counted through all parts
    type          place among the part's types
    first_call    number of the first call cut from it; one entry more, behind the last call
    checksum      of the numbers of its rows
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
    """Takes the groups part by part."""

    def __init__(self, scratch: Scratch) -> None:
        self._columns = {name: SpillColumn(scratch, dtype) for name, dtype in _COLUMNS.items()}
        self._parts = 0

    def add(self, groups: GroupColumns, first_customer: int) -> None:
        """Append the groups of the next part, whose customers are counted from this one on."""
        columns = groups | {
            "part": np.full(len(groups["stage"]), self._parts),
            "customer": groups["customer"] + first_customer,
        }
        for name, column in self._columns.items():
            column.add(columns[name])
        self._parts += 1

    def columns(self) -> GroupColumns:
        """The groups of all parts."""
        return {name: column.array() for name, column in self._columns.items()}


def in_sending_order(
    scratch: Scratch, groups: GroupColumns, linked: Hashes | None, chunk_size: int
) -> tuple[Groups, Ints]:
    """The groups in the order in which they are cut into calls, and the first call of each lane.

    The lane with most calls goes first, so that no long lane is left for the end. A
    group is a lane of its own unless customers are `linked` by devices that may have to
    be created. One entry more stands for the call after the last. The columns are taken out of `groups`.
    """
    calls = -(-groups["size"] // chunk_size)
    keys = [groups["first"]]
    lane_calls, lane_first = calls, groups["first"]
    if linked is not None:
        lane_calls, lane_first = _shared_lanes(groups, calls, linked)
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


def _shared_lanes(groups: GroupColumns, calls: Ints, linked: Hashes) -> tuple[Ints, Ints]:
    """For each group the calls and the first row of its lane.

    A customer's groups of a stage share a lane, and in a stage of assigns all customers
    who are given a device of one another's: two calls that create the same device at
    once might collide, the API does not say. Customers go by their hashes; should two
    have the same, they share a lane for nothing.
    """
    hashes, customer = np.unique(groups["hash"], return_inverse=True)
    root = union_find(len(hashes), np.searchsorted(hashes, linked))
    is_assign = groups["stage"] % 2 == 0
    lane = np.where(is_assign, root[customer], customer)
    frame = pd.DataFrame({"stage": groups["stage"], "lane": lane, "calls": calls, "first": groups["first"]})
    lanes = frame.groupby(["stage", "lane"], sort=False)
    return lanes["calls"].transform("sum").to_numpy(), lanes["first"].transform("min").to_numpy()


def union_find(size: int, pairs: Ints) -> Ints:
    """For each of so many customers one who stands for all that are linked with it, in pairs."""
    root = list(range(size))

    def found(customer: int) -> int:
        while root[customer] != customer:
            root[customer] = root[root[customer]]
            customer = root[customer]
        return customer

    for one, other in pairs.tolist():
        root[found(one)] = found(other)
    return np.fromiter((found(customer) for customer in range(size)), np.int64, size)
