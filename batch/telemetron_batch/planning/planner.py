"""Rows in, plan out: which row goes into which call of which stage.

What a device's rows ask of their order is found out first, for the few devices that have
several (`staging`); then the rows of a customer are laid together for the calls that they may
share (`grouping`), part by part; and the groups are put in order (`ordering`).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.model import PlanOptions
from telemetron_batch.planning.grouping import Grouped, group_rows
from telemetron_batch.planning.held_rows import HeldRows
from telemetron_batch.planning.input_holds import find_held
from telemetron_batch.planning.ordering import GroupsBuilder, in_sending_order
from telemetron_batch.planning.plan import Plan, PlanPartition
from telemetron_batch.planning.staging import NOT_SENT, Bitmap, Staged, default_stage, maybe_multi_row, stage_rows
from telemetron_batch.rows.rows import Rows
from telemetron_batch.storage.concurrency import map_ordered
from telemetron_batch.storage.malloc_tuning import trim_malloc
from telemetron_batch.storage.spill import PartitionedTable, Scratch, SpillColumn, spill_batch, to_batch
from telemetron_batch.storage.text_hash import Hashes, hash_texts

Ints = npt.NDArray[np.int64]


def plan_calls(rows: Rows, options: PlanOptions, left_out: Ints | None = None) -> Plan:
    """Put every valid row into a call of the earliest stage that the order of the file allows.

    `left_out` gives a number, not 0, to rows that shall not be sent, as in `stage_rows`.
    Assigns that are held keep their places in the order of the file, and are in no call.
    Takes the keys out of `rows`. The plan may be used as long as their scratch is there.
    """
    found, respellings = find_held(rows, hold=options.hold)
    staged = _assign_stages(rows, left_out)
    trim_malloc()
    staged.hold(found)
    parts, groups = _group_rows(rows, staged, left_out, typed=options.auto_create_devices)
    trim_malloc()
    linked = staged.links() if options.auto_create_devices else None
    ordered, lanes = in_sending_order(rows.scratch, groups.columns(), linked, options.chunk_size)
    given, told_again, repeats = staged.given.array(), staged.told_again.array(), staged.repeats.array()
    by_given, by_row, by_repeat = np.argsort(given, kind="stable"), np.argsort(told_again), np.argsort(repeats)
    return Plan(
        rows=rows,
        options=options,
        parts=parts,
        groups=ordered,
        lanes=lanes,
        unchanged_source=_left_out(left_out, repeats, len(rows)),
        duplicate_rows=repeats[by_repeat],
        original_rows=staged.origins.array()[by_repeat],
        superseded_rows=told_again[by_row],
        superseding_rows=staged.last.array()[by_row],
        transfer_unassigns=staged.taken.array()[by_given],
        transfer_assigns=given[by_given],
        multi_call_device_hashes=np.sort(staged.devices_again.array()),
        held=_held(found, left_out, repeats[by_repeat]),
        respellings=respellings,
    )


def _held(found: HeldRows, left_out: Ints | None, repeats: Ints) -> HeldRows:
    """Those that would be sent otherwise: no row that is left out, and none that repeats another."""
    held = found.only(~np.isin(found.rows, repeats))
    return held if left_out is None else held.only(left_out[held.rows] == 0)


def _assign_stages(rows: Rows, left_out: Ints | None) -> "_StageAssignments":
    """What is asked of the order by devices that have several rows."""
    several = Bitmap(maybe_multi_row(rows.device, rows.problem == 0, rows.scratch))
    staged = _StageAssignments(rows.scratch, several, np.zeros(len(rows), np.int8))
    spread = _by_device(rows, several)
    for some in map_ordered(lambda table: stage_rows(to_batch(table.sort_by("row")), left_out), spread.drain_parts()):
        staged.add(some)
    return staged


def _group_rows(
    rows: Rows, staged: "_StageAssignments", left_out: Ints | None, *, typed: bool
) -> tuple[list[PlanPartition], GroupsBuilder]:
    """The rows that are sent, by what they may share a call with."""

    def grouped(table: pa.Table) -> Grouped:
        keys = to_batch(table)
        stage = staged.stages(keys, left_out)
        sent = stage != NOT_SENT
        return group_rows(keys if sent.all() else keys.filter(pa.array(sent)), stage[sent], typed=typed)

    parts: list[PlanPartition] = []
    groups = GroupsBuilder(rows.scratch)
    first_customer = 0
    for found in map_ordered(grouped, rows.keys.drain_parts()):
        customers = spill_batch(rows.scratch, pa.record_batch([found.customers], names=["customer"]))["customer"]
        parts.append(PlanPartition(spill_batch(rows.scratch, found.rows), customers, found.types, first_customer))
        groups.add(found.groups, first_customer)
        first_customer += len(found.customers)
    return parts, groups


def _left_out(numbers: Ints | None, repeats: Ints, rows: int) -> Ints:
    """The numbers of the rows that are left out; a duplicate is one all the same."""
    if numbers is None:
        return np.broadcast_to(np.int64(0), rows)
    numbers = numbers.copy()
    numbers[repeats] = 0
    return numbers


def _by_device(rows: Rows, chosen: Bitmap) -> PartitionedTable:
    """The keys of some rows, spread by device."""
    spread = PartitionedTable(rows.scratch)

    def those(part: tuple[int, pa.Table]) -> pa.Table:
        _, table = part
        return table.filter(pa.array(chosen.at(table["row"].to_numpy()))).combine_chunks()

    for some in map_ordered(those, rows.keys.iter_parts() if chosen.any else ()):
        for batch in some.to_batches():
            spread.add(batch, hash_texts(batch["deviceIdentifier"]))
    return spread


@dataclass(slots=True)
class _StageAssignments:
    """What the rows of devices with several come to, together."""

    scratch: Scratch
    multi_row_device: Bitmap
    """The rows of devices with several."""
    stage: npt.NDArray[np.signedinteger]
    """Of these, by row, or `NOT_SENT`: a byte each, unless a device goes to and fro more often than that can count."""
    repeats: SpillColumn = field(init=False)
    origins: SpillColumn = field(init=False)
    told_again: SpillColumn = field(init=False)
    last: SpillColumn = field(init=False)
    taken: SpillColumn = field(init=False)
    given: SpillColumn = field(init=False)
    devices_again: SpillColumn = field(init=False)
    _held: Bitmap | None = None
    _linked: list[Hashes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repeats, self.origins = SpillColumn(self.scratch, np.int64), SpillColumn(self.scratch, np.int64)
        self.taken, self.given = SpillColumn(self.scratch, np.int64), SpillColumn(self.scratch, np.int64)
        self.told_again, self.last = SpillColumn(self.scratch, np.int64), SpillColumn(self.scratch, np.int64)
        self.devices_again = SpillColumn(self.scratch, np.uint64)

    def add(self, staged: Staged) -> None:
        if staged.stage.max(initial=0) > np.iinfo(self.stage.dtype).max:
            self.stage = self.stage.astype(np.int32)
        self.stage[staged.rows] = staged.stage
        self.repeats.add(staged.repeats)
        self.origins.add(staged.origins)
        self.told_again.add(staged.told_again)
        self.last.add(staged.last)
        self.taken.add(staged.taken)
        self.given.add(staged.given)
        self.devices_again.add(staged.devices_again)
        self._linked.append(staged.shared_device_pairs)

    def hold(self, held: HeldRows) -> None:
        """Keep these rows out of all calls from now on."""
        if len(held):
            flags = np.zeros(len(self.stage), np.bool_)
            flags[held.rows] = True
            self._held = Bitmap(flags)

    def stages(self, keys: pa.RecordBatch, left_out: Ints | None) -> Ints:
        """The stage of each row, or `NOT_SENT`."""
        number = keys["row"].to_numpy()
        stage = default_stage(keys["action"].to_numpy()).astype(np.int64)
        several = np.flatnonzero(self.multi_row_device.at(number))
        stage[several] = self.stage[number[several]]
        if left_out is not None:
            stage[left_out[number] != 0] = NOT_SENT
        if self._held is not None:
            stage[self._held.at(number)] = NOT_SENT
        return stage

    def links(self) -> Hashes:
        """Pairs of customers who are given the same device."""
        return np.concatenate([np.empty((0, 2), np.uint64), *self._linked])
