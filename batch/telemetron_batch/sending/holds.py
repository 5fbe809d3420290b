"""Devices that may still sit with a former owner, and what was held because of them.

Within one process the runner learns of them as answers come. Shards tell one another: what
a shard has left behind is written to a file once its unassigns are at rest.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import Answer, Call, DeviceResult, Results
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
    """Devices that may still sit with a former owner, because their unassign did not succeed."""

    _owners: dict[str, set[str]] = field(default_factory=dict)
    _open: set[tuple[str, str]] = field(default_factory=set)
    """Customer and device of those whose unassign is not settled."""

    def __bool__(self) -> bool:
        return bool(self._owners)

    @property
    def has_pending(self) -> bool:
        """Is one of them yet to be taken from its owner?"""
        return bool(self._open)

    def add(self, customer: str, device: str, *, is_open: bool = False) -> None:
        """This customer may still have the device; `is_open` if to take it from them is yet to come."""
        self._owners.setdefault(device, set()).add(customer)
        if is_open:
            self._open.add((customer, device))

    def record(self, call: Call, answer: Answer) -> None:
        """Hear what an unassign came to. A later unassign of the pair that succeeds ends what an earlier one began."""
        results = Results.of(answer.results)
        has_failures = not results.counts().keys().isdisjoint(FAILURES)
        for position in results if has_failures or self._owners else ():
            device = call.devices[position]
            if has_failures and may_still_be_held(results[position]):
                self.add(call.customer, device)
            elif device in self._owners:
                self._let_go(call.customer, device)

    def _let_go(self, customer: str, device: str) -> None:
        self._owners[device].discard(customer)
        if not self._owners[device]:
            del self._owners[device]

    def pairs(self) -> list[tuple[str, str, bool]]:
        """Customer, device and whether it is open, in an order that says nothing of the one in which they came."""
        pairs = sorted((customer, device) for device, owners in self._owners.items() for customer in owners)
        return [(*pair, pair in self._open) for pair in pairs]

    def former_owner(self, customer: str, device: str) -> str | None:
        """Who may still have the device that this customer is to have; None if all is clear.

        The customer too, if it is yet to be taken from them: it would be so after it was given.
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
    """What the unassigns of a shard have left behind, when nobody is at work on them."""

    complete: bool
    """Is every one of them settled? Then it is the last word."""
    pairs: pa.Table
    """`customer` and `device` of each that did not succeed, or is not settled, which `open` says."""

    def write(self, path: Path) -> None:
        """Put it into a file. Raises DiskError."""
        schema = _SCHEMA.with_metadata({_COMPLETE: b"1" if self.complete else b"0"})
        with atomic_write(path) as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_table(self.pairs.cast(schema))

    @classmethod
    def read(cls, path: Path) -> "UnreleasedReport | None":
        """What a file holds; None without one. Raises JournalError where it is damaged."""
        advice = f"move {path} away: what it tells is then read off the shard's journal"
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
    """What these calls have left behind, as the journal has it; without one, all of it."""
    stuck, settled = UnreleasedDevices(), defaultdict[int, set[int]](set)
    for settlement in journal.settlements() if journal else ():
        if unassigns.includes(settlement.call):
            settled[settlement.call].update(settlement.answer.results)
            stuck.record(unassigns.call(settlement.call), settlement.answer)
    is_open = [number for number in _numbers(unassigns) if len(settled[number]) < unassigns.size_of(number)]
    for number in is_open:
        call = unassigns.call(number)
        for at in {*range(len(call.devices))} - settled[number]:
            stuck.add(call.customer, call.devices[at], is_open=True)
    columns = [*zip(*stuck.pairs(), strict=True)] or [()] * len(_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return UnreleasedReport(not is_open, pa.table(arrays, schema=_SCHEMA))


def _numbers(calls: CallPlan) -> Iterator[int]:
    return (number for stage in calls.stages() for lane in stage.lanes for number in lane)


def release_resolved_holds(journal: Journal, calls: CallPlan, left: Sequence[UnreleasedReport]) -> None:
    """Take back what was held because of devices that are free by now: it was never sent, and is decided anew.

    `left` is what is known from elsewhere; what the journal itself says is added.
    """
    held = [
        (number, calls.call(one.call), one.answer)
        for number, one in journal.results_without_attempt()
        if _is_hold(one.answer)
    ]
    if not held:
        return
    stuck = unreleased_among(left, pa.array({call.devices[at] for _, call, answer in held for at in answer.results}))
    for settlement in journal.settlements():
        call = calls.call(settlement.call)
        if call.action is Action.UNASSIGN:
            stuck.record(call, settlement.answer)
    free = [
        number
        for number, call, answer in held
        if any(stuck.former_owner(call.customer, call.devices[at]) is None for at in answer.results)
    ]
    journal.delete_results(free)


@dataclass(frozen=True, slots=True)
class StaleResult:
    """A result by which an earlier process heard that the API does not know a customer."""

    number: int
    """In the journal."""
    call: Call
    kept: Answer | None
    """What is to stay of it, None for nothing: devices that the run has assigned to the customer since."""


def unknown_customers(journal: Journal, calls: CallPlan) -> list[StaleResult]:
    """Return the results by which earlier processes heard that the API does not know a customer.

    The customer may be back. Asked again, no device is given to another one on old news. But a device that
    the run has assigned to the customer since would be taken from them again.
    """
    unknown = [
        (number, calls.call(one.call), one.answer)
        for number, one in journal.numbered_settlements()
        if calls.includes(one.call) and Results.of(one.answer.results).has_reason(Reason.CUSTOMER_NOT_FOUND)
    ]
    pairs = {
        (call.customer, device) for _, call, _ in unknown for device in call.devices if calls.has_multiple_calls(device)
    }
    assigned = _last_assigns(journal, calls, pairs)
    return [StaleResult(number, call, _overtaken(call, answer, assigned)) for number, call, answer in unknown]


def ask_again(journal: Journal, stale: Iterable[StaleResult]) -> None:
    """Forget results, so that their devices are asked for again, but for what is to stay of each."""
    journal.shorten({one.number: one.kept for one in stale})


@dataclass(slots=True)
class OpenCalls:
    """What calls that are yet to be settled concern."""

    customers: set[str] = field(default_factory=set)
    """From whom something is yet to be taken."""
    devices: set[str] = field(default_factory=set)
    """Devices that are yet to be given to somebody."""

    @classmethod
    def of(cls, calls: CallPlan, settled: Mapping[int, int]) -> "OpenCalls":
        """Return what is open; `settled` is how many devices of a call are settled."""
        found = cls()
        for number in _numbers(calls):
            if settled.get(number, 0) < calls.size_of(number):
                call = calls.call(number)
                if call.action is Action.UNASSIGN:
                    found.customers.add(call.customer)
                else:
                    found.devices.update(call.devices)
        return found

    def depend_on(self, call: Call) -> bool:
        """Return whether what became of an unassign matters to any of them."""
        return call.customer in self.customers or not self.devices.isdisjoint(call.devices)


def _last_assigns(journal: Journal, calls: CallPlan, pairs: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the last stage in which the run has tried to assign each of some pairs of customer and device."""
    last: dict[tuple[str, str], int] = {}
    for number, _ in journal.last_attempts() if pairs else ():
        call = calls.call(number)
        if call.action is Action.ASSIGN:
            tried = pairs & {(call.customer, device) for device in call.devices}
            last.update((pair, max(call.stage, last.get(pair, 0))) for pair in tried)
    return last


def _overtaken(call: Call, answer: Answer, assigned: Mapping[tuple[str, str], int]) -> Answer | None:
    """Return the part of an unassign's answer about devices that a later stage has assigned; None without any."""
    results = {
        at: result
        for at, result in answer.results.items()
        if assigned.get((call.customer, call.devices[at]), 0) > call.stage
    }
    return replace(answer, results=results) if results else None


def unreleased_among(left: Sequence[UnreleasedReport], devices: pa.Array) -> UnreleasedDevices:
    """Which of these devices are among what was left behind."""
    stuck = UnreleasedDevices()
    for one in left:
        of_these = one.pairs.filter(pc.is_in(one.pairs["device"], devices))
        for customer, device, is_open in zip(*(column.to_pylist() for column in of_these.columns), strict=True):
            stuck.add(customer, device, is_open=is_open)
    return stuck


def _is_hold(answer: Answer) -> bool:
    return all(result.outcome is Outcome.HELD for result in answer.results.values())
