"""One call, brought to its end: attempts, retries, splits, and all of it in the journal.

What an answer means is decided in `wire` and `verdict`, what to ask for next in
`split`, when to leave in `traffic`, how a request travels in `exchange`; here these
are joined in the order that keeps the books true: permit, journal, request, journal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from batch.model import Action, Answer, Call, DeviceResult, Outcome, Results
from batch.sending import wire
from batch.sending.exchange import Exchange, Post
from batch.sending.retry import Spent, until_settled
from batch.sending.split import Condemned, Positions
from batch.sending.traffic import Halt, Leave, Traffic
from batch.sending.verdict import (
    CUSTOMER_NOT_FOUND,
    MAYBE_DONE,
    MAYBE_OURS,
    Doubt,
    NoAnswer,
    Settled,
    StopRun,
    Suspect,
    TooMany,
    TryAgain,
    Verdict,
)
from batch.sending.work import NO_MAXIMUM, Work, blame, halved, named, take_up, tries_of
from batch.storage.journal import Ending, Journal
from batch.storage.log import LOGGER
from batch.storage.reader import Settlement

_STUBBORN_AFTER: Final = 3
"""A server error that repeats so often on one call, while others succeed, is the call's."""
_SEEMING_AT_MOST: Final = 5
"""So often a call's hasty 503 is taken for throttling; a limit refuses any call, and hardly one so often."""
_FOREIGN_TOLD: Final = 5
_LEFT_OUT: Final = DeviceResult(
    Outcome.UNCONFIRMED, detail="twice the answer left this device out, or contradicted itself about it"
)


@dataclass(frozen=True, slots=True)
class CallEnd:
    """What `Client.settle` brought about."""

    answers: tuple[Answer, ...]
    """Those recorded now, not by an earlier process."""
    last_doubt: float | None
    """When the last attempt left that may have acted without our hearing of it."""


@dataclass(frozen=True, slots=True)
class Stubborn:
    """The API fails on this very call while it answers others."""

    text: str


@dataclass(frozen=True, slots=True)
class Halted:
    """The run ended before the attempt could leave."""


Result = wire.Reply | Verdict | Stubborn | Halted


@dataclass(slots=True, kw_only=True)
class _Round(Spent):
    """The attempts at one request of a call."""

    asked: Positions
    successes_before: int


class Client:
    """Settles calls against the API, one at a time for each worker that asks."""

    def __init__(
        self, post: Post, journal: Journal, traffic: Traffic, *, attempts: int, wall: Callable[[], float]
    ) -> None:
        self._post = post
        self._journal = journal
        self._traffic = traffic
        self._attempts = attempts
        self._wall = wall
        self._maximum = NO_MAXIMUM

    @property
    def halt(self) -> Halt:
        """What ends the run early."""
        return self._traffic.halt

    async def settle(self, call: Call, held_before: Mapping[str, bool] | None = None) -> CallEnd:
        """Go on with a call until each of its devices has a result in the journal, or the run halts.

        `held_before` tells of each device whether the customer held it before this run,
        where somebody looked.
        """
        work = take_up(call, self._journal, self._maximum)
        work.held_before = held_before
        work.successes_before = self._traffic.successes
        while (asked := work.split.next()) is not None:
            if isinstance(await self._ask(work, asked), Halted | StopRun):
                break
        return CallEnd(tuple(work.answers), work.last_doubt())

    async def _ask(self, work: Work, asked: Positions) -> Result:
        """Attempt one request until it has a result or its attempts are spent."""
        before = work.successes_before if work.split.searching else self._traffic.successes
        spent = _Round(asked=asked, successes_before=before)
        attempt = partial(self._attempt, work, spent)
        result = await until_settled(attempt, spent, self._attempts, self._traffic)
        if isinstance(result, TryAgain):
            return await self._give_up(work, asked, result)
        return result

    async def _attempt(self, work: Work, spent: _Round) -> Result:
        """One attempt: permit, journal, request, journal."""
        call, asked = work.call, spent.asked
        body = wire.request_body(call, asked)
        leave = await self._traffic.leave(call.number)
        if leave is None:
            return Halted()
        started = self._wall()
        number = await self._journal.started(call.number, _stored(call, asked), started)
        left = await self._traffic.depart(leave)
        exchange = await self._post(wire.PATHS[call.action], body, left)
        result = self._weigh(work, spent, leave, exchange)
        ending = _ending(result, exchange)
        omitted = result.omitted if isinstance(result, wire.Reply) else ()
        work.tries += tries_of(asked, omitted, started, may_have_acted=ending.ending == "unclear")
        answer = self._settled_by(work, asked, result, exchange.status)
        settlement = None if answer is None else Settlement(call.number, answer, by_attempt=True)
        await self._journal.ended(number, ending, self._wall(), settlement)
        return result

    def _weigh(self, work: Work, spent: _Round, leave: Leave, exchange: Exchange) -> Result:
        """The result of an exchange; the gate learns of it, and the round counts it."""
        call, asked = work.call, spent.asked
        work.seemed_throttled += exchange.seems_throttled
        if work.seemed_throttled > _SEEMING_AT_MOST:
            exchange = exchange.at_its_word()
        result = exchange.read(lambda body: wire.read_reply(body, call, asked, exchange.show), call.action)
        self._traffic.heard |= exchange.status is not None
        self._traffic.learn(leave, None if isinstance(result, wire.Reply) else result, exchange.hint)
        self._log(call, result)
        if not isinstance(result, TryAgain):
            return result
        spent.failures += not leave.while_down
        spent.server_errors += exchange.status is not None and exchange.status >= 500
        return Stubborn(result.text) if self._is_stubborn(spent) else result

    def _is_stubborn(self, spent: _Round) -> bool:
        """Is it this call that the API fails on, and can it be taken apart?"""
        others_succeed = self._traffic.successes > spent.successes_before
        return len(spent.asked) > 1 and spent.server_errors >= _STUBBORN_AFTER and others_succeed

    def _settled_by(self, work: Work, asked: Positions, result: Result, status: int | None) -> Answer | None:
        """What a result settles of its call, as the answer for the journal; None if nothing."""
        results: Mapping[int, DeviceResult] = {}
        match result:
            case wire.Reply():
                # Learnt only now: where no smaller request helps, it was not the size.
                self._maximum = min(self._maximum, work.maximum)
                results = result.results
                if left_out := work.split.settled(asked, result.omitted):
                    results = {**results, **dict.fromkeys(left_out, _LEFT_OUT)}
            case Settled(outcome, text):
                work.split.settled(asked)
                alike = asked if outcome is Outcome.SKIPPED else (*asked, *work.split.give_up())
                results = dict.fromkeys(alike, DeviceResult(outcome, detail=text))
            case TooMany(text):
                work.maximum = min(work.maximum, halved(asked))
                work.split.too_many(asked, work.maximum, blame(type(result).__name__, text))
            case Suspect(text) | Stubborn(text):
                work.split.refused(asked, blame(type(result).__name__, text), named(work.call, asked, text))
            case _:
                return None
        if condemned := work.split.condemned():
            results = {**results, **{at: _told(one) for at, one in condemned.items()}}
        if not results:
            return None
        answer = self._answer(work, results, status, result if isinstance(result, wire.Reply) else None)
        work.answers.append(answer)
        return answer

    async def _give_up(self, work: Work, asked: Positions, last: TryAgain) -> Result:
        """The attempts are spent: say of the devices what we know, which may be that we do not.

        An API that no request has ever reached is no fault of this call: the run stops.
        """
        unclear = {at for at, (_, doubts) in work.each_asked_before(asked).items() if doubts}
        if not unclear and self._traffic.end_if_unheard(last.text):
            return Halted()
        detail = f"no usable answer in {self._attempts} attempts; the last: {last.text}"
        outcomes = {at: Outcome.UNCONFIRMED if at in unclear else Outcome.FAILED for at in asked}
        results = {at: DeviceResult(outcome, detail=detail) for at, outcome in outcomes.items()}
        answer = self._answer(work, results, None)
        await self._journal.settled(Settlement(work.call.number, answer, by_attempt=False))
        work.split.settled(asked)
        work.answers.append(answer)
        return last

    def _log(self, call: Call, result: Result) -> None:
        """What an operator may want to look up later: whatever did not go as it should."""
        if isinstance(result, wire.Reply):
            if result.foreign:
                names = ", ".join(result.foreign[:_FOREIGN_TOLD])
                self._traffic.tell("foreign", f"call {call.number}: the answer names what nobody asked for: {names}")
        else:
            LOGGER.info("call %d: %s: %s", call.number, type(result).__name__, _text_of(result))

    def _answer(
        self, work: Work, results: Mapping[int, DeviceResult], status: int | None, reply: wire.Reply | None = None
    ) -> Answer:
        if reply and len(work.tries) == 1:
            attempts, unclear = 1, 0  # as mostly
        else:
            attempts, unclear = work.all_asked_before(results) or work.most_asked_before(results)
        return Answer(
            results=Results.of(_weighed(work, results) if unclear else results),
            customer_id=reply.customer_id if reply else "",
            customer_was_created=reply.customer_was_created if reply else None,
            http_status=status,
            attempts=attempts,
            unclear_attempts=unclear,
            answered_at=None if status is None else self._wall(),
        )


def _ending(result: Result, exchange: Exchange) -> Ending:
    """How the journal records the attempt."""
    text = _text_of(result)
    verdict = type(result).__name__
    if isinstance(result, wire.Reply):
        left_out = f"{len(result.omitted)} devices left out" if result.omitted else ""
        return Ending("answered", verdict, exchange.status, left_out)
    if isinstance(exchange.ending, NoAnswer) and not exchange.ending.sent:
        return Ending("unsent", verdict, None, text)
    unclear = isinstance(result, Stubborn) or getattr(result, "doubt", None) is Doubt.UNCLEAR
    return Ending("unclear" if unclear else "refused", verdict, exchange.status, text)


def _told(condemned: Condemned[DeviceResult]) -> DeviceResult:
    """The result of a condemned device; where it never stood alone, that is said."""
    result = condemned.blame
    if condemned.alone:
        return result
    return result._replace(detail=f"{result.detail} (said of a request with others; not asked for alone)")


def _text_of(result: Result) -> str:
    return result.stop.reason if isinstance(result, StopRun) else str(getattr(result, "text", ""))


def _weighed(work: Work, results: Mapping[int, DeviceResult]) -> Mapping[int, DeviceResult]:
    """The results where an earlier attempt went unanswered: what is said of each, and what that leaves open.

    Without a baseline a doubt about one is told of all in its answer: the column is theirs together.
    """
    doubted = {at: doubts > 0 for at, (_, doubts) in work.each_asked_before(results).items()}
    weighed = {}
    for at, result in results.items():
        if doubted[at] or work.held_before is None:
            result = _attributed(result, work.call.action, work.held(at))
        weighed[at] = _doubting(result) if doubted[at] else result
    return weighed


def _attributed(result: DeviceResult, action: Action, held_before: bool | None) -> DeviceResult:
    """The result when an earlier attempt went unanswered: whose work is what is now found done?

    Exactly, where it is known what the customer held before; otherwise only marked.
    """
    done_already = (
        result.outcome is Outcome.ALREADY_ASSIGNED if action is Action.ASSIGN else result.outcome is Outcome.SKIPPED
    )
    if not done_already:
        return result
    if held_before is None:
        return result._replace(detail=f"{result.detail}; {MAYBE_OURS}" if result.detail else MAYBE_OURS)
    if held_before is (action is Action.ASSIGN):
        return result
    done = Outcome.ASSIGNED if action is Action.ASSIGN else Outcome.UNASSIGNED
    return result._replace(outcome=done, detail="done by an earlier attempt, whose answer was lost")


def _doubting(result: DeviceResult) -> DeviceResult:
    """The result when an earlier attempt went unanswered: that the repeat was refused does not undo it."""
    if result.outcome is not Outcome.FAILED or result.detail == CUSTOMER_NOT_FOUND:
        return result
    return result._replace(detail=f"{result.detail}; {MAYBE_DONE}")


def _stored(call: Call, asked: Positions) -> Positions | None:
    return None if len(asked) == len(call.devices) else asked
