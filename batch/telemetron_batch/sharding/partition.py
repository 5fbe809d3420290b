"""Divide a plan into shards; each shard makes all calls of some customers.

Customers stay in one shard if their calls are in one lane, or if a device moves back and forth between them.
So after the first stage no shard depends on another. The calls of a shard are in a file, with the numbers of
the whole plan: a shard plans nothing itself.
"""

import hashlib
import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import Call
from telemetron_batch.journal.codec import read_table
from telemetron_batch.planning.calls import Stage, action_of
from telemetron_batch.planning.ordering import union_find
from telemetron_batch.planning.plan import Plan
from telemetron_batch.storage.atomic_file import atomic_write, make_private_dir

_SCHEMA: Final = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("stage", pa.int32(), nullable=False),
        pa.field("lane", pa.int64(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),
        pa.field("type", pa.string()),
        pa.field("devices", pa.list_(pa.string()), nullable=False),
    ]
)
"""One record for each call, in sending order; `lane` is the number of the first call of its lane."""
_BATCH_CALLS: Final = 500
FIRST_ASSIGN_STAGE: Final = 2
"""The first stage of the assign phase."""
FIRST_TAKEBACK_STAGE: Final = 3
"""The first stage that unassigns devices which this input assigned before."""
CALLS: Final = "calls.arrow"
_PLAN_AGAIN: Final = "plan the run again with another --run-id"


@dataclass(frozen=True, slots=True)
class Shard:
    """The numbers of one shard, as stored in the run's journal."""

    number: int
    """Counts from 1."""
    calls: Mapping[Phase, int]
    devices: int
    sha256: str
    """The hash of the file of its calls."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the JSON document."""
        return {
            "shard": self.number,
            "calls": sum(self.calls.values()),
            "callsByPhase": {str(phase): calls for phase, calls in self.calls.items()},
            "devices": self.devices,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Shard":
        """Return the shard from the fields of `as_json`."""
        calls = {Phase(phase): calls for phase, calls in fields["callsByPhase"].items()}
        return cls(fields["shard"], calls, fields["devices"], fields["sha256"])


def shard_folder(run: Path, number: int) -> Path:
    """Return the folder of one shard, below the folder of its run."""
    return run / "shards" / str(number)


def assign_shards(plan: Plan, shards: int) -> Ints:
    """Return the shard (from 1) of each call.

    Groups of customers are assigned in order of their calls, the largest first, each to the shard with fewest calls.
    """
    groups = plan.groups
    calls = np.diff(groups.first_call)
    together = np.concatenate([_lane_pairs(plan), _device_pairs(plan)])
    stands_for = union_find(plan.customers, together)[groups.customer]
    _, first, unit = np.unique(stands_for, return_index=True, return_inverse=True)
    sizes = np.bincount(unit, calls, len(first)).astype(np.int64)
    order = np.lexsort((first, -sizes))
    shard_of_unit = np.empty(len(first), np.int64)
    shard_of_unit[order] = [*_balance(sizes[order].tolist(), shards)]
    return np.repeat(shard_of_unit[unit], calls)


def _balance(sizes: Iterable[int], shards: int) -> Iterator[int]:
    """Yield for each size the shard with the smallest total so far."""
    loads = [(0, shard) for shard in range(1, shards + 1)]
    for size in sizes:
        load, shard = loads[0]
        heapq.heapreplace(loads, (load + size, shard))
        yield shard


def _lane_pairs(plan: Plan) -> Ints:
    """Return pairs of customers whose calls are in the same lane."""
    lane = np.searchsorted(plan.lane_bounds, plan.groups.first_call[:-1], side="right")
    return _adjacent_pairs(lane, plan.groups.customer.astype(np.int64))


def _device_pairs(plan: Plan) -> Ints:
    """Return pairs of customers with rows about the same device that is assigned and then unassigned again."""
    late_devices = [devices.filter(pa.array(late)) for _, late, devices in _sent_rows(plan)]
    wanted = pc.unique(pa.chunked_array(late_devices, pa.large_string()))
    if not len(wanted):
        return np.empty((0, 2), np.int64)
    found = [
        (customer[chosen], pc.index_in(devices.filter(pa.array(chosen)), wanted).to_numpy())
        for customer, _, devices in _sent_rows(plan)
        for chosen in [pc.is_in(devices, wanted).to_numpy(zero_copy_only=False)]
    ]
    customer, device = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(device, kind="stable")
    return _adjacent_pairs(device[order], customer[order])


def _sent_rows(plan: Plan) -> Iterator[tuple[Ints, npt.NDArray[np.bool_], pa.Array]]:
    """Yield customer, whether the stage is late enough to take something back, and device of all rows sent."""
    for part, groups in zip(plan.partitions, plan.groups_by_part(), strict=True):
        size = plan.groups.size[groups]
        late = np.repeat(plan.groups.stage[groups] >= FIRST_TAKEBACK_STAGE, size)
        customer = np.repeat(plan.groups.customer[groups].astype(np.int64), size)
        yield customer, late, part.rows["deviceIdentifier"].cast(pa.large_string())


def _adjacent_pairs(key: npt.NDArray[Any], customer: Ints) -> Ints:
    """Return pairs of neighbouring customers with the same key."""
    same = np.flatnonzero(key[1:] == key[:-1])
    return np.column_stack((customer[same], customer[same + 1]))


# Files of calls


def write_shards(plan: Plan, run: Path, shards: int) -> list[Shard]:
    """Divide the plan and write the calls of each shard below the run's folder. Raises DiskError."""
    shard_of = assign_shards(plan, shards)
    make_private_dir(run / "shards")
    return [_write_calls(plan, run, shard, np.flatnonzero(shard_of == shard) + 1) for shard in range(1, shards + 1)]


def _write_calls(plan: Plan, run: Path, shard: int, numbers: Ints) -> Shard:
    """Write the calls of one shard."""
    path = make_private_dir(shard_folder(run, shard)) / CALLS
    lanes = plan.lane_bounds[np.searchsorted(plan.lane_bounds, numbers, side="right") - 1]
    with atomic_write(path) as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        for first in range(0, len(numbers), _BATCH_CALLS):
            batch = slice(first, first + _BATCH_CALLS)
            calls = [plan.call(number) for number in numbers[batch].tolist()]
            writer.write_batch(_batch(calls, lanes[batch]))
    phases = {phase: ShardCalls(path, phase) for phase in Phase}
    counts = {phase: calls.calls for phase, calls in phases.items()}
    return Shard(shard, counts, phases[Phase.UNASSIGN].rows_for_percent_limits, _sha256(path))


def _batch(calls: list[Call], lanes: Ints) -> pa.RecordBatch:
    columns = [(call.number, call.stage, call.customer, call.device_type, call.devices) for call in calls]
    number, stage, customer, kind, devices = zip(*columns, strict=True)
    arrays = (number, stage, lanes, customer, kind, devices)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(arrays, _SCHEMA, strict=True)], schema=_SCHEMA
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_calls(path: Path, shard: Shard) -> None:
    """Raise JournalError unless the file has the calls planned for the shard."""
    try:
        same = _sha256(path) == shard.sha256
    except OSError as exc:
        raise JournalError(f"{path} cannot be read ({exc.strerror})", _PLAN_AGAIN) from exc
    if not same:
        raise JournalError(f"{path} is not what was planned: the file was changed", _PLAN_AGAIN)


class ShardCalls:
    """The calls of one shard in one phase, with the numbers of the whole plan.

    `stages` covers this phase; calls of the other phase can be looked up by number.
    """

    def __init__(self, path: Path, phase: Phase, last_stage: int | None = None) -> None:
        """Open a file of `write_shards`, which is read lazily; the phase ends with `last_stage`, if given."""
        self._table = read_table(path)
        self._numbers: Ints = self._table["number"].to_numpy()
        self._sizes: Ints = pc.list_value_length(self._table["devices"]).to_numpy().astype(np.int64)
        # Numbers rise with the stages.
        stages = self._table["stage"].to_numpy()
        first = int(np.searchsorted(stages, FIRST_ASSIGN_STAGE))
        end = len(stages) if last_stage is None else int(np.searchsorted(stages, last_stage, side="right"))
        self._phase_slice = slice(0, first) if phase is Phase.UNASSIGN else slice(first, end)
        self._stages = stages[self._phase_slice]

    @property
    def calls(self) -> int:
        """Number of calls of the phase."""
        return len(self._stages)

    @property
    def numbers(self) -> Ints:
        """The numbers of all calls of the shard, of both phases."""
        return self._numbers

    @property
    def rows_for_percent_limits(self) -> int:
        """Number of devices in all calls of the shard, to which percentages of rows refer."""
        return int(self._sizes.sum())

    @property
    def unassign_rows(self) -> int:
        """Number of devices in all unassign calls of the shard, to which percentages of unassigns refer."""
        # The odd stages unassign, in both phases.
        return int(self._sizes[self._table["stage"].to_numpy() % 2 == 1].sum())

    @property
    def last(self) -> int:
        """The highest number of any call of the shard; 0 without calls."""
        return int(self._numbers[-1]) if len(self._numbers) else 0

    def unsettled(self, settled: Ints) -> int:
        """Return how many calls of the phase are not settled; `settled` has the settled devices of every call."""
        numbers, sizes = self._numbers[self._phase_slice], self._sizes[self._phase_slice]
        return int((settled[numbers - 1] != sizes).sum())

    def includes(self, number: int) -> bool:
        """Return whether the call belongs to this phase."""
        return self._phase_slice.start <= self._index(number) < self._phase_slice.stop

    def stages(self) -> Iterator[Stage]:
        """Yield the stages of the phase that have calls, in order."""
        for stage in np.unique(self._stages).tolist():
            index = np.flatnonzero(self._stages == stage) + self._phase_slice.start
            yield Stage(stage, action_of(stage), self._lanes(index), len(index), int(self._sizes[index].sum()))

    def _lanes(self, index: Ints) -> list[range]:
        """Return the lanes of the calls at these positions, in the order of the whole plan: the longest first."""
        numbers, lanes = self._numbers[index], self._table["lane"].to_numpy()[index]
        cuts = [*np.flatnonzero(np.diff(lanes, prepend=-1)).tolist(), len(index)]
        return [range(int(numbers[first]), int(numbers[end - 1]) + 1) for first, end in pairwise(cuts)]

    def returning_calls(self) -> Collection[int]:
        """Return no calls: the table of a shard does not say which pairs return."""
        return ()

    def call(self, number: int) -> Call:
        """Return one call of the shard, of either phase."""
        index = self._index(number)
        stage = self._table["stage"][index].as_py()
        return Call(
            number=number,
            stage=stage,
            customer=self._table["customer"][index].as_py(),
            action=action_of(stage),
            devices=tuple(self._table["devices"][index].as_py()),
            device_type=self._table["type"][index].as_py(),
        )

    def size_of(self, number: int) -> int:
        """Return the number of devices in one call of the shard."""
        return int(self._sizes[self._index(number)])

    def customer_emails_of_calls(self, numbers: Iterable[int]) -> set[str]:
        """Return the customers of some calls of the shard."""
        return {self._table["customer"][self._index(number)].as_py() for number in set(numbers)}

    def devices(self) -> pa.Array:
        """Return the devices of all calls of the phase, each once."""
        lists = self._table["devices"].slice(self._phase_slice.start, self._phase_slice.stop - self._phase_slice.start)
        return pc.unique(pc.list_flatten(lists))

    def has_multiple_calls(self, device: str) -> bool:
        """Return whether several calls to a customer may contain this device; all calls to a customer are here."""
        return device in self._multi_call_devices

    @cached_property
    def _multi_call_devices(self) -> frozenset[str]:
        """Devices that several calls of the shard contain."""
        counted = pc.value_counts(pc.list_flatten(self._table["devices"]))
        several = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
        return frozenset(several.to_pylist())

    def _index(self, number: int) -> int:
        return int(np.searchsorted(self._numbers, number))
