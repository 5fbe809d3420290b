"""A plan divided into shards: each makes all calls of some customers, wherever it runs.

Customers stay together where one must not be sent to while another is, and where a
device goes to and fro between them, so that beyond the first stage no shard depends on
another. What a shard has to make stands in a file, by the numbers of the whole plan: a
shard plans nothing itself.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
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
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import Call
from telemetron_batch.journal.codec import read_table
from telemetron_batch.planning.calls import Stage, action_of
from telemetron_batch.planning.ordering import union_find
from telemetron_batch.planning.plan import Plan
from telemetron_batch.storage.atomic_file import atomic_write, make_private_dir

Ints = npt.NDArray[np.int64]

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
"""One record a call, in sending order; `lane` is the number of the first call of its lane."""
_AT_A_TIME: Final = 500
FIRST_ASSIGN_STAGE: Final = 2
"""The stage with which the phase of assigns begins."""
FIRST_TAKEBACK_STAGE: Final = 3
"""The first stage in which devices are taken back from whom this very input gave them."""
CALLS: Final = "calls.arrow"


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard in numbers, as the run's journal has it."""

    number: int
    """Counts from 1."""
    calls: Mapping[Phase, int]
    devices: int
    sha256: str
    """Of the file of its calls."""

    def as_json(self) -> dict[str, Any]:
        """By the names of the JSON document."""
        return {
            "shard": self.number,
            "calls": sum(self.calls.values()),
            "callsByPhase": {str(phase): calls for phase, calls in self.calls.items()},
            "devices": self.devices,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Shard":
        """The same from what `as_json` gave."""
        calls = {Phase(phase): calls for phase, calls in fields["callsByPhase"].items()}
        return cls(fields["shard"], calls, fields["devices"], fields["sha256"])


def shard_folder(run: Path, number: int) -> Path:
    """Where everything of one shard is, beneath the folder of its run."""
    return run / "shards" / str(number)


def assign_shards(plan: Plan, shards: int) -> Ints:
    """The shard, from 1, of each call: the customers with most calls first, to the shard with fewest."""
    groups = plan.groups
    calls = np.diff(groups.first_call)
    together = np.concatenate([_sharing_a_lane(plan), _sharing_a_device(plan)])
    stands_for = union_find(plan.customers, together)[groups.customer]
    _, first, unit = np.unique(stands_for, return_index=True, return_inverse=True)
    sizes = np.bincount(unit, calls, len(first)).astype(np.int64)
    order = np.lexsort((first, -sizes))
    dealt = np.empty(len(first), np.int64)
    dealt[order] = [*_balance(sizes[order].tolist(), shards)]
    return np.repeat(dealt[unit], calls)


def _balance(sizes: Iterable[int], shards: int) -> Iterator[int]:
    """For each size in turn the shard that has least by then."""
    loads = [(0, shard) for shard in range(1, shards + 1)]
    for size in sizes:
        load, shard = loads[0]
        heapq.heapreplace(loads, (load + size, shard))
        yield shard


def _sharing_a_lane(plan: Plan) -> Ints:
    """Pairs of customers whose calls go one after another."""
    lane = np.searchsorted(plan.lanes, plan.groups.first_call[:-1], side="right")
    return _adjacent_pairs(lane, plan.groups.customer.astype(np.int64))


def _sharing_a_device(plan: Plan) -> Ints:
    """Pairs of customers who have to do with a device that is taken back from whom it was given."""
    back = pa.chunked_array([devices.filter(pa.array(late)) for _, late, devices in _sent(plan)], pa.large_string())
    wanted = pc.unique(back)
    if not len(wanted):
        return np.empty((0, 2), np.int64)
    found = [
        (customer[chosen], pc.index_in(devices.filter(pa.array(chosen)), wanted).to_numpy())
        for customer, _, devices in _sent(plan)
        for chosen in [pc.is_in(devices, wanted).to_numpy(zero_copy_only=False)]
    ]
    customer, device = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(device, kind="stable")
    return _adjacent_pairs(device[order], customer[order])


def _sent(plan: Plan) -> Iterator[tuple[Ints, npt.NDArray[np.bool_], pa.Array]]:
    """Part by part, of all rows sent: customer, whether it is sent late enough to take something back, device."""
    for part, groups in zip(plan.parts, plan.groups_by_part(), strict=True):
        size = plan.groups.size[groups]
        late = np.repeat(plan.groups.stage[groups] >= FIRST_TAKEBACK_STAGE, size)
        customer = np.repeat(plan.groups.customer[groups].astype(np.int64), size)
        yield customer, late, part.rows["deviceIdentifier"].cast(pa.large_string())


def _adjacent_pairs(key: npt.NDArray[Any], customer: Ints) -> Ints:
    """Pairs of customers who follow one another under the same key."""
    same = np.flatnonzero(key[1:] == key[:-1])
    return np.column_stack((customer[same], customer[same + 1]))


# Files of calls


def write_shards(plan: Plan, run: Path, shards: int) -> list[Shard]:
    """Divide the plan and write the calls of each shard beneath the run's folder. Raises DiskError."""
    shard_of = assign_shards(plan, shards)
    make_private_dir(run / "shards")
    return [_written(plan, run, shard, np.flatnonzero(shard_of == shard) + 1) for shard in range(1, shards + 1)]


def _written(plan: Plan, run: Path, shard: int, numbers: Ints) -> Shard:
    """Write the calls of one shard."""
    path = make_private_dir(shard_folder(run, shard)) / CALLS
    lanes = plan.lanes[np.searchsorted(plan.lanes, numbers, side="right") - 1]
    with atomic_write(path) as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        for first in range(0, len(numbers), _AT_A_TIME):
            some = slice(first, first + _AT_A_TIME)
            calls = [plan.call(number) for number in numbers[some].tolist()]
            writer.write_batch(_batch(calls, lanes[some]))
    made = {phase: ShardCalls(path, phase) for phase in Phase}
    counts = {phase: calls.calls for phase, calls in made.items()}
    return Shard(shard, counts, made[Phase.UNASSIGN].rows_for_percent_limits, _sha256(path))


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
    """Raise JournalError unless the file holds what was planned for the shard."""
    try:
        same = _sha256(path) == shard.sha256
    except OSError as exc:
        raise JournalError(f"{path} cannot be read ({exc.strerror})", "plan the run again under another id") from exc
    if not same:
        raise JournalError(f"{path} is not what was planned", "plan the run again under another id")


class ShardCalls:
    """The calls that one shard has to make in one phase; knows those of both, and the numbers of the whole plan."""

    def __init__(self, path: Path, phase: Phase, last_stage: int | None = None) -> None:
        """Read from a file of `write_shards`, when and as far as they are looked at; of the phase up to a stage."""
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
        """The numbers of all calls of the shard."""
        return self._numbers

    @property
    def rows_for_percent_limits(self) -> int:
        """Number of devices in all calls of the shard: the whole of which a share of rows is taken."""
        return int(self._sizes.sum())

    @property
    def unassign_rows(self) -> int:
        """Number of devices in all unassign calls of the shard: the whole of which a share of unassigns is taken."""
        # The odd stages unassign, in whichever phase they are made.
        return int(self._sizes[self._table["stage"].to_numpy() % 2 == 1].sum())

    @property
    def last(self) -> int:
        """The highest number of any call of the shard; 0 without calls."""
        return int(self._numbers[-1]) if len(self._numbers) else 0

    def unsettled(self, settled: Ints) -> int:
        """How many calls of the phase are not settled, where so many devices are of each call from number 1."""
        numbers, sizes = self._numbers[self._phase_slice], self._sizes[self._phase_slice]
        return int((settled[numbers - 1] != sizes).sum())

    def includes(self, number: int) -> bool:
        """Is the call made in this phase?"""
        return self._phase_slice.start <= self._place(number) < self._phase_slice.stop

    def stages(self) -> Iterator[Stage]:
        """The stages of the phase that have calls, in their order."""
        for stage in np.unique(self._stages).tolist():
            at = np.flatnonzero(self._stages == stage) + self._phase_slice.start
            yield Stage(stage, action_of(stage), self._lanes(at), len(at), int(self._sizes[at].sum()))

    def _lanes(self, at: Ints) -> list[range]:
        """The lanes that the calls at these places make, the longest first, as in the whole plan."""
        numbers, lanes = self._numbers[at], self._table["lane"].to_numpy()[at]
        cuts = [*np.flatnonzero(np.diff(lanes, prepend=-1)).tolist(), len(at)]
        return [range(int(numbers[first]), int(numbers[end - 1]) + 1) for first, end in pairwise(cuts)]

    def call(self, number: int) -> Call:
        """Make one call of the shard, of whichever phase."""
        at = self._place(number)
        stage = self._table["stage"][at].as_py()
        return Call(
            number=number,
            stage=stage,
            customer=self._table["customer"][at].as_py(),
            action=action_of(stage),
            devices=tuple(self._table["devices"][at].as_py()),
            device_type=self._table["type"][at].as_py(),
        )

    def size_of(self, number: int) -> int:
        """Number of devices of one call of the shard."""
        return int(self._sizes[self._place(number)])

    def customer_emails_of_calls(self, numbers: Iterable[int]) -> set[str]:
        """Customers of some calls of the shard."""
        return {self._table["customer"][self._place(number)].as_py() for number in set(numbers)}

    def devices(self) -> pa.Array:
        """The devices of all calls of the phase, each once."""
        lists = self._table["devices"].slice(self._phase_slice.start, self._phase_slice.stop - self._phase_slice.start)
        return pc.unique(pc.list_flatten(lists))

    def has_multiple_calls(self, device: str) -> bool:
        """Could more than one call to a customer hold this device? All calls to one are in the shard."""
        return device in self._multi_call_devices

    @cached_property
    def _multi_call_devices(self) -> frozenset[str]:
        """Devices that several calls of the shard hold."""
        counted = pc.value_counts(pc.list_flatten(self._table["devices"]))
        several = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
        return frozenset(several.to_pylist())

    def _place(self, number: int) -> int:
        return int(np.searchsorted(self._numbers, number))
