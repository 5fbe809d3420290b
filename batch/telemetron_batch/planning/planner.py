"""Make the plan of a run: put each row into a call of a stage.

Three steps: find the stages of the few devices that have several rows (`staging`); group the
rows of each customer that may share calls, one partition at a time (`grouping`); put the
groups into sending order (`ordering`).
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.model import PlanOptions
from telemetron_batch.planning.grouping import Grouped, group_rows
from telemetron_batch.planning.held_rows import HeldRows
from telemetron_batch.planning.input_holds import find_held
from telemetron_batch.planning.ordering import GroupsBuilder, in_sending_order
from telemetron_batch.planning.plan import Plan, PlanPartition
from telemetron_batch.planning.staging import NOT_SENT, Bitmap, Staged, default_stage, maybe_multi_row, stage_rows
from telemetron_batch.rows.rows import Rows
from telemetron_batch.storage.concurrency import map_ordered
from telemetron_batch.storage.spill import PartitionedTable, Scratch, SpillColumn, spill_batch, to_batch
from telemetron_batch.storage.text_hash import Hashes, hash_texts

_ROW_COLUMNS: Final = (
    "duplicate_rows",
    "original_rows",
    "superseded_rows",
    "superseding_rows",
    "transfer_unassigns",
    "transfer_assigns",
)
"""The members of `Staged` that are row numbers and are collected."""


def plan_calls(rows: Rows, options: PlanOptions, confirmed_by: Ints | None = None) -> Plan:
    """Put every valid row into a call of the earliest stage that the order of the file allows.

    Rows whose `confirmed_by` is not 0 are not sent, as in `stage_rows`. Held assigns count
    for the order of the other rows, but are in no call. Takes the keys out of `rows`. The plan
    is usable as long as their scratch exists.
    """
    held, spelling_variants = find_held(rows, hold_by_input=options.hold_by_input)
    staged = _assign_stages(rows, confirmed_by)
    pa.default_memory_pool().release_unused()
    staged.hold(held)
    parts, groups = _group_rows(rows, staged, confirmed_by, by_device_type=options.auto_create_devices)
    pa.default_memory_pool().release_unused()
    shared = staged.shared_device_pairs() if options.auto_create_devices else None
    ordered, lanes = in_sending_order(rows.scratch, groups.columns(), shared, options.chunk_size)
    duplicates, superseded = staged.duplicate_rows.array(), staged.superseded_rows.array()
    assigns = staged.transfer_assigns.array()
    by_duplicate, by_superseded = np.argsort(duplicates), np.argsort(superseded)
    by_assign = np.argsort(assigns, kind="stable")
    return Plan(
        rows=rows,
        options=options,
        partitions=parts,
        groups=ordered,
        lane_bounds=lanes,
        confirmed_by=_without_duplicates(confirmed_by, duplicates, len(rows)),
        duplicate_rows=duplicates[by_duplicate],
        original_rows=staged.original_rows.array()[by_duplicate],
        superseded_rows=superseded[by_superseded],
        superseding_rows=staged.superseding_rows.array()[by_superseded],
        transfer_unassigns=staged.transfer_unassigns.array()[by_assign],
        transfer_assigns=assigns[by_assign],
        multi_call_device_hashes=np.sort(staged.multi_call_device_hashes.array()),
        held=_without_duplicates_and_unchanged(held, confirmed_by, duplicates[by_duplicate]),
        spelling_variants=spelling_variants,
    )


def _without_duplicates_and_unchanged(held: HeldRows, confirmed_by: Ints | None, duplicates: Ints) -> HeldRows:
    """Return the held rows that are neither duplicates nor unchanged."""
    held = held.only(~np.isin(held.rows, duplicates))
    return held if confirmed_by is None else held.only(confirmed_by[held.rows] == 0)


def _assign_stages(rows: Rows, confirmed_by: Ints | None) -> "_StageAssignments":
    """Find the stages of the rows of devices that have several rows."""
    multi_row = Bitmap(maybe_multi_row(rows.device_hash, rows.problem == 0, rows.scratch))
    staged = _StageAssignments(rows.scratch, multi_row, np.zeros(len(rows), np.int8))

    def stages_of(table: pa.Table) -> Staged:
        return stage_rows(to_batch(table.sort_by("row")), confirmed_by)

    for part in map_ordered(stages_of, _by_device(rows, multi_row).drain_parts()):
        staged.add(part)
    return staged


def _group_rows(
    rows: Rows, staged: "_StageAssignments", confirmed_by: Ints | None, *, by_device_type: bool
) -> tuple[list[PlanPartition], GroupsBuilder]:
    """Group the rows that are sent by what they may share a call with."""

    def grouped(table: pa.Table) -> Grouped:
        keys = to_batch(table)
        stage = staged.stages(keys, confirmed_by)
        sent = stage != NOT_SENT
        return group_rows(
            keys if sent.all() else keys.filter(pa.array(sent)), stage[sent], by_device_type=by_device_type
        )

    parts: list[PlanPartition] = []
    groups = GroupsBuilder(rows.scratch)
    first_customer = 0
    for part in map_ordered(grouped, rows.keys.drain_parts()):
        customers = spill_batch(rows.scratch, pa.record_batch([part.customers], names=["customer"]))["customer"]
        parts.append(PlanPartition(spill_batch(rows.scratch, part.rows), customers, part.types, first_customer))
        groups.add(part.groups, first_customer)
        first_customer += len(part.customers)
    return parts, groups


def _without_duplicates(confirmed_by: Ints | None, duplicates: Ints, rows: int) -> Ints:
    """Return the unchanged source of each row, 0 for duplicates: these are reported as duplicates."""
    if confirmed_by is None:
        return np.broadcast_to(np.int64(0), rows)
    numbers = confirmed_by.copy()
    numbers[duplicates] = 0
    return numbers


def _by_device(rows: Rows, chosen: Bitmap) -> PartitionedTable:
    """Return the keys of the chosen rows, partitioned by device."""
    by_device = PartitionedTable(rows.scratch)

    def chosen_of(part: tuple[int, pa.Table]) -> pa.Table:
        _, table = part
        return table.filter(pa.array(chosen.at(table["row"].to_numpy()))).combine_chunks()

    for table in map_ordered(chosen_of, rows.keys.iter_parts() if chosen.any else ()):
        for batch in table.to_batches():
            by_device.add(batch, hash_texts(batch["deviceIdentifier"]))
    return by_device


@dataclass(slots=True)
class _StageAssignments:
    """Collects what `stage_rows` finds for each partition of devices."""

    scratch: Scratch
    multi_row: Bitmap
    """The rows of devices that have several rows, and perhaps a few more."""
    stage: npt.NDArray[np.signedinteger]
    """Stage by row, or `NOT_SENT`; set for these rows only. One byte each until a stage needs more."""
    duplicate_rows: SpillColumn = field(init=False)
    original_rows: SpillColumn = field(init=False)
    superseded_rows: SpillColumn = field(init=False)
    superseding_rows: SpillColumn = field(init=False)
    transfer_unassigns: SpillColumn = field(init=False)
    transfer_assigns: SpillColumn = field(init=False)
    multi_call_device_hashes: SpillColumn = field(init=False)
    _held: Bitmap | None = None
    _shared_device_pairs: list[Hashes] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in _ROW_COLUMNS:
            setattr(self, name, SpillColumn(self.scratch, np.int64))
        self.multi_call_device_hashes = SpillColumn(self.scratch, np.uint64)

    def add(self, staged: Staged) -> None:
        if staged.stage.max(initial=0) > np.iinfo(self.stage.dtype).max:
            self.stage = self.stage.astype(np.int32)
        self.stage[staged.rows] = staged.stage
        for name in (*_ROW_COLUMNS, "multi_call_device_hashes"):
            getattr(self, name).add(getattr(staged, name))
        self._shared_device_pairs.append(staged.shared_device_pairs)

    def hold(self, held: HeldRows) -> None:
        """Keep these rows out of all calls."""
        if len(held):
            flags = np.zeros(len(self.stage), np.bool_)
            flags[held.rows] = True
            self._held = Bitmap(flags)

    def stages(self, keys: pa.RecordBatch, confirmed_by: Ints | None) -> Ints:
        """Return the stage of each row, or `NOT_SENT`."""
        number = keys["row"].to_numpy()
        stage = default_stage(keys["action"].to_numpy()).astype(np.int64)
        multi_row = np.flatnonzero(self.multi_row.at(number))
        stage[multi_row] = self.stage[number[multi_row]]
        if confirmed_by is not None:
            stage[confirmed_by[number] != 0] = NOT_SENT
        if self._held is not None:
            stage[self._held.at(number)] = NOT_SENT
        return stage

    def shared_device_pairs(self) -> Hashes:
        """Return the pairs of customers to whom the same device is assigned."""
        return np.concatenate([np.empty((0, 2), np.uint64), *self._shared_device_pairs])
