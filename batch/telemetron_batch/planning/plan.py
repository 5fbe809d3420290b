"""What a plan is: which rows are sent, in which order, cut into which calls.

The rows lie as they were grouped; a `Call` is made from them when its turn comes. Knows no
network and no answer. The same rows and options always give the same plan, into however
many parts they were spread, and `Plan.fingerprint` proves it.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Call, PlanOptions
from telemetron_batch.planning.calls import Stage, action_of
from telemetron_batch.planning.held_rows import HeldRows, Respellings
from telemetron_batch.planning.ordering import Groups, Lanes
from telemetron_batch.planning.radix import radix_lexsort
from telemetron_batch.rows.rows import Rows
from telemetron_batch.storage.text_hash import Hashes, hash_texts

Ints = npt.NDArray[np.int64]
_NO_ROWS: Final = np.empty(0, np.int64)
_BATCH_ROWS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class PlanPartition:
    """The rows of some customers in calls: `row` and `deviceIdentifier`, group after group."""

    rows: pa.RecordBatch
    customers: pa.Array
    types: pa.Array
    first_customer: int
    """Number of the first of its customers."""

    @property
    def numbers(self) -> Ints:
        """Row numbers."""
        numbers: Ints = self.rows["row"].to_numpy()
        return numbers


@dataclass(frozen=True, slots=True)
class SentRows:
    """Customer and device of every row sent as numbers, in input order.

    customer   as `Plan.customer_of` gives it
    device     place among `devices`, which are distinct texts
    """

    rows: Ints
    customer: Ints
    device: Ints
    devices: pa.Array

    def only(self, chosen: npt.NDArray[np.bool_] | Ints) -> "SentRows":
        """Those of some rows, flagged or by their places."""
        return SentRows(self.rows[chosen], self.customer[chosen], self.device[chosen], self.devices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Which rows are sent, in which order, cut into which calls."""

    rows: Rows
    options: PlanOptions
    parts: Sequence[PlanPartition]
    groups: Groups
    unchanged_source: Ints
    """By row: 0, or why it is not sent: the number of the run that settled it."""
    superseded_rows: Ints
    superseding_rows: Ints
    """Rows whose pair a later row tells otherwise, in input order, and the last row of each one's pair."""
    lanes: Ints
    """Number of the first call of each lane, and the one after the last call."""
    duplicate_rows: Ints
    original_rows: Ints
    """Rows that repeat another, in input order, and the row that each repeats."""
    transfer_unassigns: Ints
    transfer_assigns: Ints
    """Transfers in input order: rows by which a device leaves one customer, and comes to another."""
    multi_call_device_hashes: Hashes
    """Of the devices that are sent several times, in their order; perhaps also of some of rows that are held."""
    held: HeldRows
    """Assigns that are not sent because of other rows of the input."""
    respellings: Respellings
    """Identifiers that stand in the input in several spellings."""

    @property
    def calls(self) -> int:
        """Number of calls."""
        return int(self.groups.first_call[-1]) - 1

    @property
    def rows_for_percent_limits(self) -> int:
        """Number of valid rows: the whole of which a share of rows is taken."""
        return int(np.count_nonzero(self.rows.problem == 0))

    @property
    def unassign_rows(self) -> int:
        """Number of rows that are sent as unassigns: the whole of which a share of unassigns is taken."""
        return sum(stage.devices for stage in self.stages() if stage.action is Action.UNASSIGN)

    def includes(self, number: int) -> bool:
        """Is there such a call?"""
        return 1 <= number <= self.calls

    @property
    def sent_count(self) -> int:
        """Number of rows that go into calls."""
        return int(self.groups.size.sum())

    @property
    def duplicates(self) -> int:
        """Number of rows that repeat another."""
        return len(self.duplicate_rows)

    @property
    def customers(self) -> int:
        """Number of customers that at least one call concerns."""
        return sum(len(part.customers) for part in self.parts)

    def all_customer_emails(self) -> pa.Array:
        """The customers by their numbers."""
        return pa.concat_arrays([pa.array([], pa.string()), *(part.customers.cast(pa.string()) for part in self.parts)])

    def sent_keys(self) -> "SentRows":
        """The keys of all rows sent, in memory; takes as much as the devices' texts and some 50 bytes a row."""
        customers = (
            np.repeat(self.groups.customer[groups], self.groups.size[groups]) for groups in self.groups_by_part()
        )
        rows = np.concatenate([_NO_ROWS, *(part.numbers for part in self.parts)])
        texts = pa.chunked_array([part.rows["deviceIdentifier"] for part in self.parts], pa.string())
        devices = texts.combine_chunks().dictionary_encode()
        order = np.argsort(rows)
        codes = devices.indices.to_numpy().astype(np.int64)
        customer = np.concatenate([_NO_ROWS, *customers])
        return SentRows(rows[order], customer[order], codes[order], devices.dictionary)

    def original_of(self, first: int, end: int) -> Ints:
        """For each row of a range the row that it repeats, or -1."""
        some = slice(*np.searchsorted(self.duplicate_rows, (first, end)))
        repeated = np.full(end - first, -1)
        repeated[self.duplicate_rows[some] - first] = self.original_rows[some]
        return repeated

    def size_of(self, number: int) -> int:
        """Number of devices of one call."""
        _, start, end = self._slice(number)
        return end - start

    def rows_of(self, number: int) -> Ints:
        """Row numbers of one call, in the order of its devices."""
        group, start, end = self._slice(number)
        rows: Ints = self.parts[self.groups.part[group]].numbers[start:end]
        return rows

    def rows_at(self, calls: Ints, places: Ints) -> Ints:
        """Row numbers of devices, each by the call that holds it and its place there."""
        group = self.groups.first_call.searchsorted(calls, side="right") - 1
        nth = calls - self.groups.first_call[group]
        at = self.groups.start[group] + nth * self.options.chunk_size + places
        part = self.groups.part[group].astype(np.int16)
        order = np.argsort(part, kind="stable")
        cuts = np.searchsorted(part[order], np.arange(len(self.parts) + 1)).tolist()
        rows = np.empty(len(at), np.int64)
        for number, (first, end) in enumerate(pairwise(cuts)):
            some = order[first:end]
            rows[some] = self.parts[number].numbers[at[some]]
        return rows

    def sizes(self) -> Ints:
        """Number of devices of each call."""
        calls = np.diff(self.groups.first_call)
        nth = np.arange(self.calls) - np.repeat(self.groups.first_call[:-1] - 1, calls)
        left: Ints = np.repeat(self.groups.size, calls) - nth * self.options.chunk_size
        return np.minimum(left, self.options.chunk_size)

    def stage_action(self, number: int) -> Action:
        """Return what a call does."""
        return action_of(int(self.groups.stage[self._group(number)]))

    def customer_id_of_call(self, number: int) -> int:
        """The customer's number of one call."""
        return int(self.groups.customer[self._group(number)])

    def customer_ids_of_calls(self, calls: Ints) -> Ints:
        """The customers' numbers of some calls."""
        groups = self.groups.first_call.searchsorted(calls, side="right") - 1
        return self.groups.customer[groups].astype(np.int64)

    def customer_emails_of_calls(self, numbers: Iterable[int]) -> set[str]:
        """Customers of some calls."""
        codes = pa.array(sorted({self.customer_id_of_call(number) for number in numbers}), pa.int64())
        return set(self.all_customer_emails().take(codes).to_pylist())

    def rows_of_pairs(self, rows: Ints) -> tuple[Ints, Ints]:
        """All rows sent of the pairs of these rows, in input order; and of each the last row of its pair."""
        at = np.minimum(np.searchsorted(self.superseded_rows, rows), len(self.superseded_rows) - 1)
        last = (
            np.where(self.superseded_rows[at] == rows, self.superseding_rows[at], rows)
            if len(self.superseded_rows)
            else rows
        )
        pairs = np.unique(last)
        before = np.flatnonzero(np.isin(self.superseding_rows, pairs))
        found, pair = np.append(self.superseded_rows[before], pairs), np.append(self.superseding_rows[before], pairs)
        order = np.argsort(found)
        return found[order], pair[order]

    def has_multiple_calls(self, device: str) -> bool:
        """Could more than one call hold this device? Where so it is never denied."""
        number = hash_texts(pa.array([device]))[0]
        at = int(np.searchsorted(self.multi_call_device_hashes, number))
        return at < len(self.multi_call_device_hashes) and bool(self.multi_call_device_hashes[at] == number)

    def call(self, number: int) -> Call:
        """Make one call (numbers count from 1); cheap, so make it when its turn comes."""
        group, start, end = self._slice(number)
        part = self.parts[self.groups.part[group]]
        stage = int(self.groups.stage[group])
        typed = self.options.auto_create_devices and action_of(stage) is Action.ASSIGN
        return Call(
            number=number,
            stage=stage,
            customer=part.customers[int(self.groups.customer[group]) - part.first_customer].as_py(),
            action=action_of(stage),
            devices=tuple(part.rows["deviceIdentifier"][start:end].to_pylist()),
            device_type=part.types[int(self.groups.type[group])].as_py() if typed else None,
        )

    def calls_by_row(self) -> Iterator[tuple[Ints, Ints]]:
        """Row numbers, and the number of the call that holds each, for all rows sent; some millions at a time.

        To look through all rows of a run for those of a small part would cost as much as for those of a large one.
        """
        rows, calls = [_NO_ROWS], [_NO_ROWS]
        for part, groups in zip(self.parts, self.groups_by_part(), strict=True):
            size = self.groups.size[groups]
            place = np.arange(len(part.numbers)) - np.repeat(self.groups.start[groups], size)
            rows.append(part.numbers)
            calls.append(np.repeat(self.groups.first_call[groups], size) + place // self.options.chunk_size)
            if sum(map(len, rows)) >= _BATCH_ROWS:
                yield np.concatenate(rows), np.concatenate(calls)
                rows, calls = [_NO_ROWS], [_NO_ROWS]
        yield np.concatenate(rows), np.concatenate(calls)

    def stages(self) -> Iterator[Stage]:
        """The stages that have calls, in their order."""
        numbers, cuts = np.unique(self.groups.stage, return_index=True)
        for number, (first, end) in zip(numbers.tolist(), pairwise([*cuts, len(self.groups)]), strict=True):
            calls = range(int(self.groups.first_call[first]), int(self.groups.first_call[end]))
            lanes = self.lanes[np.searchsorted(self.lanes, calls.start) : np.searchsorted(self.lanes, calls.stop) + 1]
            devices = int(self.groups.size[first:end].sum())
            yield Stage(number, action_of(number), Lanes(lanes), len(calls), devices)

    def reach(self, action: Action) -> tuple[int, int]:
        """Return how many devices are sent for an action, each as often as it is, and of how many customers."""
        stages = [number for number in np.unique(self.groups.stage).tolist() if action_of(number) is action]
        concerned = np.isin(self.groups.stage, stages)
        return int(self.groups.size[concerned].sum()), len(np.unique(self.groups.customer[concerned]))

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides which request is sent for which row."""
        digest = hashlib.sha256(repr(self.options).encode())
        for column in (self.groups.stage, self.groups.size, self.groups.checksum):
            digest.update(np.ascontiguousarray(column).data)
        if self.unchanged_source.any():
            digest.update(self.unchanged_source.data)
        if len(self.held):
            digest.update(np.ascontiguousarray(self.held.rows).data)
            digest.update(np.ascontiguousarray(self.held.reason).data)
            digest.update(np.ascontiguousarray(self.held.cause).data)
        return digest.hexdigest()

    def groups_by_part(self) -> Iterator[Ints]:
        """The groups of each part, as their rows stand in it."""
        groups = radix_lexsort([self.groups.start, self.groups.part])
        cuts = np.searchsorted(self.groups.part[groups], np.arange(len(self.parts) + 1))
        return (groups[first:end] for first, end in pairwise(cuts.tolist()))

    def _group(self, number: int) -> int:
        # Not NumPy's own: that lets go of the interpreter, and to get it back takes longer than to search.
        return bisect_right(self.groups.first_call.data, number) - 1

    def _slice(self, number: int) -> tuple[int, int, int]:
        """Group of a call, and which of its part's rows it holds."""
        group = self._group(number)
        nth = number - int(self.groups.first_call[group])
        start = int(self.groups.start[group])
        end = start + min(int(self.groups.size[group]), (nth + 1) * self.options.chunk_size)
        return group, start + nth * self.options.chunk_size, end
