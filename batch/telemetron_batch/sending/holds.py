"""Devices that may still be with a former owner, and the assigns that are held because of them.

Within one process, the scheduler learns of them from answers. Across shards, each shard writes
the devices that it did not release to a file once no process works on its unassigns.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import Answer, DeviceResult, Results
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import Call
from telemetron_batch.domain.outcomes import FAILURES, Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.journal.codec import read_table
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.calls import CallPlan
from telemetron_batch.storage.atomic_file import atomic_write

_SCHEMA = pa.schema([pa.field("customer", pa.string()), pa.field("device", pa.string()), pa.field("open", pa.bool_())])
_COMPLETE = b"complete"


@dataclass(slots=True)
class UnreleasedDevices:
    """Devices that may still be with a former owner, because their unassign did not succeed."""

    _owners: dict[str, set[str]] = field(default_factory=dict)
    _open: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of customer and device whose unassign is not settled."""

    def __bool__(self) -> bool:
        return bool(self._owners)

    @property
    def has_pending(self) -> bool:
        """Whether the unassign of any of these devices is not settled."""
        return bool(self._open)

    def add(self, customer: str, device: str, *, is_open: bool = False) -> None:
        """Record that this customer may still have the device; `is_open` if the unassign is not settled."""
        self._owners.setdefault(device, set()).add(customer)
        if is_open:
            self._open.add((customer, device))

    def record(self, call: Call, answer: Answer) -> None:
        """Record the answer to an unassign. A success releases the pair even if an earlier unassign failed."""
        results = Results.of(answer.results)
        has_failures = not results.counts().keys().isdisjoint(FAILURES)
        for position in results if has_failures or self._owners else ():
            device = call.devices[position]
            if has_failures and may_still_be_held(results[position]):
                self.add(call.customer, device)
            elif device in self._owners:
                self._release(call.customer, device)

    def _release(self, customer: str, device: str) -> None:
        self._owners[device].discard(customer)
        if not self._owners[device]:
            del self._owners[device]

    def pairs(self) -> list[tuple[str, str, bool]]:
        """Return customer, device and whether the unassign is open, sorted by customer and device."""
        pairs = sorted((customer, device) for device, owners in self._owners.items() for customer in owners)
        return [(*pair, pair in self._open) for pair in pairs]

    def former_owner(self, customer: str, device: str) -> str | None:
        """Return who may still have the device that this customer is to get; None if nobody.

        This can be the customer itself, if an open unassign would take the device away after the assign.
        """
        others = self._owners.get(device, set()) - {customer}
        return min(others, default=customer if (customer, device) in self._open else None)


def may_still_be_held(result: DeviceResult) -> bool:
    """Return whether a customer may still have a device after an unassign with this result.

    A customer who does not exist has no device.
    """
    if result.outcome is Outcome.FAILED:
        return result.reason is not Reason.CUSTOMER_NOT_FOUND
    return result.outcome in FAILURES


@dataclass(frozen=True, slots=True)
class UnreleasedReport:
    """The unreleased devices of a shard's unassigns, while no process works on them."""

    complete: bool
    """Whether all unassigns are settled, so that the report is final."""
    pairs: pa.Table
    """`customer` and `device` of each unassign that did not succeed or, if `open`, is not settled."""

    def write(self, path: Path) -> None:
        """Write the report to a file. Raises DiskError."""
        schema = _SCHEMA.with_metadata({_COMPLETE: b"1" if self.complete else b"0"})
        with atomic_write(path) as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_table(self.pairs.cast(schema))

    @classmethod
    def read(cls, path: Path) -> "UnreleasedReport | None":
        """Read a report from a file; return None without one. Raises JournalError if it is damaged."""
        advice = f"move {path} away: its content is then read from the shard's journal"
        try:
            table = read_table(path)
        except FileNotFoundError:
            return None
        except JournalError as exc:
            raise JournalError(exc.reason, advice) from exc
        facts = table.schema.metadata or {}
        if _COMPLETE not in facts:
            raise JournalError(f"{path} is damaged", advice)
        complete = facts[_COMPLETE] == b"1"
        if "open" not in table.schema.names:  # written by an earlier version
            table = table.append_column("open", pa.repeat(not complete, len(table)))
        return cls(complete, table)


def collect_unreleased(unassigns: CallPlan, journal: Journal | None) -> UnreleasedReport:
    """Return the unreleased devices of these calls according to the journal; without a journal, all devices."""
    unreleased, settled = UnreleasedDevices(), defaultdict[int, set[int]](set)
    for recorded in journal.recorded_answers() if journal else ():
        if unassigns.includes(recorded.call):
            settled[recorded.call].update(recorded.answer.results)
            unreleased.record(unassigns.call(recorded.call), recorded.answer)
    is_open = [number for number in _numbers(unassigns) if len(settled[number]) < unassigns.size_of(number)]
    for number in is_open:
        call = unassigns.call(number)
        for at in {*range(len(call.devices))} - settled[number]:
            unreleased.add(call.customer, call.devices[at], is_open=True)
    columns = [*zip(*unreleased.pairs(), strict=True)] or [()] * len(_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return UnreleasedReport(not is_open, pa.table(arrays, schema=_SCHEMA))


def _numbers(calls: CallPlan) -> Iterator[int]:
    return (number for stage in calls.stages() for lane in stage.lanes for number in lane)


def release_resolved_holds(journal: Journal, calls: CallPlan, reports: Sequence[UnreleasedReport]) -> None:
    """Delete results `held` whose devices have been released since, so that their assigns are sent.

    `reports` are the reports of other shards; the journal's own answers are added.
    """
    held = [
        (number, calls.call(one.call), one.answer)
        for number, one in journal.results_without_attempt()
        if _is_hold(one.answer)
    ]
    if not held:
        return
    unreleased = unreleased_among(
        reports, pa.array({call.devices[at] for _, call, answer in held for at in answer.results})
    )
    for recorded in journal.recorded_answers():
        call = calls.call(recorded.call)
        if call.action is Action.UNASSIGN:
            unreleased.record(call, recorded.answer)
    free = [
        number
        for number, call, answer in held
        if any(unreleased.former_owner(call.customer, call.devices[at]) is None for at in answer.results)
    ]
    journal.delete_results(free)


@dataclass(frozen=True, slots=True)
class StaleResult:
    """A result "customer not found" recorded by an earlier process."""

    number: int
    """Number of the result in the journal."""
    call: Call
    kept: Answer | None
    """The part to keep: devices that the run has assigned to the customer since. None if there are none."""


def unknown_customers(journal: Journal, calls: CallPlan) -> list[StaleResult]:
    """Return the results "customer not found" that earlier processes recorded.

    They are sent again, because the customer may exist by now and hold a device that the run is
    about to assign to another customer. Devices that the run has assigned to the customer since are
    kept: sending their unassign again would take them away.
    """
    unknown = [
        (number, calls.call(one.call), one.answer)
        for number, one in journal.numbered_answers()
        if calls.includes(one.call) and Results.of(one.answer.results).has_reason(Reason.CUSTOMER_NOT_FOUND)
    ]
    pairs = {
        (call.customer, device) for _, call, _ in unknown for device in call.devices if calls.has_multiple_calls(device)
    }
    assigned = _last_assigns(journal, calls, pairs)
    return [StaleResult(number, call, _superseded_part(call, answer, assigned)) for number, call, answer in unknown]


def reopen_results(journal: Journal, stale: Iterable[StaleResult]) -> None:
    """Delete results, except for the part to keep of each, so that their devices are sent again."""
    journal.shorten({one.number: one.kept for one in stale})


@dataclass(slots=True)
class OpenCalls:
    """Customers and devices of calls that are not settled."""

    customers: set[str] = field(default_factory=set)
    """Customers of open unassigns."""
    devices: set[str] = field(default_factory=set)
    """Devices of open assigns."""

    @classmethod
    def of(cls, calls: CallPlan, settled: Mapping[int, int]) -> "OpenCalls":
        """Return the open calls of a plan; `settled` is the number of settled devices by call."""
        open_calls = cls()
        for number in _numbers(calls):
            if settled.get(number, 0) < calls.size_of(number):
                call = calls.call(number)
                if call.action is Action.UNASSIGN:
                    open_calls.customers.add(call.customer)
                else:
                    open_calls.devices.update(call.devices)
        return open_calls

    def depend_on(self, call: Call) -> bool:
        """Return whether any open call depends on the result of this unassign."""
        return call.customer in self.customers or not self.devices.isdisjoint(call.devices)


def _last_assigns(journal: Journal, calls: CallPlan, pairs: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the last stage in which the run tried to assign each of these pairs of customer and device."""
    last: dict[tuple[str, str], int] = {}
    for number, _ in journal.last_attempts() if pairs else ():
        call = calls.call(number)
        if call.action is Action.ASSIGN:
            tried = pairs & {(call.customer, device) for device in call.devices}
            last.update((pair, max(call.stage, last.get(pair, 0))) for pair in tried)
    return last


def _superseded_part(call: Call, answer: Answer, assigned: Mapping[tuple[str, str], int]) -> Answer | None:
    """Return the part of an unassign's answer about devices that a later stage has assigned; None if empty."""
    results = {
        at: result
        for at, result in answer.results.items()
        if assigned.get((call.customer, call.devices[at]), 0) > call.stage
    }
    return replace(answer, results=results) if results else None


def unreleased_among(reports: Sequence[UnreleasedReport], devices: pa.Array) -> UnreleasedDevices:
    """Return which of these devices the reports contain."""
    unreleased = UnreleasedDevices()
    for report in reports:
        matching = report.pairs.filter(pc.is_in(report.pairs["device"], devices))
        for customer, device, is_open in zip(*(column.to_pylist() for column in matching.columns), strict=True):
            unreleased.add(customer, device, is_open=is_open)
    return unreleased


def _is_hold(answer: Answer) -> bool:
    return all(result.outcome is Outcome.HELD for result in answer.results.values())
