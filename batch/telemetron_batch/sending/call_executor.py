"""Execute one call: attempts, retries and splits, each recorded in the journal.

`protocol` and `classify` interpret answers, `rejected_search` selects the next request, the gate
decides when it leaves, and the HTTP client sends it. This module keeps the order that makes the
journal reliable: permit, journal, request, journal.
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
    NoUsableResponse,
    SideEffects,
    StopRun,
    TooManyDevices,
    Transient,
    Verdict,
)
from telemetron_batch.api.http_client import HttpResult, Post
from telemetron_batch.api.retry import AttemptCounter, retry_until_final
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import Answer, DeviceResult, Results
from telemetron_batch.domain.model import Call
from telemetron_batch.domain.outcomes import OUTCOMES_OF_SUCCESS, Outcome
from telemetron_batch.domain.reasons import WITH_OTHERS, OpenQuestion, Reason, sentence
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import RecordedAnswer
from telemetron_batch.journal.schema import AttemptEnd, EndState
from telemetron_batch.sending.call_state import (
    ANSWERED,
    NO_MAXIMUM,
    PERSISTENT_SERVER_ERROR,
    CallState,
    HoldingsBefore,
    attempt_records,
    devices_named_in,
    halved,
    rejection_result,
    restore,
)
from telemetron_batch.sending.rejected_search import Positions, Rejected
from telemetron_batch.storage import clock
from telemetron_batch.storage.log import LOGGER

_PERSISTENT_AFTER: Final = 3
"""Server errors of one call after which, while others succeed, the call itself is taken for the cause."""
_MAX_PRESUMED_THROTTLES: Final = 5
"""Fast 503s of one call that count as throttling. A rate limit hardly refuses the same call more often."""
_MAX_REPORTED_IDENTIFIERS: Final = 5
"""Unexpected identifiers of an answer that are named in the log."""
_SUCCESS_END: Final = AttemptEnd(EndState.ANSWERED, ANSWERED, 200)
_OMITTED_TWICE: Final = DeviceResult(Outcome.UNCONFIRMED, reason=Reason.LEFT_OUT_OF_ANSWER)


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of `CallExecutor.settle`."""

    answers: tuple[Answer, ...]
    """Answers recorded by this process."""
    pending_since: Mapping[int, float] = field(default_factory=dict)
    """By position: when its last attempt that may still act left, on the event loop's clock."""
    unclear_attempts: int = 0
    """Number of attempts that may have acted without an answer."""


@dataclass(frozen=True, slots=True)
class PersistentServerError:
    """The API fails repeatedly on this call while it answers others."""

    code: ClassVar = PERSISTENT_SERVER_ERROR
    reason: ClassVar = Reason.REPEATED_SERVER_ERROR
    side_effects: SideEffects
    text: str


@dataclass(frozen=True, slots=True)
class RunStopped:
    """The run stopped before the attempt could leave."""


Result = protocol.Reply | Verdict | PersistentServerError | RunStopped


@dataclass(slots=True, kw_only=True)
class _RequestAttempts(AttemptCounter):
    """The attempts at one request of a call."""

    requested: Positions
    successes_before: int


@dataclass(slots=True)
class UnansweredAttempts:
    """Customers and devices of this run's unanswered assigns, which may have created them."""

    customers: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    """Devices of calls that create devices automatically."""

    def add(self, call: Call, positions: "Positions | range") -> None:
        """Record an attempt at these devices that may have acted."""
        if call.action.facts.may_create:
            self.customers.add(call.customer)
            if call.device_type is not None:
                self.devices.update(call.devices[at] for at in positions)

    def customer_was_created(self, state: CallState, reply: protocol.Reply) -> bool | None:
        """Return whether this run created the customer of an answer; None if that is not known.

        An answer that says no may follow an unanswered attempt that created the customer.
        """
        created, customer = reply.customer_was_created, state.call.customer
        if created is False and customer in self.customers and not state.customer_was_known:
            created = None if state.customer_was_known is None else True
        if state.call.action.facts.may_create:
            self.customers.discard(customer)  # only this answer is in doubt; later ones are reliable
        return created

    def without_untrue_flags(self, call: Call, results: Mapping[int, DeviceResult]) -> Mapping[int, DeviceResult]:
        """Return the results without "not created" flags of devices that an unanswered attempt may have created."""
        return {
            at: one._replace(was_created=None) if one.was_created is False and call.devices[at] in self.devices else one
            for at, one in results.items()
        }


class CallExecutor:
    """Executes calls against the API. Each worker executes one call at a time."""

    def __init__(
        self, post: Post, journal: Journal, gate: AttemptGate, *, attempts: int, wall: Callable[[], float]
    ) -> None:
        self._post = post
        self._journal = journal
        self._gate = gate
        self._attempts = attempts
        self._wall = wall
        self._max_devices = NO_MAXIMUM
        self.unanswered = UnansweredAttempts()
        self.recognise: Callable[[], Awaitable[None]] | None = None
        """Called after an answer that does not have the form of the API's answers."""
        self.uptime: Callable[[], float] | None = None
        """Returns the seconds since this machine's boot, for the journal."""

    @property
    def stop_signal(self) -> StopSignal:
        """The signal that stops the run early."""
        return self._gate.stop_signal

    async def settle(self, call: Call, before: HoldingsBefore | None = None) -> CallResult:
        """Continue a call until each of its devices has a result in the journal, or the run stops.

        `before` is what the customer held before this run; None if that is not known.
        """
        state = restore(call, self._journal, self._max_devices)
        if before is not None:
            state.holdings_before, state.customer_was_known = before.devices, before.is_known
        state.successes_before = self._gate.successes
        while (requested := state.search.next()) is not None:
            if isinstance(await self._request(state, requested), RunStopped | StopRun):
                break
        return CallResult(tuple(state.answers), state.pending_since(), state.unclear_attempts())

    async def _request(self, state: CallState, requested: Positions) -> Result:
        """Attempt one request until it has a result or its attempts are spent."""
        before = state.successes_before if state.search.searching else self._gate.successes
        used = _RequestAttempts(requested=requested, successes_before=before)
        attempt = partial(self._attempt, state, used)
        result = await retry_until_final(attempt, used, self._attempts, self._gate)
        if isinstance(result, Transient):
            # An attempt that the end of the run cut short does not count.
            return RunStopped() if self._gate.stop_signal else await self._give_up(state, used, result)
        return result

    async def _attempt(self, state: CallState, used: _RequestAttempts) -> Result:
        """Make one attempt: permit, journal, request, journal."""
        call, requested = state.call, used.requested
        body = protocol.request_body(call, requested)
        slot = await self._gate.acquire(call.number)
        if slot is None:
            return RunStopped()
        number = await self._journal.record_start(
            call.number, _positions_for_journal(call, requested), self._wall(), self._uptime()
        )
        on_send = await self._gate.before_send(slot)
        sent_at = clock.now()
        response = await self._post(protocol.ENDPOINTS[call.action].path, body, on_send)
        result = self._classify(state, used, slot, response)
        missing = result.omitted if isinstance(result, protocol.Reply) else ()
        side_effects = SideEffects.NOT_DONE if isinstance(result, protocol.Reply) else result.side_effects
        state.attempts += attempt_records(requested, missing, side_effects, sent_at)
        if missing or side_effects is not SideEffects.NOT_DONE:
            self.unanswered.add(call, missing or requested)
        answer = self._answer_from(state, requested, result, response.status)
        recorded = None if answer is None else RecordedAnswer(call.number, answer, came_from_attempt=True)
        await self._journal.record_end(number, _attempt_end(result, response), self._wall(), recorded)
        if self.recognise is not None and isinstance(result, Transient | DeviceRejected) and result.is_from_elsewhere:
            await self.recognise()
        return result

    def _uptime(self) -> float | None:
        return None if self.uptime is None else self.uptime()

    def _classify(
        self, state: CallState, used: _RequestAttempts, slot: AttemptSlot, response: HttpResult
    ) -> protocol.Reply | Verdict | PersistentServerError:
        """Classify a response, report it to the gate and count it."""
        call, requested = state.call, used.requested
        state.presumed_throttles += response.seems_throttled
        if state.presumed_throttles > _MAX_PRESUMED_THROTTLES:
            response = response.as_server_error()
        read = response.read(lambda body: protocol.read_reply(body, call, requested, response.sanitize), call.action)
        result = _reject_devices_if_named(read, call, requested)
        if isinstance(result, DeviceRejected) and result.is_from_elsewhere and not self._gate.is_recognised:
            result = Transient(result.side_effects, Reason.NOT_THE_API, result.text, counts_as_down=False)
        self._gate.report(slot, None if isinstance(result, protocol.Reply) else result, response)
        self._log(call, result)
        if not isinstance(result, Transient):
            return result
        used.add(slot, response.failure, self._gate)
        used.server_errors += response.status is not None and response.status >= 500
        return PersistentServerError(result.side_effects, result.text) if self._is_persistent_error(used) else result

    def _is_persistent_error(self, used: _RequestAttempts) -> bool:
        """Return whether the API fails on this call only, and the call can be split."""
        others_succeed = self._gate.successes > used.successes_before
        return len(used.requested) > 1 and used.server_errors >= _PERSISTENT_AFTER and others_succeed

    def _answer_from(self, state: CallState, requested: Positions, result: Result, status: int | None) -> Answer | None:
        """Return the answer for the devices that a result settles, to be recorded; None if it settles none."""
        results: Mapping[int, DeviceResult] = {}
        match result:
            case protocol.Reply():
                # Set only after a success: if smaller requests fail as well, the size was not the cause.
                self._max_devices = min(self._max_devices, state.max_devices)
                results = result.results
                if omitted_twice := state.search.record_accepted(requested, result.omitted):
                    results = {**results, **dict.fromkeys(omitted_twice, _OMITTED_TWICE)}
            case CallRejected(outcome, reason, text):
                state.search.record_accepted(requested)
                alike = requested if outcome is Outcome.SKIPPED else (*requested, *state.search.give_up())
                results = dict.fromkeys(alike, DeviceResult(outcome, reason=reason, text=text))
            case TooManyDevices(text):
                state.max_devices = min(state.max_devices, halved(requested))
                state.search.record_too_large(requested, state.max_devices, rejection_result(result.code, text))
            case DeviceRejected() | PersistentServerError():
                refused = devices_named_in(state.call, requested, result.text)
                state.search.refused(requested, rejection_result(result.code, result.text), refused)
            case _:
                return None
        if rejected := state.search.take_rejected():
            results = {**results, **{at: _rejected_result(one) for at, one in rejected.items()}}
        if not results:
            return None
        answer = self._answer(state, results, status, result if isinstance(result, protocol.Reply) else None)
        state.answers.append(answer)
        return answer

    async def _give_up(self, state: CallState, used: _RequestAttempts, last: Transient) -> Result:
        """Record the devices as failed or unconfirmed, because the attempts are spent.

        If nothing has ever answered, the call is not to blame and the run stops instead.
        """
        requested = used.requested
        unclear = {at for at, (_, doubts) in state.attempt_counts(requested).items() if doubts}
        if not unclear and self._gate.stop_if_never_reached(last.text):
            return RunStopped()
        text = f"{used.failures + used.refused_connections} attempts; the last: {last.text}"
        outcomes = {at: Outcome.UNCONFIRMED if at in unclear else Outcome.FAILED for at in requested}
        results = {
            at: DeviceResult(outcome, reason=Reason.ATTEMPTS_SPENT, text=text) for at, outcome in outcomes.items()
        }
        answer = self._answer(state, results, None)
        await self._journal.record_results(RecordedAnswer(state.call.number, answer, came_from_attempt=False))
        state.search.record_accepted(requested)
        state.answers.append(answer)
        return last

    def _log(self, call: Call, result: protocol.Reply | Verdict | PersistentServerError) -> None:
        """Log every result that is not a plain success."""
        if isinstance(result, protocol.Reply):
            if result.unrequested:
                names = ", ".join(result.unrequested[:_MAX_REPORTED_IDENTIFIERS])
                text = f"call {call.number}: the answer names devices that were not requested: {names}"
                self._gate.on_event("foreign", text)
        else:
            words, group = sentence(result.reason, result.text), (result.code, result.reason)
            LOGGER.info("call %d (devices: %d): %s", call.number, len(call.devices), words, extra={"group": group})

    def _answer(
        self,
        state: CallState,
        results: Mapping[int, DeviceResult],
        status: int | None,
        reply: protocol.Reply | None = None,
    ) -> Answer:
        if reply and len(state.attempts) == 1:
            attempts, unclear = 1, 0  # the usual case
        else:
            attempts, unclear = state.common_attempt_counts(results) or state.highest_attempt_counts(results)
        if unclear:
            results = _annotate_lost_attempts(state, results)
        if self.unanswered.devices and state.call.device_type is not None:
            results = self.unanswered.without_untrue_flags(state.call, results)
        return Answer(
            results=Results.of(results),
            customer_id=reply.customer_id if reply else "",
            customer_was_created=self.unanswered.customer_was_created(state, reply) if reply else None,
            http_status=status,
            attempts=attempts,
            unclear_attempts=unclear,
            answered_at=None if status is None else self._wall(),
            devices_remaining=reply.devices_remaining if reply else None,
        )


def _reject_devices_if_named(
    result: protocol.Reply | Verdict, call: Call, requested: Positions
) -> protocol.Reply | Verdict:
    """Turn a refusal of the customer into one of devices if its text names some, but not all, of them."""
    if not isinstance(result, CallRejected) or result.reason is not Reason.CUSTOMER_REFUSED:
        return result
    return (
        DeviceRejected(result.text)
        if 0 < len(devices_named_in(call, requested, result.text)) < len(call.devices)
        else result
    )


def _attempt_end(result: protocol.Reply | Verdict | PersistentServerError, response: HttpResult) -> AttemptEnd:
    """Return the attempt's record for the journal."""
    status = response.status
    if isinstance(result, protocol.Reply):
        if not (result.omitted or result.unrequested) and status == _SUCCESS_END.status:
            return _SUCCESS_END
        omitted, unrequested = len(result.omitted), len(result.unrequested)
        return AttemptEnd(EndState.ANSWERED, ANSWERED, status, omitted=omitted, foreign_count=unrequested)
    if isinstance(response.failure, NoUsableResponse) and not response.failure.sent:
        return AttemptEnd(EndState.UNSENT, result.code, None, result.reason, result.text)
    ending = EndState.REFUSED if result.side_effects is SideEffects.NOT_DONE else EndState.UNCLEAR
    may_act_later = result.side_effects is SideEffects.UNCLEAR
    return AttemptEnd(ending, result.code, status, result.reason, result.text, may_act_later=may_act_later)


def _rejected_result(rejected: Rejected[DeviceResult]) -> DeviceResult:
    """Return the result of a rejected device; its reason shows if the device was never sent alone."""
    result = rejected.refusal
    return result if rejected.alone else result._replace(reason=WITH_OTHERS.get(result.reason, result.reason))


def _annotate_lost_attempts(state: CallState, results: Mapping[int, DeviceResult]) -> Mapping[int, DeviceResult]:
    """Return the results, adjusted for earlier attempts without an answer.

    The number of unclear attempts is stored once per answer. A doubt about one device therefore
    marks all devices of the answer whose earlier holding is not known.
    """
    is_doubted = {at: doubts > 0 for at, (_, doubts) in state.attempt_counts(results).items()}
    annotated = {}
    for at, result in results.items():
        if is_doubted[at] or state.had_device(at) is None:
            result = _attribute_already_done(result, state.call.action, state.had_device(at))
        annotated[at] = _append_uncertainty(result) if is_doubted[at] else result
    return annotated


def _attribute_already_done(result: DeviceResult, action: Action, had_device: bool | None) -> DeviceResult:
    """Return a result "already done" as this run's own work, as earlier work, or marked as unclear.

    It can be attributed if it is known whether the customer held the device before.
    """
    changed, unchanged = OUTCOMES_OF_SUCCESS[action]
    if result.outcome is not unchanged:
        return result
    if had_device is None:
        return result._replace(open_question=OpenQuestion.WHOSE_WORK)
    if had_device is action.facts.is_owned_after:
        return result
    return result._replace(outcome=changed, reason=Reason.DONE_BY_LOST_ATTEMPT, text="")


def _append_uncertainty(result: DeviceResult) -> DeviceResult:
    """Return a failed result as unconfirmed, because an earlier attempt without an answer may have succeeded.

    A flag "not created" becomes unknown for the same reason.
    """
    if result.was_created is False:
        result = result._replace(was_created=None)
    if result.outcome is not Outcome.FAILED and result.reason is not Reason.NO_VALID_DEVICES:
        return result
    return result._replace(outcome=Outcome.UNCONFIRMED, open_question=OpenQuestion.WHETHER_DONE)


def _positions_for_journal(call: Call, requested: Positions) -> Positions | None:
    return None if len(requested) == len(call.devices) else requested
