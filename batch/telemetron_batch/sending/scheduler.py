"""Execute a plan: stages one after another, the lanes of a stage in parallel.

The scheduler decides what is sent when, what is held and when the run stops; `CallExecutor`
executes the calls. An assign never overtakes the unassign it depends on, because a stage starts
only after the previous one has settled.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import Answer, DeviceResult, Results
from telemetron_batch.domain.model import Call
from telemetron_batch.domain.outcomes import FAILURES, OUTCOMES_OF_SUCCESS, Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import RecordedAnswer
from telemetron_batch.planning.calls import CallPlan
from telemetron_batch.sending.baseline import Baseline
from telemetron_batch.sending.call_executor import CallExecutor, CallResult
from telemetron_batch.sending.call_state import HoldingsBefore
from telemetron_batch.sending.counters import RunCounters
from telemetron_batch.sending.holds import OpenCalls, UnreleasedDevices, reopen_results, unknown_customers
from telemetron_batch.sending.lane_queue import LaneQueue
from telemetron_batch.sending.pending import PendingAttempts, end_of_wait
from telemetron_batch.sending.rejected_search import Positions
from telemetron_batch.storage import clock

_ANNOUNCED_EXTENSION_S: Final = 1.0
"""Seconds by which a wait must become longer to be announced again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLimits:
    """The limits of a run."""

    concurrency: int = 8
    max_failed: float | None = None
    """Rows that may fail; percentages are converted before."""
    max_skipped: float | None = None
    """Unassigns that may have no effect."""
    max_new_customers: int | None = None
    hold_transfers: bool = True
    """Whether assigns are held if their device may still be with its former owner."""
    unreleased: UnreleasedDevices = field(default_factory=UnreleasedDevices)
    """Devices that may still be with a former owner according to other shards."""
    late_effect_s: float = 35.0
    """Seconds after which an unanswered attempt can no longer act: its timeout and a margin."""
    uptime: Callable[[], float] = clock.uptime
    """Returns the seconds since this machine's boot."""

    def pending_seconds(self, sent_at_uptime: float | None) -> float:
        """Return for how many seconds an attempt of an earlier process may still act.

        If its uptime is not known, assume the longest time. The wall clock may have been set since.
        """
        if sent_at_uptime is None:
            return self.late_effect_s
        return min(self.late_effect_s, max(0.0, sent_at_uptime + self.late_effect_s - self.uptime()))


@dataclass(slots=True)
class _SchedulerState:
    """What the scheduler remembers between calls."""

    counters: RunCounters
    unreleased: UnreleasedDevices
    settled: dict[int, int] = field(default_factory=dict)
    """Number of devices that earlier processes settled, by call number."""
    unknown_customers: set[tuple[int, str]] = field(default_factory=set)
    """Stage and customer of unassigns that this process saw refused with "customer not found"."""
    pending: PendingAttempts = field(default_factory=PendingAttempts)
    waits: dict[int, tuple[float, int]] = field(default_factory=dict)
    """By number of a call of the stage: until when it must wait, and for how many devices."""
    announced_until: float = -math.inf
    """Until when the run was said to wait, on the event loop's clock."""


class Scheduler:
    """Executes one plan."""

    def __init__(
        self,
        plan: CallPlan,
        journal: Journal,
        executor: CallExecutor,
        limits: RunLimits,
        baseline: Baseline | None = None,
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._executor = executor
        self._halt = executor.stop_signal
        self._limits = limits
        self._state = _SchedulerState(RunCounters(plan.calls), limits.unreleased)
        self._baseline = baseline
        self.on_wait: Callable[[float, int], None] = lambda _seconds, _devices: None
        """Called if nothing but waiting for unanswered attempts is left to do in a stage.

        Gets the seconds after which all calls of the stage may leave, and the number of devices concerned.
        """
        self.on_call: list[Callable[[], None]] = []
        """Called after each call on the event loop, so they must not block."""

    @property
    def counters(self) -> RunCounters:
        """The totals so far."""
        return self._state.counters

    async def run(self) -> None:
        """Settle every call, or as many as possible before the run stops."""
        self._resend_unknown_customers()
        self._restore()
        self._check_limits()  # a limit that stopped the previous process still applies
        returning = self._plan.returning_calls()
        for stage in self._plan.stages():
            lanes = LaneQueue(stage.lanes, returning)
            self._state.waits.clear()
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self._limits.concurrency, len(stage.lanes))):
                    workers.create_task(self._run_worker(lanes))
            if self._halt:
                return

    async def _run_worker(self, lanes: LaneQueue) -> None:
        """Take lane after lane and settle its calls one after another."""
        while (lane := lanes.take(clock.now())) is not None:
            waiting: list[tuple[float, int]] = []
            for number in lane:
                if self._halt:
                    return
                if not self._is_settled(number):
                    call = self._plan.call(number)
                    due = await self._end_of_wait(call)
                    if due > clock.now():
                        waiting.append((due, number))  # other calls of the lane need not wait for it
                    else:
                        await self._settle(call)
            if waiting and len(waiting) == len(lane) and not lanes.has_untaken:
                due, first = waiting.pop(waiting.index(min(waiting)))
                await self._wait_until(due)
                await self._settle(self._plan.call(first))
            if waiting:
                lanes.requeue_at(min(waiting)[0], [number for _, number in waiting])

    async def _end_of_wait(self, call: Call) -> float:
        """Return when no unanswered attempt can undo this call any more, on the event loop's clock.

        If a query can show that these attempts have acted, query the customer: then the wait is over.
        """
        pending, customer = self._state.pending, call.customer
        blocking = pending.that_block(call, clock.now())
        if blocking and self._baseline is not None and all(one.is_provable for one in blocking.values()):
            is_held = await self._baseline.holdings_now(customer, [*blocking])
            facts = {device: one.action.facts for device, one in blocking.items()}
            pending.settle(customer, {at: is_held.get(at) is one.is_owned_after for at, one in facts.items()})
            blocking = pending.that_block(call, clock.now())
        due = end_of_wait(blocking.values())
        if blocking:
            self._state.waits[call.number] = due, len(blocking)
        return due

    async def _wait_until(self, due: float) -> None:
        """Wait, and say so; return early if the run stops."""
        state, now = self._state, clock.now()
        last = max(until for until, _ in state.waits.values())
        if last > state.announced_until + _ANNOUNCED_EXTENSION_S:
            state.announced_until = last
            self.on_wait(last - now, sum(devices for until, devices in state.waits.values() if until > now))
        await clock.wait_for_event(self._halt.event, due - now)

    def _is_settled(self, number: int) -> bool:
        """Return whether earlier processes settled the whole call."""
        done = self._state.settled.get(number)
        return done is not None and done == self._plan.size_of(number)

    async def _settle(self, call: Call) -> None:
        if (call.stage, call.customer) in self._state.unknown_customers:
            await self._fail_unsent(call)
            return
        held = await self._hold_unreleased(call)
        settled = self._state.settled.get(call.number, 0)
        if held is not None and settled + len(held.results) == len(call.devices):
            self._record(call, CallResult((held,)))
            return
        before = None if self._baseline is None else await self._baseline.holdings_before(call)
        result = await self._executor.settle(call, before)
        until = {at: since + self._limits.late_effect_s for at, since in result.pending_since.items()}
        self._state.pending.add(call, until, _provable(call, result, before))
        self._record(call, result if held is None else replace(result, answers=(held, *result.answers)))

    def _record(self, call: Call, result: CallResult) -> None:
        """Count a call's answers, apply them to other calls and check the limits."""
        for answer in result.answers:
            self._apply_answer(call, answer)
        done = sum(len(answer.results) for answer in result.answers)
        done += self._state.settled.get(call.number, 0)
        self.counters.calls_done += done == len(call.devices)
        if result.unclear_attempts:
            self._expect_new_customer(call)
        self._check_limits()
        for callback in self.on_call:
            callback()

    def _expect_new_customer(self, call: Call) -> None:
        """Record that an unanswered attempt at this call may have created its customer."""
        if call.action.facts.may_create and not self._journal.was_known(call.customer):
            self.counters.perhaps_new_customers.add(call.customer)

    def _apply_answer(self, call: Call, answer: Answer, *, is_new: bool = True) -> None:
        """Apply an answer to later calls; `is_new` if this process received it."""
        self.counters.add(call.customer, answer)
        if self._baseline is not None:
            self._baseline.record_own_changes(call, answer)
        if call.action is Action.ASSIGN:
            return
        self._state.unreleased.record(call, answer)
        if is_new and Results.of(answer.results).has_reason(Reason.CUSTOMER_NOT_FOUND):
            self._state.unknown_customers.add((call.stage, call.customer))

    async def _hold_unreleased(self, call: Call) -> Answer | None:
        """Record as held the devices of an assign that may still be with a former owner."""
        if call.action is Action.UNASSIGN or not (self._limits.hold_transfers and self._state.unreleased):
            return None
        owners = {
            at: self._state.unreleased.former_owner(call.customer, call.devices[at])
            for at in self._open_positions(call)
        }
        results = {
            at: DeviceResult(Outcome.HELD, reason=Reason.FORMER_OWNER, text=owner)
            for at, owner in owners.items()
            if owner is not None
        }
        if not results:
            return None
        answer = Answer(results)
        await self._journal.record_results(RecordedAnswer(call.number, answer, came_from_attempt=False))
        return answer

    def _open_positions(self, call: Call) -> Iterable[int]:
        """Return the positions of a call that earlier processes have not settled."""
        everything = range(len(call.devices))
        if call.number not in self._state.settled:
            return everything
        settled = {at for _, positions in self._journal.settled_positions(call.number) for at in positions}
        return [at for at in everything if at not in settled]

    async def _fail_unsent(self, call: Call) -> None:
        """Record an unassign as failed without sending it, because the API does not know the customer."""
        result = DeviceResult(Outcome.FAILED, reason=Reason.CUSTOMER_NOT_FOUND)
        answer = Answer(dict.fromkeys(range(len(call.devices)), result))
        await self._journal.record_results(RecordedAnswer(call.number, answer, came_from_attempt=False))
        self._record(call, CallResult((answer,)))

    def _check_limits(self) -> None:
        limits, failed, created = self._limits, self.counters.failed, self.counters.customers_created_at_most
        if limits.max_failed is not None and failed > limits.max_failed:
            self._halt.set(Stop(StopReason.MAX_FAILED, "1 row has" if failed == 1 else f"{failed} rows have"))
        skipped = self.counters.unassigns_without_effect
        if limits.max_skipped is not None and skipped > limits.max_skipped:
            unassigns = "1 unassign" if skipped == 1 else f"{skipped} unassigns"
            self._halt.set(Stop(StopReason.MAX_SKIPPED, unassigns))
        if limits.max_new_customers is not None and created > limits.max_new_customers:
            customers = "1 customer was" if created == 1 else f"{created} customers were"
            self._halt.set(Stop(StopReason.MAX_NEW_CUSTOMERS, customers))

    def _resend_unknown_customers(self) -> None:
        """Have the unassigns of unknown customers in earlier processes sent again, if open calls depend on them.

        Do nothing if a limit stops the run, because then nothing is sent.
        """
        unknown = unknown_customers(self._journal, self._plan)
        if not unknown:
            return
        settled, outcomes = Counter[int](), Counter[Outcome]()
        for recorded in self._journal.recorded_answers():
            settled[recorded.call] += len(recorded.answer.results)
            outcomes.update(Results.of(recorded.answer.results).counts())
        failed = sum(outcomes[outcome] for outcome in FAILURES)
        if self._limits.max_failed is not None and failed > self._limits.max_failed:
            return
        still_open = OpenCalls.of(self._plan, settled)
        reopen_results(self._journal, (one for one in unknown if still_open.depend_on(one.call)))

    def _restore(self) -> None:
        """Apply what earlier processes of this run have settled, and their attempts that may still act."""
        for recorded in self._journal.recorded_answers():
            number = recorded.call
            self._state.settled[number] = self._state.settled.get(number, 0) + len(recorded.answer.results)
            self._apply_answer(self._plan.call(number), recorded.answer, is_new=False)
        for attempt in self._journal.unclear_attempts():
            call = self._plan.call(attempt.call)
            self._executor.unanswered.add(call, _requested(call, attempt.positions))
            self._expect_new_customer(call)
        for pending in self._journal.pending_attempts():
            call = self._plan.call(pending.call)
            until = clock.now() + self._limits.pending_seconds(pending.uptime)
            self._state.pending.add(call, dict.fromkeys(_requested(call, pending.positions), until))
        self.counters.calls_done = sum(
            done == self._plan.size_of(number)
            for number, done in self._state.settled.items()
            if self._plan.includes(number)
        )


def _requested(call: Call, positions: Positions | None) -> Positions | range:
    return range(len(call.devices)) if positions is None else positions


def _provable(call: Call, result: CallResult, before: HoldingsBefore | None) -> frozenset[int]:
    """Return the positions whose pending attempt has acted if the customer is later seen as this call leaves it.

    That is so if it was the call's only unclear attempt, if the customer's state was the opposite before, also by
    the query that the journal holds, and if no answer says that another attempt of the call has made the change.
    """
    if before is None or result.unclear_attempts != 1:
        return frozenset()
    changed = {at for answer in result.answers for at, one in answer.results.items() if _was_changed(call, one)}
    opposite = not call.action.facts.is_owned_after
    devices = ((at, call.devices[at]) for at in result.pending_since.keys() - changed)
    return frozenset(
        at for at, device in devices if before.devices[device] is opposite and before.queried[device] is opposite
    )


def _was_changed(call: Call, result: DeviceResult) -> bool:
    """Return whether an answer says that its own attempt has changed a device."""
    changed, _ = OUTCOMES_OF_SUCCESS[call.action]
    return result.outcome is changed and result.reason is not Reason.DONE_BY_LOST_ATTEMPT
