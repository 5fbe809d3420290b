"""Rows in, calls out: which row goes into which call of which stage.

The rows are gone through twice, part by part: by device for what repeats and for the
stages (`staging`), then by customer for what may share a call (`grouping`); the groups
are then put in order (`ordering`). Knows no network and no answer. The same rows and
options always give the same plan, into however many parts they were spread, and
`Plan.fingerprint` proves it.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch.model import ACTIONS, Action, Call, PlanOptions
from batch.planning.grouping import Grouped, group_rows
from batch.planning.ordering import Groups, GroupsBuilder, Lanes, in_sending_order
from batch.planning.staging import Staged, stage_rows
from batch.rows import Rows
from batch.storage.hashed import Hashes, hash_texts
from batch.storage.scratch import Column, Scratch, Spread, forget, in_one, kept

Ints = npt.NDArray[np.int64]
_Found = TypeVar("_Found")
_NO_ROWS: Final = np.empty(0, np.int64)
_AT_A_TIME: Final = 2
"""Parts that are gone through side by side; each takes memory."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Calls that may run together, as lanes: the calls of a lane go one after another.

    A lane is one customer, because an unknown customer is created by the first of its
    calls. Customers that share a device which may have to be created share a lane.
    """

    number: int
    action: Action
    lanes: Sequence[range]
    """Call numbers, the longest lane first."""
    calls: int
    devices: int


class Calls(Protocol):
    """What sending needs of a plan, or of the part of one that a process has to make."""

    @property
    def calls(self) -> int:
        """Number of calls."""

    @property
    def counted_rows(self) -> int:
        """Number of rows of which a share is meant where one is given."""

    def has(self, number: int) -> bool:
        """Is it one of the calls to be made? Others that `call` knows may have been made before."""

    def stages(self) -> Iterator[Stage]:
        """The stages that have calls, in their order."""

    def call(self, number: int) -> Call:
        """Make one call."""

    def size_of(self, number: int) -> int:
        """Number of devices of one call."""

    def customers_of(self, numbers: Iterable[int]) -> set[str]:
        """Customers of some calls."""

    def may_be_sent_again(self, device: str) -> bool:
        """Could more than one call to a customer hold this device? Where so it is never denied."""


@dataclass(frozen=True, slots=True)
class Part:
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
class SentKeys:
    """Customer and device of every row sent as numbers, in input order.

    customer   as `Plan.customer_of` gives it
    device     place among `devices`, which are distinct texts
    """

    rows: Ints
    customer: Ints
    device: Ints
    devices: pa.Array

    def only(self, chosen: npt.NDArray[np.bool_] | Ints) -> "SentKeys":
        """Those of some rows, flagged or by their places."""
        return SentKeys(self.rows[chosen], self.customer[chosen], self.device[chosen], self.devices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Which rows are sent, in which order, cut into which calls."""

    rows: Rows
    options: PlanOptions
    parts: Sequence[Part]
    groups: Groups
    left_out: Ints
    """By row: 0, or why it is not sent: the number of the run that settled it."""
    told_again: Ints
    last: Ints
    """Rows whose pair a later row tells otherwise, in input order, and the last row of each one's pair."""
    lanes: Ints
    """Number of the first call of each lane, and the one after the last call."""
    duplicates: int
    """Rows that repeat another."""
    taken: Ints
    given: Ints
    """Transfers in input order: rows by which a device leaves one customer, and comes to another."""
    _repeated: Ints
    _devices_again: Hashes

    @property
    def calls(self) -> int:
        """Number of calls."""
        return int(self.groups.first_call[-1]) - 1

    @property
    def counted_rows(self) -> int:
        """Number of rows of which a share is meant where one is given."""
        return len(self.rows)

    def has(self, number: int) -> bool:
        """Is there such a call?"""
        return 1 <= number <= self.calls

    @property
    def sent(self) -> int:
        """Number of rows that go into calls."""
        return int(self.groups.size.sum())

    @property
    def customers(self) -> int:
        """Number of customers that at least one call concerns."""
        return sum(len(part.customers) for part in self.parts)

    def customer_names(self) -> pa.Array:
        """The customers by their numbers."""
        return pa.concat_arrays([pa.array([], pa.string()), *(part.customers.cast(pa.string()) for part in self.parts)])

    def sent_keys(self) -> "SentKeys":
        """The keys of all rows sent, in memory; takes as much as the devices' texts and some 50 bytes a row."""
        customers = (
            np.repeat(self.groups.customer[groups], self.groups.size[groups])
            for groups in map(self.groups_of, range(len(self.parts)))
        )
        rows = np.concatenate([_NO_ROWS, *(part.numbers for part in self.parts)])
        texts = pa.chunked_array([part.rows["deviceIdentifier"] for part in self.parts], pa.string())
        devices = texts.combine_chunks().dictionary_encode()
        order = np.argsort(rows)
        codes = devices.indices.to_numpy().astype(np.int64)
        customer = np.concatenate([_NO_ROWS, *customers])
        return SentKeys(rows[order], customer[order], codes[order], devices.dictionary)

    def repeated(self, first: int, end: int) -> Ints:
        """For each row of a range the row that it repeats, or -1."""
        return np.asarray(self._repeated[first:end] - 1)

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

    def customer_of(self, number: int) -> int:
        """The customer's number of one call."""
        return int(self.groups.customer[self._group(number)])

    def customers_at(self, calls: Ints) -> Ints:
        """The customers' numbers of some calls."""
        groups = self.groups.first_call.searchsorted(calls, side="right") - 1
        return self.groups.customer[groups].astype(np.int64)

    def customers_of(self, numbers: Iterable[int]) -> set[str]:
        """Customers of some calls."""
        codes = pa.array(sorted({self.customer_of(number) for number in numbers}), pa.int64())
        return set(self.customer_names().take(codes).to_pylist())

    def rows_of_pairs(self, rows: Ints) -> tuple[Ints, Ints]:
        """All rows sent of the pairs of these rows, in input order; and of each the last row of its pair."""
        at = np.minimum(np.searchsorted(self.told_again, rows), len(self.told_again) - 1)
        last = np.where(self.told_again[at] == rows, self.last[at], rows) if len(self.told_again) else rows
        pairs = np.unique(last)
        before = np.flatnonzero(np.isin(self.last, pairs))
        found, pair = np.append(self.told_again[before], pairs), np.append(self.last[before], pairs)
        order = np.argsort(found)
        return found[order], pair[order]

    def may_be_sent_again(self, device: str) -> bool:
        """Could more than one call hold this device? Where so it is never denied."""
        number = hash_texts(pa.array([device]))[0]
        at = int(np.searchsorted(self._devices_again, number))
        return at < len(self._devices_again) and bool(self._devices_again[at] == number)

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
        """Row numbers, and the number of the call that holds each, for all rows sent; some at a time."""
        for number, part in enumerate(self.parts):
            groups = self.groups_of(number)
            size = self.groups.size[groups]
            place = np.arange(len(part.numbers)) - np.repeat(self.groups.start[groups], size)
            yield part.numbers, np.repeat(self.groups.first_call[groups], size) + place // self.options.chunk_size

    def stages(self) -> Iterator[Stage]:
        """The stages that have calls, in their order."""
        numbers, cuts = np.unique(self.groups.stage, return_index=True)
        for number, (first, end) in zip(numbers.tolist(), pairwise([*cuts, len(self.groups)]), strict=True):
            calls = range(int(self.groups.first_call[first]), int(self.groups.first_call[end]))
            lanes = self.lanes[np.searchsorted(self.lanes, calls.start) : np.searchsorted(self.lanes, calls.stop) + 1]
            devices = int(self.groups.size[first:end].sum())
            yield Stage(number, action_of(number), Lanes(lanes), len(calls), devices)

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides which request is sent for which row."""
        digest = hashlib.sha256(repr(self.options).encode())
        for column in (self.groups.stage, self.groups.size, self.groups.checksum):
            digest.update(np.ascontiguousarray(column).data)
        if self.left_out.any():
            digest.update(self.left_out.data)
        return digest.hexdigest()

    def groups_of(self, part: int) -> Ints:
        """The groups of a part, as their rows stand in it."""
        groups = np.flatnonzero(self.groups.part == part)
        return groups[np.argsort(self.groups.start[groups])]

    def _group(self, number: int) -> int:
        return int(self.groups.first_call.searchsorted(number, side="right")) - 1

    def _slice(self, number: int) -> tuple[int, int, int]:
        """Group of a call, and which of its part's rows it holds."""
        group = self._group(number)
        nth = number - int(self.groups.first_call[group])
        start = int(self.groups.start[group])
        end = start + min(int(self.groups.size[group]), (nth + 1) * self.options.chunk_size)
        return group, start + nth * self.options.chunk_size, end


def plan_calls(rows: Rows, options: PlanOptions, left_out: Ints | None = None) -> Plan:
    """Put every valid row into a call of the earliest stage that the order of the file allows.

    `left_out` gives a number, not 0, to rows that shall not be sent, as in `stage_rows`.
    Takes the keys out of `rows`. The plan may be used as long as their scratch is there.
    """
    scratch = rows.scratch
    staged = _StagedRows(scratch, len(rows))
    for some in _side_by_side(lambda table: stage_rows(in_one(table), left_out), rows.keys.parts()):
        staged.add(some)
    parts: list[Part] = []
    groups = GroupsBuilder(scratch)
    typed = options.auto_create_devices
    for grouped in _side_by_side(lambda table: group_rows(in_one(table), typed=typed), staged.sent.parts()):
        parts.append(_part(grouped, parts, scratch))
        groups.add(grouped.groups, parts[-1].first_customer)
    linked = np.concatenate(staged.linked) if options.auto_create_devices and staged.linked else None
    ordered, lanes = in_sending_order(groups.columns(), linked, options.chunk_size)
    given = staged.given.array()
    by_given = np.argsort(given, kind="stable")
    told_again = staged.told_again.array()
    by_row = np.argsort(told_again)
    return Plan(
        rows=rows,
        options=options,
        parts=parts,
        groups=ordered,
        lanes=lanes,
        duplicates=staged.duplicates,
        left_out=staged.left_out(left_out),
        told_again=told_again[by_row],
        last=staged.last.array()[by_row],
        taken=staged.taken.array()[by_given],
        given=given[by_given],
        _repeated=staged.repeated,
        _devices_again=np.sort(staged.devices_again.array()),
    )


def _side_by_side(work: Callable[[pa.Table], _Found], tables: Iterable[pa.Table]) -> Iterator[_Found]:
    """What the work gives for each part, in their order, a few of them at a time."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        coming: deque[Future[_Found]] = deque()
        for table in tables:
            coming.append(pool.submit(work, table))
            if len(coming) > _AT_A_TIME:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


@dataclass(slots=True)
class _StagedRows:
    """What the parts by device come to, together."""

    scratch: Scratch
    rows: int
    sent: Spread = field(init=False)
    repeated: Ints = field(init=False)
    """By row: 1 more than the row that it repeats, or 0."""
    told_again: Column = field(init=False)
    last: Column = field(init=False)
    taken: Column = field(init=False)
    given: Column = field(init=False)
    devices_again: Column = field(init=False)
    linked: list[Hashes] = field(default_factory=list)
    duplicates: int = 0

    def __post_init__(self) -> None:
        self.sent = Spread(self.scratch)
        self.repeated = self.scratch.array(self.rows, np.int64)
        self.taken, self.given = Column(self.scratch, np.int64), Column(self.scratch, np.int64)
        self.told_again, self.last = Column(self.scratch, np.int64), Column(self.scratch, np.int64)
        self.devices_again = Column(self.scratch, np.uint64)

    def add(self, staged: Staged) -> None:
        self.sent.add(staged.rows, staged.customers, staged.sent)
        self.repeated[staged.repeats] = staged.origins + 1
        forget(self.repeated)
        self.duplicates += len(staged.repeats)
        self.told_again.add(staged.told_again)
        self.last.add(staged.last)
        self.taken.add(staged.taken)
        self.given.add(staged.given)
        self.devices_again.add(staged.devices_again)
        self.linked.append(staged.linked)

    def left_out(self, numbers: Ints | None) -> Ints:
        """The numbers of the rows that are left out; a duplicate is one all the same."""
        if numbers is None:
            return np.broadcast_to(np.int64(0), self.rows)
        return np.where(self.repeated == 0, numbers, 0)


def _part(grouped: Grouped, former: Sequence[Part], scratch: Scratch) -> Part:
    first = former[-1].first_customer + len(former[-1].customers) if former else 0
    return Part(kept(scratch, grouped.rows), grouped.customers, grouped.types, first)


def action_of(stage: int) -> Action:
    """What all calls of a stage ask for."""
    return Action.UNASSIGN if stage % 2 else Action.ASSIGN


assert len(ACTIONS) == 2, "stages alternate between two actions"  # noqa: S101 - a third action needs a new plan
