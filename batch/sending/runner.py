"""The plan carried out: stages one after another, their lanes side by side.

Decides what is sent when, what is held back and when to stop; how a call comes to its
end is the client's. An assign never overtakes the unassign that it depends on, because
a stage starts only when the one before has settled.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from batch import clock
from batch.model import Action, Answer, Call, DeviceResult, ExitCode, Outcome, Results, Stop
from batch.planning.calls import Calls
from batch.sending.baseline import Baseline
from batch.sending.client import CallEnd, Client
from batch.sending.holds import Stuck
from batch.sending.tally import Tally
from batch.sending.verdict import CUSTOMER_NOT_FOUND
from batch.storage.journal import Journal
from batch.storage.reader import Settlement


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLimits:
    """What bounds the work of a run."""

    concurrency: int = 8
    max_failed: float | None = None
    """Rows; a share of the input has been worked out by then."""
    max_new_customers: int | None = None
    hold: bool = True
    """Hold assigns whose device may still be with its former owner."""
    stuck: Stuck = field(default_factory=Stuck)
    """Devices that may still be with a former owner, as others know who unassign."""
    quiet: float = 35.0
    """Seconds after which an unanswered attempt can no longer act: its deadline and a margin."""


@dataclass(slots=True)
class _Progress:
    """What the runner must remember between calls."""

    tally: Tally
    stuck: Stuck
    settled: dict[int, int] = field(default_factory=dict)
    """Call number to settled devices, from earlier processes."""
    unknown: set[tuple[int, str]] = field(default_factory=set)
    """Stage and customer of unassigns that the API answered with: no such customer."""
    doubts: dict[tuple[str, str], tuple[Action, float]] = field(default_factory=dict)
    """Customer and device to what was last asked of them without an answer, and when that left."""

    def doubt(self, call: Call, positions: Iterable[int], left: float) -> None:
        """Remember an attempt that may be carried out later than we think."""
        for at in positions:
            self.doubts[call.customer, call.devices[at]] = (call.action, left)


class _Turns:
    """The lanes of a stage as workers take them: in their order, except that those which have to wait let others go."""

    def __init__(self, lanes: Sequence[range]) -> None:
        self._lanes = lanes
        self._taken = 0
        self._waiting: list[tuple[float, int, range]] = []

    @property
    def others(self) -> bool:
        """Is there a lane that nobody has taken yet?"""
        return self._taken < len(self._lanes)

    def take(self, now: float) -> range | None:
        """The next lane: one that has waited for long enough, else a new one, else the one that waits least."""
        if self._waiting and (self._waiting[0][0] <= now or not self.others):
            return heappop(self._waiting)[-1]
        if not self.others:
            return None
        self._taken += 1
        return self._lanes[self._taken - 1]

    def later(self, due: float, lane: range) -> None:
        """Put the rest of a lane off to a moment, in seconds since the epoch."""
        heappush(self._waiting, (due, lane.start, lane))


class Runner:
    """Carries out one plan."""

    def __init__(
        self, plan: Calls, journal: Journal, client: Client, limits: RunLimits, baseline: Baseline | None = None
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._client = client
        self._halt = client.halt
        self._limits = limits
        self._progress = _Progress(Tally(plan.calls), limits.stuck)
        self._baseline = baseline
        self.on_call: list[Callable[[], None]] = []
        """Called after each call, on the event loop: must not take long."""

    @property
    def tally(self) -> Tally:
        """The totals so far."""
        return self._progress.tally

    async def run(self, wall: Callable[[], float]) -> None:
        """Settle every call, or as many as may be settled before the run is halted."""
        self._recall()
        self._brake()  # what stopped the process before this one holds until somebody raises it
        for stage in self._plan.stages():
            turns = _Turns(stage.lanes)
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self._limits.concurrency, len(stage.lanes))):
                    workers.create_task(self._work(turns, wall))
            if self._halt:
                return

    async def _work(self, turns: "_Turns", wall: Callable[[], float]) -> None:
        """One worker: take the lane whose turn it is, and settle its calls one after another."""
        while (lane := turns.take(wall())) is not None:
            for number in lane:
                if self._halt:
                    return
                if self._is_settled(number):
                    continue
                call = self._plan.call(number)
                if (call.stage, call.customer) in self._progress.unknown:
                    await self._spare(call)
                    continue
                due = self._quiet_at(call)
                if due > wall() and turns.others:
                    turns.later(due, range(number, lane.stop))
                    break
                await self._settle(call, due - wall())

    def _is_settled(self, number: int) -> bool:
        """Did earlier processes settle all of a call?"""
        done = self._progress.settled.get(number)
        return done is not None and done == self._plan.size_of(number)

    async def _settle(self, call: Call, wait: float) -> None:
        if wait > 0:
            await clock.sleep_unless(self._halt.event, wait)
        held = await self._hold_back(call)
        settled = self._progress.settled.get(call.number, 0)
        if held is not None and settled + len(held.results) == len(call.devices):
            self._book(call, CallEnd((held,), None))
            return
        before = None if self._baseline is None else await self._baseline.before(call)
        end = await self._client.settle(call, before)
        answers = end.answers if held is None else (held, *end.answers)
        self._book(call, CallEnd(answers, end.last_doubt))

    def _book(self, call: Call, end: CallEnd) -> None:
        """Count a call's answers, learn what they mean for other calls, and look at the brakes."""
        for answer in end.answers:
            self._learn(call, answer)
        done = sum(len(answer.results) for answer in end.answers)
        done += self._progress.settled.get(call.number, 0)
        self.tally.calls_done += done == len(call.devices)
        if end.last_doubt is not None:
            self._progress.doubt(call, range(len(call.devices)), end.last_doubt)
        self._brake()
        for hear in self.on_call:
            hear()

    def _learn(self, call: Call, answer: Answer) -> None:
        """Hear what an answer means for the calls to come."""
        self.tally.add(call.customer, answer)
        if self._baseline is not None:
            self._baseline.learn(call, answer)
        if call.action is Action.ASSIGN:
            return
        self._progress.stuck.learn(call, answer)
        if CUSTOMER_NOT_FOUND in Results.of(answer.results).details:
            self._progress.unknown.add((call.stage, call.customer))

    async def _hold_back(self, call: Call) -> Answer | None:
        """Settle as held the devices of an assign that may still be with a former owner."""
        if call.action is Action.UNASSIGN or not (self._limits.hold and self._progress.stuck):
            return None
        owners = {
            at: self._progress.stuck.former_owner(call.customer, call.devices[at]) for at in self._open_positions(call)
        }
        results = {
            at: DeviceResult(Outcome.HELD, detail=f"may still be with {owner}: its unassign did not succeed")
            for at, owner in owners.items()
            if owner is not None
        }
        if not results:
            return None
        answer = Answer(results)
        await self._journal.settled(Settlement(call.number, answer, by_attempt=False))
        return answer

    def _open_positions(self, call: Call) -> Iterable[int]:
        """Positions of a call that earlier processes have not settled."""
        everything = range(len(call.devices))
        if call.number not in self._progress.settled:
            return everything
        settled = {at for _, positions in self._journal.settled_positions(call.number) for at in positions}
        return [at for at in everything if at not in settled]

    async def _spare(self, call: Call) -> None:
        """The customer is unknown: an unassign need not be sent to learn so again."""
        result = DeviceResult(Outcome.FAILED, detail=CUSTOMER_NOT_FOUND)
        answer = Answer(dict.fromkeys(range(len(call.devices)), result))
        await self._journal.settled(Settlement(call.number, answer, by_attempt=False))
        self._book(call, CallEnd((answer,), None))

    def _quiet_at(self, call: Call) -> float:
        """The moment, in seconds since the epoch, from which no unanswered attempt can undo a call; 0 if none could.

        A request that timed out here may still be carried out there, later than the
        opposite one that follows it.
        """
        if not self._progress.doubts:
            return 0.0
        doubts = (self._progress.doubts.get((call.customer, device)) for device in call.devices)
        left = max((doubt[1] for doubt in doubts if doubt and doubt[0] is not call.action), default=None)
        return 0.0 if left is None else left + self._limits.quiet

    def _brake(self) -> None:
        failed, created = self.tally.failed, len(self.tally.new_customers)
        if self._limits.max_failed is not None and failed > self._limits.max_failed:
            advice = "look at attention.csv, then raise --max-failed and run the same command again"
            self._halt.now(Stop(ExitCode.BRAKE, f"{failed} rows have failed, more than --max-failed allows", advice))
        if self._limits.max_new_customers is not None and created > self._limits.max_new_customers:
            advice = "look at the new customers, then raise --max-new-customers and run the same command again"
            why = f"{created} customers were created, more than --max-new-customers allows"
            self._halt.now(Stop(ExitCode.BRAKE, why, advice))

    def _recall(self) -> None:
        """Learn what earlier processes of this run have settled."""
        for settlement in self._journal.settlements():
            number = settlement.call
            self._progress.settled[number] = self._progress.settled.get(number, 0) + len(settlement.answer.results)
            self._learn(self._plan.call(number), settlement.answer)
        for attempt in self._journal.unclear_attempts():
            call = self._plan.call(attempt.call)
            asked = range(len(call.devices)) if attempt.positions is None else attempt.positions
            self._progress.doubt(call, asked, attempt.started)
        self.tally.calls_done = sum(
            done == self._plan.size_of(number)
            for number, done in self._progress.settled.items()
            if self._plan.has(number)
        )
