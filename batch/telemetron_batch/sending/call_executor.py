"""One call, brought to its end: attempts, retries, splits, and all of it in the journal.

What an answer means is decided in `wire` and `verdict`, what to ask for next in
`split`, when to leave in `traffic`, how a request travels in `exchange`; here these
are joined in the order that keeps the books true: permit, journal, request, journal.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final

from telemetron_batch.api import protocol
from telemetron_batch.api.attempt_gate import AttemptGate, AttemptSlot, StopSignal
from telemetron_batch.api.classify import (
    CallRejected,
    DeviceRejected,
    NoResponse,
    PayloadTooLarge,
    SideEffects,
    StopRun,
    Transient,
    Verdict,
)
from telemetron_batch.api.http_client import HttpResult, Post
from telemetron_batch.api.retry import AttemptBudget, retry_until_final
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Answer, Call, DeviceResult, Results
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import WITH_OTHERS, Reason, Unheard, sentence
from telemetron_batch.journal.journal import AttemptEnd, Journal
from telemetron_batch.journal.reader import AttemptEnding, RecordedAnswer
from telemetron_batch.sending.call_state import (
    ANSWERED,
    NO_MAXIMUM,
    STUBBORN,
    CallState,
    HeldBefore,
    attempt_records,
    devices_named_in,
    halved,
    rejection_result,
    restore,
)
from telemetron_batch.sending.rejected_search import Positions, Rejected
from telemetron_batch.storage import clock
from telemetron_batch.storage.log import LOGGER

_STUBBORN_AFTER: Final = 3
"""A server error that repeats so often on one call, while others succeed, is the call's."""
_MAX_PRESUMED_THROTTLES: Final = 5
"""So often a call's hasty 503 is taken for throttling; a limit refuses any call, and hardly one so often."""
_FOREIGN_TOLD: Final = 5
_USUAL: Final = AttemptEnd(AttemptEnding.ANSWERED, ANSWERED, 200)
_OMITTED_TWICE: Final = DeviceResult(Outcome.UNCONFIRMED, reason=Reason.LEFT_OUT_OF_ANSWER)


@dataclass(frozen=True, slots=True)
class CallResult:
    """What `Client.settle` brought about."""

    answers: tuple[Answer, ...]
    """Those recorded now, not by an earlier process."""
    pending_since: float | None = None
    """When the last attempt of this process left that may still act, on the event loop's clock."""
    has_doubts: bool = False
    """May any attempt have acted without our hearing of it?"""


@dataclass(frozen=True, slots=True)
class PersistentServerError:
    """The API fails on this very call while it answers others."""

    code: ClassVar = STUBBORN
    reason: ClassVar = Reason.REPEATED_SERVER_ERROR
    doubt: SideEffects
    text: str


@dataclass(frozen=True, slots=True)
class Halted:
    """The run ended before the attempt could leave."""


Result = protocol.Reply | Verdict | PersistentServerError | Halted


@dataclass(slots=True, kw_only=True)
class _RequestAttempts(AttemptBudget):
    """The attempts at one request of a call."""

    asked: Positions
    successes_before: int


@dataclass(slots=True)
class Unanswered:
    """Whom unanswered assigns of this run concern: what a later answer says was created may be their work."""

    customers: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    """Only such as may have been created."""

    def add(self, call: Call, positions: "Positions | range") -> None:
        """Remember an attempt at these devices that may have acted."""
        if call.action is Action.ASSIGN:
            self.customers.add(call.customer)
            if call.device_type is not None:
                self.devices.update(call.devices[at] for at in positions)

    def customer_was_created(self, work: CallState, reply: protocol.Reply) -> bool | None:
        """Return whether this run created the customer of an answer; None where that is not known.

        An answer that says no follows, perhaps, an attempt that created them and was not heard.
        """
        created, customer = reply.customer_was_created, work.call.customer
        if created is False and customer in self.customers and not work.customer_was_known:
            created = None if work.customer_was_known is None else True
        if work.call.action is Action.ASSIGN:
            self.customers.discard(customer)  # this answer was in doubt; later ones are to be believed
        return created

    def without_untrue_flags(self, call: Call, results: Mapping[int, DeviceResult]) -> Mapping[int, DeviceResult]:
        """Return the results; where one says that it created no device, an unanswered attempt may have."""
        return {
            at: one._replace(was_created=None) if one.was_created is False and call.devices[at] in self.devices else one
            for at, one in results.items()
        }


class CallExecutor:
    """Settles calls against the API, one at a time for each worker that asks."""

    def __init__(
        self, post: Post, journal: Journal, traffic: AttemptGate, *, attempts: int, wall: Callable[[], float]
    ) -> None:
        self._post = post
        self._journal = journal
        self._traffic = traffic
        self._attempts = attempts
        self._wall = wall
        self._maximum = NO_MAXIMUM
        self.unanswered = Unanswered()
        self.recognise: Callable[[], Awaitable[None]] | None = None
        """Called after an answer that has nothing of the API's shape."""
        self.uptime: Callable[[], float] | None = None
        """Seconds since this machine's boot, for the journal."""

    @property
    def halt(self) -> StopSignal:
        """What ends the run early."""
        return self._traffic.halt

    async def settle(self, call: Call, before: HeldBefore | None = None) -> CallResult:
        """Go on with a call until each of its devices has a result in the journal, or the run halts.

        `before` is what the customer held before this run; None where that is not known.
        """
        work = restore(call, self._journal, self._maximum)
        if before is not None:
            work.held_before, work.customer_was_known = before.devices, before.is_known
        work.successes_before = self._traffic.successes
        while (asked := work.split.next()) is not None:
            if isinstance(await self._request(work, asked), Halted | StopRun):
                break
        if not work.has_doubts():
            return CallResult(tuple(work.answers))
        return CallResult(tuple(work.answers), work.pending_since(), has_doubts=True)

    async def _request(self, work: CallState, asked: Positions) -> Result:
        """Attempt one request until it has a result or its attempts are spent."""
        before = work.successes_before if work.split.searching else self._traffic.successes
        spent = _RequestAttempts(asked=asked, successes_before=before)
        attempt = partial(self._attempt, work, spent)
        result = await retry_until_final(attempt, spent, self._attempts, self._traffic)
        if isinstance(result, Transient):
            # An attempt that was cut short by the end of the run is not spent.
            return Halted() if self._traffic.halt else await self._give_up(work, asked, result)
        return result

    async def _attempt(self, work: CallState, spent: _RequestAttempts) -> Result:
        """One attempt: permit, journal, request, journal."""
        call, asked = work.call, spent.asked
        body = protocol.request_body(call, asked)
        leave = await self._traffic.acquire(call.number)
        if leave is None:
            return Halted()
        number = await self._journal.started(
            call.number, _positions_for_journal(call, asked), self._wall(), self._uptime()
        )
        left = await self._traffic.before_send(leave)
        left_at = clock.now()
        exchange = await self._post(protocol.PATHS[call.action], body, left)
        result = self._classify(work, spent, leave, exchange)
        ending = _ending(result, exchange)
        omitted = result.missing if isinstance(result, protocol.Reply) else ()
        doubt = SideEffects.NOT_DONE if isinstance(result, protocol.Reply) else result.doubt
        work.tries += attempt_records(asked, omitted, doubt, left_at)
        if omitted or doubt is not SideEffects.NOT_DONE:
            self.unanswered.add(call, omitted or asked)
        answer = self._settled_by(work, asked, result, exchange.status)
        settlement = None if answer is None else RecordedAnswer(call.number, answer, by_attempt=True)
        await self._journal.ended(number, ending, self._wall(), settlement)
        if self.recognise is not None and isinstance(result, Transient | DeviceRejected) and result.is_from_elsewhere:
            await self.recognise()
        return result

    def _uptime(self) -> float | None:
        return None if self.uptime is None else self.uptime()

    def _classify(
        self, work: CallState, spent: _RequestAttempts, leave: AttemptSlot, exchange: HttpResult
    ) -> protocol.Reply | Verdict | PersistentServerError:
        """The result of an exchange; the gate learns of it, and the round counts it."""
        call, asked = work.call, spent.asked
        work.seemed_throttled += exchange.seems_throttled
        if work.seemed_throttled > _MAX_PRESUMED_THROTTLES:
            exchange = exchange.as_server_error()
        read = exchange.read(lambda body: protocol.read_reply(body, call, asked, exchange.show), call.action)
        result = _about_devices(read, call, asked)
        if isinstance(result, DeviceRejected) and result.is_from_elsewhere and not self._traffic.is_recognised:
            result = Transient(result.doubt, Reason.NOT_THE_API, result.text, counts_as_down=False)
        self._traffic.report(leave, None if isinstance(result, protocol.Reply) else result, exchange)
        self._log(call, result)
        if not isinstance(result, Transient):
            return result
        spent.failures += not leave.while_down
        spent.server_errors += exchange.status is not None and exchange.status >= 500
        return PersistentServerError(result.doubt, result.text) if self._is_stubborn(spent) else result

    def _is_stubborn(self, spent: _RequestAttempts) -> bool:
        """Is it this call that the API fails on, and can it be taken apart?"""
        others_succeed = self._traffic.successes > spent.successes_before
        return len(spent.asked) > 1 and spent.server_errors >= _STUBBORN_AFTER and others_succeed

    def _settled_by(self, work: CallState, asked: Positions, result: Result, status: int | None) -> Answer | None:
        """What a result settles of its call, as the answer for the journal; None if nothing."""
        results: Mapping[int, DeviceResult] = {}
        match result:
            case protocol.Reply():
                # Learnt only now: where no smaller request helps, it was not the size.
                self._maximum = min(self._maximum, work.maximum)
                results = result.results
                if left_out := work.split.settled(asked, result.missing):
                    results = {**results, **dict.fromkeys(left_out, _OMITTED_TWICE)}
            case CallRejected(outcome, reason, text):
                work.split.settled(asked)
                alike = asked if outcome is Outcome.SKIPPED else (*asked, *work.split.give_up())
                results = dict.fromkeys(alike, DeviceResult(outcome, reason=reason, text=text))
            case PayloadTooLarge(text):
                work.maximum = min(work.maximum, halved(asked))
                work.split.too_many(asked, work.maximum, rejection_result(result.code, text))
            case DeviceRejected() | PersistentServerError():
                refused = devices_named_in(work.call, asked, result.text)
                work.split.refused(asked, rejection_result(result.code, result.text), refused)
            case _:
                return None
        if condemned := work.split.condemned():
            results = {**results, **{at: _rejected_result(one) for at, one in condemned.items()}}
        if not results:
            return None
        answer = self._answer(work, results, status, result if isinstance(result, protocol.Reply) else None)
        work.answers.append(answer)
        return answer

    async def _give_up(self, work: CallState, asked: Positions, last: Transient) -> Result:
        """The attempts are spent: say of the devices what we know, which may be that we do not.

        An API that no request has ever reached is no fault of this call: the run stops.
        """
        unclear = {at for at, (_, doubts) in work.each_asked_before(asked).items() if doubts}
        if not unclear and self._traffic.stop_if_never_reached(last.text):
            return Halted()
        text = f"{self._attempts} attempts; the last: {last.text}"
        outcomes = {at: Outcome.UNCONFIRMED if at in unclear else Outcome.FAILED for at in asked}
        results = {
            at: DeviceResult(outcome, reason=Reason.ATTEMPTS_SPENT, text=text) for at, outcome in outcomes.items()
        }
        answer = self._answer(work, results, None)
        await self._journal.settled(RecordedAnswer(work.call.number, answer, by_attempt=False))
        work.split.settled(asked)
        work.answers.append(answer)
        return last

    def _log(self, call: Call, result: protocol.Reply | Verdict | PersistentServerError) -> None:
        """What an operator may want to look up later: whatever did not go as it should."""
        if isinstance(result, protocol.Reply):
            if result.unexpected:
                names = ", ".join(result.unexpected[:_FOREIGN_TOLD])
                self._traffic.tell("foreign", f"call {call.number}: the answer names what nobody asked for: {names}")
        else:
            LOGGER.info("call %d: %s: %s", call.number, result.code, sentence(result.reason, result.text))

    def _answer(
        self,
        work: CallState,
        results: Mapping[int, DeviceResult],
        status: int | None,
        reply: protocol.Reply | None = None,
    ) -> Answer:
        if reply and len(work.tries) == 1:
            attempts, unclear = 1, 0  # as mostly
        else:
            attempts, unclear = work.all_asked_before(results) or work.most_asked_before(results)
        if unclear:
            results = _annotate_lost_attempts(work, results)
        if self.unanswered.devices and work.call.device_type is not None:
            results = self.unanswered.without_untrue_flags(work.call, results)
        return Answer(
            results=Results.of(results),
            customer_id=reply.customer_id if reply else "",
            customer_was_created=self.unanswered.customer_was_created(work, reply) if reply else None,
            http_status=status,
            attempts=attempts,
            unclear_attempts=unclear,
            answered_at=None if status is None else self._wall(),
            devices_remaining=reply.devices_remaining if reply else None,
        )


def _about_devices(result: protocol.Reply | Verdict, call: Call, asked: Positions) -> protocol.Reply | Verdict:
    """Return a refusal for the customer's sake as one for a device's, where it names devices, but not all of them."""
    if not isinstance(result, CallRejected) or result.reason is not Reason.CUSTOMER_REFUSED:
        return result
    return (
        DeviceRejected(result.text)
        if 0 < len(devices_named_in(call, asked, result.text)) < len(call.devices)
        else result
    )


def _ending(result: protocol.Reply | Verdict | PersistentServerError, exchange: HttpResult) -> AttemptEnd:
    """Return how the journal records the attempt."""
    status = exchange.status
    if isinstance(result, protocol.Reply):
        if not (result.missing or result.unexpected) and status == _USUAL.status:
            return _USUAL
        omitted, foreign = len(result.missing), len(result.unexpected)
        return AttemptEnd(AttemptEnding.ANSWERED, ANSWERED, status, omitted=omitted, foreign=foreign)
    if isinstance(exchange.failure, NoResponse) and not exchange.failure.sent:
        return AttemptEnd(AttemptEnding.UNSENT, result.code, None, result.reason, result.text)
    how = AttemptEnding.REFUSED if result.doubt is SideEffects.NOT_DONE else AttemptEnding.UNCLEAR
    lasts = result.doubt is SideEffects.UNCLEAR
    return AttemptEnd(how, result.code, status, result.reason, result.text, may_act_later=lasts)


def _rejected_result(condemned: Rejected[DeviceResult]) -> DeviceResult:
    """Return the result of a condemned device; where it never stood alone, that is said."""
    result = condemned.blame
    return result if condemned.alone else result._replace(reason=WITH_OTHERS.get(result.reason, result.reason))


def _annotate_lost_attempts(work: CallState, results: Mapping[int, DeviceResult]) -> Mapping[int, DeviceResult]:
    """The results where an earlier attempt went unanswered: what is said of each, and what that leaves open.

    A doubt about one is told of all in its answer of which it is not known whether they were held before: the
    column is theirs together.
    """
    doubted = {at: doubts > 0 for at, (_, doubts) in work.each_asked_before(results).items()}
    weighed = {}
    for at, result in results.items():
        if doubted[at] or work.held(at) is None:
            result = _attribute(result, work.call.action, work.held(at))
        weighed[at] = _append_uncertainty(result) if doubted[at] else result
    return weighed


def _attribute(result: DeviceResult, action: Action, held_before: bool | None) -> DeviceResult:
    """The result when an earlier attempt went unanswered: whose work is what is now found done?

    Exactly, where it is known what the customer held before; otherwise only marked.
    """
    done_already = (
        result.outcome is Outcome.ALREADY_ASSIGNED if action is Action.ASSIGN else result.outcome is Outcome.SKIPPED
    )
    if not done_already:
        return result
    if held_before is None:
        return result._replace(unheard=Unheard.WHOSE_WORK)
    if held_before is (action is Action.ASSIGN):
        return result
    done = Outcome.ASSIGNED if action is Action.ASSIGN else Outcome.UNASSIGNED
    return result._replace(outcome=done, reason=Reason.DONE_BY_LOST_ATTEMPT, text="")


def _append_uncertainty(result: DeviceResult) -> DeviceResult:
    """Return the result when an earlier attempt went unanswered: that the repeat was refused does not undo it.

    Of flags that say that nothing was created nothing is known then.
    """
    if result.was_created is False:
        result = result._replace(was_created=None)
    if result.outcome is not Outcome.FAILED and result.reason is not Reason.NO_VALID_DEVICES:
        return result
    return result._replace(outcome=Outcome.UNCONFIRMED, unheard=Unheard.WHETHER_DONE)


def _positions_for_journal(call: Call, asked: Positions) -> Positions | None:
    return None if len(asked) == len(call.devices) else asked
