"""The plan of a run: which rows are sent, in which order, and in which calls.

The rows stay as they were grouped; `Plan.call` makes a `Call` from them when it is needed.
The same rows and options always give the same plan, independent of the number of
partitions; `Plan.fingerprint` proves it.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.model import Call, PlanOptions
from telemetron_batch.planning.calls import Stage, action_of
from telemetron_batch.planning.held_rows import AllSpellingVariants, HeldRows
from telemetron_batch.planning.ordering import Groups, Lanes
from telemetron_batch.planning.radix import radix_lexsort
from telemetron_batch.rows.rows import Rows
from telemetron_batch.storage.text_hash import Hashes, encode_texts, hash_texts

_NO_ROWS: Final = np.empty(0, np.int64)
_BATCH_ROWS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class PlanPartition:
    """The rows of some customers that are sent: `row` and `deviceIdentifier`, group after group."""

    rows: pa.RecordBatch
    customers: pa.Array
    types: pa.Array
    first_customer: int
    """Number of the first of these customers."""

    @property
    def numbers(self) -> Ints:
        """Row numbers."""
        numbers: Ints = self.rows["row"].to_numpy()
        return numbers


@dataclass(frozen=True, slots=True)
class RowsToSend:
    """Customer and device of every row that is sent, as numbers, in input order.

    customer   number of the customer, as in `Plan.customer_number_of_call`
    device     index into `devices`, which are distinct texts
    """

    rows: Ints
    customer: Ints
    device: Ints
    devices: pa.Array

    def only(self, chosen: npt.NDArray[np.bool_] | Ints) -> "RowsToSend":
        """Return the chosen rows, given as flags or as positions."""
        return RowsToSend(self.rows[chosen], self.customer[chosen], self.device[chosen], self.devices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Which rows are sent, in which order, cut into which calls."""

    rows: Rows
    options: PlanOptions
    partitions: Sequence[PlanPartition]
    groups: Groups
    confirmed_by: Ints
    """By row: the number of the earlier run that confirmed it, so that it is not sent; else 0."""
    superseded_rows: Ints
    superseding_rows: Ints
    """Rows that a later row of the same pair supersedes, in input order, and the last row of each one's pair."""
    lane_bounds: Ints
    """Number of the first call of each lane, then the number after the last call."""
    duplicate_rows: Ints
    original_rows: Ints
    """Rows that repeat an earlier one, in input order, and the row that each repeats."""
    transfer_unassigns: Ints
    transfer_assigns: Ints
    """The two rows of each transfer of a device from one customer to another, in input order of the assigns."""
    multi_call_device_hashes: Hashes
    """Sorted hashes of the devices that are sent several times; may also contain devices of held rows."""
    held: HeldRows
    """Assigns that are not sent because of other rows of the input."""
    spelling_variants: AllSpellingVariants
    """Identifiers that occur in the input in several spellings."""

    @property
    def calls(self) -> int:
        """Number of calls."""
        return int(self.groups.first_call[-1]) - 1

    @property
    def rows_for_percent_limits(self) -> int:
        """Number of valid rows, from which percent limits of rows are calculated."""
        return int(np.count_nonzero(self.rows.problem == 0))

    @property
    def unassign_rows(self) -> int:
        """Number of unassign rows that are sent, from which percent limits of unassigns are calculated."""
        return sum(stage.devices for stage in self.stages() if stage.action is Action.UNASSIGN)

    def includes(self, number: int) -> bool:
        """Return whether a call has this number."""
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
        """Number of customers that have at least one call."""
        return sum(len(part.customers) for part in self.partitions)

    def all_customer_emails(self) -> pa.Array:
        """Return the email of each customer, by customer number."""
        return pa.concat_arrays(
            [pa.array([], pa.string()), *(part.customers.cast(pa.string()) for part in self.partitions)]
        )

    def sent_keys(self) -> RowsToSend:
        """Return the keys of all rows that are sent; uses memory for the device texts and about 50 bytes a row."""
        customers = (
            np.repeat(self.groups.customer[groups], self.groups.size[groups]) for groups in self.groups_by_part()
        )
        rows = np.concatenate([_NO_ROWS, *(part.numbers for part in self.partitions)])
        texts = pa.chunked_array([part.rows["deviceIdentifier"] for part in self.partitions], pa.string())
        device, devices = encode_texts(texts.combine_chunks())
        order = np.argsort(rows)
        customer = np.concatenate([_NO_ROWS, *customers])
        return RowsToSend(rows[order], customer[order], device[order], devices)

    def original_of(self, first: int, end: int) -> Ints:
        """Return for each row of a range the row that it repeats, or -1."""
        within = slice(*np.searchsorted(self.duplicate_rows, (first, end)))
        original = np.full(end - first, -1)
        original[self.duplicate_rows[within] - first] = self.original_rows[within]
        return original

    def size_of(self, number: int) -> int:
        """Return the number of devices of a call."""
        _, start, end = self._slice(number)
        return end - start

    def rows_of(self, number: int) -> Ints:
        """Return the row numbers of a call, in the order of its devices."""
        group, start, end = self._slice(number)
        rows: Ints = self.partitions[self.groups.part[group]].numbers[start:end]
        return rows

    def rows_at(self, calls: Ints, places: Ints) -> Ints:
        """Return the row numbers of devices, each given by its call and its position in that call."""
        group = self.groups.first_call.searchsorted(calls, side="right") - 1
        nth = calls - self.groups.first_call[group]
        position = self.groups.start[group] + nth * self.options.chunk_size + places
        part = self.groups.part[group].astype(np.int16)
        order = np.argsort(part, kind="stable")
        cuts = np.searchsorted(part[order], np.arange(len(self.partitions) + 1)).tolist()
        rows = np.empty(len(position), np.int64)
        for number, (first, end) in enumerate(pairwise(cuts)):
            in_part = order[first:end]
            rows[in_part] = self.partitions[number].numbers[position[in_part]]
        return rows

    def sizes(self) -> Ints:
        """Return the number of devices of each call."""
        calls = np.diff(self.groups.first_call)
        nth = np.arange(self.calls) - np.repeat(self.groups.first_call[:-1] - 1, calls)
        remaining: Ints = np.repeat(self.groups.size, calls) - nth * self.options.chunk_size
        return np.minimum(remaining, self.options.chunk_size)

    def action_of_call(self, number: int) -> Action:
        """Return the action of a call."""
        return action_of(int(self.groups.stage[self._group(number)]))

    def customer_number_of_call(self, number: int) -> int:
        """Return the number of the customer of a call."""
        return int(self.groups.customer[self._group(number)])

    def customer_numbers_of_calls(self, calls: Ints) -> Ints:
        """Return the number of the customer of each call."""
        groups = self.groups.first_call.searchsorted(calls, side="right") - 1
        return self.groups.customer[groups].astype(np.int64)

    def customer_emails_of_calls(self, numbers: Iterable[int]) -> set[str]:
        """Return the emails of the customers of some calls."""
        codes = pa.array(sorted({self.customer_number_of_call(number) for number in numbers}), pa.int64())
        return set(self.all_customer_emails().take(codes).to_pylist())

    def rows_of_pairs(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return all sent rows of the pairs of these rows, in input order, and the last row of each one's pair."""
        last_rows = rows
        if len(self.superseded_rows):
            at = np.minimum(np.searchsorted(self.superseded_rows, rows), len(self.superseded_rows) - 1)
            last_rows = np.where(self.superseded_rows[at] == rows, self.superseding_rows[at], rows)
        last_rows = np.unique(last_rows)
        earlier = np.flatnonzero(np.isin(self.superseding_rows, last_rows))
        found = np.append(self.superseded_rows[earlier], last_rows)
        last_of_pair = np.append(self.superseding_rows[earlier], last_rows)
        order = np.argsort(found)
        return found[order], last_of_pair[order]

    def has_multiple_calls(self, device: str) -> bool:
        """Return whether several calls may contain this device. May give false positives, never false negatives."""
        device_hash = hash_texts(pa.array([device]))[0]
        at = int(np.searchsorted(self.multi_call_device_hashes, device_hash))
        return at < len(self.multi_call_device_hashes) and bool(self.multi_call_device_hashes[at] == device_hash)

    def call(self, number: int) -> Call:
        """Make a call (numbers count from 1). This is cheap, so make it only when it is sent."""
        group, start, end = self._slice(number)
        part = self.partitions[self.groups.part[group]]
        stage = int(self.groups.stage[group])
        by_device_type = self.options.auto_create_devices and action_of(stage).facts.may_create
        return Call(
            number=number,
            stage=stage,
            customer=part.customers[int(self.groups.customer[group]) - part.first_customer].as_py(),
            action=action_of(stage),
            devices=tuple(part.rows["deviceIdentifier"][start:end].to_pylist()),
            device_type=part.types[int(self.groups.type[group])].as_py() if by_device_type else None,
        )

    def calls_by_row(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield the numbers of all rows that are sent and the call of each, some millions at a time.

        Always passes over all rows: do not use it to find the rows of a few calls.
        """
        rows, calls = [_NO_ROWS], [_NO_ROWS]
        for part, groups in zip(self.partitions, self.groups_by_part(), strict=True):
            size = self.groups.size[groups]
            place = np.arange(len(part.numbers)) - np.repeat(self.groups.start[groups], size)
            rows.append(part.numbers)
            calls.append(np.repeat(self.groups.first_call[groups], size) + place // self.options.chunk_size)
            if sum(map(len, rows)) >= _BATCH_ROWS:
                yield np.concatenate(rows), np.concatenate(calls)
                rows, calls = [_NO_ROWS], [_NO_ROWS]
        yield np.concatenate(rows), np.concatenate(calls)

    def stages(self) -> Iterator[Stage]:
        """Yield the stages that have calls, in order."""
        numbers, cuts = np.unique(self.groups.stage, return_index=True)
        for number, (first, end) in zip(numbers.tolist(), pairwise([*cuts, len(self.groups)]), strict=True):
            calls = range(int(self.groups.first_call[first]), int(self.groups.first_call[end]))
            lanes = self.lane_bounds[
                np.searchsorted(self.lane_bounds, calls.start) : np.searchsorted(self.lane_bounds, calls.stop) + 1
            ]
            devices = int(self.groups.size[first:end].sum())
            yield Stage(number, action_of(number), Lanes(lanes), len(calls), devices)

    def returning_calls(self) -> Collection[int]:
        """Return the calls with a pair on which a later call acts again. Passes over all rows if there is any."""
        if not len(self.superseded_rows):
            return ()
        found = [calls[np.isin(rows, self.superseded_rows)] for rows, calls in self.calls_by_row()]
        numbers: list[int] = np.unique(np.concatenate(found)).tolist()
        return numbers

    def affected_counts(self, action: Action) -> tuple[int, int]:
        """Return the number of rows that are sent for an action, and the number of customers they concern."""
        stages = [number for number in np.unique(self.groups.stage).tolist() if action_of(number) is action]
        of_action = np.isin(self.groups.stage, stages)
        is_affected = np.zeros(self.customers, np.bool_)
        is_affected[self.groups.customer[of_action]] = True
        return int(self.groups.size[of_action].sum()), int(np.count_nonzero(is_affected))

    def fingerprint(self) -> str:
        """Return the SHA-256 of everything that decides which request is sent for which row."""
        digest = hashlib.sha256(repr(self.options).encode())
        for column in (self.groups.stage, self.groups.size, self.groups.checksum):
            digest.update(np.ascontiguousarray(column).data)
        if self.confirmed_by.any():
            digest.update(self.confirmed_by.data)
        if len(self.held):
            digest.update(np.ascontiguousarray(self.held.rows).data)
            digest.update(np.ascontiguousarray(self.held.reason).data)
            digest.update(np.ascontiguousarray(self.held.cause).data)
        return digest.hexdigest()

    def groups_by_part(self) -> Iterator[Ints]:
        """Yield for each partition its groups, in the order of their rows in it."""
        groups = radix_lexsort([self.groups.start, self.groups.part])
        cuts = np.searchsorted(self.groups.part[groups], np.arange(len(self.partitions) + 1))
        return (groups[first:end] for first, end in pairwise(cuts.tolist()))

    def _group(self, number: int) -> int:
        # NumPy's searchsorted releases the GIL; to get it back takes longer than this search.
        return bisect_right(self.groups.first_call.data, number) - 1

    def _slice(self, number: int) -> tuple[int, int, int]:
        """Return the group of a call, and the first row and the end of its rows in the partition."""
        group = self._group(number)
        nth = number - int(self.groups.first_call[group])
        start = int(self.groups.start[group])
        end = start + min(int(self.groups.size[group]), (nth + 1) * self.options.chunk_size)
        return group, start + nth * self.options.chunk_size, end
